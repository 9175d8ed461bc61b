// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"

	containerd "github.com/containerd/containerd/v2/client"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/containerd/log"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/container"
	"github.com/docker/docker/errdefs"
	libcontainerdtypes "github.com/docker/docker/libcontainerd/types"
	"github.com/moby/locker"
	"github.com/moby/sys/atomicwriter"
)

// updateLocks holds a lock for each container that is being updated. Upstream
// calls the runtime outside the container's lock, so of two updates one could
// win on disk and the other in the kernel.
var updateLocks = locker.New()

// pendingUpdateFile exists in a container's folder while an update is under
// way. Whoever finds it (the next update, the next start of dockerd) takes that
// update back: it was never acknowledged.
const pendingUpdateFile = "update.pending.json"

// pendingUpdate is what it takes to take an update back.
type pendingUpdate struct {
	Update        containertypes.Resources // what is being sent to the runtime
	Old           containertypes.Resources // what was in force
	RestartPolicy containertypes.RestartPolicy
	Boot          string // of the machine
}

// notTakenBackError says that a failed update may have left something behind
// in the kernel. The pending file stays.
type notTakenBackError struct{ error }

// Unwrap keeps the class of the error that it holds.
func (e notTakenBackError) Unwrap() error { return e.error }

// updateAllOrNothing is daemon.update with a promise: if it returns an error,
// kernel, runtime, disk and inspect hold the old values, or will as soon as
// that is possible again. A crash in between counts as an error.
func (daemon *Daemon) updateAllOrNothing(name string, update *containertypes.HostConfig) error {
	if update == nil {
		return nil
	}
	return daemon.transact(name, func(ctr *container.Container) (containertypes.Resources, error) {
		return update.Resources, daemon.checkUpdate(ctr, update, update.Resources)
	}, func(ctr *container.Container, _, _ containertypes.Resources) error {
		return daemon.update(ctr.ID, update)
	})
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
		})
		ctr.Unlock()
	}
	return all, nil
}

// ContainerUpdateExact sets every resource that can be updated, and the restart
// policy, to just what target says: an absent field goes back to its default,
// where ContainerUpdate would keep it. This is how a client takes back an
// update that it has already been told was done. Block I/O weight has no
// default that fits all kernels; it is only ever set.
func (daemon *Daemon) ContainerUpdateExact(name string, target *containertypes.HostConfig) (containertypes.UpdateResponse, error) {
	daemonCfg := daemon.config()
	warnings, err := daemon.verifyContainerSettings(daemonCfg, target, nil, true)
	if err != nil {
		return containertypes.UpdateResponse{Warnings: warnings}, errdefs.InvalidParameter(err)
	}
	err = daemon.transact(name, func(ctr *container.Container) (containertypes.Resources, error) {
		touched := ctr.HostConfig.Resources
		if err := overlay(&touched, target.Resources); err != nil {
			return touched, err
		}
		change := daemon.takeBack(touched, target.Resources)
		return change, daemon.checkUpdate(ctr, target, change)
	}, func(ctr *container.Container, update, old containertypes.Resources) error {
		return daemon.updateExact(ctr, update, old, target)
	})
	return containertypes.UpdateResponse{Warnings: warnings}, err
}

// overlay puts the fields that over names on top of those of base.
func overlay(base *containertypes.Resources, over containertypes.Resources) error {
	merged := &container.Container{HostConfig: &containertypes.HostConfig{}}
	merged.HostConfig.Resources = *base
	// Without the limits that upstream refuses to change into each other.
	if over.NanoCPUs != 0 {
		merged.HostConfig.CPUPeriod, merged.HostConfig.CPUQuota = 0, 0
	}
	if over.CPUPeriod != 0 || over.CPUQuota != 0 {
		merged.HostConfig.NanoCPUs = 0
	}
	if over.Memory != 0 && over.MemorySwap == 0 {
		merged.HostConfig.MemorySwap = over.Memory
	}
	if err := merged.UpdateContainer(&containertypes.HostConfig{Resources: over}); err != nil {
		return err
	}
	*base = merged.HostConfig.Resources
	return nil
}

