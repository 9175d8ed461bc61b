// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/container"
	"github.com/docker/docker/daemon/cgroupdir"
	"github.com/docker/docker/errdefs"
	libcontainerdtypes "github.com/docker/docker/libcontainerd/types"
	"github.com/docker/docker/libnetwork/netlimit"
	"github.com/moby/sys/mountinfo"
)

// Class and priorities of a container in the host's network, by its cgroup.

// needHierarchy says how to get a cgroup v1 hierarchy that is not mounted. It
// looks each time: to mount one is enough, dockerd need not be restarted.
func needHierarchy(controller string, needed bool) error {
	if !needed {
		return nil
	}
	mounts, err := cgroupdir.Mounts()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(mounts, func(m *mountinfo.Info) bool { return cgroupdir.IsHierarchyOf(m, controller) }) {
		return nil
	}
	known, err := os.ReadFile("/proc/cgroups")
	if err != nil {
		return err
	}
	if !strings.Contains(string(known), "\n"+controller+"\t") {
		return fmt.Errorf("the kernel has no cgroup controller %s", controller)
	}
	dir := "/sys/fs/cgroup/" + controller
	return fmt.Errorf("the cgroup hierarchy %[1]s is not mounted; mount it by \"mkdir -p %[2]s && mount -t cgroup -o %[1]s %[1]s %[2]s\"", controller, dir)
}

// needOwnCgroups refuses what a running container in the host's network could not
// be given on cgroup v1.
func needOwnCgroups(id string, pid int, limits containertypes.Resources) error {
	for controller, needed := range map[string]bool{"net_cls": limits.NetClassID != nil, "net_prio": len(limits.NetPriorities) > 0} {
		if !needed {
			continue
		}
		if _, _, err := cgroupdir.Of(id, pid, controller); errors.Is(err, cgroupdir.ErrNone) {
			return err
		}
	}
	return nil
}

// started is for what needs the container's cgroup and no endpoint: it limits
// a container in the host's network on cgroup v2, and on v1 reads back what the
// runtime did.
func (daemon netKind) started(_ context.Context, ctr *container.Container, tsk libcontainerdtypes.Task) error {
	limits := netLimits(ctr.HostConfig.Resources)
	if !ctr.HostConfig.NetworkMode.IsHost() || !namesNet(limits) {
		return nil
	}
	pid := int(tsk.Pid())
	var err error
	if daemon.hostInfo().CgroupUnified {
		err = setHostNet(ctr.ID, pid, limits)
	} else {
		there, missing := withoutMissing(limits)
		if err = verifyHostNet(ctr.ID, pid, there); err == nil {
			err = missing
		}
	}
	if isMissing(err) {
		daemon.noteNet(ctr, lostOn{container: ctr.ID, network: "host"}, limits, err)
		return nil
	}
	daemon.noteNet(ctr, lostOn{container: ctr.ID, network: "host"}, limits, nil)
	if err != nil {
		return errdefs.System(fmt.Errorf("%s cannot be enforced: %w", limitFlags(limits), err))
	}
	return nil
}

func setHostNet(id string, pid int, limits containertypes.Resources) error {
	dir, _, err := cgroupdir.Of(id, pid, "")
	if err != nil {
		return err
	}
	there, missing := withoutMissing(limits)
	s := netSettings(there)
	if err := netlimit.SetCgroup(dir, s.Class, s.Priorities); err != nil {
		return err
	}
	return missing
}

// isMissing tells whether err is only of interfaces that the host does not have now.
func isMissing(err error) bool { return errors.As(err, new(*netlimit.MissingError)) }

// verifyNetApplied reads back what the runtime did of an update on cgroup v1.
// All else is read back where it is set.
func (daemon *Daemon) verifyNetApplied(ctr *container.Container, tsk libcontainerdtypes.Task, update containertypes.Resources) error {
	if !namesNet(update) || !ctr.HostConfig.NetworkMode.IsHost() || daemon.hostInfo().CgroupUnified {
		return nil
	}
	there, _ := withoutMissing(update)
	return verifyHostNet(ctr.ID, int(tsk.Pid()), there)
}

