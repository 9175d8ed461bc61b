// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fs2"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/system"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli"
)

// fakeCgroups makes the cgroups package write to ordinary files.
func fakeCgroups(t *testing.T) {
	t.Helper()
	cgroups.TestMode = true
	t.Cleanup(func() { cgroups.TestMode = false })
}

func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func checkFiles(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	for name, content := range want {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if strings.TrimSpace(string(got)) != content {
			t.Errorf("%s: got %q, want %q", name, got, content)
		}
	}
}

const gpuMemoryDefault = "18446744073709551615"

// v1Container is a running container with saved limits on a fake cgroup v1.
type v1Container struct {
	t            *testing.T
	root, cgroup string
}

func newV1Container(t *testing.T, saved *cgroups.Resources) *v1Container {
	t.Helper()
	if cgroups.IsCgroup2UnifiedMode() {
		t.Skip("libcontainer takes the cgroup v2 manager on this host")
	}
	fakeCgroups(t)
	c := &v1Container{t: t, root: t.TempDir(), cgroup: t.TempDir()}
	writeFiles(t, c.cgroup, map[string]string{
		"gpu/gpu.priority":                     "0\n",
		"gpu/gpu.max_mem_in_bytes":             gpuMemoryDefault + "\n",
		"memory/memory.limit_in_bytes":         "9223372036854771712\n",
		"cpuset/cpuset.cpus":                   "0-1\n",
		"cpuset/cpuset.mems":                   "0\n",
		"pids/pids.max":                        "max\n",
		"cpu/cpu.cfs_quota_us":                 "-1\n",
		"blkio/blkio.throttle.read_bps_device": "",
	})
	paths := map[string]string{}
	for _, name := range []string{"gpu", "memory", "cpu", "cpuset", "pids", "blkio"} {
		paths[name] = filepath.Join(c.cgroup, name)
	}
	stat, err := system.Stat(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	state, err := json.Marshal(libcontainer.State{
		BaseState: libcontainer.BaseState{
			ID:                   "ctr",
			InitProcessPid:       os.Getpid(),
			InitProcessStartTime: stat.StartTime,
			Config:               configs.Config{Cgroups: &cgroups.Cgroup{Path: "/ctr", Resources: saved}},
		},
		CgroupPaths: paths,
	})
	if err != nil {
		t.Fatal(err)
	}
	writeFiles(t, c.root, map[string]string{"ctr/state.json": string(state)})
	return c
}

// update runs "runc update" itself, upstream's code and our hooks in it.
func (c *v1Container) update(resources string) error {
	c.t.Helper()
	file := filepath.Join(c.t.TempDir(), "resources.json")
	if err := os.WriteFile(file, []byte(resources), 0o600); err != nil {
		c.t.Fatal(err)
	}
	app := cli.NewApp()
	app.Flags = []cli.Flag{cli.StringFlag{Name: "root"}}
	app.Commands = []cli.Command{updateCommand}
	return app.Run([]string{"runc", "--root", c.root, "update", "-r", file, "ctr"})
}

func (c *v1Container) mustUpdate(resources string) {
	c.t.Helper()
	if err := c.update(resources); err != nil {
		c.t.Fatal(err)
	}
}

// saved returns the resources of state.json.
func (c *v1Container) saved() *cgroups.Resources {
	c.t.Helper()
	data, err := os.ReadFile(filepath.Join(c.root, "ctr", "state.json"))
	if err != nil {
		c.t.Fatal(err)
	}
	var state libcontainer.State
	if err := json.Unmarshal(data, &state); err != nil {
		c.t.Fatal(err)
	}
	if state.Config.Cgroups.Resources == nil {
		return &cgroups.Resources{} // An empty one leaves no trace in JSON.
	}
	return state.Config.Cgroups.Resources
}

func (c *v1Container) checkSaved(want *cgroups.Resources) {
	c.t.Helper()
	if got := c.saved(); !reflect.DeepEqual(got, want) {
		c.t.Errorf("state.json has %s, want %s", toJSON(c.t, got), toJSON(c.t, want))
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

func gpu(prio, mem int64) cgroups.GPUResources {
	return cgroups.GPUResources{GPUPriority: &prio, GPUMemory: &mem}
}

func TestUpdateKeepsUnnamed(t *testing.T) {
	full := func() *cgroups.Resources {
		return &cgroups.Resources{
			GPUResources: gpu(5, 4096),
			Memory:       1 << 26,
			CpuPeriod:    50000,
			CpuQuota:     20000,
			CpuBurst:     u64Ptr(1000),
			CPUIdle:      i64Ptr(0),
			CpusetCpus:   "0",
			CpusetMems:   "0",
			PidsLimit:    100,
		}
	}
	for _, tc := range []struct {
		name, update string
		change       func(*cgroups.Resources)
	}{
		{"nothing", `{}`, func(*cgroups.Resources) {}},
		{"empty unified", `{"unified": {}}`, func(*cgroups.Resources) {}},
		{"memory", `{"memory": {"limit": 134217728}}`, func(r *cgroups.Resources) { r.Memory = 1 << 27 }},
		{"pids", `{"pids": {"limit": 7}}`, func(r *cgroups.Resources) { r.PidsLimit = 7 }},
		{"quota", `{"cpu": {"quota": 30000}}`, func(r *cgroups.Resources) { r.CpuQuota = 30000 }},
		{"cpuset", `{"cpu": {"cpus": "1"}}`, func(r *cgroups.Resources) { r.CpusetCpus = "1" }},
		{"gpu priority", `{"unified": {"gpu.priority": "9"}}`, func(r *cgroups.Resources) { r.GPUPriority = i64Ptr(9) }},
		{"default gpu priority", `{"unified": {"gpu.priority": "0"}}`, func(r *cgroups.Resources) { r.GPUPriority = i64Ptr(0) }},
		{"no gpu memory limit", `{"unified": {"gpu.memory.max": "max"}}`, func(r *cgroups.Resources) { r.GPUMemory = i64Ptr(-1) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newV1Container(t, full())
			c.mustUpdate(tc.update)
			want := full()
			tc.change(want)
			c.checkSaved(want)
		})
	}
}

func TestUpdateGPU(t *testing.T) {
	c := newV1Container(t, &cgroups.Resources{})
	c.mustUpdate(`{"unified": {"gpu.priority": "50"}}`)
	checkFiles(t, c.cgroup, map[string]string{"gpu/gpu.priority": "50", "gpu/gpu.max_mem_in_bytes": gpuMemoryDefault})

	c.mustUpdate(`{"unified": {"gpu.memory.max": "10240"}}`)
	checkFiles(t, c.cgroup, map[string]string{"gpu/gpu.priority": "50", "gpu/gpu.max_mem_in_bytes": "10240"})
	c.checkSaved(&cgroups.Resources{GPUResources: gpu(50, 10240)})

	c.mustUpdate(`{"unified": {"gpu.priority": "0", "gpu.memory.max": "max"}}`)
	checkFiles(t, c.cgroup, map[string]string{"gpu/gpu.priority": "0", "gpu/gpu.max_mem_in_bytes": "-1"})
	c.checkSaved(&cgroups.Resources{GPUResources: gpu(0, -1)})
}

// A refused update has written nothing at all.
func TestUpdateGPURefused(t *testing.T) {
	for update, want := range map[string]string{
		`{"memory": {"limit": 1048576}, "unified": {"gpu.priority": "1025"}}`:                     `gpu.priority="1025"`,
		`{"memory": {"limit": 1048576}, "unified": {"gpu.priority": "1", "gpu.memory.max": "0"}}`: `gpu.memory.max="0"`,
		`{"memory": {"limit": 1048576}, "unified": {"gpu.priority": "1", "memory.high": "max"}}`:  cgroups.ErrV1NoUnified.Error(),
	} {
		saved := &cgroups.Resources{}
		c := newV1Container(t, saved)
		if err := c.update(update); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want: %s", update, err, want)
		}
		checkFiles(t, c.cgroup, map[string]string{
			"memory/memory.limit_in_bytes": "9223372036854771712",
			"gpu/gpu.priority":             "0",
		})
		c.checkSaved(saved)
	}
}

// failThrottles makes writing a read throttle fail, which is the last thing
// before gpu to be written, and returns a device to name.
func (c *v1Container) failThrottles() {
	c.t.Helper()
	file := filepath.Join(c.cgroup, "blkio", "blkio.throttle.read_bps_device")
	if err := os.Remove(file); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o755); err != nil {
		c.t.Fatal(err)
	}
}

const throttleUpdate = `"blockIO": {"throttleReadBpsDevice": [{"major": 4095, "minor": 1048575, "rate": 1048576}]}`

func TestUpdateRollback(t *testing.T) {
	saved := &cgroups.Resources{
		GPUResources: gpu(5, 4096), Memory: 1 << 26, CpuQuota: 20000, CpuPeriod: 50000, CpusetCpus: "0", PidsLimit: 100,
	}
	c := newV1Container(t, saved)
	c.failThrottles()
	err := c.update(`{"memory": {"limit": 134217728}, "cpu": {"quota": 30000, "cpus": "1"}, "pids": {"limit": 7}, ` + throttleUpdate + `}`)
	if err == nil || !strings.Contains(err.Error(), "blkio.throttle.read_bps_device") {
		t.Fatalf("got error %v, want one from the throttle", err)
	}
	checkFiles(t, c.cgroup, map[string]string{
		"memory/memory.limit_in_bytes": "67108864",
		"cpu/cpu.cfs_quota_us":         "20000",
		"cpuset/cpuset.cpus":           "0",
		"pids/pids.max":                "100",
		"gpu/gpu.priority":             "5",
		"gpu/gpu.max_mem_in_bytes":     "4096",
	})
	c.checkSaved(saved)
}

// What the failed update set for the first time goes back to the default.
func TestUpdateRollbackFirst(t *testing.T) {
	saved := &cgroups.Resources{}
	c := newV1Container(t, saved)
	c.failThrottles()
	err := c.update(`{"memory": {"limit": 134217728}, "cpu": {"quota": 30000, "cpus": "1"}, "pids": {"limit": 7}, ` + throttleUpdate + `}`)
	if err == nil {
		t.Fatal("updated")
	}
	checkFiles(t, c.cgroup, map[string]string{
		"memory/memory.limit_in_bytes": "-1",
		"cpu/cpu.cfs_quota_us":         "-1",
		"cpuset/cpuset.cpus":           "0-1",
		"pids/pids.max":                "max",
	})
	c.checkSaved(saved)
}

// The same with gpu: the priority is written, the memory limit fails.
func TestUpdateRollbackGPU(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		saved      cgroups.GPUResources
	}{
		{"first time", "0", cgroups.GPUResources{}},
		{"second time", "5", cgroups.GPUResources{GPUPriority: i64Ptr(5)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			saved := &cgroups.Resources{GPUResources: tc.saved}
			c := newV1Container(t, saved)
			file := filepath.Join(c.cgroup, "gpu", "gpu.max_mem_in_bytes")
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(file, 0o755); err != nil {
				t.Fatal(err)
			}
			err := c.update(`{"memory": {"limit": 134217728}, "unified": {"gpu.priority": "50", "gpu.memory.max": "10240"}}`)
			if err == nil || !strings.Contains(err.Error(), "cannot set gpu limit") {
				t.Fatalf("got error %v, want: cannot set gpu limit", err)
			}
			checkFiles(t, c.cgroup, map[string]string{"gpu/gpu.priority": tc.want, "memory/memory.limit_in_bytes": "-1"})
			c.checkSaved(saved)
		})
	}
}

