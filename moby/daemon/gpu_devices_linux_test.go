// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/container"
	"github.com/docker/docker/daemon/config"
	"github.com/docker/docker/daemon/gpudevice"
	"github.com/docker/docker/daemon/internal/capabilities"
	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// gpuNodes makes nodes of numbers that this machine has nothing for, and a daemon
// whose kernel says what the one of DRM keeps.
func gpuNodes(t *testing.T) (d *Daemon, cfg *configStore, nvidia, kept string) {
	t.Helper()
	dir := t.TempDir()
	nvidia, kept = filepath.Join(dir, "nvidia0"), filepath.Join(dir, "dri", "renderD170")
	assert.NilError(t, os.Mkdir(filepath.Dir(kept), 0o700))
	for path, dev := range map[string]uint64{nvidia: unix.Mkdev(195, 0), kept: unix.Mkdev(226, 170)} {
		if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(dev)); err != nil {
			t.Skipf("mknod: %v", err)
		}
	}
	cfg, info := gpuHost(true)
	info.GPUDevicesFile = filepath.Join(dir, "gpu.devices")
	assert.NilError(t, os.WriteFile(info.GPUDevicesFile, []byte("226:170 cgroup_test platform:x memory priority\n226:171 vgem platform:vgem memory\n"), 0o600))
	d = &Daemon{sysInfo: info}
	d.configStore.Store(cfg)
	return d, cfg, nvidia, kept
}

func devices(paths ...string) (list []containertypes.DeviceMapping) {
	for _, p := range paths {
		list = append(list, containertypes.DeviceMapping{PathOnHost: p, PathInContainer: "/dev/any", CgroupPermissions: "rwm"})
	}
	return list
}

