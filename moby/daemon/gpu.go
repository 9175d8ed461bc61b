// SPDX-License-Identifier: Apache-2.0

package daemon

import containertypes "github.com/docker/docker/api/types/container"

// gpuUnlimited is the GPUMemory that removes the limit.
const gpuUnlimited = -1

// validateGPU checks the ranges of what a request names. It knows nothing of
// the host, so that it gives the same answer for create, start and update.
func validateGPU(r containertypes.Resources) error { return gpuFields.Check(r) }

// gpuLimits returns only those GPU fields of r that limit something. Priority
// 0 and memory -1 ask for what every container has anyway: they need no
// controller, so that a limit can be taken off on a host that lost it.
func gpuLimits(r containertypes.Resources) containertypes.Resources { return gpuFields.Limits(r) }

// namesGPU tells whether r has any GPU field set.
func namesGPU(r containertypes.Resources) bool { return gpuFields.Named(r) }

// gpuFlags spells the GPU fields of r as the flags that set them, for errors.
func gpuFlags(r containertypes.Resources) string { return gpuFields.Flags(r) }
