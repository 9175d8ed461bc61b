// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"

	containerd "github.com/containerd/containerd/v2/client"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/containerd/log"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/container"
	"github.com/docker/docker/errdefs"
	libcontainerdtypes "github.com/docker/docker/libcontainerd/types"
	"github.com/moby/sys/atomicwriter"
)

// resourceSet is what an update changes as a whole.
type resourceSet struct {
	containertypes.Resources
	containertypes.RestartPolicy
}

func currentSet(ctr *container.Container) resourceSet {
	return resourceSet{ctr.HostConfig.Resources, ctr.HostConfig.RestartPolicy}
}

// is tells whether two sets have the same values in all that an update can change.
// Policies are compared as long as both are known.
func (s resourceSet) is(other resourceSet) bool {
	if s.Name != "" && other.Name != "" && s.RestartPolicy != other.RestartPolicy {
		return false
	}
	keepFixed(&s.Resources, containertypes.Resources{})
	keepFixed(&other.Resources, containertypes.Resources{})
	a, err1 := json.Marshal(s.Resources)
	b, err2 := json.Marshal(other.Resources)
	return err1 == nil && err2 == nil && bytes.Equal(a, b)
}

// get returns one of resourceNames.
func (s resourceSet) get(name string) any {
	if name == restartPolicyName {
		return s.RestartPolicy
	}
	return resourceValue(s.Resources, name)
}

// changed is s with those fields of now that neither old nor target has: somebody else
// has set them since.
func (s resourceSet) changed(now, old, target resourceSet) resourceSet {
	for _, name := range resourceNames {
		switch value := now.get(name); {
		case reflect.DeepEqual(value, old.get(name)) || reflect.DeepEqual(value, target.get(name)):
		case name == restartPolicyName:
			s.RestartPolicy = now.RestartPolicy
		default:
			_ = copyResource(&s.Resources, now.Resources, name)
		}
	}
	return s
}

// firstResourcesVersion is that of a new container. It is stored with it, so that none
// in a file says that another dockerd wrote it: see recoverLimits.
const firstResourcesVersion = 1

// resourcesVersion is the number that each change of a container's set raises.
func resourcesVersion(hostConfig *containertypes.HostConfig) uint64 {
	return max(hostConfig.ResourcesVersion, firstResourcesVersion)
}

// ContainerUpdateWith changes a container as a whole: if it returns an error, kernel,
// runtime, disk and inspect hold the old set, or what does not is shown as not in
// force. A crash in between counts as an error. See [containertypes.UpdateOptions].
//
// Errors: NotFound; Conflict, if the container is being removed or its version is
// another one than opts asks for; InvalidParameter, if a value is out of range or
// cannot be enforced.
func (daemon *Daemon) ContainerUpdateWith(name string, update *containertypes.HostConfig, opts containertypes.UpdateOptions) (containertypes.UpdateResponse, error) {
	warnings, err := daemon.verifyContainerSettings(daemon.config(), update, nil, true)
	if err != nil {
		return containertypes.UpdateResponse{Warnings: warnings}, errdefs.InvalidParameter(err)
	}
	version, err := daemon.transact(name, opts.Version, func(ctr *container.Container) (containertypes.Resources, resourceSet, error) {
		change, target, err := daemon.plan(ctr, update, opts.Replace)
		if err == nil {
			err = daemon.checkUpdate(ctr, change)
		}
		return change, target, err
	})
	if err != nil {
		return containertypes.UpdateResponse{Warnings: warnings}, err
	}
	return containertypes.UpdateResponse{
		Warnings:         append(warnings, daemon.updateWarnings(name, update)...),
		ResourcesVersion: version,
	}, nil
}