func TestGPUOfANewContainerNVIDIA(t *testing.T) {
	d, cfg, nvidia, kept := gpuNodes(t)
	deviceDrivers["nvidia"] = &deviceDriver{capset: capabilities.Set{"gpu": struct{}{}, "nvidia": struct{}{}}}
	t.Cleanup(func() { delete(deviceDrivers, "nvidia") })
	cfg.Config = config.Config{}
	cfg.Config.Runtimes = map[string]system.Runtime{"nvidia": {Path: "/usr/bin/nvidia-container-runtime"}}
	cfg.Runtimes.configured["jit"] = &shimConfig{Opts: &runcoptions.Options{BinaryName: "/opt/nvidia-container-runtime.cdi"}}
	visible := []string{"PATH=/bin", "NVIDIA_VISIBLE_DEVICES=0"}
	for _, tc := range []struct {
		doc  string
		env  []string
		host containertypes.HostConfig
		err  string
	}{
		{doc: "kept", host: containertypes.HostConfig{Resources: containertypes.Resources{Devices: devices(kept)}}},
		{doc: "a folder of kept ones", host: containertypes.HostConfig{Resources: containertypes.Resources{Devices: devices(filepath.Dir(kept))}}},
		{doc: "a folder", host: containertypes.HostConfig{Resources: containertypes.Resources{Devices: devices(filepath.Dir(nvidia))}}, err: nvidia},
		{doc: "--device", host: containertypes.HostConfig{Resources: containertypes.Resources{Devices: devices(kept, nvidia)}}, err: "NVIDIA GPU 0 (" + nvidia + ")"},
		{doc: "--gpus", host: containertypes.HostConfig{Resources: containertypes.Resources{DeviceRequests: []containertypes.DeviceRequest{{Count: -1, Capabilities: [][]string{{"gpu"}}}}}}, err: "NVIDIA GPUs (--gpus)"},
		{doc: "--gpus driver=nvidia", host: containertypes.HostConfig{Resources: containertypes.Resources{DeviceRequests: []containertypes.DeviceRequest{{Driver: "nvidia", DeviceIDs: []string{"0"}}}}}, err: "NVIDIA GPUs (--gpus)"},
		{doc: "CDI", host: containertypes.HostConfig{Resources: containertypes.Resources{DeviceRequests: []containertypes.DeviceRequest{{Driver: "cdi", DeviceIDs: []string{"nvidia.com/gpu=0"}}}}}, err: "NVIDIA GPUs (--device nvidia.com/gpu=0)"},
		{doc: "CDI of the runtime's", host: containertypes.HostConfig{Resources: containertypes.Resources{DeviceRequests: []containertypes.DeviceRequest{{Driver: "cdi", DeviceIDs: []string{"runtime.nvidia.com/gpu=all"}}}}}, err: "NVIDIA GPUs"},
		{doc: "CDI of others", host: containertypes.HostConfig{Resources: containertypes.Resources{DeviceRequests: []containertypes.DeviceRequest{{Driver: "cdi", DeviceIDs: []string{"amd.com/gpu=0"}}}}}},
		{doc: "rule", host: containertypes.HostConfig{Resources: containertypes.Resources{DeviceCgroupRules: []string{"c 195:* rmw"}}}, err: `any NVIDIA GPU (--device-cgroup-rule="c 195:* rmw")`},
		{doc: "rule that opens nothing", host: containertypes.HostConfig{Resources: containertypes.Resources{DeviceCgroupRules: []string{"c 195:* m"}}}},
		{doc: "runtime", env: visible, host: containertypes.HostConfig{Runtime: "nvidia"}, err: "NVIDIA GPUs (NVIDIA_VISIBLE_DEVICES=0)"},
		{doc: "runtime by its options", env: visible, host: containertypes.HostConfig{Runtime: "jit"}, err: "NVIDIA GPUs"},
		{doc: "runtime without a variable", host: containertypes.HostConfig{Runtime: "nvidia"}},
		{doc: "runtime, void", env: []string{"NVIDIA_VISIBLE_DEVICES=void"}, host: containertypes.HostConfig{Runtime: "nvidia"}},
		{doc: "runtime, volume", host: containertypes.HostConfig{Runtime: "nvidia", Mounts: []mount.Mount{{Target: "/var/run/nvidia-container-devices/all"}}}, err: "NVIDIA GPUs (--mount"},
		{doc: "the variable alone brings nothing", env: visible},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			tc.host.GPUMemory = i64(10240)
			err := gpuKind{d}.admitNew(cfg, &containertypes.Config{Env: tc.env}, &tc.host, nil)
			if tc.err == "" {
				assert.NilError(t, err)
				return
			}
			assert.Check(t, is.ErrorContains(err, "--gpu-memory=10240 cannot be enforced: "))
			assert.Check(t, is.ErrorContains(err, tc.err))
			assert.Check(t, is.ErrorContains(err, "leave out"))

			tc.host.GPUMemory, tc.host.GPUPriority = nil, i64(50)
			err = gpuKind{d}.admitNew(cfg, &containertypes.Config{Env: tc.env}, &tc.host, nil)
			assert.Check(t, is.ErrorContains(err, "--gpu-priority=50 cannot be enforced: "))

			tc.host.GPUMemory, tc.host.GPUPriority = i64(-1), i64(0)
			assert.NilError(t, gpuKind{d}.admitNew(cfg, &containertypes.Config{Env: tc.env}, &tc.host, nil), "no limit is always kept")

			// The same of a container that is there.
			ctr := &container.Container{ID: "c", State: &container.State{}, HostConfig: &tc.host, Config: &containertypes.Config{Env: tc.env}}
			err = gpuKind{d}.admitUpdate(ctr, gpu(nil, i64(4096)))
			if tc.host.Runtime == "" {
				assert.Check(t, is.ErrorContains(err, tc.err))
			} else {
				assert.Check(t, err != nil)
			}
		})
	}
}

func TestGPUOfANewContainerWarnings(t *testing.T) {
	d, _, _, kept := gpuNodes(t)
	ctr := &container.Container{Config: &containertypes.Config{}, HostConfig: &containertypes.HostConfig{}}
	assert.Check(t, is.Len(gpuKind{d}.warnings(ctr), 0))
	ctr.HostConfig.GPUMemory = i64(10240)
	assert.DeepEqual(t, gpuKind{d}.warnings(ctr), []string{"--gpu-memory=10240 limits nothing yet: the container has no GPU. Give it one by --device."})
	ctr.HostConfig.Devices = devices(kept)
	assert.Check(t, is.Len(gpuKind{d}.warnings(ctr), 0))
}