// checkUpdate refuses what cannot be enforced before anything is changed. change
// is what is sent to the runtime.
func (daemon *Daemon) checkUpdate(ctr *container.Container, update *containertypes.HostConfig, change containertypes.Resources) error {
	if err := daemon.checkGPUUpdate(ctr, update); err != nil {
		return err
	}
	return daemon.checkNetUpdate(ctr, change)
}

func (daemon *Daemon) updateExact(ctr *container.Container, update, old containertypes.Resources, target *containertypes.HostConfig) error {
	ctr.Lock()
	if ctr.RemovalInProgress || ctr.Dead {
		ctr.Unlock()
		return errCannotUpdate(ctr.ID, errors.New(`container is marked for removal and cannot be "update"`))
	}
	err := daemon.storeResources(ctr, target.Resources, target.RestartPolicy)
	isRestarting := ctr.Restarting
	tsk, taskErr := ctr.GetRunningTask()
	ctr.Unlock()
	if err == nil && taskErr == nil && !isRestarting {
		err = daemon.updateTask(context.TODO(), ctr, tsk, update, old)
	}
	if err != nil {
		return errCannotUpdate(ctr.ID, err)
	}
	daemon.logUpdate(ctr, old)
	return nil
}

// lockUpdates keeps updates of a container away until unlock is called.
func lockUpdates(containerID string) (unlock func()) {
	updateLocks.Lock(containerID)
	return func() { _ = updateLocks.Unlock(containerID) }
}

// updateTask applies an update to a running container, or leaves it as it was.
func (daemon *Daemon) updateTask(ctx context.Context, ctr *container.Container, tsk libcontainerdtypes.Task, update, old containertypes.Resources) error {
	dropMissingGPU(&update, old, daemon.RawSysInfo())
	ctr.Lock()
	full := ctr.HostConfig.Resources
	ctr.Unlock()
	err := daemon.applyUpdate(ctx, ctr, tsk, update, full, false)
	if err == nil {
		return nil
	}
	backErr := daemon.applyUpdate(ctx, ctr, tsk, daemon.takeBack(update, old), old, true)
	switch {
	case backErr == nil:
		return err
	case hasEnded(ctx, tsk):
		return endedError{err}
	default:
		return notTakenBackError{fmt.Errorf("%w; and the old limits could not be put back: %w", err, backErr)}
	}
}

// endedError says that the container ended in the middle of an update. There is no
// cgroup to put back, but a restart policy may have started it with the new limits.
type endedError struct{ error }

func (e endedError) Unwrap() error { return e.error }

func hasEnded(ctx context.Context, tsk libcontainerdtypes.Task) bool {
	status, err := tsk.Status(ctx)
	return cerrdefs.IsNotFound(err) || err == nil && status.Status == containerd.Stopped
}

// applyUpdate hands an update to the runtime; full is all that the container
// has with it, and isBack says that it takes another one back. The runtime's
// yes is not believed: what the kernel shows is compared with what was asked.
func (daemon *Daemon) applyUpdate(ctx context.Context, ctr *container.Container, tsk libcontainerdtypes.Task, update, full containertypes.Resources, isBack bool) error {
	r := toContainerdResources(update)
	verifyBlkio, err := daemon.blkioUpdate(ctr, int(tsk.Pid()), r, update, full, isBack)
	if err != nil {
		return err
	}
	if err := daemon.updateNet(ctr, tsk, update, r, isBack); err != nil {
		return err
	}
	if err := daemon.sendUpdate(ctx, ctr, tsk, r); err != nil {
		return err
	}
	if err := daemon.verifyNetApplied(ctr, tsk, update); err != nil {
		return err
	}
	if err := verifyGPUApplied(ctr.ID, int(tsk.Pid()), update); err != nil {
		return err
	}
	return verifyBlkio()
}