// updateAllOrNothing is for upstream's ContainerUpdate.
func (daemon *Daemon) updateAllOrNothing(name string, update *containertypes.HostConfig) error {
	if update == nil {
		return nil
	}
	_, err := daemon.transact(name, 0, func(ctr *container.Container) (containertypes.Resources, resourceSet, error) {
		change, target, err := daemon.plan(ctr, update, nil)
		if err == nil {
			err = daemon.checkUpdate(ctr, change)
		}
		return change, target, err
	})
	return err
}

// plan returns what has to be sent to the runtime, and what the container will have
// then. What update does not name keeps its value, but for the fields in replace,
// which go back to their default.
func (daemon *Daemon) plan(ctr *container.Container, update *containertypes.HostConfig, replace []string) (change containertypes.Resources, target resourceSet, _ error) {
	if len(replace) == 0 {
		merged, err := mergeUpdate(ctr.HostConfig, update)
		if err != nil {
			return change, target, errCannotUpdate(ctr.ID, err)
		}
		return update.Resources, currentSet(merged), nil
	}
	named := resourceNames
	if !slices.Equal(replace, containertypes.ReplaceAll) {
		named = replace
	}
	target = currentSet(ctr)
	for _, name := range named {
		if name == restartPolicyName {
			if update.RestartPolicy.Name != "" {
				target.RestartPolicy = update.RestartPolicy
			}
			continue
		}
		if err := copyResource(&target.Resources, update.Resources, name); err != nil {
			return change, target, errdefs.InvalidParameter(err)
		}
		// What either of them has is what has to be set.
		from := update.Resources
		if !namesResource(from, name) {
			from = ctr.HostConfig.Resources
		}
		_ = copyResource(&change, from, name)
	}
	// Fields that are kept and fields that are replaced have to go together.
	whole := containertypes.HostConfig{Resources: target.Resources}
	if _, err := daemon.verifyContainerSettings(daemon.config(), &whole, nil, true); err != nil {
		return change, target, errdefs.InvalidParameter(err)
	}
	return daemon.assigning(change, target.Resources), target, nil
}

// ContainersResources returns what containers have that an update can change. It
// fails if one of them is not there.
func (daemon *Daemon) ContainersResources(names []string) ([]containertypes.CurrentResources, error) {
	all := make([]containertypes.CurrentResources, 0, len(names))
	for _, name := range names {
		ctr, err := daemon.GetContainer(name)
		if err != nil {
			return nil, err
		}
		ctr.Lock()
		all = append(all, containertypes.CurrentResources{
			Name:         name,
			ID:           ctr.ID,
			UpdateConfig: containertypes.UpdateConfig{Resources: ctr.HostConfig.Resources, RestartPolicy: ctr.HostConfig.RestartPolicy},

			ResourcesVersion: resourcesVersion(ctr.HostConfig),
		})
		ctr.Unlock()
	}
	return all, nil
}

// mergeUpdate returns old with what update names on top of it, as upstream merges them.
func mergeUpdate(old, update *containertypes.HostConfig) (*container.Container, error) {
	hostConfig := *old
	merged := &container.Container{HostConfig: &hostConfig}
	return merged, merged.UpdateContainer(update)
}

func hasEnded(ctx context.Context, tsk libcontainerdtypes.Task) bool {
	status, err := tsk.Status(ctx)
	return cerrdefs.IsNotFound(err) || err == nil && status.Status == containerd.Stopped
}

