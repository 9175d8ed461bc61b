// SPDX-License-Identifier: Apache-2.0

// Package cgroupdir finds the cgroup directory of a container, by its init process.
package cgroupdir

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/cgroups/v3"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Of returns the directory of a container's cgroup in the
// hierarchy of controller, and whether that is the cgroup v2 one. pid is the
// container's init process. It is an error if that process is not the
// container's (any more): the kernel gives the numbers out again.
func Of(id string, pid int, controller string) (dir string, v2 bool, _ error) {
	v1, unified, err := cgroups.ParseCgroupFileUnified(fmt.Sprintf("/proc/%d/cgroup", pid))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return "", false, endedContainer(id)
	}
	if err != nil {
		return "", false, err
	}
	path, isV1, err := pathOf(id, v1, unified, controller)
	if err != nil {
		return "", false, err
	}
	mounts, err := Mounts()
	if err != nil {
		return "", false, err
	}
	for _, m := range mounts {
		if isV1 && !IsHierarchyOf(m, controller) || !isV1 && m.FSType != "cgroup2" {
			continue
		}
		// In a nested daemon the mount may show only a part of the hierarchy.
		if rel, err := filepath.Rel(m.Root, path); err == nil && filepath.IsLocal(rel) {
			return filepath.Join(m.Mountpoint, rel), !isV1, nil
		}
	}
	return "", false, fmt.Errorf("no mount of the %s cgroup hierarchy shows %s", controller, path)
}

// pathOf chooses from the cgroups of a process, on v1 by
// controller, the one that has the limits of controller.
//
// The path of /proc/PID/cgroup is right for every cgroup driver and parent. It
// is cut behind the component that names the container: an init like systemd
// moves itself into a child cgroup, which has no limits.
func pathOf(id string, v1 map[string]string, unified, controller string) (path string, isV1 bool, _ error) {
	path, isV1 = v1[controller]
	if !isV1 {
		path = unified
	}
	if i := strings.Index(path, id); i >= 0 {
		if j := strings.IndexByte(path[i:], '/'); j >= 0 {
			path = path[:i+j]
		}
		return path, isV1, nil
	}
	for _, other := range v1 {
		if strings.Contains(other, id) {
			return "", false, fmt.Errorf("container %s has %w in the %s hierarchy, which was mounted after it had started: start it again", id, ErrNone, controller)
		}
	}
	return "", false, endedContainer(id)
}

// ErrNone says that a container has nothing in a hierarchy: the runtime
// made it when there was none.
var ErrNone = errors.New("no cgroup of its own")

func endedContainer(id string) error { return fmt.Errorf("container %s has ended", id) }

// IsHierarchyOf reports whether m is a cgroup v1 mount with this controller.
func IsHierarchyOf(m *mountinfo.Info, controller string) bool {
	return m.FSType == "cgroup" && slices.Contains(strings.Split(m.VFSOptions, ","), controller)
}

// Mounts lists the mounts of cgroup v1 and v2 that there are now. The list
// of all mounts is long where many containers run, and this is asked for at each
// ping, and each second for each container whose stats are shown.
func Mounts() ([]*mountinfo.Info, error) { return table.get() }

var table = mountTable{fsTypes: []string{"cgroup", "cgroup2"}}

// mountTable keeps the mounts of some file systems, and reads the kernel's list
// again only when that has changed.
type mountTable struct {
	fsTypes []string

	mu     sync.Mutex
	file   *os.File // of /proc/self/mountinfo
	mounts []*mountinfo.Info
	reads  int // for tests
}

func (t *mountTable) get() ([]*mountinfo.Info, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == nil {
		// Not by os.Open: Go's own poller would be told of a change in our place,
		// as each one is told once for each open file.
		fd, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("listing mounts: %w", err)
		}
		t.file = os.NewFile(uintptr(fd), "/proc/self/mountinfo")
	} else if changed, err := t.changed(); err == nil && !changed {
		return t.mounts, nil
	}
	mounts, err := t.read()
	if err != nil {
		// What was told is told once: start anew.
		_ = t.file.Close()
		t.file, t.mounts = nil, nil
		return nil, fmt.Errorf("listing mounts: %w", err)
	}
	t.mounts = mounts
	return mounts, nil
}

// changed asks the kernel whether something was mounted or unmounted since the
// last time. It comes before the reading: what is mounted in between is read,
// and told the next time.
func (t *mountTable) changed() (bool, error) {
	fds := []unix.PollFd{{Fd: int32(t.file.Fd()), Events: unix.POLLPRI}}
	for {
		n, err := unix.Poll(fds, 0)
		if !errors.Is(err, unix.EINTR) {
			return n > 0, err
		}
	}
}

func (t *mountTable) read() ([]*mountinfo.Info, error) {
	t.reads++
	if _, err := t.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return mountinfo.GetMountsFromReader(t.file, mountinfo.FSTypeFilter(t.fsTypes...))
}
