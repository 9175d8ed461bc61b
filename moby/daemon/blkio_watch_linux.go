// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/container"
	"github.com/docker/docker/daemon/blkiodisk"
	libcontainerdtypes "github.com/docker/docker/libcontainerd/types"
	"golang.org/x/sys/unix"
)

// A disk can come to a running container whose disks are limited: by a mount that
// propagates into it, by a mount of its own, or as a new device that it may open. The
// kernel says when the mounts of its namespace change; new devices are looked for.

const (
	// diskSettle is how long to wait for more changes of the same mounts.
	diskSettle = 50 * time.Millisecond
	// diskEvery is how often at most the disks of one container are gone through,
	// which mounts and unmounts as it likes.
	diskEvery = time.Second
	// diskLook is how often new devices are looked for, if a container may open any.
	diskLook = 2 * time.Second
)

// diskWatch watches the mounts of all containers whose disks are limited.
type diskWatch struct {
	sync.Mutex
	epoll int
	wake  int // an eventfd: the one who waits has to look again how long
	byID  map[string]*watchedDisks

	// Of tests, nil for the system calls.
	pidfdOpen func(pid, flags int) (int, error)
	epollWait func(epoll int, events []unix.EpollEvent, msec int) (int, error)
}

// watchedDisks is one container. The file of mounts keeps the namespace, and so the
// disks, busy: it is closed as soon as the process ends.
type watchedDisks struct {
	daemon          *Daemon
	ctr             *container.Container
	pid             int
	mounts, process int // descriptors
	anyDisk         bool
	changed         chan struct{}
}

// watchDisks looks after the disks of a running container, which has the limits of full,
// until it ends. If it cannot, that is shown and tried again.
func (daemon *Daemon) watchDisks(ctr *container.Container, pid int, full containertypes.Resources) {
	if err := daemon.addDiskWatch(ctr, pid); err != nil {
		daemon.noteLost(ctr, lostDisks(ctr), reasonsFor(blkioLimits(full), err))
	}
}

func lostDisks(ctr *container.Container) lostOn { return lostOn{container: ctr.ID, kind: "blkio"} }

// errNoWatch says what it means that disks are not watched.
func errNoWatch(err error) error {
	return fmt.Errorf("on disks that come to the container from now on: they cannot be watched: %w", err)
}

// addDiskWatch does nothing for a process that has ended, or that is watched.
func (daemon *Daemon) addDiskWatch(ctr *container.Container, pid int) (err error) {
	watch := &daemon.limits.disks
	watch.Lock()
	defer watch.Unlock()
	defer func() {
		if err != nil {
			err = errNoWatch(err)
		}
	}()
	if w := watch.byID[ctr.ID]; w != nil {
		if w.pid == pid {
			return nil
		}
		w.close()
	}
	if watch.byID == nil {
		if err := watch.start(daemon); err != nil {
			return err
		}
	}
	w := &watchedDisks{daemon: daemon, ctr: ctr, pid: pid, process: -1, mounts: -1, changed: make(chan struct{}, 1)}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	pidfdOpen := watch.pidfdOpen
	if pidfdOpen == nil {
		pidfdOpen = unix.PidfdOpen
	}
	if w.process, err = pidfdOpen(pid, 0); errors.Is(err, unix.ESRCH) {
		return nil
	} else if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	mounts := fmt.Sprintf("/proc/%d/mountinfo", pid)
	if w.mounts, err = unix.Open(mounts, unix.O_RDONLY|unix.O_CLOEXEC, 0); errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		w.close()
		return nil // EINVAL: it has ended and is not waited for yet.
	} else if err != nil {
		return fmt.Errorf("%s: %w", mounts, err)
	}
	for fd, events := range map[int]uint32{w.process: unix.EPOLLIN, w.mounts: unix.EPOLLPRI} {
		if err := unix.EpollCtl(watch.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
			return fmt.Errorf("epoll: %w", err)
		}
	}
	watch.byID[ctr.ID] = w
	go w.run()
	return nil
}

// start is called with the lock held.
func (watch *diskWatch) start(daemon *Daemon) (err error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(epoll)
		}
	}()
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(wake)}); err != nil {
		_ = unix.Close(wake)
		return fmt.Errorf("epoll: %w", err)
	}
	watch.epoll, watch.wake, watch.byID = epoll, wake, map[string]*watchedDisks{}
	go daemon.waitForDisks(epoll)
	return nil
}

// stopDiskWatch is for an epoll that fails: what was watched is shown, and the next
// attempt starts anew.
func (daemon *Daemon) stopDiskWatch(err error) {
	watch := &daemon.limits.disks
	watch.Lock()
	lost := slices.Collect(maps.Values(watch.byID))
	for _, w := range lost {
		w.close()
	}
	watch.byID = nil
	_ = unix.Close(watch.wake)
	_ = unix.Close(watch.epoll)
	watch.Unlock()
	for _, w := range lost {
		w.ctr.Lock()
		limits := blkioLimits(w.ctr.HostConfig.Resources)
		w.ctr.Unlock()
		w.daemon.noteLost(w.ctr, lostDisks(w.ctr), reasonsFor(limits, errNoWatch(err)))
	}
}

