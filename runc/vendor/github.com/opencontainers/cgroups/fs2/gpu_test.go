// SPDX-License-Identifier: Apache-2.0

package fs2

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/cgroups"
)

func gpuFiles(t *testing.T, change map[string]string) string {
	t.Helper()
	// We're using a fake cgroupfs.
	cgroups.TestMode = true
	files := map[string]string{
		"gpu.memory.current":      "4096\n",
		"gpu.memory.peak":         "8192\n",
		"gpu.memory.max":          "10240\n",
		"gpu.memory.events":       "max 9\n",
		"gpu.memory.events.local": "max 3\n",
		"gpu.priority":            "-50\n",
	}
	for name, text := range change {
		files[name] = text
	}
	dir := t.TempDir()
	for name, text := range files {
		if text == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestStatGpu(t *testing.T) {
	stats := cgroups.NewStats()
	if err := statGpu(gpuFiles(t, nil), stats); err != nil {
		t.Fatal(err)
	}
	want := cgroups.GpuStats{Memory: cgroups.MemoryData{Usage: 4096, MaxUsage: 8192, Failcnt: 3, Limit: 10240}, Priority: -50}
	if stats.GpuStats == nil || *stats.GpuStats != want {
		t.Errorf("got %+v, want %+v", stats.GpuStats, want)
	}
}

func TestStatGpuUnlimited(t *testing.T) {
	stats := cgroups.NewStats()
	if err := statGpu(gpuFiles(t, map[string]string{"gpu.memory.max": "max\n"}), stats); err != nil {
		t.Fatal(err)
	}
	if stats.GpuStats == nil || stats.GpuStats.Memory.Limit != math.MaxUint64 {
		t.Errorf("got %+v, want limit %d", stats.GpuStats, uint64(math.MaxUint64))
	}
}

// The error is the one that GetStats passes over.
func TestStatGpuNoController(t *testing.T) {
	stats := cgroups.NewStats()
	err := statGpu(gpuFiles(t, map[string]string{"gpu.memory.current": "", "gpu.memory.peak": "", "gpu.memory.max": ""}), stats)
	if !os.IsNotExist(err) || stats.GpuStats != nil {
		t.Errorf("got %+v, error %v, want: not exist", stats.GpuStats, err)
	}
}

func TestStatGpuBadFile(t *testing.T) {
	stats := cgroups.NewStats()
	err := statGpu(gpuFiles(t, map[string]string{"gpu.memory.max": "much\n"}), stats)
	if err == nil || os.IsNotExist(err) || stats.GpuStats != nil {
		t.Errorf("got %+v, error %v, want an error", stats.GpuStats, err)
	}
}