// transact changes a container to what plan says, whole or not at all, if it has the
// version that is asked for, 0 for any. It returns the version that it has then.
func (daemon *Daemon) transact(name string, version uint64, plan func(*container.Container) (change containertypes.Resources, target resourceSet, _ error)) (_ uint64, retErr error) {
	ctr, err := daemon.GetContainer(name)
	if err != nil {
		return 0, err
	}
	defer daemon.lockUpdates(ctr.ID)()
	defer func() {
		// A runtime that has just not answered is asked again later.
		if !cerrdefs.IsDeadlineExceeded(retErr) {
			daemon.reapplyLost(ctr.ID)
		}
	}()

	if err := isBeingRemoved(ctr); err != nil {
		return 0, err
	}
	stuck, err := daemon.recoverUpdate(ctr, true)
	if err != nil {
		return 0, errCannotUpdate(ctr.ID, errdefs.System(err))
	}
	ctr.Lock()
	old, has := currentSet(ctr), resourcesVersion(ctr.HostConfig)
	ctr.Unlock()
	if version != 0 && version != has {
		return 0, errCannotUpdate(ctr.ID, errdefs.Conflict(fmt.Errorf("it was changed meanwhile: its resources have version %d, not %d; inspect it and try again", has, version)))
	}
	change, target, err := plan(ctr)
	if err != nil {
		return 0, err
	}
	if namesNet(change) {
		defer daemon.lockNetUpdates(ctr.ID)()
	}
	if ctr.IsRunning() {
		daemon.expectUpdate(ctr)
	}
	stuck, change = daemon.replacing(stuck, change, target.Resources)
	journal := updateJournal{Update: joined(stuck, change), Old: old.Resources, RestartPolicy: old.RestartPolicy, New: &target.Resources, NewRestartPolicy: target.RestartPolicy}
	if err := writeJournal(ctr, journal); err != nil {
		if removed := isBeingRemoved(ctr); removed != nil {
			return 0, removed
		}
		return 0, errCannotUpdate(ctr.ID, errdefs.System(err))
	}
	err = daemon.commit(ctr, change, target)
	if err == nil {
		err = daemon.finish(ctr, stuck, daemon.reasonsOf(ctr, stuck))
	}
	if err != nil {
		if removed := isBeingRemoved(ctr); removed != nil {
			return 0, removed // and its folder goes, with what would be settled
		}
		forward, backErr := daemon.settle(ctr, journal, true)
		switch {
		case backErr != nil:
			return 0, errdefs.System(fmt.Errorf("%w; and rolling it back: %w", err, backErr))
		case !forward:
			return 0, err
		}
	}
	daemon.logUpdate(ctr, old.Resources, nil)
	ctr.Lock()
	defer ctr.Unlock()
	return resourcesVersion(ctr.HostConfig), nil
}

func isBeingRemoved(ctr *container.Container) error {
	ctr.Lock()
	defer ctr.Unlock()
	if ctr.RemovalInProgress || ctr.Dead {
		return errCannotUpdate(ctr.ID, errdefs.Conflict(errors.New("container is marked for removal and cannot be updated")))
	}
	return nil
}

// commit makes disk, memory and kernel hold target. The restart policy comes last:
// until then a container that ends is treated as before.
func (daemon *Daemon) commit(ctr *container.Container, change containertypes.Resources, target resourceSet) error {
	if err := isBeingRemoved(ctr); err != nil {
		return err
	}
	ctr.Lock()
	err := daemon.storeResources(ctr, target)
	isRestarting := ctr.Restarting
	tsk, taskErr := ctr.GetRunningTask()
	ctr.Unlock()
	if err != nil {
		return errCannotUpdate(ctr.ID, errdefs.System(err))
	}
	if taskErr == nil && !isRestarting {
		if err := daemon.applyUpdate(context.TODO(), ctr, tsk, change, target.Resources, false); err != nil {
			return errCannotUpdate(ctr.ID, errdefs.System(err))
		}
	}
	ctr.UpdateMonitor(target.RestartPolicy)
	return nil
}

