// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/cgroups"
)

// The check comes before any call to systemd, so this runs without one.
func TestLegacyGPUNoHierarchy(t *testing.T) {
	const want = "cannot set gpu limit: the container has no gpu cgroup"
	v := int64(1)
	for name, gpu := range map[string]cgroups.GPUResources{
		"priority": {GPUPriority: &v},
		"memory":   {GPUMemory: &v},
	} {
		t.Run(name, func(t *testing.T) {
			r := &cgroups.Resources{GPUResources: gpu}
			m, err := NewLegacyManager(&cgroups.Cgroup{Resources: r}, map[string]string{"devices": t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Apply(-1); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Apply: got error %v, want: %s", err, want)
			}
			if err := m.Set(r); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Set: got error %v, want: %s", err, want)
			}
		})
	}
}

func TestCheckGPU(t *testing.T) {
	v := int64(0)
	limited := &cgroups.Resources{GPUResources: cgroups.GPUResources{GPUPriority: &v}}
	path := map[string]string{"gpu": "/sys/fs/cgroup/gpu/x"}
	for _, tc := range []struct {
		name  string
		r     *cgroups.Resources
		paths map[string]string
		ok    bool
	}{
		{"nil resources", nil, nil, true},
		{"no limit, no path", &cgroups.Resources{}, nil, true},
		{"no limit, path", &cgroups.Resources{}, path, true},
		{"limit, path", limited, path, true},
		{"limit, no path", limited, nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := checkGPU(tc.r, tc.paths); (err == nil) != tc.ok {
				t.Errorf("got error %v, want none: %v", err, tc.ok)
			}
		})
	}
}

// Without its own entry the manager neither joins nor sets the gpu cgroup.
func TestLegacyGPUSubsystem(t *testing.T) {
	if !slices.ContainsFunc(legacySubsystems, func(s subsystem) bool { return s.Name() == "gpu" }) {
		t.Error("gpu is not in legacySubsystems")
	}
}
