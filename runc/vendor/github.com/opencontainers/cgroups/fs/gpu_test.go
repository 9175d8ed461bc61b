// SPDX-License-Identifier: Apache-2.0

package fs

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fscommon"
)

const (
	gpuPriorityFile = "gpu.priority"
	gpuMemoryFile   = "gpu.max_mem_in_bytes"
)

func gpuResources(prio, mem *int64) *cgroups.Resources {
	return &cgroups.Resources{GPUResources: cgroups.GPUResources{GPUPriority: prio, GPUMemory: mem}}
}

// gpuSet sets r in a cgroup holding other values and returns what the two
// files hold then.
func gpuSet(t *testing.T, r *cgroups.Resources) (prio, mem string) {
	t.Helper()
	path := tempDir(t, "gpu")
	writeFileContents(t, path, map[string]string{
		gpuPriorityFile: "7",
		gpuMemoryFile:   "4096",
	})
	gpu := &GpuGroup{}
	if err := gpu.Set(path, r); err != nil {
		t.Fatal(err)
	}
	for file, dest := range map[string]*string{gpuPriorityFile: &prio, gpuMemoryFile: &mem} {
		var err error
		if *dest, err = fscommon.GetCgroupParamString(path, file); err != nil {
			t.Fatal(err)
		}
	}
	return prio, mem
}

func TestGpuSet(t *testing.T) {
	p, m := int64(-50), int64(10240)
	if prio, mem := gpuSet(t, gpuResources(&p, &m)); prio != "-50" || mem != "10240" {
		t.Errorf("got %s=%s, %s=%s, want -50 and 10240", gpuPriorityFile, prio, gpuMemoryFile, mem)
	}
}

// Priority 0 is a value to be written, not an unset field.
func TestGpuSetZero(t *testing.T) {
	p := int64(0)
	if prio, mem := gpuSet(t, gpuResources(&p, nil)); prio != "0" || mem != "4096" {
		t.Errorf("got %s=%s, %s=%s, want 0 and 4096", gpuPriorityFile, prio, gpuMemoryFile, mem)
	}
}

func TestGpuUnset(t *testing.T) {
	if prio, mem := gpuSet(t, gpuResources(nil, nil)); prio != "7" || mem != "4096" {
		t.Errorf("got %s=%s, %s=%s, want both untouched", gpuPriorityFile, prio, gpuMemoryFile, mem)
	}
}

func TestGpuSetUnlimited(t *testing.T) {
	m := int64(-1)
	if prio, mem := gpuSet(t, gpuResources(nil, &m)); prio != "7" || mem != "-1" {
		t.Errorf("got %s=%s, %s=%s, want 7 and -1", gpuPriorityFile, prio, gpuMemoryFile, mem)
	}
}

// A limit needs the hierarchy; none needs none.
func TestGpuNoHierarchy(t *testing.T) {
	m, err := NewManager(&cgroups.Cgroup{Resources: &cgroups.Resources{}}, map[string]string{})
	if err != nil {
		t.Fatal(err)
	}
	v := int64(1)
	for _, r := range []*cgroups.Resources{gpuResources(&v, nil), gpuResources(nil, &v)} {
		err := m.Set(r)
		if err == nil || !strings.Contains(err.Error(), "cannot set gpu limit") {
			t.Errorf("got error %v, want: cannot set gpu limit", err)
		}
	}
	if err := m.Set(gpuResources(nil, nil)); err != nil {
		t.Error(err)
	}
	if _, err := m.GetStats(); err != nil {
		t.Error(err)
	}
}

// Any cgroup v1 hierarchy mounted at the default place is taken for gpu.
func TestGpuOtherHierarchy(t *testing.T) {
	cgroups.TestMode = false // It creates missing files, cgroupfs does not.
	defer func() { cgroups.TestMode = true }()

	path := tempDir(t, "gpu")
	v := int64(1)
	gpu := &GpuGroup{}
	for _, r := range []*cgroups.Resources{gpuResources(&v, nil), gpuResources(nil, &v)} {
		err := gpu.Set(path, r)
		if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "not a cgroup of the gpu controller") {
			t.Errorf("got error %v, want: not a cgroup of the gpu controller", err)
		}
	}
	if files, err := filepath.Glob(filepath.Join(path, "*")); err != nil || len(files) != 0 {
		t.Errorf("found files %v, error %v, want none", files, err)
	}
}

func TestGpuStats(t *testing.T) {
	path := tempDir(t, "gpu")
	writeFileContents(t, path, map[string]string{
		"gpu.usage_in_bytes":     "4096\n",
		"gpu.max_usage_in_bytes": "8192\n",
		"gpu.failcnt":            "3\n",
		gpuMemoryFile:            "10240\n",
		gpuPriorityFile:          "-50\n",
	})
	want := cgroups.GpuStats{Memory: cgroups.MemoryData{Usage: 4096, MaxUsage: 8192, Failcnt: 3, Limit: 10240}, Priority: -50}
	stats := cgroups.NewStats()
	gpu := &GpuGroup{}
	if err := gpu.GetStats(path, stats); err != nil {
		t.Fatal(err)
	}
	if stats.GpuStats == nil || *stats.GpuStats != want {
		t.Errorf("got %+v, want %+v", stats.GpuStats, want)
	}
}

func TestGpuStatsUnlimited(t *testing.T) {
	path := tempDir(t, "gpu")
	writeFileContents(t, path, map[string]string{
		"gpu.usage_in_bytes":     "0\n",
		"gpu.max_usage_in_bytes": "0\n",
		"gpu.failcnt":            "0\n",
		gpuMemoryFile:            "18446744073709551615\n",
		gpuPriorityFile:          "0\n",
	})
	stats := cgroups.NewStats()
	gpu := &GpuGroup{}
	if err := gpu.GetStats(path, stats); err != nil {
		t.Fatal(err)
	}
	if stats.GpuStats == nil || stats.GpuStats.Memory.Limit != math.MaxUint64 {
		t.Errorf("got %+v, want limit %d", stats.GpuStats, uint64(math.MaxUint64))
	}
}

// Without the controller, or with another hierarchy in its place, there is
// nothing to report, and the other stats must not fail.
func TestGpuStatsNoController(t *testing.T) {
	gpu := &GpuGroup{}
	for _, path := range []string{"", filepath.Join(t.TempDir(), "gone"), tempDir(t, "gpu")} {
		stats := cgroups.NewStats()
		if err := gpu.GetStats(path, stats); err != nil || stats.GpuStats != nil {
			t.Errorf("%q: got %+v, error %v, want neither", path, stats.GpuStats, err)
		}
	}
}

func TestGpuStatsBadFile(t *testing.T) {
	path := tempDir(t, "gpu")
	writeFileContents(t, path, map[string]string{"gpu.usage_in_bytes": "much\n"})
	stats := cgroups.NewStats()
	gpu := &GpuGroup{}
	if err := gpu.GetStats(path, stats); err == nil || stats.GpuStats != nil {
		t.Errorf("got %+v, error %v, want an error", stats.GpuStats, err)
	}
}

// A frozen cgroup must hold its limits already.
func TestGpuBeforeFreezer(t *testing.T) {
	index := func(name string) int {
		return slices.IndexFunc(subsystems, func(s subsystem) bool { return s.Name() == name })
	}
	if gpu, freezer := index("gpu"), index("freezer"); gpu < 0 || gpu > freezer {
		t.Errorf("gpu is subsystem %d, freezer %d, want gpu first", gpu, freezer)
	}
}
