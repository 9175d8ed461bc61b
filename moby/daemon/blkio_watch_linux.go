// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/containerd/log"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/container"
	"github.com/docker/docker/daemon/blkiodisk"
	libcontainerdtypes "github.com/docker/docker/libcontainerd/types"
	"golang.org/x/sys/unix"
)

// A disk can come to a running container whose disks are limited: by a mount that
// propagates into it, by a mount of its own, or as a new device that it may open. The
// kernel says when the mounts of its namespace change; new devices are looked for.

func init() { reapplyKinds["blkio"] = (*Daemon).applyDisks }

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
var diskWatch struct {
	sync.Mutex
	epoll int
	wake  int // an eventfd: the one who waits has to look again how long
	byID  map[string]*watchedDisks
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

// watchDisks looks after the disks of a running container until it ends.
func (daemon *Daemon) watchDisks(ctr *container.Container, pid int) {
	if err := daemon.addDiskWatch(ctr, pid); err != nil {
		log.G(context.TODO()).WithError(err).WithField("container", ctr.ID).Warn("disks that come to the container later are limited by its next update only")
	}
}

func (daemon *Daemon) addDiskWatch(ctr *container.Container, pid int) (err error) {
	diskWatch.Lock()
	defer diskWatch.Unlock()
	if w := diskWatch.byID[ctr.ID]; w != nil {
		if w.pid == pid {
			return nil
		}
		w.close()
	}
	if diskWatch.byID == nil {
		if diskWatch.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
			return err
		}
		if diskWatch.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
			return err
		}
		if err := unix.EpollCtl(diskWatch.epoll, unix.EPOLL_CTL_ADD, diskWatch.wake, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(diskWatch.wake)}); err != nil {
			return err
		}
		diskWatch.byID = map[string]*watchedDisks{}
		go waitForDisks(diskWatch.epoll)
	}
	w := &watchedDisks{daemon: daemon, ctr: ctr, pid: pid, process: -1, mounts: -1, changed: make(chan struct{}, 1)}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.process, err = unix.PidfdOpen(pid, 0); err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	if w.mounts, err = unix.Open(fmt.Sprintf("/proc/%d/mountinfo", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	for fd, events := range map[int]uint32{w.process: unix.EPOLLIN, w.mounts: unix.EPOLLPRI} {
		if err := unix.EpollCtl(diskWatch.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
			return fmt.Errorf("epoll: %w", err)
		}
	}
	diskWatch.byID[ctr.ID] = w
	go w.run()
	return nil
}

// close is called with the lock of diskWatch held.
func (w *watchedDisks) close() {
	for _, fd := range []int{w.process, w.mounts} {
		if fd >= 0 {
			_ = unix.Close(fd) // leaves the epoll too
		}
	}
	w.process, w.mounts = -1, -1
	if diskWatch.byID[w.ctr.ID] == w {
		delete(diskWatch.byID, w.ctr.ID)
		close(w.changed)
	}
}

// tell is called with the lock of diskWatch held.
func (w *watchedDisks) tell() {
	select {
	case w.changed <- struct{}{}:
	default: // It knows.
	}
}

// waitForDisks never ends: there is one, and it sleeps while nothing changes.
func waitForDisks(epoll int) {
	events := make([]unix.EpollEvent, 64)
	var known []blkiodisk.Disk
	for {
		timeout := -1
		diskWatch.Lock()
		for _, w := range diskWatch.byID {
			if w.anyDisk {
				timeout = int(diskLook / time.Millisecond)
			}
		}
		diskWatch.Unlock()
		n, err := unix.EpollWait(epoll, events, timeout)
		if err != nil && !errors.Is(err, unix.EINTR) {
			log.G(context.TODO()).WithError(err).Error("disks that come to running containers are not seen any more")
			return
		}
		var came bool
		if timeout >= 0 {
			all := (&blkiodisk.Host{Sys: "/sys"}).All()
			came = !slices.Equal(all, known)
			known = all
		}
		diskWatch.Lock()
		for _, w := range diskWatch.byID {
			switch {
			case slices.ContainsFunc(events[:max(n, 0)], func(e unix.EpollEvent) bool { return int(e.Fd) == w.process }):
				w.close()
			case came && w.anyDisk || slices.ContainsFunc(events[:max(n, 0)], func(e unix.EpollEvent) bool { return int(e.Fd) == w.mounts }):
				w.tell()
			}
		}
		diskWatch.Unlock()
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
	defer lockUpdates(ctr.ID)()
	daemon.applyDisks(ctr)
}

// applyDisks puts the rates of a container in force on all disks that it reaches now,
// if it runs, and notes what came of it.
func (daemon *Daemon) applyDisks(ctr *container.Container) map[lostOn]bool {
	ctr.Lock()
	tsk, err := ctr.GetRunningTask()
	full := ctr.HostConfig.Resources
	ctr.Unlock()
	limits := blkioLimits(full)
	if err != nil || limitFlags(limits) == "" {
		return nil
	}
	on := lostOn{container: ctr.ID, kind: "blkio"}
	if err := daemon.limitNewDisks(ctr, tsk, full); err != nil && !hasEnded(context.TODO(), tsk) {
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
func noteAnyDisk(id string, anyDisk bool) {
	diskWatch.Lock()
	defer diskWatch.Unlock()
	if w := diskWatch.byID[id]; w != nil && w.anyDisk != anyDisk {
		w.anyDisk = anyDisk
		w.tell()
		_, _ = unix.Write(diskWatch.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// restoreDisks is called when dockerd has started: it was not there to see disks come.
func (daemon *Daemon) restoreDisks(containers map[string]*container.Container) {
	for _, ctr := range containers {
		ctr.Lock()
		running, pid, limited := ctr.State.Running, ctr.State.Pid, limitFlags(blkioLimits(ctr.HostConfig.Resources)) != ""
		ctr.Unlock()
		if running && limited {
			daemon.watchDisks(ctr, pid)
			go daemon.lookAtDisks(ctr)
		}
	}
}
