// SPDX-License-Identifier: Apache-2.0

package netlimit

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// testCgroup makes a cgroup v2 of its own.
func testCgroup(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup2"))
	assert.NilError(t, err)
	if len(mounts) == 0 {
		t.Skip("needs a cgroup2 mount")
	}
	dir := filepath.Join(mounts[0].Mountpoint, "netlimit-test-"+strconv.Itoa(os.Getpid()))
	assert.NilError(t, os.Mkdir(dir, 0o755))
	t.Cleanup(func() { assert.Check(t, os.Remove(dir)) })
	return dir
}

// soRcvPriority is SO_RCVPRIORITY of Linux 6.14.
const soRcvPriority = 82

// receivedPriority is the priority of a packet that a process of the cgroup has
// sent to itself; ok is false if the kernel cannot tell it.
func receivedPriority(t *testing.T, dir string) (priority uint32, ok bool) {
	t.Helper()
	pid := []byte(strconv.Itoa(os.Getpid()))
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), pid, 0))
	defer func() {
		assert.NilError(t, os.WriteFile(filepath.Join(filepath.Dir(dir), "cgroup.procs"), pid, 0))
	}()
	// A socket stays with the cgroup that it was made in.
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	assert.NilError(t, err)
	defer c.Close()
	raw, err := c.SyscallConn()
	assert.NilError(t, err)
	var setErr error
	assert.NilError(t, raw.Control(func(fd uintptr) {
		assert.NilError(t, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PRIORITY, 3))
		setErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, soRcvPriority, 1)
	}))
	if errors.Is(setErr, unix.ENOPROTOOPT) {
		return 0, false
	}
	assert.NilError(t, setErr)
	_, err = c.WriteTo([]byte("x"), c.LocalAddr())
	assert.NilError(t, err)
	buf, oob := make([]byte, 8), make([]byte, 64)
	_, n, _, _, err := c.ReadMsgUDP(buf, oob)
	assert.NilError(t, err)
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	assert.NilError(t, err)
	assert.Equal(t, len(msgs), 1)
	return binary.NativeEndian.Uint32(msgs[0].Data), true
}

func TestCgroupClass(t *testing.T) {
	dir := testCgroup(t)
	for _, tc := range []struct {
		class uint32
		prios map[string]uint32
		want  uint32
	}{
		{class: 0x100001, want: 0x100001},
		{class: 0xfffeffff, want: 0xfffeffff},
		{prios: map[string]uint32{"lo": 0x100003}, want: 0x100003},
		{prios: map[string]uint32{"lo": 0}, want: 0},
		{want: 3},
	} {
		assert.NilError(t, SetCgroup(dir, tc.class, tc.prios))
		assert.NilError(t, SetCgroup(dir, tc.class, tc.prios), "the same once more")
		assert.NilError(t, VerifyCgroup(dir, tc.class, tc.prios))
		assert.Check(t, VerifyCgroup(dir, tc.class+1, tc.prios) != nil)
		if got, ok := receivedPriority(t, dir); ok {
			assert.Check(t, is.Equal(got, tc.want), "%+v", tc)
		}
	}
	assert.ErrorContains(t, SetCgroup(dir, 0, map[string]uint32{"nosuch0": 1}), "interface nosuch0")
}