func emptyUpdate() *specs.LinuxResources {
	return &specs.LinuxResources{
		Memory:  &specs.LinuxMemory{},
		CPU:     &specs.LinuxCPU{},
		BlockIO: &specs.LinuxBlockIO{},
		Pids:    &specs.LinuxPids{},
	}
}

func TestMergeUnified(t *testing.T) {
	saved := map[string]string{
		"gpu.priority": "5", "gpu.memory.max": "4096", "memory.max": "100", "memory.high": "90", "pids.max": "9",
		"cgroup.freeze": "1", "memory.reclaim": "4096", "cgroup.max.depth": "3",
	}
	given := maps.Clone(saved)
	for _, tc := range []struct {
		name   string
		change func(*specs.LinuxResources)
		want   map[string]string
	}{
		{"nothing", func(*specs.LinuxResources) {}, map[string]string{
			"gpu.priority": "5", "gpu.memory.max": "4096", "memory.max": "100", "memory.high": "90", "cgroup.max.depth": "3", "pids.max": "9",
		}},
		{"one key", func(r *specs.LinuxResources) { r.Unified = map[string]string{"gpu.priority": "0"} }, map[string]string{
			"gpu.priority": "0", "gpu.memory.max": "4096", "memory.max": "100", "memory.high": "90", "cgroup.max.depth": "3", "pids.max": "9",
		}},
		{"typed resources win", func(r *specs.LinuxResources) {
			r.Memory.Limit = i64Ptr(200)
			r.Pids.Limit = 8
		}, map[string]string{"gpu.priority": "5", "gpu.memory.max": "4096", "memory.high": "90", "cgroup.max.depth": "3"}},
		{"over a key of the same update they do not", func(r *specs.LinuxResources) {
			r.Memory.Limit = i64Ptr(200)
			r.Unified = map[string]string{"memory.max": "300"}
		}, map[string]string{"gpu.priority": "5", "gpu.memory.max": "4096", "memory.max": "300", "memory.high": "90", "cgroup.max.depth": "3", "pids.max": "9"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := emptyUpdate()
			tc.change(r)
			if got := mergeUnified(saved, r); !maps.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
			if !maps.Equal(saved, given) {
				t.Errorf("the saved map was edited: %v", saved)
			}
		})
	}
	if got := mergeUnified(nil, emptyUpdate()); got != nil {
		t.Errorf("got %#v from nothing, want nil", got)
	}
}

