// SPDX-License-Identifier: Apache-2.0

package types

// GPU is what the gpu cgroup controller counts.
type GPU struct {
	// Memory is in bytes. A limit of [math.MaxUint64] is none.
	Memory MemoryEntry `json:"memory"`

	// Priority is what was set, -1024 to 1024.
	Priority int64 `json:"priority"`
}
