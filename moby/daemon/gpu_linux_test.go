// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	containerd "github.com/containerd/containerd/v2/client"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/container"
	"github.com/docker/docker/daemon/config"
	libcontainerdtypes "github.com/docker/docker/libcontainerd/types"
	"github.com/docker/docker/pkg/sysinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func i64(v int64) *int64 { return &v }

func gpu(priority, memory *int64) containertypes.Resources {
	return containertypes.Resources{GPUPriority: priority, GPUMemory: memory}
}

// gpuHost is a host with the controller, and runtimes by what they promise.
func gpuHost(v2 bool) (*configStore, *sysinfo.SysInfo) {
	isV2 := true
	cfg := &configStore{Runtimes: runtimes{
		Default: "ours",
		configured: map[string]*shimConfig{
			"ours": {Features: &features.Features{
				Linux:       &features.Linux{Cgroup: &features.Cgroup{V2: &isV2}},
				Annotations: map[string]string{gpuFeatureV1: "gpu.memory.max,gpu.priority"},
			}},
			"stock":   {Features: &features.Features{Linux: &features.Linux{Cgroup: &features.Cgroup{V2: &isV2}}}},
			"partial": {Features: &features.Features{Annotations: map[string]string{gpuFeatureV1: "gpu.priority"}}},
			"mute":    {},
		},
	}}
	info := &sysinfo.SysInfo{CgroupUnified: v2}
	info.GPUMemory, info.GPUPriority = true, true
	return cfg, info
}

func TestValidateGPU(t *testing.T) {
	for _, tc := range []struct {
		r   containertypes.Resources
		err string
	}{
		{r: gpu(nil, nil)},
		{r: gpu(i64(-1024), i64(1))},
		{r: gpu(i64(1024), i64(1<<63-1))},
		{r: gpu(i64(0), i64(-1))},
		{r: gpu(i64(1025), nil), err: "invalid GPUPriority (--gpu-priority) 1025: must be between -1024 and 1024, 0 is the default"},
		{r: gpu(i64(-1025), nil), err: "invalid GPUPriority (--gpu-priority) -1025: must be between -1024 and 1024, 0 is the default"},
		{r: gpu(nil, i64(0)), err: "invalid GPUMemory (--gpu-memory) 0: must be at least 1 byte, or -1 for no limit"},
		{r: gpu(nil, i64(-5)), err: "invalid GPUMemory (--gpu-memory) -5: must be at least 1 byte, or -1 for no limit"},
	} {
		err := validateLimits(tc.r)
		if tc.err == "" {
			assert.Check(t, err, gpuFlags(tc.r))
		} else {
			assert.Check(t, is.Error(err, tc.err))
		}
	}
}

func TestVerifyGPU(t *testing.T) {
	for _, tc := range []struct {
		doc      string
		r        containertypes.Resources
		runtime  string
		v2       bool
		update   bool
		rootless bool
		missing  string
		err      string
	}{
		{doc: "v1", r: gpu(i64(50), i64(10240))},
		{doc: "v2", r: gpu(i64(50), i64(10240)), v2: true},
		{doc: "v2 with a stock runtime, which writes unified itself", r: gpu(i64(50), i64(10240)), v2: true, runtime: "stock"},
		{doc: "bad value", r: gpu(i64(5000), nil), err: "invalid GPUPriority"},
		{doc: "bad value on update", r: gpu(nil, i64(0)), update: true, err: "invalid GPUMemory"},
		{doc: "no controller", r: gpu(nil, i64(10240)), missing: "no such controller", err: "--gpu-memory=10240 cannot be enforced: no such controller"},
		{doc: "no controller on update", r: gpu(i64(7), nil), missing: "no such controller", update: true, err: "--gpu-priority=7 cannot be enforced: no such controller"},
		{doc: "no controller, nothing to enforce", r: gpu(i64(0), i64(-1)), missing: "no such controller"},
		{doc: "rootless", r: gpu(i64(50), i64(10240)), rootless: true, err: "--gpu-priority=50 --gpu-memory=10240 cannot be enforced: the daemon is rootless"},
		{doc: "v1 with a stock runtime", r: gpu(nil, i64(10240)), runtime: "stock", err: `cannot be enforced: runtime "stock" does not take gpu.memory.max on cgroup v1`},
		{doc: "v1 with a runtime that takes only one", r: gpu(i64(1), i64(10240)), runtime: "partial", err: `runtime "partial" does not take gpu.memory.max`},
		{doc: "v1 with a runtime that takes what is asked", r: gpu(i64(1), nil), runtime: "partial"},
		{doc: "runtime without features", r: gpu(i64(1), nil), runtime: "mute", err: `runtime "mute" does not answer "features"`},
		{doc: "runtime unknown to us", r: gpu(i64(1), nil), runtime: "io.containerd.other.v1", err: `does not answer "features"`},
		{doc: "v2 with a runtime that lacks it", r: gpu(i64(1), nil), runtime: "partial", v2: true, err: "does not support cgroup v2"},
		{doc: "the runtime in an update is not the container's", r: gpu(i64(1), nil), runtime: "mute", update: true},
		{doc: "no limit needs no runtime", r: gpu(i64(0), i64(-1)), runtime: "mute"},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			cfg, info := gpuHost(tc.v2)
			cfg.Config = config.Config{Rootless: tc.rootless}
			if tc.missing != "" {
				info.GPUMemory, info.GPUPriority = false, false
				info.GPUMemoryReason, info.GPUPriorityReason = tc.missing, tc.missing
			}
			err := (&Daemon{}).verifyLimits(cfg, &containertypes.HostConfig{Resources: tc.r, Runtime: tc.runtime}, info, tc.update)
			if tc.err == "" {
				assert.Check(t, err)
			} else {
				assert.Check(t, is.ErrorContains(err, tc.err))
			}
		})
	}
}

