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
	"golang.org/x/sys/unix"
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
	t                *testing.T
	root, id, cgroup string
}

func newV1Container(t *testing.T, saved *cgroups.Resources) *v1Container {
	t.Helper()
	return newV1ContainerAt(t, t.TempDir(), "ctr", saved)
}

func newV1ContainerAt(t *testing.T, root, id string, saved *cgroups.Resources) *v1Container {
	t.Helper()
	if cgroups.IsCgroup2UnifiedMode() {
		t.Skip("libcontainer takes the cgroup v2 manager on this host")
	}
	fakeCgroups(t)
	c := &v1Container{t: t, root: root, id: id, cgroup: t.TempDir()}
	writeFiles(t, c.cgroup, map[string]string{
		"gpu/gpu.priority":                     "0\n",
		"gpu/gpu.max_mem_in_bytes":             gpuMemoryDefault + "\n",
		"memory/memory.limit_in_bytes":         "9223372036854771712\n",
		"cpuset/cpuset.cpus":                   "0-1\n",
		"cpuset/cpuset.mems":                   "0\n",
		"pids/pids.max":                        "max\n",
		"cpu/cpu.cfs_quota_us":                 "-1\n",
		"blkio/blkio.throttle.read_bps_device": "",
		"net_cls/net_cls.classid":              "0\n",
		"net_prio/net_prio.ifpriomap":          "lo 0\n",
	})
	paths := map[string]string{}
	for _, name := range []string{"gpu", "memory", "cpu", "cpuset", "pids", "blkio", "net_cls", "net_prio"} {
		paths[name] = filepath.Join(c.cgroup, name)
	}
	stat, err := system.Stat(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	state, err := json.Marshal(libcontainer.State{
		BaseState: libcontainer.BaseState{
			ID:                   id,
			InitProcessPid:       os.Getpid(),
			InitProcessStartTime: stat.StartTime,
			Config:               configs.Config{Cgroups: &cgroups.Cgroup{Path: "/" + id, Resources: saved}},
		},
		CgroupPaths: paths,
	})
	if err != nil {
		t.Fatal(err)
	}
	writeFiles(t, c.root, map[string]string{id + "/state.json": string(state)})
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
	defer unlockContainer(c.id)
	return app.Run([]string{"runc", "--root", c.root, "update", "-r", file, c.id})
}

func (c *v1Container) mustUpdate(resources string) {
	c.t.Helper()
	if err := c.update(resources); err != nil {
		c.t.Fatal(err)
	}
}

func (c *v1Container) state() (state libcontainer.State) {
	c.t.Helper()
	data, err := os.ReadFile(filepath.Join(c.root, c.id, "state.json"))
	if err != nil {
		c.t.Fatal(err)
	}
	if err := json.Unmarshal(data, &state); err != nil {
		c.t.Fatal(err)
	}
	return state
}

// saved returns the resources of state.json.
func (c *v1Container) saved() *cgroups.Resources {
	c.t.Helper()
	state := c.state()
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

// An update does not even decode most of state.json.
func TestUpdateKeepsTheRestOfTheState(t *testing.T) {
	errno := uint(38)
	config := configs.Config{
		Rootfs: "/rootfs",
		Labels: []string{"bundle=/b", `io.example.text=a "quoted" <one> & a \u2028`},
		Mounts: []*configs.Mount{{Source: "proc", Destination: "/proc", Device: "proc"}},
		Seccomp: &configs.Seccomp{
			DefaultAction:   configs.Errno,
			DefaultErrnoRet: &errno,
			Architectures:   []string{"amd64", "x86"},
			Syscalls: []*configs.Syscall{
				{Name: "read", Action: configs.Allow},
				{Name: "clone", Action: configs.Allow, Args: []*configs.Arg{{Value: 2114060288, Op: configs.MaskEqualTo}}},
			},
		},
	}
	for _, seccomp := range []*configs.Seccomp{config.Seccomp, nil} {
		c := newV1Container(t, &cgroups.Resources{PidsLimit: mkPtr[int64](100)})
		state := c.state()
		config.Cgroups, config.Seccomp = state.Config.Cgroups, seccomp
		state.Config = config
		writeFiles(t, c.root, map[string]string{c.id + "/state.json": toJSON(t, state)})
		want := c.state() // nil and empty are not the same to DeepEqual

		c.mustUpdate(`{"pids": {"limit": 200}}`)
		got := c.state()
		if limit := got.Config.Cgroups.Resources.PidsLimit; limit == nil || *limit != 200 {
			t.Errorf("state.json has %s", toJSON(t, got.Config.Cgroups.Resources))
		}
		want.Config.Cgroups.Resources, got.Config.Cgroups.Resources = nil, nil
		want.NamespacePaths, got.NamespacePaths = nil, nil // our container was made without
		if !reflect.DeepEqual(got, want) {
			t.Errorf("state.json has\n%s, want\n%s", toJSON(t, got), toJSON(t, want))
		}
	}
}

func TestUpdateKeepsUnnamed(t *testing.T) {
	full := func() *cgroups.Resources {
		return &cgroups.Resources{
			GPUResources: gpu(5, 4096),
			Memory:       1 << 26,
			CpuPeriod:    50000,
			CpuQuota:     20000,
			CpuBurst:     mkPtr[uint64](1000),
			CPUIdle:      mkPtr[int64](0),
			CpusetCpus:   "0",
			CpusetMems:   "0",
			PidsLimit:    mkPtr[int64](100),
		}
	}
	for _, tc := range []struct {
		name, update string
		change       func(*cgroups.Resources)
	}{
		{"nothing", `{}`, func(*cgroups.Resources) {}},
		{"empty unified", `{"unified": {}}`, func(*cgroups.Resources) {}},
		{"memory", `{"memory": {"limit": 134217728}}`, func(r *cgroups.Resources) { r.Memory = 1 << 27 }},
		{"pids", `{"pids": {"limit": 7}}`, func(r *cgroups.Resources) { r.PidsLimit = mkPtr[int64](7) }},
		{"quota", `{"cpu": {"quota": 30000}}`, func(r *cgroups.Resources) { r.CpuQuota = 30000 }},
		{"cpuset", `{"cpu": {"cpus": "1"}}`, func(r *cgroups.Resources) { r.CpusetCpus = "1" }},
		{"gpu priority", `{"unified": {"gpu.priority": "9"}}`, func(r *cgroups.Resources) { r.GPUPriority = mkPtr[int64](9) }},
		{"default gpu priority", `{"unified": {"gpu.priority": "0"}}`, func(r *cgroups.Resources) { r.GPUPriority = mkPtr[int64](0) }},
		{"no gpu memory limit", `{"unified": {"gpu.memory.max": "max"}}`, func(r *cgroups.Resources) { r.GPUMemory = mkPtr[int64](-1) }},
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
		GPUResources: gpu(5, 4096), Memory: 1 << 26, CpuQuota: 20000, CpuPeriod: 50000, CpusetCpus: "0", PidsLimit: mkPtr[int64](100),
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
		{"second time", "5", cgroups.GPUResources{GPUPriority: mkPtr[int64](5)}},
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
			r.Memory.Limit = mkPtr[int64](200)
			r.Pids.Limit = mkPtr[int64](8)
		}, map[string]string{"gpu.priority": "5", "gpu.memory.max": "4096", "memory.high": "90", "cgroup.max.depth": "3"}},
		{"over a key of the same update they do not", func(r *specs.LinuxResources) {
			r.Memory.Limit = mkPtr[int64](200)
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
	next := &cgroups.Resources{Memory: 1 << 27, MemoryReservation: 1 << 20, PidsLimit: mkPtr[int64](7), SkipDevices: true, Unified: map[string]string{
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

// Cgroup v2 would kill where v1 refuses: memory was raised, and is used by now.
func TestRollbackV2BelowUse(t *testing.T) {
	fakeCgroups(t)
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"memory.max": "134217728", "memory.current": "100000000", "cgroup.controllers": "memory"})
	m, err := fs2.NewManager(&cgroups.Cgroup{Resources: &cgroups.Resources{}}, dir)
	if err != nil {
		t.Fatal(err)
	}
	raised, undo := &cgroups.Resources{Memory: 1 << 27, SkipDevices: true}, &cgroups.Resources{Memory: 1 << 26, SkipDevices: true}
	undo.MemoryCheckBeforeUpdate = lowersMemory(raised, undo)
	if err := m.Set(undo); err == nil || !strings.Contains(err.Error(), "rejecting memory limit") {
		t.Errorf("got error %v", err)
	}
	checkFiles(t, dir, map[string]string{"memory.max": "134217728"})

	for _, tc := range []struct {
		from, to int64
		want     bool
	}{{200, 100, true}, {-1, 100, true}, {100, 100, false}, {50, 100, false}, {100, -1, false}, {100, 0, false}, {0, 100, false}} {
		if got := lowersMemory(&cgroups.Resources{Memory: tc.from}, &cgroups.Resources{Memory: tc.to}); got != tc.want {
			t.Errorf("%+v: %v", tc, got)
		}
	}
}

// Of unified, too, only what is named is written; but an old key comes back if
// the typed resource that took its place fails.
func TestNamedPartsV2(t *testing.T) {
	r := emptyUpdate()
	r.Memory.Limit = mkPtr[int64](200)
	r.Unified = map[string]string{"gpu.priority": "9"}
	saved := &cgroups.Resources{PidsLimit: mkPtr[int64](5), Unified: map[string]string{"memory.max": "100", "gpu.priority": "5", "gpu.memory.max": "4096"}}
	next := &cgroups.Resources{PidsLimit: mkPtr[int64](5), Memory: 200, Unified: mergeUnified(saved.Unified, r)}
	read := func(string, string) string { return "" }
	parts := namedParts(r, next, true, read)
	fillUndo(saved, next, true, read)
	change, back := &cgroups.Resources{}, &cgroups.Resources{}
	for _, copyPart := range parts {
		copyPart(change, next)
		copyPart(back, saved)
	}
	if want := (&cgroups.Resources{Memory: 200, Unified: map[string]string{"gpu.priority": "9"}}); !reflect.DeepEqual(change, want) {
		t.Errorf("to write: %s, want %s", toJSON(t, change), toJSON(t, want))
	}
	if want := (&cgroups.Resources{Memory: -1, Unified: map[string]string{"memory.max": "100", "gpu.priority": "5"}}); !reflect.DeepEqual(back, want) {
		t.Errorf("to put back: %s, want %s", toJSON(t, back), toJSON(t, want))
	}
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
	there.Rate = 5

	var got []*cgroups.ThrottleDevice
	undoThrottles(&got, []*cgroups.ThrottleDevice{&there})
	if len(got) != 1 || got[0].Major != there.Major || got[0].Minor != there.Minor || got[0].Rate != math.MaxUint64 {
		t.Errorf("got %s, want %s without a limit", toJSON(t, got), entries[0].Name())
	}
	saved := []*cgroups.ThrottleDevice{cgroups.NewThrottleDevice(there.Major, there.Minor, 9)}
	if undoThrottles(&saved, []*cgroups.ThrottleDevice{&there}); len(saved) != 1 || saved[0].Rate != 9 {
		t.Errorf("got %s, want the saved rate", toJSON(t, saved))
	}
}

// A file whose resource is not named is not written, not even with the value
// that it has: "not touched" here is nothing that anything would write.
func TestUpdateWritesOnlyNamed(t *testing.T) {
	saved := func() *cgroups.Resources {
		return &cgroups.Resources{
			GPUResources: gpu(5, 4096), Memory: 1 << 26, MemorySwap: 1 << 27, CpuShares: 7, CpuQuota: 20000, CpuPeriod: 50000,
			CpusetCpus: "0", CpusetMems: "0", PidsLimit: mkPtr[int64](100), BlkioWeight: 50, NetClsClassid: 9,
			BlkioThrottleReadBpsDevice: []*cgroups.ThrottleDevice{cgroups.NewThrottleDevice(4095, 1048575, 5)},
			NetPrioIfpriomap:           []*cgroups.IfPrioMap{{Interface: "lo", Priority: 3}},
		}
	}
	files := map[string]string{
		"gpu/gpu.priority": "", "gpu/gpu.max_mem_in_bytes": "", "memory/memory.limit_in_bytes": "",
		"memory/memory.memsw.limit_in_bytes": "", "cpu/cpu.shares": "", "cpu/cpu.cfs_quota_us": "", "cpu/cpu.cfs_period_us": "",
		"cpuset/cpuset.cpus": "", "cpuset/cpuset.mems": "", "pids/pids.max": "", "blkio/blkio.weight": "",
		"blkio/blkio.throttle.read_bps_device": "", "net_cls/net_cls.classid": "", "net_prio/net_prio.ifpriomap": "lo 3",
	}
	for _, tc := range []struct {
		update string
		want   map[string]string
	}{
		{`{}`, nil},
		{`{"pids": {"limit": 7}}`, map[string]string{"pids/pids.max": "7"}},
		{`{"cpu": {"shares": 8}}`, map[string]string{"cpu/cpu.shares": "8"}},
		{`{"cpu": {"quota": 30000}}`, map[string]string{"cpu/cpu.cfs_quota_us": "30000", "cpu/cpu.cfs_period_us": "50000"}},
		{`{"cpu": {"cpus": "1"}}`, map[string]string{"cpuset/cpuset.cpus": "1"}},
		{`{"unified": {"gpu.priority": "9"}}`, map[string]string{"gpu/gpu.priority": "9"}},
		{`{"network": {"classID": 10}}`, map[string]string{"net_cls/net_cls.classid": "10"}},
		{`{"network": {"priorities": [{"name": "lo", "priority": 4}]}}`, map[string]string{"net_prio/net_prio.ifpriomap": "lo 4"}},
	} {
		t.Run(tc.update, func(t *testing.T) {
			c := newV1Container(t, saved())
			want := map[string]string{}
			for file, content := range files {
				if want[file] = content; content == "" {
					want[file] = "not touched"
				}
			}
			writeFiles(t, c.cgroup, want)
			maps.Copy(want, tc.want)
			c.mustUpdate(tc.update)
			checkFiles(t, c.cgroup, want)
		})
	}
}

// saveFails makes the rename of the new state.json over the old one fail.
func (c *v1Container) saveFails() {
	c.t.Helper()
	file := filepath.Join(c.root, c.id, "state.json")
	if err := unix.Mount(file, file, "", unix.MS_BIND, ""); err != nil {
		c.t.Skip("no right to mount:", err)
	}
	c.t.Cleanup(func() { _ = unix.Unmount(file, unix.MNT_DETACH) })
}

func TestUpdateRollbackUnsavedState(t *testing.T) {
	saved := &cgroups.Resources{GPUResources: gpu(5, 4096), PidsLimit: mkPtr[int64](100)}
	c := newV1Container(t, saved)
	c.saveFails()
	err := c.update(`{"memory": {"limit": 134217728}, "pids": {"limit": 7}, "unified": {"gpu.priority": "9"}, "network": {"classID": 3}}`)
	if err == nil || !strings.Contains(err.Error(), "unable to save the container's state") {
		t.Fatalf("got error %v, want: unable to save the container's state", err)
	}
	checkFiles(t, c.cgroup, map[string]string{
		"memory/memory.limit_in_bytes": "-1",
		"pids/pids.max":                "100",
		"gpu/gpu.priority":             "5",
		"net_cls/net_cls.classid":      "0",
	})
	c.checkSaved(saved)
}

// One resource that cannot be put back does not keep the others from it.
func TestUpdateRollbackGoesOn(t *testing.T) {
	saved := &cgroups.Resources{
		Memory: 1 << 26, PidsLimit: mkPtr[int64](100), GPUResources: gpu(5, 4096),
		BlkioThrottleReadBpsDevice: []*cgroups.ThrottleDevice{cgroups.NewThrottleDevice(4095, 1048575, 5)},
	}
	c := newV1Container(t, saved)
	file := filepath.Join(c.cgroup, "pids", "pids.max")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o755); err != nil {
		t.Fatal(err)
	}
	writeFiles(t, c.cgroup, map[string]string{"cpuset/cpuset.cpus": "0"})
	err := c.update(`{"memory": {"limit": 134217728}, "cpu": {"cpus": "1"}, "pids": {"limit": 7}, "unified": {"gpu.priority": "9"}, ` + throttleUpdate + `}`)
	if err == nil || !strings.Contains(err.Error(), "pids.max") || !strings.Contains(err.Error(), "unable to put back") {
		t.Fatalf("got error %v, want one from pids.max and that it could not be put back", err)
	}
	checkFiles(t, c.cgroup, map[string]string{
		"memory/memory.limit_in_bytes": "67108864",
		"cpuset/cpuset.cpus":           "0",
		"gpu/gpu.priority":             "5",
	})
	c.checkSaved(saved)
}

const gone = `{"major": 4095, "minor": 1048575, "rate": %s}`

func TestUpdateThrottles(t *testing.T) {
	entries, err := os.ReadDir("/sys/block")
	if err != nil || len(entries) == 0 {
		t.Skip("no block device on this host")
	}
	number, err := os.ReadFile(filepath.Join("/sys/block", entries[0].Name(), "dev"))
	if err != nil {
		t.Fatal(err)
	}
	disk := strings.TrimSpace(string(number))
	major, minor, _ := strings.Cut(disk, ":")
	there := `{"major": ` + major + `, "minor": ` + minor + `, "rate": %s}`
	update := func(entry, rate string) string {
		return `{"blockIO": {"throttleReadBpsDevice": [` + strings.Replace(entry, "%s", rate, 1) + `]}}`
	}
	const lifted = "18446744073709551615"
	saved := &cgroups.Resources{BlkioThrottleReadBpsDevice: []*cgroups.ThrottleDevice{cgroups.NewThrottleDevice(4095, 1048575, 5)}}
	c := newV1Container(t, saved)
	const file = "blkio/blkio.throttle.read_bps_device"

	// The entry of a disk that is gone is in the way of nothing else ...
	c.mustUpdate(update(there, "7"))
	checkFiles(t, c.cgroup, map[string]string{file: disk + " 7"})
	if got := len(c.saved().BlkioThrottleReadBpsDevice); got != 2 {
		t.Errorf("%d throttles are saved, want 2", got)
	}
	// ... and can be taken away.
	c.mustUpdate(update(gone, lifted))
	checkFiles(t, c.cgroup, map[string]string{file: disk + " 7"})
	if got := c.saved().BlkioThrottleReadBpsDevice; len(got) != 1 || got[0].Rate != 7 {
		t.Errorf("%s is saved, want the disk's entry alone", toJSON(t, got))
	}
	c.mustUpdate(update(there, lifted))
	checkFiles(t, c.cgroup, map[string]string{file: disk + " " + lifted})
	c.checkSaved(&cgroups.Resources{})
	c.mustUpdate(update(gone, lifted))

	// A new limit for it is the kernel's to refuse.
	c.mustUpdate(update(gone, "7"))
	checkFiles(t, c.cgroup, map[string]string{file: "4095:1048575 7"})
}

func TestUpdateNetwork(t *testing.T) {
	c := newV1Container(t, &cgroups.Resources{PidsLimit: mkPtr[int64](100), NetPrioIfpriomap: []*cgroups.IfPrioMap{{Interface: "gone0", Priority: 3}}})
	writeFiles(t, c.cgroup, map[string]string{"net_prio/net_prio.ifpriomap": "lo 0\n"})

	c.mustUpdate(`{"network": {"classID": 1048577, "priorities": [{"name": "lo", "priority": 5}]}}`)
	checkFiles(t, c.cgroup, map[string]string{"net_cls/net_cls.classid": "1048577", "net_prio/net_prio.ifpriomap": "lo 5"})
	c.checkSaved(&cgroups.Resources{PidsLimit: mkPtr[int64](100), NetClsClassid: 1048577, NetPrioIfpriomap: []*cgroups.IfPrioMap{
		{Interface: "gone0", Priority: 3}, {Interface: "lo", Priority: 5},
	}})

	c.mustUpdate(`{"pids": {"limit": 7}}`)
	if got := c.saved(); got.NetClsClassid != 1048577 || len(got.NetPrioIfpriomap) != 2 {
		t.Errorf("an update that does not name the network changed it: %s", toJSON(t, got))
	}

	// Without: 0 is written, nothing is kept. An interface that is gone is no error.
	c.mustUpdate(`{"network": {"classID": 0, "priorities": [{"name": "lo", "priority": 0}, {"name": "gone0", "priority": 0}]}}`)
	checkFiles(t, c.cgroup, map[string]string{"net_cls/net_cls.classid": "0", "net_prio/net_prio.ifpriomap": "lo 0"})
	c.checkSaved(&cgroups.Resources{PidsLimit: mkPtr[int64](7)})
}

func TestUpdateNetworkRollback(t *testing.T) {
	for _, saved := range []*cgroups.Resources{
		{},
		{NetClsClassid: 9, NetPrioIfpriomap: []*cgroups.IfPrioMap{{Interface: "lo", Priority: 3}}},
	} {
		c := newV1Container(t, saved)
		writeFiles(t, c.cgroup, map[string]string{"net_prio/net_prio.ifpriomap": "lo 0\n"})
		c.saveFails()
		if c.update(`{"network": {"classID": 10, "priorities": [{"name": "lo", "priority": 5}]}}`) == nil {
			t.Fatal("updated")
		}
		want := map[string]string{"net_cls/net_cls.classid": "0", "net_prio/net_prio.ifpriomap": "lo 0"}
		if saved.NetClsClassid != 0 {
			want = map[string]string{"net_cls/net_cls.classid": "9", "net_prio/net_prio.ifpriomap": "lo 3"}
		}
		checkFiles(t, c.cgroup, want)
		c.checkSaved(saved)
	}
}

// What nothing would enforce is refused before anything is written.
func TestUpdateNetworkRefused(t *testing.T) {
	one, zero := uint32(1), uint32(0)
	for _, n := range []*specs.LinuxNetwork{
		{ClassID: &one},
		{Priorities: []specs.LinuxInterfacePriority{{Name: "lo", Priority: 1}}},
	} {
		for _, v2 := range []bool{false, true} {
			if err := mergeNetwork(&cgroups.Resources{}, n, nil, v2); err == nil {
				t.Errorf("%s, cgroup v2 %v: not refused", toJSON(t, n), v2)
			}
		}
	}
	none := &specs.LinuxNetwork{ClassID: &zero, Priorities: []specs.LinuxInterfacePriority{{Name: "lo"}}}
	for _, v2 := range []bool{false, true} {
		if err := mergeNetwork(&cgroups.Resources{}, none, nil, v2); err != nil {
			t.Errorf("cgroup v2 %v: no class and no priority: %v", v2, err)
		}
	}
}
