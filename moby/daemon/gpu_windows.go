// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/container"
)

// verifyGPU refuses every GPU limit: Windows has no gpu cgroup controller.
func verifyGPU(r containertypes.Resources) error {
	if err := validateGPU(r); err != nil {
		return err
	}
	if limits := gpuLimits(r); namesGPU(limits) {
		return fmt.Errorf("invalid option: Windows does not support %s", gpuFlags(limits))
	}
	return nil
}

// checkGPUUpdate has nothing to add: verifyGPU refuses before it is called.
func (daemon *Daemon) checkGPUUpdate(*container.Container, *containertypes.HostConfig) error {
	return nil
}

// verifyGPUApplied has nothing to read.
func verifyGPUApplied(string, int, containertypes.Resources) error { return nil }

func (daemon *Daemon) gpuResourceLimits() (memory, priority system.ResourceLimits) {
	none := system.ResourceLimits{Reason: "Windows has no gpu cgroup controller"}
	return none, none
}

// restoreGPU has nothing to look at.
func (daemon *Daemon) restoreGPU(map[string]*container.Container) {}