func TestGPUUnified(t *testing.T) {
	assert.Check(t, is.Nil(gpuUnified(gpu(nil, nil))))
	assert.Check(t, is.DeepEqual(gpuUnified(gpu(i64(-50), i64(10240))), map[string]string{"gpu.priority": "-50", "gpu.memory.max": "10240"}))
	assert.Check(t, is.DeepEqual(gpuUnified(gpu(i64(0), nil)), map[string]string{"gpu.priority": "0"}))
	assert.Check(t, is.DeepEqual(gpuUnified(gpu(nil, i64(-1))), map[string]string{"gpu.memory.max": "max"}))
}

// The spec is where a restart policy and a daemon restart come along: it must
// carry the limits and must not be made on a host that lost the controller.
func TestWithLimits(t *testing.T) {
	cfg, info := gpuHost(false)
	c := &container.Container{Config: &containertypes.Config{}, HostConfig: &containertypes.HostConfig{Resources: gpu(i64(50), i64(10240))}}
	spec := func(info *sysinfo.SysInfo) (map[string]string, error) {
		d := &Daemon{sysInfo: info}
		s := &specs.Spec{Linux: &specs.Linux{Resources: &specs.LinuxResources{}}}
		err := withLimits(d, cfg, c)(context.Background(), nil, nil, s)
		return s.Linux.Resources.Unified, err
	}

	got, err := spec(info)
	assert.NilError(t, err)
	assert.Check(t, is.DeepEqual(got, map[string]string{"gpu.priority": "50", "gpu.memory.max": "10240"}))

	_, err = spec(&sysinfo.SysInfo{})
	assert.Check(t, is.ErrorContains(err, "cannot be enforced"))

	// A client that waits was told already: nothing is checked twice in one start.
	s := &specs.Spec{Linux: &specs.Linux{Resources: &specs.LinuxResources{}}}
	err = withLimits(&Daemon{sysInfo: &sysinfo.SysInfo{}}, cfg, c)(limitsChecked(context.Background()), nil, nil, s)
	assert.NilError(t, err)

	c.HostConfig.Resources = gpu(i64(0), i64(-1))
	got, err = spec(&sysinfo.SysInfo{})
	assert.NilError(t, err)
	assert.Check(t, is.Len(got, 0), "what limits nothing must not need a controller")
}

func TestCompareGPUFiles(t *testing.T) {
	v1, v2, empty := t.TempDir(), t.TempDir(), t.TempDir()
	for file, content := range map[string]string{
		filepath.Join(v1, "gpu.priority"):            "50\n",
		filepath.Join(v1, "gpu.max_mem_in_bytes"):    "18446744073709551615\n",
		filepath.Join(v2, "gpu.priority"):            "-3\n",
		filepath.Join(v2, "gpu.memory.max"):          "10240\n",
		filepath.Join(empty, "gpu.usage_in_bytes"):   "0\n",
		filepath.Join(empty, "gpu.memory.current"):   "0\n",
		filepath.Join(empty, "cgroup.controllers"):   "\n",
		filepath.Join(empty, "gpu.memory.max.other"): "10240\n",
	} {
		assert.NilError(t, os.WriteFile(file, []byte(content), 0o600))
	}
	assert.Check(t, compareGPUFiles(v1, false, gpu(i64(50), i64(-1))))
	assert.Check(t, compareGPUFiles(v2, true, gpu(i64(-3), i64(10240))))
	assert.Check(t, is.ErrorContains(compareGPUFiles(v1, false, gpu(nil, i64(10240))), "--gpu-memory=10240 was not applied: "+v1+"/gpu.max_mem_in_bytes shows 18446744073709551615, want 10240"))
	assert.Check(t, is.ErrorContains(compareGPUFiles(v2, true, gpu(i64(4), nil)), "shows -3, want 4"))
	assert.Check(t, is.ErrorContains(compareGPUFiles(v2, true, gpu(nil, i64(-1))), "shows 10240, want max"))
	assert.Check(t, is.ErrorContains(compareGPUFiles(empty, true, gpu(nil, i64(10240))), "cannot tell whether --gpu-memory=10240 was applied"))
}

