// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"fmt"
	"maps"
	"math"
	"strconv"
)

// Range of a GPU priority, as the kernel's gpu controller takes it.
const (
	GPUPriorityMin = -1024
	GPUPriorityMax = 1024
)

// Names the GPU limits have in the OCI spec's linux.resources.unified, on
// cgroup v1 and v2 alike. They are the names of the cgroup v2 files.
const (
	gpuMemoryKey   = "gpu.memory.max"
	gpuPriorityKey = "gpu.priority"
)

// GPUResources are the limits of the gpu controller. They are used on cgroup
// v1 only: on v2 the limits stay in [Resources.Unified].
//
// The fields are pointers because nil means "leave the kernel's value alone",
// while 0 is a priority like any other and has to be written.
type GPUResources struct {
	// GPUPriority orders the cgroup's GPU jobs against those of others, from
	// -1024 to 1024. Higher runs sooner; 0 is the kernel's default.
	GPUPriority *int64 `json:"gpu_priority,omitempty"`

	// GPUMemory is the limit of GPU memory in bytes, not rounded to pages;
	// -1 for no limit.
	GPUMemory *int64 `json:"gpu_memory,omitempty"`
}

// GPUUnifiedKeys returns the keys [Resources.TakeGPU] takes, sorted.
func GPUUnifiedKeys() []string {
	return []string{gpuMemoryKey, gpuPriorityKey}
}

// TakeGPU moves gpu.priority and gpu.memory.max out of r.Unified into the
// typed fields the v1 managers use. Keys that are absent leave their field as
// it is, and all other keys stay, for the v1 managers to refuse. The map
// itself is replaced, never edited, and is nil once nothing is left in it.
//
// A priority is a decimal number from -1024 to 1024; a memory limit a decimal
// number of bytes above 0, or "max". Spellings such as "+5", "010" or " 5"
// are refused. On error r is as it was.
func (r *Resources) TakeGPU() error {
	taken := r.GPUResources
	rest := maps.Clone(r.Unified)

	if s, ok := rest[gpuPriorityKey]; ok {
		v, err := decimal(s)
		if err != nil || v < GPUPriorityMin || v > GPUPriorityMax {
			return fmt.Errorf("invalid unified resource %s=%q: must be a decimal number from %d to %d",
				gpuPriorityKey, s, GPUPriorityMin, GPUPriorityMax)
		}
		taken.GPUPriority = &v
		delete(rest, gpuPriorityKey)
	}
	if s, ok := rest[gpuMemoryKey]; ok {
		v := int64(-1)
		if s != "max" {
			var err error
			if v, err = decimal(s); err != nil || v <= 0 {
				return fmt.Errorf("invalid unified resource %s=%q: must be a decimal number of bytes from 1 to %d, or \"max\" for no limit",
					gpuMemoryKey, s, int64(math.MaxInt64))
			}
		}
		taken.GPUMemory = &v
		delete(rest, gpuMemoryKey)
	}

	if len(rest) == 0 {
		rest = nil // Even an empty map is refused on cgroup v1.
	}
	r.GPUResources, r.Unified = taken, rest
	return nil
}

// decimal parses s if it is how Go would print the number.
func decimal(s string) (int64, error) {
	v, err := strconv.ParseInt(s, 10, 64)
	if err == nil && strconv.FormatInt(v, 10) != s {
		err = strconv.ErrSyntax
	}
	return v, err
}