// The second look, at what drivers of devices have put into the spec; and a
// container without an added limit gets the very spec that upstream makes.
func TestGPUOfASpec(t *testing.T) {
	d, cfg, _, _ := gpuNodes(t)
	major, any := int64(195), int64(-1)
	for _, tc := range []struct {
		doc  string
		spec specs.Spec
		err  string
	}{
		{doc: "nothing", spec: specs.Spec{Linux: &specs.Linux{}}},
		{doc: "device of CDI NVIDIA", spec: specs.Spec{Linux: &specs.Linux{Devices: []specs.LinuxDevice{{Path: "/dev/nvidia3", Type: "c", Major: 195, Minor: 3}}}}, err: "NVIDIA GPU 3 (/dev/nvidia3)"},
		{doc: "device that is kept", spec: specs.Spec{Linux: &specs.Linux{Devices: []specs.LinuxDevice{{Path: "/dev/dri/renderD170", Type: "c", Major: 226, Minor: 170}}}}},
		{doc: "device without a scheduler", spec: specs.Spec{Linux: &specs.Linux{Devices: []specs.LinuxDevice{{Path: "/dev/dri/renderD171", Type: "c", Major: 226, Minor: 171}}}}, err: "/dev/dri/renderD171"},
		{doc: "rule NVIDIA", spec: specs.Spec{Linux: &specs.Linux{Resources: &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Type: "c", Major: &major, Minor: &any, Access: "rw"}}}}}, err: `any NVIDIA GPU (device cgroup rule "c 195:* rw")`},
		{doc: "rules of every container", spec: specs.Spec{Linux: &specs.Linux{Resources: &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}, {Allow: true, Type: "c", Access: "m"}, {Allow: true, Type: "b", Access: "m"}}}}}},
		{doc: "hook NVIDIA", spec: specs.Spec{Linux: &specs.Linux{}, Process: &specs.Process{Env: []string{"NVIDIA_VISIBLE_DEVICES=all"}}, Hooks: &specs.Hooks{Prestart: []specs.Hook{{Path: "/usr/bin/nvidia-container-runtime-hook"}}}}, err: "NVIDIA GPUs (NVIDIA_VISIBLE_DEVICES=all)"},
		{doc: "hook NVIDIA, void", spec: specs.Spec{Linux: &specs.Linux{}, Process: &specs.Process{Env: []string{"NVIDIA_VISIBLE_DEVICES=void"}}, Hooks: &specs.Hooks{Prestart: []specs.Hook{{Path: "/usr/bin/nvidia-container-runtime-hook"}}}}},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			ctr := &container.Container{Config: &containertypes.Config{}, HostConfig: &containertypes.HostConfig{}}
			before, err := json.Marshal(tc.spec)
			assert.NilError(t, err)
			assert.NilError(t, gpuKind{d}.spec(cfg, ctr, &tc.spec))
			after, err := json.Marshal(tc.spec)
			assert.NilError(t, err)
			assert.Equal(t, string(after), string(before))
			ctr.HostConfig.Resources = gpu(i64(50), i64(10240))
			if tc.spec.Linux.Resources == nil {
				tc.spec.Linux.Resources = &specs.LinuxResources{} // As WithResources does.
			}
			err = gpuKind{d}.spec(cfg, ctr, &tc.spec)
			if tc.err == "" {
				assert.NilError(t, err)
			} else {
				assert.Check(t, is.ErrorContains(err, "--gpu-priority=50"))
				assert.Check(t, is.ErrorContains(err, tc.err))
			}
		})
	}
}

// What was recorded at a start is for that start alone.
func TestGPURecordIsOfOneStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), gpuRecordFile)
	set := gpudevice.Set{Nodes: []gpudevice.Node{{Number: gpudevice.Number{Major: 195, Minor: 1}, Path: "/dev/nvidia1"}}}
	_, ok, err := readGPURecord(file, os.Getpid())
	assert.NilError(t, err)
	assert.Check(t, !ok)
	assert.NilError(t, writeGPURecord(file, os.Getpid(), set, nil))
	got, ok, err := readGPURecord(file, os.Getpid())
	assert.NilError(t, err)
	assert.Check(t, ok)
	assert.DeepEqual(t, got, set)
	_, ok, err = readGPURecord(file, os.Getppid())
	assert.NilError(t, err)
	assert.Check(t, !ok, "it is of another process")
	assert.NilError(t, writeGPURecord(file, os.Getpid(), set, errors.New("its /dev is endless")))
	_, _, err = readGPURecord(file, os.Getpid())
	assert.Check(t, is.ErrorContains(err, "its /dev is endless"))
	_, ok, err = readGPURecord(file, os.Getppid())
	assert.NilError(t, err)
	assert.Check(t, !ok)
	assert.NilError(t, os.WriteFile(file, []byte("{"), 0o600))
	_, ok, err = readGPURecord(file, os.Getpid())
	assert.NilError(t, err)
	assert.Check(t, !ok, "it is torn")
}