// recoverUpdate settles the update that the container's journal tells of, if there
// is one: a dockerd did not live to finish it, or it could not be settled before. It
// returns the fields that the kernel may still have otherwise than inspect says,
// with the values that they should have. It is called with the container's update
// lock held, or before anyone could hold it. Not alive is a container that runs by
// its state on disk only.
func (daemon *Daemon) recoverUpdate(ctr *container.Container, alive bool) (stuck containertypes.Resources, _ error) {
	journal, err := readJournal(ctr)
	if err != nil || journal == nil {
		return stuck, err
	}
	ctr.Lock()
	now := currentSet(ctr)
	ctr.Unlock()
	if old, target := journal.sets(); !now.is(old) && !now.is(target) {
		// Another dockerd went on with this container. What it was told since
		// counts, and the journal only says which files may be stale.
		log.G(context.TODO()).WithField("container", ctr.ID).Warn("dropped an interrupted update: the container was changed since")
		next := now
		if now.is(old.changed(now, old, target)) {
			// It was on its way back, which may be below what is used by now.
			next = target.changed(now, old, target)
		}
		journal.Old, journal.RestartPolicy = now.Resources, now.RestartPolicy
		journal.New, journal.NewRestartPolicy = &next.Resources, next.RestartPolicy
	}
	forward, err := daemon.settle(ctr, *journal, alive)
	if err != nil {
		return stuck, err
	}
	left, err := readJournal(ctr)
	if err != nil {
		return stuck, err
	}
	logger := log.G(context.TODO()).WithField("container", ctr.ID)
	switch {
	case left != nil:
		return left.Update, nil
	case forward:
		logger.Warn("applied an interrupted update: the old limits cannot be put back")
		daemon.logUpdate(ctr, journal.Old, map[string]string{"recovered": "applied"})
	default:
		logger.Warn("rolled back an interrupted update")
	}
	return stuck, nil
}

// reapplyUpdate tries once more to roll back what a journal tells of.
func (daemon *Daemon) reapplyUpdate(ctr *container.Container) map[lostOn]bool {
	if _, err := daemon.recoverUpdate(ctr, true); err != nil {
		log.G(context.TODO()).WithError(err).WithField("container", ctr.ID).Error("a previous update could not be rolled back yet")
	} else if journal, err := readJournal(ctr); err == nil && journal == nil {
		daemon.noteHolds(ctr, lostUpdate(ctr))
	}
	return map[lostOn]bool{lostUpdate(ctr): true}
}

func lostUpdate(ctr *container.Container) lostOn { return lostOn{container: ctr.ID, kind: "update"} }

// settle is the one place that undoes: it makes memory, disk and kernel hold one of
// the journal's sets, whole. The old one is tried first, but it must not put a limit
// below what the container uses: that would kill it, or be refused for ever. So
// forward may be the way; settle tells whether it was. If there is no way for some
// fields, the container keeps the old set but for them, which are shown as not in
// force, stay in the journal and are tried again.
//
// An error is one of the disk: then the journal stays as it is, and all of its fields
// are shown and tried again.
func (daemon *Daemon) settle(ctr *container.Container, journal updateJournal, alive bool) (forward bool, err error) {
	defer func() {
		if err != nil {
			daemon.noteLost(ctr, lostUpdate(ctr), reasonsFor(journal.Update, err))
		}
	}()
	old, target := journal.sets()
	ctr.Lock()
	tsk, taskErr := ctr.GetRunningTask()
	ctr.Unlock()
	if taskErr != nil || !alive {
		return false, errors.Join(daemon.restoreSet(ctr, old), daemon.finish(ctr, containertypes.Resources{}, nil))
	}
	// A start waits for the container's lock: the next one has what is stored. If
	// the task has ended there is no cgroup to put anything into.
	try := func(named containertypes.Resources, set resourceSet) error {
		change := daemon.assigning(named, set.Resources)
		err := daemon.belowUse(ctr, int(tsk.Pid()), change)
		if err == nil {
			err = daemon.applyUpdate(context.TODO(), ctr, tsk, change, set.Resources, true)
		}
		if err != nil && hasEnded(context.TODO(), tsk) {
			return nil
		}
		return err
	}
	if err := daemon.restoreSet(ctr, old); err != nil {
		return false, err
	}
	backErr := try(journal.Update, old)
	if backErr == nil {
		return false, daemon.finish(ctr, containertypes.Resources{}, nil)
	}
	log.G(context.TODO()).WithError(backErr).WithField("container", ctr.ID).Warn("an update cannot be rolled back")
	if cerrdefs.IsDeadlineExceeded(backErr) {
		// Who does not answer would not do so for the other set or for a part.
		return false, daemon.finish(ctr, journal.Update, reasonsFor(journal.Update, backErr))
	}
	if !target.is(old) {
		if err := daemon.restoreSet(ctr, target); err != nil {
			return false, err
		}
		if try(journal.Update, target) == nil {
			return true, daemon.finish(ctr, containertypes.Resources{}, nil)
		}
		if err := daemon.restoreSet(ctr, old); err != nil {
			return false, err
		}
	}
	var stuck containertypes.Resources
	reasons := map[string]string{}
	for _, group := range resourceGroups {
		var named containertypes.Resources
		for _, name := range group {
			_ = copyResource(&named, journal.Update, name)
		}
		if !namesAny(named) {
			continue
		}
		if err := try(named, old); err != nil {
			stuck = joined(stuck, named)
			for _, name := range group {
				if namesResource(named, name) {
					reasons[name] = err.Error()
				}
			}
		}
	}
	return false, daemon.finish(ctr, stuck, reasons)
}

