// SPDX-License-Identifier: Apache-2.0

package specconv

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/configs/validate"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// gpuConfig converts a spec with the unified map on cgroup v1 or v2.
func gpuConfig(t *testing.T, v2 bool, unified map[string]string) (*cgroups.Cgroup, error) {
	t.Helper()
	orig := isCgroup2UnifiedMode
	isCgroup2UnifiedMode = func() bool { return v2 }
	t.Cleanup(func() { isCgroup2UnifiedMode = orig })

	spec := &specs.Spec{Linux: &specs.Linux{Resources: &specs.LinuxResources{Unified: unified}}}
	given := maps.Clone(unified)
	c, err := CreateCgroupConfig(&CreateOpts{CgroupName: "ContainerID", Spec: spec}, nil)
	if !maps.Equal(unified, given) {
		t.Errorf("the spec was edited: %v, was %v", unified, given)
	}
	return c, err
}

func TestGPUUnifiedV1(t *testing.T) {
	c, err := gpuConfig(t, false, map[string]string{"gpu.priority": "50", "gpu.memory.max": "10240"})
	if err != nil {
		t.Fatal(err)
	}
	if c.GPUPriority == nil || *c.GPUPriority != 50 || c.GPUMemory == nil || *c.GPUMemory != 10240 {
		t.Errorf("got %+v, want 50 and 10240", c.GPUResources)
	}
	if c.Unified != nil {
		t.Errorf("left in unified: %#v, want nil", c.Unified)
	}

	c, err = gpuConfig(t, false, map[string]string{"gpu.memory.max": "max"})
	if err != nil {
		t.Fatal(err)
	}
	if c.GPUPriority != nil || c.GPUMemory == nil || *c.GPUMemory != -1 {
		t.Errorf("got %+v, want no priority and -1", c.GPUResources)
	}
}

func TestGPUUnifiedV2(t *testing.T) {
	// The kernel is the one to judge the values.
	unified := map[string]string{"gpu.priority": "high", "gpu.memory.max": "10240", "memory.high": "max"}
	c, err := gpuConfig(t, true, unified)
	if err != nil {
		t.Fatal(err)
	}
	if c.GPUPriority != nil || c.GPUMemory != nil {
		t.Errorf("got %+v, want nothing", c.GPUResources)
	}
	if !maps.Equal(c.Unified, unified) {
		t.Errorf("got unified %v, want %v", c.Unified, unified)
	}
}

func TestGPUUnifiedV1OtherKeys(t *testing.T) {
	c, err := gpuConfig(t, false, map[string]string{"gpu.priority": "50", "memory.high": "max"})
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"memory.high": "max"}; !maps.Equal(c.Unified, want) {
		t.Errorf("got unified %v, want %v", c.Unified, want)
	}
	if cgroups.IsCgroup2UnifiedMode() {
		t.Skip("the validator refuses unified on cgroup v1 only")
	}
	c.Path = "" // Leave only one thing to refuse.
	err = validate.Validate(&configs.Config{Rootfs: t.TempDir(), Cgroups: c})
	if !errors.Is(err, cgroups.ErrV1NoUnified) {
		t.Errorf("got error %v, want %v", err, cgroups.ErrV1NoUnified)
	}
}

func TestGPUUnifiedV1Invalid(t *testing.T) {
	for key, value := range map[string]string{"gpu.priority": "1025", "gpu.memory.max": "0"} {
		_, err := gpuConfig(t, false, map[string]string{key: value})
		if err == nil || !strings.Contains(err.Error(), key+`="`+value+`"`) {
			t.Errorf("%s=%s: got error %v", key, value, err)
		}
	}
}