// setHostV1 writes class and priorities of a running container in the host's network on
// cgroup v1: for interfaces that were not there when the runtime did, and what another
// program has changed.
func setHostV1(id string, pid int, limits containertypes.Resources) error {
	there, missing := withoutMissing(limits)
	if c := there.NetClassID; c != nil && !hasNoClass(id, pid) {
		dir, _, err := cgroupdir.Of(id, pid, "net_cls")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "net_cls.classid"), fmt.Appendf(nil, "%d", *c), 0); err != nil {
			return err
		}
	}
	if len(there.NetPriorities) != 0 {
		dir, v2, err := cgroupdir.Of(id, pid, "net_prio")
		if err == nil && v2 {
			err = errors.New("the container has no net_prio cgroup")
		}
		if err != nil {
			return err
		}
		for _, p := range there.NetPriorities {
			if err := os.WriteFile(filepath.Join(dir, "net_prio.ifpriomap"), fmt.Appendf(nil, "%s %d", p.Interface, p.Priority), 0); err != nil {
				return err
			}
		}
	}
	if err := verifyHostNet(id, pid, there); err != nil {
		return err
	}
	return missing
}

// verifyHostNet compares net_cls.classid and net_prio.ifpriomap with what r
// names. Class 0 is what there is without a hierarchy.
func verifyHostNet(id string, pid int, r containertypes.Resources) error {
	if c := r.NetClassID; c != nil && (*c != 0 || !hasNoClass(id, pid)) {
		dir, v2, err := cgroupdir.Of(id, pid, "net_cls")
		if err == nil && v2 {
			err = errors.New("the container has no net_cls cgroup")
		}
		if err != nil {
			return err
		}
		file := filepath.Join(dir, "net_cls.classid")
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if got := strings.TrimSpace(string(b)); got != strconv.FormatUint(uint64(*c), 10) {
			return fmt.Errorf("%s shows %s, want %d", file, got, *c)
		}
	}
	if len(r.NetPriorities) == 0 {
		return nil
	}
	got, err := hostPriorities(id, pid)
	if err != nil {
		return err
	}
	for _, p := range r.NetPriorities {
		if got[p.Interface] != p.Priority {
			return fmt.Errorf("net_prio.ifpriomap of the container shows %d for %s, want %d", got[p.Interface], p.Interface, p.Priority)
		}
	}
	return nil
}

// hasNoClass reports whether there is nowhere that a container in the host's
// network could have a class on cgroup v1.
func hasNoClass(id string, pid int) bool {
	if needHierarchy("net_cls", true) != nil {
		return true
	}
	_, _, err := cgroupdir.Of(id, pid, "net_cls")
	return errors.Is(err, cgroupdir.ErrNone)
}

// hostPriorities returns what net_prio.ifpriomap of a container has but 0.
func hostPriorities(id string, pid int) (map[string]uint32, error) {
	if needHierarchy("net_prio", true) != nil {
		return nil, nil
	}
	dir, v2, err := cgroupdir.Of(id, pid, "net_prio")
	if errors.Is(err, cgroupdir.ErrNone) {
		return nil, nil
	}
	if err != nil || v2 {
		return nil, err
	}
	file := filepath.Join(dir, "net_prio.ifpriomap")
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	prios := map[string]uint32{}
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		name, value, _ := strings.Cut(line, " ")
		prio, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%s: line %q: %w", file, line, err)
		}
		if prio != 0 {
			prios[name] = uint32(prio)
		}
	}
	return prios, nil
}

