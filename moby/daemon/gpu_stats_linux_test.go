// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/sysinfo"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// gpuCgroup makes a hierarchy of three levels, of which the root has only the
// usage file, and returns the lowest directory.
func gpuCgroup(t *testing.T, v2 bool, above, below map[string]string) string {
	t.Helper()
	names := map[string]string{
		"current": "gpu.usage_in_bytes", "peak": "gpu.max_usage_in_bytes", "max": "gpu.max_mem_in_bytes",
		"failures": "gpu.failcnt", "priority": "gpu.priority",
	}
	if v2 {
		names = map[string]string{
			"current": "gpu.memory.current", "peak": "gpu.memory.peak", "max": "gpu.memory.max",
			"failures": "gpu.memory.events.local", "priority": "gpu.priority",
		}
	}
	root := t.TempDir()
	dir := filepath.Join(root, "docker", "container")
	assert.NilError(t, os.MkdirAll(dir, 0o755))
	for dir, files := range map[string]map[string]string{
		root: {"current": "9999"}, filepath.Dir(dir): above, dir: below,
	} {
		for name, text := range files {
			assert.NilError(t, os.WriteFile(filepath.Join(dir, names[name]), []byte(text+"\n"), 0o644))
		}
	}
	return dir
}

func u64(v uint64) *uint64 { return &v }

func TestReadGPUStats(t *testing.T) {
	const none1, none2 = "18446744073709551615", "max"
	for _, tc := range []struct {
		doc          string
		v2           bool
		above, below map[string]string
		want         containertypes.GPUStats
	}{
		{
			doc:   "v1, nothing set",
			above: map[string]string{"max": none1, "priority": "0"},
			below: map[string]string{"current": "0", "peak": "0", "max": none1, "failures": "0", "priority": "0"},
		},
		{
			doc: "v2, nothing set", v2: true,
			above: map[string]string{"max": none2, "priority": "0"},
			below: map[string]string{"current": "0", "peak": "0", "max": none2, "failures": "max 0", "priority": "0"},
		},
		{
			doc:   "v1, set",
			above: map[string]string{"max": none1, "priority": "0"},
			below: map[string]string{"current": "4096", "peak": "8192", "max": "10240", "failures": "3", "priority": "50"},
			want:  containertypes.GPUStats{MemoryUsage: 4096, MemoryPeak: 8192, MemoryLimit: u64(10240), MemoryFailcnt: 3, Priority: 50},
		},
		{
			doc: "v2, set", v2: true,
			above: map[string]string{"max": none2, "priority": "0"},
			below: map[string]string{"current": "4096", "peak": "8192", "max": "10240", "failures": "max 3", "priority": "-50"},
			want:  containertypes.GPUStats{MemoryUsage: 4096, MemoryPeak: 8192, MemoryLimit: u64(10240), MemoryFailcnt: 3, Priority: -50},
		},
		{
			doc:   "a cgroup above is tighter",
			above: map[string]string{"max": "5000", "priority": "10"},
			below: map[string]string{"current": "1", "peak": "1", "max": "10240", "failures": "0", "priority": "50"},
			want:  containertypes.GPUStats{MemoryUsage: 1, MemoryPeak: 1, MemoryLimit: u64(5000), Priority: 10},
		},
		{
			doc: "a cgroup above is the only one with a limit", v2: true,
			above: map[string]string{"max": "5000", "priority": "-5"},
			below: map[string]string{"current": "1", "peak": "1", "max": none2, "failures": "max 0", "priority": "0"},
			want:  containertypes.GPUStats{MemoryUsage: 1, MemoryPeak: 1, MemoryLimit: u64(5000), Priority: -5},
		},
		{
			doc:   "a cgroup above is wider",
			above: map[string]string{"max": "99999", "priority": "100"},
			below: map[string]string{"current": "1", "peak": "1", "max": "10240", "failures": "0", "priority": "50"},
			want:  containertypes.GPUStats{MemoryUsage: 1, MemoryPeak: 1, MemoryLimit: u64(10240), Priority: 50},
		},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			got, err := readGPUStats(gpuCgroup(t, tc.v2, tc.above, tc.below), tc.v2)
			assert.NilError(t, err)
			assert.Check(t, is.DeepEqual(*got, tc.want))
		})
	}

	t.Run("files that make no sense", func(t *testing.T) {
		good := map[string]string{"current": "0", "peak": "0", "max": "max", "failures": "max 0", "priority": "0"}
		for name := range good {
			bad := map[string]string{name: "?"}
			for other, text := range good {
				if other != name {
					bad[other] = text
				}
			}
			_, err := readGPUStats(gpuCgroup(t, true, nil, bad), true)
			assert.Check(t, err != nil, name)
		}
	})
	t.Run("the cgroup is gone", func(t *testing.T) {
		_, err := readGPUStats(t.TempDir(), false)
		assert.Check(t, is.ErrorIs(err, os.ErrNotExist))
	})
}