// The container's bundle is found by its shim; of anything else it is not believed.
func TestGPUBundle(t *testing.T) {
	_, err := bundleSpec("0123456789abcdef", os.Getpid())
	assert.Check(t, is.ErrorContains(err, "not its shim"))

	bundle := filepath.Join(t.TempDir(), "0123456789abcdef")
	assert.NilError(t, os.Mkdir(bundle, 0o700))
	assert.NilError(t, os.WriteFile(filepath.Join(bundle, "config.json"), []byte(`{"hostname":"box"}`), 0o600))
	shim := exec.Command("sh", "-c", `sleep 60 & echo $!; wait`)
	shim.Dir = bundle
	out, err := shim.StdoutPipe()
	assert.NilError(t, err)
	assert.NilError(t, shim.Start())
	var pid int
	assert.NilError(t, json.NewDecoder(out).Decode(&pid))
	t.Cleanup(func() {
		_ = unix.Kill(pid, unix.SIGKILL)
		_ = shim.Wait()
	})
	spec, err := bundleSpec("0123456789abcdef", pid)
	assert.NilError(t, err)
	assert.Equal(t, spec.Hostname, "box")
}

func TestGPUPriorityOfAContainerThatOwnsItsCgroup(t *testing.T) {
	remap := user.IdentityMapping{UIDMaps: []user.IDMap{{ID: 0, ParentID: 100000, Count: 65536}}}
	systemd := config.Config{}
	systemd.ExecOptions = []string{"native.cgroupdriver=systemd"}
	cgroupfs := config.Config{}
	cgroupfs.ExecOptions = []string{"native.cgroupdriver=cgroupfs"}
	opt := func(o string) containertypes.HostConfig { return containertypes.HostConfig{SecurityOpt: []string{o}} }
	for _, tc := range []struct {
		doc    string
		remap  bool
		config config.Config
		host   containertypes.HostConfig
		v1, v2 string
	}{
		{doc: "default", config: systemd},
		{doc: "writable", config: cgroupfs, host: opt("writable-cgroups"), v1: "--security-opt writable-cgroups", v2: "--security-opt writable-cgroups"},
		{doc: "writable=true", config: systemd, host: opt("writable-cgroups=true"), v1: "--security-opt writable-cgroups", v2: "--security-opt writable-cgroups"},
		{doc: "writable:1", config: systemd, host: opt("writable-cgroups:1"), v1: "--security-opt writable-cgroups", v2: "--security-opt writable-cgroups"},
		{doc: "writable=false", config: systemd, host: opt("writable-cgroups=false")},
		{doc: "another option", config: systemd, host: opt("no-new-privileges")},
		{doc: "userns-remap, systemd", remap: true, config: systemd, v2: "--userns-remap"},
		{doc: "userns-remap, cgroupfs", remap: true, config: cgroupfs},
		{doc: "userns-remap, but not this one", remap: true, config: cgroupfs, host: containertypes.HostConfig{UsernsMode: "host"}, v2: "--userns-remap"},
		{doc: "privileged", remap: true, config: systemd, host: containertypes.HostConfig{Privileged: true, UsernsMode: "host"}},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			for unified, want := range map[bool]string{false: tc.v1, true: tc.v2} {
				d, cfg, _, kept := gpuNodes(t)
				cfg.Config = tc.config
				d.sysInfo.CgroupUnified = unified
				if tc.remap {
					d.idMapping = remap
				}
				assert.Check(t, is.Equal(d.cgroupOwner(&tc.host), want), "unified: %t", unified)

				if tc.host.Privileged {
					continue // it gets GPUs that know no priority as well
				}
				priority := int64(5)
				tc.host.Devices = devices(kept)
				tc.host.GPUPriority = &priority
				err := gpuKind{d}.admitNew(cfg, &containertypes.Config{}, &tc.host, nil)
				if want == "" {
					assert.Check(t, err)
				} else {
					assert.Check(t, is.ErrorContains(err, "--gpu-priority=5 cannot be enforced"))
					assert.Check(t, is.ErrorContains(err, want))
				}
			}
		})
	}
}
