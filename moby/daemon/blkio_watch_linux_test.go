// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"os"
	"testing"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// Disks that come later have no limit while nobody looks: that is shown, and tried again.
func TestDiskWatchThatFailsIsShown(t *testing.T) {
	limits := containertypes.Resources{BlkioReadLimit: i64(4096)}
	d, c := stoppedContainer(t, limits)
	open, wait, retry := pidfdOpen, epollWait, retryLostAfter
	t.Cleanup(func() {
		diskWatch.Lock()
		if w := diskWatch.byID[c.ID]; w != nil {
			w.close()
		}
		pidfdOpen, epollWait, retryLostAfter = open, wait, retry
		diskWatch.Unlock()
		d.noteHolds(c, lostDisks(c))
	})
	retryLostAfter = time.Hour
	diskWatch.Lock()
	pidfdOpen = func(int, int) (int, error) { return -1, unix.EMFILE }
	diskWatch.Unlock()
	d.watchDisks(c, os.Getpid(), limits)
	assert.Check(t, is.DeepEqual(d.limitsNotInForce(c), []string{"BlkioReadLimit: on disks that come to the container from now on: they cannot be watched: pidfd_open: too many open files"}))
	assert.Check(t, is.Len(d.lostWarnings(), 1))

	// It is the same for who tries again.
	assert.Check(t, is.ErrorIs(d.addDiskWatch(c, os.Getpid()), unix.EMFILE))
	diskWatch.Lock()
	pidfdOpen = open
	diskWatch.Unlock()
	assert.NilError(t, d.addDiskWatch(c, os.Getpid()))
	d.noteHolds(c, lostDisks(c))

	// The one who waits for all fails.
	failed := make(chan struct{})
	diskWatch.Lock()
	epollWait = func(int, []unix.EpollEvent, int) (int, error) {
		defer close(failed)
		return -1, unix.EBADF
	}
	diskWatch.Unlock()
	noteAnyDisk(c.ID, true) // wakes it
	<-failed
	for end := time.Now().Add(10 * time.Second); len(d.limitsNotInForce(c)) == 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	assert.Check(t, is.DeepEqual(d.limitsNotInForce(c), []string{"BlkioReadLimit: on disks that come to the container from now on: they cannot be watched: epoll_wait: bad file descriptor"}))
	diskWatch.Lock()
	epollWait = wait
	diskWatch.Unlock()
	assert.NilError(t, d.addDiskWatch(c, os.Getpid()))
	diskWatch.Lock()
	assert.Check(t, diskWatch.byID[c.ID] != nil, "it starts anew")
	diskWatch.Unlock()

	// A process that has ended is no trouble.
	assert.NilError(t, d.addDiskWatch(c, 1<<30))
}