// verifyHost says what the kernel does not have of a container's class and priorities.
func (daemon *Daemon) verifyHost(id string, pid int, limits containertypes.Resources) error {
	there, missing := withoutMissing(limits)
	if !daemon.hostInfo().CgroupUnified {
		if err := verifyHostNet(id, pid, there); err != nil {
			return err
		}
		return missing
	}
	dir, _, err := cgroupdir.Of(id, pid, "")
	if err != nil {
		return err
	}
	s := netSettings(there)
	if err := netlimit.VerifyCgroup(dir, s.Class, s.Priorities); err != nil {
		return err
	}
	return missing
}

// lookAtHost puts back what another program took off a container in the host's network.
func (daemon *Daemon) lookAtHost(ctr *container.Container) {
	defer daemon.lockUpdates(ctr.ID)()
	ctr.Lock()
	limits, mode, running, pid := netLimits(ctr.HostConfig.Resources), ctr.HostConfig.NetworkMode, ctr.State.Running, ctr.State.Pid
	ctr.Unlock()
	if !running || !mode.IsHost() || !namesNet(limits) {
		return
	}
	err := daemon.verifyHost(ctr.ID, pid, limits)
	daemon.noteNet(ctr, lostOn{container: ctr.ID, network: "host"}, limits, err)
	if err != nil && !isMissing(err) {
		netKind{daemon}.reapply(ctr)
	}
}

// hostLookEvery is how often: the kernel does not tell of changes of a cgroup's files or
// programs.
const hostLookEvery = time.Second

// peekHost is what a running container in the host's network is limited to, if anything.
// It does not wait for one whose lock an update that hangs may hold: that is busy.
func peekHost(ctr *container.Container) (limits containertypes.Resources, pid int, ok, busy bool) {
	if !ctr.TryLock() {
		return limits, 0, false, true
	}
	defer ctr.Unlock()
	if ctr.HostConfig == nil || !ctr.HostConfig.NetworkMode.IsHost() || !ctr.State.Running {
		return limits, 0, false, false
	}
	limits = netLimits(ctr.HostConfig.Resources)
	return limits, ctr.State.Pid, namesNet(limits), false
}

// watchHost looks at the containers in the host's network until stop is closed.
func (daemon *Daemon) watchHost(stop <-chan struct{}) {
	ticker := time.NewTicker(hostLookEvery)
	defer ticker.Stop()
	var looking sync.Map // containers that wait for an update to end
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		for _, ctr := range daemon.containers.List() {
			limits, pid, ok, _ := peekHost(ctr)
			if !ok || daemon.verifyHost(ctr.ID, pid, limits) == nil {
				continue
			}
			if _, waits := looking.LoadOrStore(ctr.ID, true); !waits {
				go func() {
					defer looking.Delete(ctr.ID)
					daemon.lookAtHost(ctr)
				}()
			}
		}
	}
}

// shownHost is for inspect: what the kernel has of a container in the host's network.
func (daemon *Daemon) shownHost(ctr *container.Container, limits containertypes.Resources) []containertypes.NetLimitEndpoint {
	pid := ctr.State.Pid
	e := containertypes.NetLimitEndpoint{Network: "host"}
	if daemon.hostInfo().CgroupUnified {
		there, _ := withoutMissing(limits)
		if err := daemon.verifyHost(ctr.ID, pid, limits); err != nil && !isMissing(err) {
			return []containertypes.NetLimitEndpoint{e}
		}
		e.ClassID = netSettings(there).Class
		e.Priorities = there.NetPriorities
		return []containertypes.NetLimitEndpoint{e}
	}
	if dir, v2, err := cgroupdir.Of(ctr.ID, pid, "net_cls"); err == nil && !v2 {
		if b, err := os.ReadFile(filepath.Join(dir, "net_cls.classid")); err == nil {
			class, _ := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 32)
			e.ClassID = uint32(class)
		}
	}
	if prios, err := hostPriorities(ctr.ID, pid); err == nil {
		for _, name := range slices.Sorted(maps.Keys(prios)) {
			e.Priorities = append(e.Priorities, containertypes.NetPriority{Interface: name, Priority: prios[name]})
		}
	}
	return []containertypes.NetLimitEndpoint{e}
}