// close is called with the lock of the diskWatch held.
func (w *watchedDisks) close() {
	watch := &w.daemon.limits.disks
	for _, fd := range []int{w.process, w.mounts} {
		if fd >= 0 {
			_ = unix.Close(fd) // leaves the epoll too
		}
	}
	w.process, w.mounts = -1, -1
	if watch.byID[w.ctr.ID] == w {
		delete(watch.byID, w.ctr.ID)
		close(w.changed)
	}
}

// tell is called with the lock of the diskWatch held.
func (w *watchedDisks) tell() {
	select {
	case w.changed <- struct{}{}:
	default: // It knows.
	}
}

// waitForDisks does not end unless it fails: there is one, and it sleeps while nothing
// changes.
func (daemon *Daemon) waitForDisks(epoll int) {
	watch := &daemon.limits.disks
	events := make([]unix.EpollEvent, 64)
	var known []blkiodisk.Disk
	for {
		timeout := -1
		watch.Lock()
		for _, w := range watch.byID {
			if w.anyDisk {
				timeout = int(diskLook / time.Millisecond)
			}
		}
		wait := watch.epollWait
		watch.Unlock()
		if wait == nil {
			wait = unix.EpollWait
		}
		n, err := wait(epoll, events, timeout)
		if err != nil && !errors.Is(err, unix.EINTR) {
			daemon.stopDiskWatch(fmt.Errorf("epoll_wait: %w", err))
			return
		}
		var came bool
		if timeout >= 0 {
			all := (&blkiodisk.Host{Sys: "/sys"}).All()
			came = !slices.Equal(all, known)
			known = all
		}
		watch.Lock()
		for _, w := range watch.byID {
			switch {
			case slices.ContainsFunc(events[:max(n, 0)], func(e unix.EpollEvent) bool { return int(e.Fd) == w.process }):
				w.close()
			case came && w.anyDisk || slices.ContainsFunc(events[:max(n, 0)], func(e unix.EpollEvent) bool { return int(e.Fd) == w.mounts }):
				w.tell()
			}
		}
		watch.Unlock()
	}
}

// run goes through the disks of one container whenever it is told.
func (w *watchedDisks) run() {
	for range w.changed {
		time.Sleep(diskSettle)
		w.daemon.lookAtDisks(w.ctr)
		time.Sleep(diskEvery - diskSettle)
	}
}

func (daemon *Daemon) lookAtDisks(ctr *container.Container) {
	defer daemon.lockUpdates(ctr.ID)()
	blkioKind{daemon}.reapply(ctr)
}

// reapply puts the rates of a container in force on all disks that it reaches now, and
// sees to it that it is watched, if it runs.
func (daemon blkioKind) reapply(ctr *container.Container) map[lostOn]bool {
	ctr.Lock()
	tsk, err := ctr.GetRunningTask()
	full := ctr.HostConfig.Resources
	ctr.Unlock()
	limits := blkioLimits(full)
	if err != nil || limitFlags(limits) == "" {
		return nil
	}
	on := lostDisks(ctr)
	err = errors.Join(daemon.addDiskWatch(ctr, int(tsk.Pid())), daemon.limitNewDisks(ctr, tsk, full))
	if err != nil && !hasEnded(context.TODO(), tsk) {
		daemon.noteLost(ctr, on, reasonsFor(limits, err))
	} else {
		daemon.noteHolds(ctr, on)
	}
	return map[lostOn]bool{on: true}
}

func (daemon *Daemon) limitNewDisks(ctr *container.Container, tsk libcontainerdtypes.Task, full containertypes.Resources) error {
	var r libcontainerdtypes.Resources
	want, h, err := daemon.planThrottles(ctr, int(tsk.Pid()), &r, containertypes.Resources{}, full, false, false)
	if err != nil {
		return err
	}
	if !changesThrottles(&r) {
		return nil
	}
	if err := daemon.sendUpdate(context.TODO(), ctr, tsk, &r); err != nil {
		return err
	}
	return daemon.verifyThrottles(ctr.ID, int(tsk.Pid()), want, h)
}

// noteAnyDisk remembers whether a container that is watched may open new devices.
func (daemon *Daemon) noteAnyDisk(id string, anyDisk bool) {
	watch := &daemon.limits.disks
	watch.Lock()
	defer watch.Unlock()
	if w := watch.byID[id]; w != nil && w.anyDisk != anyDisk {
		w.anyDisk = anyDisk
		w.tell()
		_, _ = unix.Write(watch.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// restore: dockerd was not there to see disks come.
func (daemon blkioKind) restore(containers map[string]*container.Container) {
	for _, ctr := range containers {
		ctr.Lock()
		running, limited := ctr.State.Running, limitFlags(blkioLimits(ctr.HostConfig.Resources)) != ""
		ctr.Unlock()
		if running && limited {
			go daemon.lookAtDisks(ctr)
		}
	}
}
