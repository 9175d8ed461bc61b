// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"encoding/json"
	"maps"
	"reflect"
	"strings"
	"testing"
)

func TestTakeGPU(t *testing.T) {
	i64 := func(v int64) *int64 { return &v }
	for _, tc := range []struct {
		name     string
		unified  map[string]string
		before   GPUResources
		want     GPUResources
		wantRest map[string]string
	}{
		{
			name:    "both",
			unified: map[string]string{"gpu.priority": "50", "gpu.memory.max": "10240"},
			want:    GPUResources{GPUPriority: i64(50), GPUMemory: i64(10240)},
		},
		{
			name:    "lowest",
			unified: map[string]string{"gpu.priority": "-1024", "gpu.memory.max": "1"},
			want:    GPUResources{GPUPriority: i64(-1024), GPUMemory: i64(1)},
		},
		{
			name:    "highest",
			unified: map[string]string{"gpu.priority": "1024", "gpu.memory.max": "9223372036854775807"},
			want:    GPUResources{GPUPriority: i64(1024), GPUMemory: i64(9223372036854775807)},
		},
		{
			name:    "no limit",
			unified: map[string]string{"gpu.memory.max": "max"},
			want:    GPUResources{GPUMemory: i64(-1)},
		},
		{
			name:    "default priority is a value",
			unified: map[string]string{"gpu.priority": "0"},
			before:  GPUResources{GPUPriority: i64(7)},
			want:    GPUResources{GPUPriority: i64(0)},
		},
		{
			name:    "absent key keeps the field",
			unified: map[string]string{"gpu.priority": "8"},
			before:  GPUResources{GPUPriority: i64(7), GPUMemory: i64(4096)},
			want:    GPUResources{GPUPriority: i64(8), GPUMemory: i64(4096)},
		},
		{
			name:     "other keys stay",
			unified:  map[string]string{"gpu.priority": "1", "gpu.foo": "1", "memory.max": "max"},
			want:     GPUResources{GPUPriority: i64(1)},
			wantRest: map[string]string{"gpu.foo": "1", "memory.max": "max"},
		},
		{name: "empty map", unified: map[string]string{}},
		{name: "nil map", before: GPUResources{GPUMemory: i64(1)}, want: GPUResources{GPUMemory: i64(1)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			given := maps.Clone(tc.unified)
			r := &Resources{GPUResources: tc.before, Unified: tc.unified}
			if err := r.TakeGPU(); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(r.GPUResources, tc.want) {
				t.Errorf("got %s, want %s", toJSON(t, r.GPUResources), toJSON(t, tc.want))
			}
			if !reflect.DeepEqual(r.Unified, tc.wantRest) {
				t.Errorf("left in unified: %#v, want %#v", r.Unified, tc.wantRest)
			}
			if !maps.Equal(tc.unified, given) {
				t.Errorf("the caller's map was edited: %v, was %v", tc.unified, given)
			}
		})
	}
}

func TestTakeGPUInvalid(t *testing.T) {
	bad := map[string][]string{
		"gpu.priority": {
			"", " ", "high", "max", "1025", "-1025", "+5", "05", "-0", " 5", "5\n", "5.0", "0x10", "1_0", "1e3",
			"9223372036854775808",
		},
		"gpu.memory.max": {
			"", " ", "0", "-1", "-5", "10k", "10g", "Max", "max ", "+1", "01", " 1", "1\n", "1.5", "0x10", "1_0",
			"9223372036854775808", "18446744073709551616",
		},
	}
	good := map[string]string{"gpu.priority": "9", "gpu.memory.max": "9"}
	for key, values := range bad {
		for _, value := range values {
			t.Run(key+"="+value, func(t *testing.T) {
				// The other key is good, and must not be taken either.
				unified := maps.Clone(good)
				unified[key] = value
				before := maps.Clone(unified)
				prio, mem := int64(1), int64(2)
				r := &Resources{GPUResources: GPUResources{GPUPriority: &prio, GPUMemory: &mem}, Unified: unified}

				err := r.TakeGPU()
				if err == nil {
					t.Fatalf("took %s", toJSON(t, r))
				}
				if !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "must be a decimal number") {
					t.Errorf("unhelpful error: %v", err)
				}
				if *r.GPUPriority != 1 || *r.GPUMemory != 2 || !maps.Equal(r.Unified, before) {
					t.Errorf("changed in spite of the error: %s", toJSON(t, r))
				}
			})
		}
	}
}

// The names in state.json outlive the binary that wrote them.
func TestGPUResourcesJSON(t *testing.T) {
	prio, mem := int64(0), int64(-1)
	got := toJSON(t, &Cgroup{Resources: &Resources{GPUResources: GPUResources{GPUPriority: &prio, GPUMemory: &mem}}})
	if want := `{"gpu_priority":0,"gpu_memory":-1}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := toJSON(t, &Cgroup{Resources: &Resources{}}); got != "{}" {
		t.Errorf("got %s for no limits, want {}", got)
	}
}

func toJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
