// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/container"
)

// A GPU limit that is not in force: see limit_lost.go. A container that runs may have
// one that nobody keeps: a dockerd before this one, or a stock runc, did not ask its
// GPUs, the driver is another one since, or somebody wrote to the container's cgroup.

// reapply also notes the limits that the container's GPUs do not keep.
func (daemon gpuKind) reapply(ctr *container.Container) map[lostOn]bool {
	ctr.Lock()
	tsk, err := ctr.GetRunningTask()
	limits, full := gpuLimits(ctr.HostConfig.Resources), ctr.HostConfig.Resources
	ctr.Unlock()
	if err != nil || !namesGPU(limits) {
		return nil // its next start asks
	}
	pid := int(tsk.Pid())
	reasons := map[string]string{}
	for field, limit := range map[string]containertypes.Resources{
		"GPUMemory":   {GPUMemory: limits.GPUMemory},
		"GPUPriority": {GPUPriority: limits.GPUPriority},
	} {
		if !namesGPU(limit) {
			continue
		}
		// What is in the kernel's file does no harm where nobody keeps it.
		err := verifyGPUApplied(ctr.ID, pid, limit)
		if err != nil {
			err = daemon.applyUpdate(context.TODO(), ctr, tsk, limit, full, true)
		}
		if err == nil {
			ctr.Lock()
			_, err = daemon.judgeGPUUpdate(ctr, pid, limit)
			ctr.Unlock()
		}
		if err != nil {
			reasons[field] = err.Error()
		}
	}
	on := lostOn{container: ctr.ID, kind: "gpu"}
	if len(reasons) == 0 {
		daemon.noteHolds(ctr, on)
	} else {
		daemon.noteLost(ctr, on, reasons)
	}
	return map[lostOn]bool{on: true}
}

// restore does not keep dockerd's start waiting, as a runtime or a container may.
func (daemon gpuKind) restore(containers map[string]*container.Container) {
	for _, ctr := range containers {
		ctr.Lock()
		limited := ctr.State.Running && namesGPU(gpuLimits(ctr.HostConfig.Resources))
		ctr.Unlock()
		if limited {
			go func() {
				defer daemon.lockUpdates(ctr.ID)()
				daemon.reapply(ctr)
			}()
		}
	}
}