func TestGPUStatsNeedTheController(t *testing.T) {
	d := &Daemon{sysInfo: &sysinfo.SysInfo{}}
	assert.Check(t, is.Nil(d.gpuStats("id", os.Getpid())))
}

// The fields that info names must be those of the API.
func TestResourceLimitsNameFields(t *testing.T) {
	cfg, info := gpuHost(false)
	d := &Daemon{sysInfo: info}
	d.configStore.Store(cfg)
	for _, kind := range d.resourceLimits() {
		assert.Check(t, kind.Feature != "" && len(kind.Fields) > 0)
		assert.Check(t, (kind.Backend == "") == (kind.Reason != ""), "%+v", kind)
		for _, field := range kind.Fields {
			_, ok := reflect.TypeFor[containertypes.Resources]().FieldByName(field)
			assert.Check(t, ok, "%s: Resources has no %s", kind.Feature, field)
		}
	}
}

func TestResourceLimits(t *testing.T) {
	for _, tc := range []struct {
		doc             string
		runtime         string
		v2, missing     bool
		backend, reason string
		priority        string // its backend, if it has one without memory
	}{
		{doc: "v1", runtime: "ours", backend: "gpu controller of cgroup v1"},
		{doc: "v2", runtime: "ours", v2: true, backend: "gpu controller of cgroup v2"},
		{doc: "no controller", runtime: "ours", missing: true, reason: "no such controller"},
		{doc: "only one of the two", runtime: "ours", missing: true, reason: "no such controller", priority: "gpu controller of cgroup v1"},
		{doc: "a runtime that takes only one", runtime: "partial", reason: `runtime "partial" does not take gpu.memory.max`, priority: "gpu controller of cgroup v1"},
		{doc: "v1 with a stock runtime", runtime: "stock", reason: `runtime "stock" does not take gpu.`},
		{doc: "runtime without features", runtime: "mute", v2: true, reason: `runtime "mute" does not answer`},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			cfg, info := gpuHost(tc.v2)
			cfg.Runtimes.Default = tc.runtime
			if tc.missing {
				info.GPUMemory, info.GPUPriority = false, tc.priority != ""
				info.GPUMemoryReason, info.GPUPriorityReason = tc.reason, tc.reason
			}
			d := &Daemon{sysInfo: info}
			d.configStore.Store(cfg)

			limits := d.resourceLimits()
			assert.Assert(t, is.Len(limits, 6))
			for i, feature := range []string{"gpu-memory", "gpu-priority", "blkio-limit", "net-class", "net-rate", "net-pps"} {
				assert.Check(t, is.Equal(limits[i].Feature, feature))
				assert.Check(t, (limits[i].Backend == "") != (limits[i].Reason == ""), feature)
			}
			assert.Check(t, is.DeepEqual(limits[0].Fields, []string{"GPUMemory"}))
			assert.Check(t, is.DeepEqual(limits[1].Fields, []string{"GPUPriority"}))
			assert.Check(t, is.Equal(limits[1].Backend, tc.backend+tc.priority))
			assert.Check(t, is.Equal(limits[0].Backend, tc.backend))
			assert.Check(t, is.Contains(limits[0].Reason, tc.reason))
			assert.Check(t, is.Equal(limits[0].Reason == "", tc.reason == ""))

			// What the network can do is up to the machine that tests.
			info.BlkioReadBpsDevice, info.BlkioWriteBpsDevice, info.BlkioReadIOpsDevice, info.BlkioWriteIOpsDevice = true, true, true, true
			features := d.ResourceFeatures()
			assert.Check(t, is.Equal(slices.Contains(features, "gpu-memory"), tc.reason == ""))
			assert.Check(t, is.Equal(slices.Contains(features, "gpu-priority"), tc.reason == "" || tc.priority != ""))
			assert.Check(t, is.Equal(slices.Contains(features, "gpu"), tc.reason == ""), "a client from before there were two words has to know that both hold")
			assert.Check(t, slices.Contains(features, "blkio-limit"))
		})
	}
}
