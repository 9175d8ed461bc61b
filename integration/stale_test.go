// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// loopDevice makes a loop device without a file. The returned function takes
// it away again, as if the disk was pulled.
func loopDevice(t *testing.T) (path string, remove func()) {
	t.Helper()
	require.Loop(t)
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	assert.NilError(t, err)
	t.Cleanup(func() { _ = control.Close() })
	number := 0
	for number = 1000 + os.Getpid()%1000; ; number++ {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), unix.LOOP_CTL_ADD, uintptr(number))
		if errno == 0 {
			break
		}
		if errno != unix.EEXIST {
			t.Fatal(errno)
		}
	}
	there := true
	remove = func() {
		if !there {
			return
		}
		there = false
		// The last file system on it may still be going, in the namespace of a
		// container that is.
		errno := unix.EBUSY
		for end := time.Now().Add(10 * time.Second); errno == unix.EBUSY && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			_, _, errno = unix.Syscall(unix.SYS_IOCTL, control.Fd(), unix.LOOP_CTL_REMOVE, uintptr(number))
			if errno == 0 {
				return
			}
		}
		t.Error(errno)
	}
	t.Cleanup(remove)
	path = fmt.Sprintf("/dev/loop%d", number)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) { // No udev, and /dev is no devtmpfs.
		raw, err := os.ReadFile(fmt.Sprintf("/sys/block/loop%d/dev", number))
		assert.NilError(t, err)
		var major, minor uint32
		_, err = fmt.Sscanf(string(raw), "%d:%d", &major, &minor)
		assert.NilError(t, err)
		assert.NilError(t, unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(major, minor))))
		t.Cleanup(func() { _ = os.Remove(path) })
	}
	return path, remove
}

// Upstream's runc writes every saved limit at each update, and the kernel
// refuses the one of a disk that is gone.
func TestALimitOnADiskThatIsGoneDoesNotBlockUpdates(t *testing.T) {
	place.EachVersion(t)
	d := setup(t)
	disk, remove := loopDevice(t)
	d.Must(t, "run", "-d", "--name=box", "--device-read-bps="+disk+":1mb", "--pids-limit=100", "busybox", "sleep", "600")
	remove()
	d.Must(t, "update", "--pids-limit=133", "box")
	d.Cgroup(t, "box").Want(t, "pids.max", "133")
	d.Must(t, "modresources", "--pids-limit=144", "box")
	d.Cgroup(t, "box").Want(t, "pids.max", "144")
}
