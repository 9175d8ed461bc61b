// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"maps"
	"strconv"
	"testing"
)

func FuzzTakeGPU(f *testing.F) {
	for _, s := range []string{"", "max", "0", "-1", "10240", "+5", "010", " 5", "9223372036854775807", "9223372036854775808", "-1024", "1025"} {
		f.Add(s, s, "memory.high", "1")
		f.Add("50", s, gpuMemoryKey, s)
	}
	f.Fuzz(func(t *testing.T, priority, memory, key, value string) {
		given := map[string]string{gpuPriorityKey: priority, gpuMemoryKey: memory, key: value}
		was := maps.Clone(given)
		r := Resources{Unified: given}
		err := r.TakeGPU()
		if !maps.Equal(given, was) {
			t.Fatalf("the map was edited: %q, was %q", given, was)
		}
		if err != nil {
			if r.GPUPriority != nil || r.GPUMemory != nil || !maps.Equal(r.Unified, was) {
				t.Fatalf("changed although it says %v", err)
			}
			return
		}
		if got := strconv.FormatInt(*r.GPUPriority, 10); got != was[gpuPriorityKey] || *r.GPUPriority < GPUPriorityMin || *r.GPUPriority > GPUPriorityMax {
			t.Fatalf("priority %q gives %s", was[gpuPriorityKey], got)
		}
		if got := strconv.FormatInt(*r.GPUMemory, 10); got != was[gpuMemoryKey] && (got != "-1" || was[gpuMemoryKey] != "max") || *r.GPUMemory == 0 {
			t.Fatalf("memory %q gives %s", was[gpuMemoryKey], got)
		}
		delete(was, gpuPriorityKey)
		delete(was, gpuMemoryKey)
		if len(was) == 0 {
			was = nil
		}
		if !maps.Equal(r.Unified, was) || (r.Unified == nil) != (was == nil) {
			t.Fatalf("left in unified: %q, want %q", r.Unified, was)
		}
	})
}