// transact runs an update between writing and removing the pending file, and
// takes it back if it fails. prepare says what will be sent to the runtime.
func (daemon *Daemon) transact(name string, prepare func(*container.Container) (containertypes.Resources, error), update func(_ *container.Container, update, old containertypes.Resources) error) error {
	ctr, err := daemon.GetContainer(name)
	if err != nil {
		return err
	}
	defer lockUpdates(ctr.ID)()
	defer daemon.reapplyLost(ctr.ID)

	if err := daemon.settleUpdate(ctr, true); err != nil {
		return errCannotUpdate(ctr.ID, fmt.Errorf("an earlier update failed and is not taken back yet: %w", err))
	}
	change, err := prepare(ctr)
	if err != nil {
		return err
	}
	if namesNet(change) {
		defer lockNetUpdates(ctr.ID)()
	}
	if ctr.IsRunning() {
		daemon.expectUpdate(ctr)
	}
	ctr.Lock()
	pending := pendingUpdate{Update: change, Old: ctr.HostConfig.Resources, RestartPolicy: ctr.HostConfig.RestartPolicy}
	ctr.Unlock()
	if err := writePending(ctr, pending); err != nil {
		return errCannotUpdate(ctr.ID, errdefs.System(err))
	}

	err = update(ctr, change, pending.Old)
	inKernel := err == nil || errors.As(err, &endedError{})
	if err == nil {
		if err = removePending(ctr); err == nil {
			return nil
		}
		err = errCannotUpdate(ctr.ID, errdefs.System(err))
	}
	if backErr := daemon.putBack(ctr, pending, inKernel); backErr != nil {
		return errdefs.System(fmt.Errorf("%w; and taking it back: %w", err, backErr))
	}
	if errors.As(err, &notTakenBackError{}) {
		return err
	}
	if removeErr := removePending(ctr); removeErr != nil {
		return errdefs.System(fmt.Errorf("%w; %w", err, removeErr))
	}
	return err
}

// putBack makes memory, disk and, if that is asked for, the kernel hold what
// they held before an update. If one of them cannot, the others do all the same.
func (daemon *Daemon) putBack(ctr *container.Container, pending pendingUpdate, inKernel bool) error {
	ctr.Lock()
	err := daemon.storeResources(ctr, pending.Old, pending.RestartPolicy)
	tsk, taskErr := ctr.GetRunningTask()
	ctr.Unlock()
	if taskErr != nil || !inKernel {
		return err
	}
	backErr := daemon.applyUpdate(context.TODO(), ctr, tsk, daemon.takeBack(pending.Update, pending.Old), pending.Old, true)
	// A start waits for the lock above: the next one has the old limits.
	if backErr != nil && hasEnded(context.TODO(), tsk) {
		backErr = nil
	}
	return errors.Join(err, backErr)
}

