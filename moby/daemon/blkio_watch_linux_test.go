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
	watch := &d.limits.disks
	t.Cleanup(func() {
		watch.Lock()
		if w := watch.byID[c.ID]; w != nil {
			w.close()
		}
		watch.Unlock()
		d.noteHolds(c, lostDisks(c))
	})
	d.limits.lost.retryAfter = time.Hour
	watch.Lock()
	watch.pidfdOpen = func(int, int) (int, error) { return -1, unix.EMFILE }
	watch.Unlock()
	d.watchDisks(c, os.Getpid(), limits)
	assert.Check(t, is.DeepEqual(d.limitsNotInForce(c), []string{"BlkioReadLimit: on disks that come to the container from now on: they cannot be watched: pidfd_open: too many open files"}))
	assert.Check(t, is.Len(d.lostWarnings(), 1))

	// It is the same for who tries again.
	assert.Check(t, is.ErrorIs(d.addDiskWatch(c, os.Getpid()), unix.EMFILE))
	watch.Lock()
	watch.pidfdOpen = nil
	watch.Unlock()
	assert.NilError(t, d.addDiskWatch(c, os.Getpid()))
	d.noteHolds(c, lostDisks(c))

	// The one who waits for all fails.
	failed := make(chan struct{})
	watch.Lock()
	watch.epollWait = func(int, []unix.EpollEvent, int) (int, error) {
		defer close(failed)
		return -1, unix.EBADF
	}
	watch.Unlock()
	d.noteAnyDisk(c.ID, true) // wakes it
	<-failed
	for end := time.Now().Add(10 * time.Second); len(d.limitsNotInForce(c)) == 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	assert.Check(t, is.DeepEqual(d.limitsNotInForce(c), []string{"BlkioReadLimit: on disks that come to the container from now on: they cannot be watched: epoll_wait: bad file descriptor"}))
	watch.Lock()
	watch.epollWait = nil
	watch.Unlock()
	assert.NilError(t, d.addDiskWatch(c, os.Getpid()))
	watch.Lock()
	assert.Check(t, watch.byID[c.ID] != nil, "it starts anew")
	watch.Unlock()

	// A process that has ended is no trouble.
	assert.NilError(t, d.addDiskWatch(c, 1<<30))
}