// fakeTask records what it is told and says yes, like a shim or a runtime that
// drops what it does not know; or no, to the first calls, or to what it refuses.
type fakeTask struct {
	libcontainerdtypes.Task
	updates []*libcontainerdtypes.Resources
	errs    []error
	refuse  func(*libcontainerdtypes.Resources) error
	status  containerd.ProcessStatus
}

func (f *fakeTask) Status(context.Context) (containerd.Status, error) {
	return containerd.Status{Status: f.status}, nil
}

func (f *fakeTask) Pid() uint32 { return uint32(os.Getpid()) }

func (f *fakeTask) UpdateResources(_ context.Context, r *libcontainerdtypes.Resources) error {
	f.updates = append(f.updates, r)
	if n := len(f.updates); n <= len(f.errs) {
		return f.errs[n-1]
	}
	if f.refuse != nil {
		return f.refuse(r)
	}
	return nil
}

func (f *fakeTask) unified() (sent []map[string]string) {
	for _, r := range f.updates {
		sent = append(sent, r.Unified)
	}
	return sent
}

func TestUpdateGPU(t *testing.T) {
	running := func(t *testing.T, r containertypes.Resources) (*Daemon, *container.Container, *fakeTask) {
		d, c := stoppedContainer(t, r)
		tsk := &fakeTask{status: containerd.Running}
		c.Lock()
		defer c.Unlock()
		c.SetRunningExternal(nil, tsk)
		return d, c, tsk
	}
	update := func(d *Daemon, c *container.Container, r containertypes.Resources) error {
		_, err := d.transact(c.ID, 0, func(c *container.Container) (containertypes.Resources, resourceSet, error) {
			return d.plan(c, &containertypes.HostConfig{Resources: r}, nil)
		})
		return err
	}
	t.Run("nothing named, nothing read back", func(t *testing.T) {
		d, c, tsk := running(t, gpu(i64(50), nil))
		assert.NilError(t, update(d, c, containertypes.Resources{CPUShares: 5}))
		assert.Check(t, is.DeepEqual(tsk.unified(), []map[string]string{nil}))
	})
	t.Run("a yes that changed nothing is undone, reported and shown", func(t *testing.T) {
		d, c, tsk := running(t, gpu(i64(50), nil))
		err := update(d, c, gpu(i64(7), i64(4096)))
		assert.Check(t, is.ErrorContains(err, "was applied"))
		assert.Check(t, is.DeepEqual(tsk.unified()[:2], []map[string]string{
			{"gpu.priority": "7", "gpu.memory.max": "4096"},
			{"gpu.priority": "50", "gpu.memory.max": "max"},
		}))
		assert.Check(t, is.Len(d.limitsNotInForce(c), 2), "the files show neither")
		assert.Check(t, is.DeepEqual(c.HostConfig.Resources, gpu(i64(50), nil)))
	})
	t.Run("nothing to take off without a controller", func(t *testing.T) {
		d, c, tsk := running(t, gpu(nil, nil))
		d.sysInfo = &sysinfo.SysInfo{}
		assert.NilError(t, update(d, c, gpu(i64(0), i64(-1))))
		assert.Check(t, is.DeepEqual(tsk.unified(), []map[string]string{nil}))
	})
}

// A limit that the kernel has is taken off, also where dockerd saw no controller.
func TestGPUUpdateWithoutAController(t *testing.T) {
	lift, none := gpu(i64(0), i64(-1)), gpu(nil, nil)
	_, info := gpuHost(false)
	dir := t.TempDir()
	for _, v2 := range []bool{false, true} {
		assert.DeepEqual(t, withoutFiles("", v2, &sysinfo.SysInfo{}, lift), none)
		assert.DeepEqual(t, withoutFiles(dir, v2, &sysinfo.SysInfo{}, lift), none)
		assert.DeepEqual(t, withoutFiles(dir, v2, info, lift), lift)
		assert.DeepEqual(t, withoutFiles("", v2, &sysinfo.SysInfo{}, gpu(i64(5), i64(10))), gpu(i64(5), i64(10)))
	}
	for _, name := range []string{"gpu.priority", "gpu.memory.max"} {
		assert.NilError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	assert.DeepEqual(t, withoutFiles(dir, true, &sysinfo.SysInfo{}, lift), lift)
	assert.DeepEqual(t, withoutFiles(dir, false, &sysinfo.SysInfo{}, lift), gpu(i64(0), nil))
}

func TestCheckGPUUpdate(t *testing.T) {
	cfg, info := gpuHost(false)
	d := &Daemon{sysInfo: info}
	d.configStore.Store(cfg)
	ctr := &container.Container{ID: "c", State: &container.State{}, HostConfig: &containertypes.HostConfig{Runtime: "stock"}}
	err := gpuKind{d}.admitUpdate(ctr, gpu(i64(7), nil))
	assert.Check(t, is.ErrorContains(err, `runtime "stock"`), "the container's runtime counts, not the one filled into the request")
	assert.Check(t, gpuKind{d}.admitUpdate(ctr, gpu(i64(0), i64(-1))))
}
