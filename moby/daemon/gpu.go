// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"

	containertypes "github.com/docker/docker/api/types/container"
)

// Range of [containertypes.Resources.GPUPriority], the kernel's own range of
// gpu.priority.
const (
	minGPUPriority = -1024
	maxGPUPriority = 1024
)

// gpuUnlimited is the GPUMemory that removes the limit.
const gpuUnlimited = -1

// validateGPU checks the ranges of what a request names. It knows nothing of
// the host, so that it gives the same answer for create, start and update.
func validateGPU(r containertypes.Resources) error {
	if p := r.GPUPriority; p != nil && (*p < minGPUPriority || *p > maxGPUPriority) {
		return fmt.Errorf("invalid GPUPriority (--gpu-priority) %d: must be between %d and %d, 0 is the default", *p, minGPUPriority, maxGPUPriority)
	}
	if m := r.GPUMemory; m != nil && *m != gpuUnlimited && *m < 1 {
		return fmt.Errorf("invalid GPUMemory (--gpu-memory) %d: must be at least 1 byte, or -1 for no limit", *m)
	}
	return nil
}

// gpuLimits returns only those GPU fields of r that limit something. Priority
// 0 and memory -1 ask for what every container has anyway: they need no
// controller, so that a limit can be taken off on a host that lost it.
func gpuLimits(r containertypes.Resources) (limits containertypes.Resources) {
	if r.GPUPriority != nil && *r.GPUPriority != 0 {
		limits.GPUPriority = r.GPUPriority
	}
	if r.GPUMemory != nil && *r.GPUMemory != gpuUnlimited {
		limits.GPUMemory = r.GPUMemory
	}
	return limits
}

// namesGPU tells whether r has any GPU field set.
func namesGPU(r containertypes.Resources) bool {
	return r.GPUPriority != nil || r.GPUMemory != nil
}

// gpuFlags spells the GPU fields of r as the flags that set them, for errors.
func gpuFlags(r containertypes.Resources) string {
	var s string
	if r.GPUPriority != nil {
		s = fmt.Sprintf("--gpu-priority=%d", *r.GPUPriority)
	}
	if r.GPUMemory != nil {
		if s != "" {
			s += " "
		}
		s += fmt.Sprintf("--gpu-memory=%d", *r.GPUMemory)
	}
	return s
}
