// SPDX-License-Identifier: Apache-2.0

package container

// GPUStats is what the kernel's gpu cgroup controller counts for a container.
// There is none on a host without that controller.
type GPUStats struct {
	// MemoryUsage is the GPU memory in use, in bytes.
	MemoryUsage uint64 `json:"memory_usage"`

	// MemoryPeak is the most that was ever in use, in bytes.
	MemoryPeak uint64 `json:"memory_peak"`

	// MemoryLimit is the limit in force, in bytes: the smallest one of the
	// container's cgroup and those above it. It is nil if there is none.
	MemoryLimit *uint64 `json:"memory_limit,omitempty"`

	// MemoryFailcnt is how often the container's own limit has refused an
	// allocation. What a limit above it refused is not in it.
	MemoryFailcnt uint64 `json:"memory_failcnt"`

	// Priority is the scheduling priority in force, -1024 to 1024, 0 is the
	// default: that of the container, or that of a cgroup above it which has
	// a lower one.
	Priority int64 `json:"priority"`
}