// settleUpdate takes back the update that the container's pending file tells
// of, if there is one. It is called with the container's update lock held, or
// before anyone could hold it. Not alive is a container that runs by its state
// on disk only.
func (daemon *Daemon) settleUpdate(ctr *container.Container, alive bool) error {
	var pending pendingUpdate
	data, err := os.ReadFile(filepath.Join(ctr.Root, pendingUpdateFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// A machine that went down has no cgroups to put back, and on disk it has
	// one of the sets, whole. Nor is there anything to do if the file is torn:
	// nothing is changed before it is written.
	if json.Unmarshal(data, &pending) == nil && pending.Boot == bootID() {
		if err := daemon.putBack(ctr, pending, alive); err != nil {
			return err
		}
		log.G(context.TODO()).WithField("container", ctr.ID).Warn("took back an update that was not finished")
	}
	return removePending(ctr)
}

// storeResources puts resources and restart policy into memory and onto disk.
// Callers must hold the container's lock. What cannot be updated is the same
// on both sides anyway.
func (daemon *Daemon) storeResources(ctr *container.Container, r containertypes.Resources, policy containertypes.RestartPolicy) error {
	// Inspect and a backup of upstream's may share the old struct.
	hostConfig := *ctr.HostConfig
	fixed := hostConfig.Resources
	hostConfig.Resources = r
	keepFixed(&hostConfig.Resources, fixed)
	if policy.Name != "" && policy != hostConfig.RestartPolicy {
		hostConfig.RestartPolicy = policy
		ctr.UpdateMonitor(policy)
	}
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

	var seen containertypes.HostConfig // a copy, as queries see it without a lock
	if err := json.Unmarshal(hostConfig, &seen); err != nil {
		return err
	}
	return daemon.containersReplica.SaveHostConfig(ctr.ID, &seen)
}

// keepFixed gives r the fields that no update can change.
func keepFixed(r *containertypes.Resources, fixed containertypes.Resources) {
	changed := *r
	*r = fixed
	r.BlkioWeight = changed.BlkioWeight
	r.CPUShares = changed.CPUShares
	r.NanoCPUs = changed.NanoCPUs
	r.CPUPeriod = changed.CPUPeriod
	r.CPUQuota = changed.CPUQuota
	r.CPURealtimePeriod = changed.CPURealtimePeriod
	r.CPURealtimeRuntime = changed.CPURealtimeRuntime
	r.CpusetCpus = changed.CpusetCpus
	r.CpusetMems = changed.CpusetMems
	r.Memory = changed.Memory
	r.MemorySwap = changed.MemorySwap
	r.MemoryReservation = changed.MemoryReservation
	r.KernelMemory = changed.KernelMemory
	r.PidsLimit = changed.PidsLimit
	r.GPUPriority = changed.GPUPriority
	r.GPUMemory = changed.GPUMemory
	r.BlkioReadLimit = changed.BlkioReadLimit
	r.BlkioWriteLimit = changed.BlkioWriteLimit
	r.BlkioReadIOpsLimit = changed.BlkioReadIOpsLimit
	r.BlkioWriteIOpsLimit = changed.BlkioWriteIOpsLimit
	r.BlkioWeightDevice = changed.BlkioWeightDevice
	r.BlkioDeviceReadBps = changed.BlkioDeviceReadBps
	r.BlkioDeviceWriteBps = changed.BlkioDeviceWriteBps
	r.BlkioDeviceReadIOps = changed.BlkioDeviceReadIOps
	r.BlkioDeviceWriteIOps = changed.BlkioDeviceWriteIOps
	r.NetClassID = changed.NetClassID
	r.NetPriorities = changed.NetPriorities
	r.NetEgressRate = changed.NetEgressRate
	r.NetIngressRate = changed.NetIngressRate
}

// takeBack returns the update that undoes another one: each resource that
// update names, with its old value, or with its default if it had none, since
// absent would mean "keep".
func (daemon *Daemon) takeBack(update, old containertypes.Resources) (back containertypes.Resources) {
	set := func(dst *int64, named, old, byDefault int64) {
		if named != 0 {
			*dst = old
			if old == 0 {
				*dst = byDefault
			}
		}
	}
	set(&back.CPUShares, update.CPUShares, old.CPUShares, 1024)
	set(&back.Memory, update.Memory, old.Memory, -1)
	set(&back.MemorySwap, update.MemorySwap, old.MemorySwap, -1)
	set(&back.MemoryReservation, update.MemoryReservation, old.MemoryReservation, -1)
	if update.NanoCPUs != 0 || update.CPUPeriod != 0 || update.CPUQuota != 0 {
		// Three names for the same two files.
		back.NanoCPUs, back.CPUPeriod, back.CPUQuota = old.NanoCPUs, old.CPUPeriod, old.CPUQuota
		if back.NanoCPUs == 0 {
			set(&back.CPUPeriod, 1, old.CPUPeriod, 100000)
			set(&back.CPUQuota, 1, old.CPUQuota, -1)
		}
	}
	if update.BlkioWeight != 0 {
		back.BlkioWeight = old.BlkioWeight
	}
	if update.CpusetCpus != "" {
		if back.CpusetCpus = old.CpusetCpus; back.CpusetCpus == "" {
			back.CpusetCpus = daemon.RawSysInfo().Cpus
		}
	}
	if update.CpusetMems != "" {
		if back.CpusetMems = old.CpusetMems; back.CpusetMems == "" {
			back.CpusetMems = daemon.RawSysInfo().Mems
		}
	}
	takeBackPtr(&back.PidsLimit, update.PidsLimit, old.PidsLimit, -1)
	takeBackPtr(&back.GPUPriority, update.GPUPriority, old.GPUPriority, 0)
	takeBackPtr(&back.GPUMemory, update.GPUMemory, old.GPUMemory, gpuUnlimited)
	takeBackPtr(&back.BlkioReadLimit, update.BlkioReadLimit, old.BlkioReadLimit, unlimited)
	takeBackPtr(&back.BlkioWriteLimit, update.BlkioWriteLimit, old.BlkioWriteLimit, unlimited)
	takeBackPtr(&back.BlkioReadIOpsLimit, update.BlkioReadIOpsLimit, old.BlkioReadIOpsLimit, unlimited)
	takeBackPtr(&back.BlkioWriteIOpsLimit, update.BlkioWriteIOpsLimit, old.BlkioWriteIOpsLimit, unlimited)
	takeBackList(&back.BlkioWeightDevice, update.BlkioWeightDevice, old.BlkioWeightDevice)
	takeBackList(&back.BlkioDeviceReadBps, update.BlkioDeviceReadBps, old.BlkioDeviceReadBps)
	takeBackList(&back.BlkioDeviceWriteBps, update.BlkioDeviceWriteBps, old.BlkioDeviceWriteBps)
	takeBackList(&back.BlkioDeviceReadIOps, update.BlkioDeviceReadIOps, old.BlkioDeviceReadIOps)
	takeBackList(&back.BlkioDeviceWriteIOps, update.BlkioDeviceWriteIOps, old.BlkioDeviceWriteIOps)
	takeBackPtr(&back.NetClassID, update.NetClassID, old.NetClassID, 0)
	takeBackList(&back.NetPriorities, update.NetPriorities, old.NetPriorities)
	takeBackPtr(&back.NetEgressRate, update.NetEgressRate, old.NetEgressRate, unlimited)
	takeBackPtr(&back.NetIngressRate, update.NetIngressRate, old.NetIngressRate, unlimited)
	return back
}

func takeBackPtr[T any](dst **T, named, old *T, byDefault T) {
	if named != nil {
		if *dst = old; old == nil {
			*dst = &byDefault
		}
	}
}

func takeBackList[T any](dst *[]T, named, old []T) {
	if named != nil {
		if *dst = old; old == nil {
			*dst = []T{}
		}
	}
}

// logUpdate emits the update event, with what changed as attributes: the names
// are those of the API, the values JSON.
func (daemon *Daemon) logUpdate(ctr *container.Container, old containertypes.Resources) {
	ctr.Lock()
	changed := changedResources(old, ctr.HostConfig.Resources)
	ctr.Unlock()
	daemon.LogContainerEventWithAttributes(ctr, events.ActionUpdate, changed)
}

func changedResources(old, now containertypes.Resources) map[string]string {
	changed := map[string]string{}
	before, after := reflect.ValueOf(old), reflect.ValueOf(now)
	for i := range before.NumField() {
		was, is := before.Field(i), after.Field(i)
		if reflect.DeepEqual(was.Interface(), is.Interface()) {
			continue
		}
		field := before.Type().Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" {
			name = field.Name
		}
		value, err := json.Marshal(is.Interface())
		if err != nil {
			log.G(context.TODO()).WithError(err).Errorf("%s of the update event", name)
			continue
		}
		changed[name] = string(value)
	}
	return changed
}

// writePending does not wait for the disk: the file has to outlive dockerd, but
// not the machine.
func writePending(ctr *container.Container, p pendingUpdate) error {
	p.Boot = bootID()
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	path := filepath.Join(ctr.Root, pendingUpdateFile)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return errors.Join(err, removeIfThere(path))
	}
	return nil
}

func removePending(ctr *container.Container) error {
	return removeIfThere(filepath.Join(ctr.Root, pendingUpdateFile))
}

func removeIfThere(path string) error {
	err := os.Remove(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// bootID is another one after each boot of the machine, "" where there is none.
var bootID = sync.OnceValue(func() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id))
})
