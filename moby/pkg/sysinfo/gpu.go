// SPDX-License-Identifier: Apache-2.0

package sysinfo

// cgroupGPUInfo tells whether the gpu cgroup controller can enforce limits.
type cgroupGPUInfo struct {
	// GPU is true when the gpu controller (CONFIG_CGROUP_GPU) can take a
	// container's limits: on cgroup v1 its hierarchy is mounted, on v2 it is
	// among the controllers that dockerd may hand down.
	GPU bool

	// GPUReason says, when GPU is false, what is missing and what to do.
	GPUReason string
}
