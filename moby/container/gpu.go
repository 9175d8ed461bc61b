// SPDX-License-Identifier: Apache-2.0

package container

import containertypes "github.com/docker/docker/api/types/container"

// mergeGPU takes over what an update names: nil keeps the old value. The
// pointers are replaced and never written through, because the backup that
// daemon.update restores on failure is a shallow copy sharing them.
func mergeGPU(dst *containertypes.Resources, update containertypes.Resources) {
	if update.GPUPriority != nil {
		dst.GPUPriority = update.GPUPriority
	}
	if update.GPUMemory != nil {
		dst.GPUMemory = update.GPUMemory
	}
}