// Container.Set's way of failing, on a fake cgroup v2.
func TestRollbackV2(t *testing.T) {
	fakeCgroups(t)
	dir := t.TempDir()
	before := map[string]string{
		"gpu.priority": "0", "gpu.memory.max": "4096", "memory.max": "67108864", "memory.low": "0", "memory.high": "max",
		"pids.max": "max", "cpuset.cpus": "",
	}
	writeFiles(t, dir, before)
	writeFiles(t, dir, map[string]string{"cgroup.controllers": "gpu memory pids cpuset"})
	if err := os.Mkdir(filepath.Join(dir, "io.max"), 0o755); err != nil {
		t.Fatal(err)
	}

	saved := &cgroups.Resources{Memory: 1 << 26, SkipDevices: true, Unified: map[string]string{
		"gpu.memory.max": "4096", "cgroup.kill": "1",
	}}
	next := &cgroups.Resources{Memory: 1 << 27, MemoryReservation: 1 << 20, PidsLimit: 7, SkipDevices: true, Unified: map[string]string{
		"gpu.priority": "50", "gpu.memory.max": "10240", "memory.high": "max", "io.max": "8:0 rbps=2",
	}}
	fillUndo(saved, next, true, func(_, file string) string {
		data, _ := os.ReadFile(filepath.Join(dir, file))
		return strings.TrimSpace(string(data))
	})
	if got, want := saved.Unified, (map[string]string{
		"gpu.priority": "0", "gpu.memory.max": "4096", "memory.low": "0", "memory.high": "max",
	}); !maps.Equal(got, want) {
		t.Errorf("to put back: %v, want %v", got, want)
	}

	m, err := fs2.NewManager(&cgroups.Cgroup{Resources: &cgroups.Resources{}}, dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Set(next); err == nil || !strings.Contains(err.Error(), `"io.max"`) {
		t.Fatalf("got error %v, want one from io.max", err)
	}
	checkFiles(t, dir, map[string]string{"memory.max": "134217728", "pids.max": "7"})
	if err := m.Set(saved); err != nil {
		t.Fatal(err)
	}
	checkFiles(t, dir, before)
}

// A controller that is not there must not keep the others from going back.
func TestFillUndoNoGPU(t *testing.T) {
	for _, v2 := range []bool{false, true} {
		saved := &cgroups.Resources{}
		next := &cgroups.Resources{GPUResources: gpu(50, 10240)}
		if v2 {
			next = &cgroups.Resources{Unified: map[string]string{"gpu.priority": "50", "gpu.memory.max": "10240"}}
		}
		fillUndo(saved, next, v2, func(string, string) string { return "" })
		if saved.GPUPriority != nil || saved.GPUMemory != nil || len(saved.Unified) != 0 {
			t.Errorf("v2 %v: to put back: %s, want nothing", v2, toJSON(t, saved))
		}
	}
}

func TestUndoThrottles(t *testing.T) {
	entries, err := os.ReadDir("/sys/dev/block")
	if err != nil || len(entries) == 0 {
		t.Skip("no block device on this host")
	}
	var there cgroups.ThrottleDevice
	major, minor, _ := strings.Cut(entries[0].Name(), ":")
	if err := json.Unmarshal([]byte(`{"major":`+major+`,"minor":`+minor+`}`), &there); err != nil {
		t.Fatal(err)
	}
	gone := cgroups.NewThrottleDevice(4095, 1048575, 5)
	there.Rate = 5

	if got := undoThrottles(nil, []*cgroups.ThrottleDevice{&there, gone}); len(got) != 1 ||
		got[0].Major != there.Major || got[0].Minor != there.Minor || got[0].Rate != math.MaxUint64 {
		t.Errorf("got %s, want only %s without a limit", toJSON(t, got), entries[0].Name())
	}
	saved := []*cgroups.ThrottleDevice{cgroups.NewThrottleDevice(there.Major, there.Minor, 9)}
	if got := undoThrottles(saved, []*cgroups.ThrottleDevice{&there}); len(got) != 1 || got[0].Rate != 9 {
		t.Errorf("got %s, want the saved rate", toJSON(t, got))
	}
}