// restoreSet makes disk, memory and the restart policy those of a set.
func (daemon *Daemon) restoreSet(ctr *container.Container, set resourceSet) error {
	ctr.Lock()
	defer ctr.Unlock()
	if set.Name == "" {
		set.RestartPolicy = ctr.HostConfig.RestartPolicy
	}
	ctr.UpdateMonitor(set.RestartPolicy)
	if currentSet(ctr).is(set) {
		return daemon.saveHostConfig(ctr)
	}
	return daemon.storeResources(ctr, set)
}

// finish removes the journal, or leaves in it what is stuck, and says so.
func (daemon *Daemon) finish(ctr *container.Container, stuck containertypes.Resources, reasons map[string]string) error {
	if !namesAny(stuck) {
		daemon.noteHolds(ctr, lostUpdate(ctr))
		return removeJournal(ctr)
	}
	ctr.Lock()
	now := currentSet(ctr)
	ctr.Unlock()
	daemon.noteLost(ctr, lostUpdate(ctr), reasons)
	// There is no way but back: whoever asked was told that it failed.
	return writeJournal(ctr, updateJournal{Update: stuck, Old: now.Resources, RestartPolicy: now.RestartPolicy, New: &now.Resources, NewRestartPolicy: now.RestartPolicy})
}

// reasonsOf is what was said of the fields that stuck names.
func (daemon *Daemon) reasonsOf(ctr *container.Container, stuck containertypes.Resources) map[string]string {
	reasons := daemon.lostOf(ctr.ID)[lostUpdate(ctr)]
	still := map[string]string{}
	for name, reason := range reasons {
		if namesResource(stuck, name) {
			still[name] = reason
		}
	}
	return still
}

// storeResources puts a set into memory and onto disk, under a new version. Callers
// must hold the container's lock. What cannot be updated is the same on both sides
// anyway.
func (daemon *Daemon) storeResources(ctr *container.Container, set resourceSet) error {
	// Inspect and a backup of upstream's may share the old struct.
	hostConfig := *ctr.HostConfig
	fixed := hostConfig.Resources
	hostConfig.Resources = set.Resources
	keepFixed(&hostConfig.Resources, fixed)
	if set.Name != "" {
		hostConfig.RestartPolicy = set.RestartPolicy
	}
	hostConfig.ResourcesVersion = resourcesVersion(&hostConfig) + 1
	ctr.HostConfig = &hostConfig
	return daemon.saveHostConfig(ctr)
}

