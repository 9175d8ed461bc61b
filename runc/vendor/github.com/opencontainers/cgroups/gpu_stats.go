// SPDX-License-Identifier: Apache-2.0

package cgroups

// GpuStats is what the gpu controller counts.
type GpuStats struct {
	// Memory is in bytes. A limit of [math.MaxUint64] is none; Failcnt counts
	// what this cgroup's own limit has refused.
	Memory MemoryData `json:"memory"`

	// Priority is what was set, -1024 to 1024; one of a cgroup above may hold
	// it down.
	Priority int64 `json:"priority"`
}
