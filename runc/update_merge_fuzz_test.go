// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"maps"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// The JSON is what `runc update -r -` reads.
func FuzzMergeUnified(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"unified":{"gpu.memory.max":"max","gpu.priority":"5"}}`, `{"unified":{"cgroup.kill":"1"}}`, `{"memory":{"limit":1},"unified":null}`,
		`{"cpu":{"shares":5},"pids":{"limit":-1},"blockIO":{"weight":10}}`, `{"network":{"classID":1}}`,
	} {
		f.Add([]byte(s), "gpu.priority", "1", "memory.max", "2")
	}
	f.Fuzz(func(t *testing.T, data []byte, k1, v1, k2, v2 string) {
		// Filled in as update.go does before it decodes.
		r := specs.LinuxResources{Memory: &specs.LinuxMemory{}, CPU: &specs.LinuxCPU{}, BlockIO: &specs.LinuxBlockIO{}, Pids: &specs.LinuxPids{}}
		if json.Unmarshal(data, &r) != nil || r.Memory == nil || r.CPU == nil || r.BlockIO == nil || r.Pids == nil {
			return
		}
		saved := map[string]string{k1: v1, k2: v2}
		was, asked := maps.Clone(saved), maps.Clone(r.Unified)
		merged := mergeUnified(saved, &r)
		if !maps.Equal(saved, was) || !maps.Equal(r.Unified, asked) {
			t.Fatal("an input was edited")
		}
		for k, v := range asked {
			if merged[k] != v {
				t.Fatalf("asked %s=%q, merged %q", k, v, merged[k])
			}
		}
		typed := superseded(&r)
		for k, v := range was {
			_, named := asked[k]
			got, there := merged[k]
			if want := !typed[k] && !isCommand(k); !named && (there != want || want && got != v) {
				t.Fatalf("saved %s=%q, merged %q, %v", k, v, got, there)
			}
		}
		for k := range merged {
			if _, a := asked[k]; !a {
				if _, s := was[k]; !s {
					t.Fatalf("%s came from nowhere", k)
				}
			}
		}
	})
}