// saveHostConfig is ctr.CheckpointTo for what an update changes: the other
// file, config.v2.json, is left alone. And an error of the last write or of the
// renaming is an error. Callers must hold the container's lock.
func (daemon *Daemon) saveHostConfig(ctr *container.Container) error {
	path, err := ctr.HostConfigPath()
	if err != nil {
		return err
	}
	hostConfig, err := json.Marshal(ctr.HostConfig)
	if err != nil {
		return err
	}
	hostConfig = append(hostConfig, '\n')
	// A disk that is full, or read-only, is no trouble if nothing has to change.
	if old, err := os.ReadFile(path); err != nil || !bytes.Equal(old, hostConfig) {
		if err := atomicwriter.WriteFile(path, hostConfig, 0o600); err != nil {
			return err
		}
	}
	if err := storeLimitsCopy(ctr); err != nil {
		return err
	}

	var seen containertypes.HostConfig // a copy, as queries see it without a lock
	if err := json.Unmarshal(hostConfig, &seen); err != nil {
		return err
	}
	return daemon.containersReplica.SaveHostConfig(ctr.ID, &seen)
}

// keepFixed gives r the fields that no update can change.
func keepFixed(r *containertypes.Resources, fixed containertypes.Resources) {
	for _, f := range containertypes.ResourceFields {
		if f.Fixed {
			f.Copy(r, &fixed)
		}
	}
}

// assigning returns the update that gives each resource that update names the value
// that old has, or its default if it has none, since absent would mean "keep".
func (daemon *Daemon) assigning(update, old containertypes.Resources) (back containertypes.Resources) {
	for _, f := range containertypes.ResourceFields {
		if !f.Fixed && !f.Ignored && f.Named(&update) {
			f.Assign(&back, &old)
		}
	}
	// Upstream stores these, and has nothing to put in their place.
	back.CPURealtimePeriod, back.CPURealtimeRuntime = 0, 0
	if update.NanoCPUs != 0 || update.CPUPeriod != 0 || update.CPUQuota != 0 {
		// Three names for the same two files.
		back.NanoCPUs, back.CPUPeriod, back.CPUQuota = old.NanoCPUs, old.CPUPeriod, old.CPUQuota
		if back.NanoCPUs == 0 {
			for _, name := range []string{"CpuPeriod", "CpuQuota"} {
				containertypes.ResourceFieldNamed(name).Assign(&back, &old)
			}
		}
	}
	if update.CpusetCpus != "" && back.CpusetCpus == "" {
		back.CpusetCpus = daemon.hostInfo().Cpus
	}
	if update.CpusetMems != "" && back.CpusetMems == "" {
		back.CpusetMems = daemon.hostInfo().Mems
	}
	return back
}

// logUpdate emits the update event, with what changed as attributes: the names
// are those of the API, the values JSON. More are added as they are.
func (daemon *Daemon) logUpdate(ctr *container.Container, old containertypes.Resources, more map[string]string) {
	ctr.Lock()
	changed := changedResources(old, ctr.HostConfig.Resources)
	ctr.Unlock()
	maps.Copy(changed, more)
	daemon.LogContainerEventWithAttributes(ctr, events.ActionUpdate, changed)
}

func changedResources(old, now containertypes.Resources) map[string]string {
	changed := map[string]string{}
	for _, f := range containertypes.ResourceFields {
		was, is := f.Ref(&old), f.Ref(&now)
		if reflect.DeepEqual(was, is) {
			continue
		}
		value, err := json.Marshal(is)
		if err != nil {
			log.G(context.TODO()).WithError(err).Errorf("%s of the update event", f.Name)
			continue
		}
		changed[f.Name] = string(value)
	}
	return changed
}

// takeResourcesVersion is for inspect, which shows the version outside of what a client
// may post back.
func takeResourcesVersion(hostConfig *containertypes.HostConfig) uint64 {
	version := resourcesVersion(hostConfig)
	hostConfig.ResourcesVersion = 0
	return version
}
