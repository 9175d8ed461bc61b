// SPDX-License-Identifier: Apache-2.0

package sysinfo

// cgroupGPUInfo tells which GPU limits the host can enforce. They are two
// features: what keeps the memory of a container need not share out its time.
type cgroupGPUInfo struct {
	// GPUMemory and GPUPriority are true when something on this host can take
	// such a limit of a container. The gpu controller (CONFIG_CGROUP_GPU) takes
	// both: on cgroup v1 its hierarchy is mounted, on v2 it is among the
	// controllers that dockerd may hand down.
	GPUMemory, GPUPriority bool

	// GPUMemoryReason and GPUPriorityReason say, when the field above is false,
	// what is missing and what to do.
	GPUMemoryReason, GPUPriorityReason string

	// GPUDevicesFile is where a kernel whose gpu controller says so tells which
	// GPU keeps what. An earlier one has no such file.
	GPUDevicesFile string
}

// setGPUController fills in what the gpu controller does; reason is empty if it
// can take limits.
func (info *cgroupGPUInfo) setGPUController(reason string) {
	info.GPUMemory, info.GPUPriority = reason == "", reason == ""
	info.GPUMemoryReason, info.GPUPriorityReason = reason, reason
}
