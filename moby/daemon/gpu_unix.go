// SPDX-License-Identifier: Apache-2.0

//go:build linux || freebsd

package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/cgroups/v3"
	"github.com/containerd/containerd/v2/core/containers"
	coci "github.com/containerd/containerd/v2/pkg/oci"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/container"
	"github.com/docker/docker/errdefs"
	libcontainerdtypes "github.com/docker/docker/libcontainerd/types"
	"github.com/docker/docker/pkg/sysinfo"
	"github.com/moby/sys/mountinfo"
)

// Keys of the OCI spec's linux.resources.unified that carry the GPU limits to
// the runtime. They are the cgroup v2 file names, on cgroup v1 hosts too:
// `unified` is the one part of the spec that a stock shim passes on and that a
// stock runtime refuses, rather than ignores, when it cannot apply it.
const (
	unifiedGPUPriority = "gpu.priority"
	unifiedGPUMemory   = "gpu.memory.max"
)

// gpuFeatureV1 is the annotation in `<runtime> features` by which a runtime
// says that it applies the keys above on cgroup v1, as a comma-separated list.
const gpuFeatureV1 = "io.github.gpu-cgroup.unified-v1"

// verifyGPU refuses GPU settings that are out of range, and on create and
// start also those that this host or the container's runtime cannot enforce.
// They are errors and not warnings because start-up throws warnings away.
func verifyGPU(daemonCfg *configStore, hostConfig *containertypes.HostConfig, sysInfo *sysinfo.SysInfo, update bool) error {
	if err := validateGPU(hostConfig.Resources); err != nil {
		return err
	}
	limits := gpuLimits(hostConfig.Resources)
	if !namesGPU(limits) {
		return nil
	}
	if daemonCfg.IsRootless() {
		return fmt.Errorf("%s cannot be enforced by a rootless daemon: the gpu cgroup controller is not delegated to users; run dockerd as root", gpuFlags(limits))
	}
	if !sysInfo.GPU {
		return fmt.Errorf("%s cannot be enforced: %s", gpuFlags(limits), sysInfo.GPUReason)
	}
	if update {
		// The runtime in an update request is filled in with the default
		// and says nothing of the container: see checkGPUUpdate.
		return nil
	}
	return verifyGPURuntime(daemonCfg, hostConfig.Runtime, limits, sysInfo.CgroupUnified)
}

// verifyGPURuntime refuses a runtime that does not say that it applies the GPU
// limits. A runtime configured by type has no features to ask for.
func verifyGPURuntime(daemonCfg *configStore, runtime string, limits containertypes.Resources, cgroupV2 bool) error {
	if runtime == "" {
		runtime = daemonCfg.Runtimes.Default
	}
	features := daemonCfg.Runtimes.Features(runtime)
	if features == nil {
		return fmt.Errorf("%s cannot be enforced by runtime %q: it does not answer \"features\"; use the runc that comes with this dockerd", gpuFlags(limits), runtime)
	}
	if cgroupV2 {
		if l := features.Linux; l == nil || l.Cgroup == nil || l.Cgroup.V2 == nil || !*l.Cgroup.V2 {
			return fmt.Errorf("%s cannot be enforced by runtime %q: it does not support cgroup v2; use the runc that comes with this dockerd", gpuFlags(limits), runtime)
		}
		return nil
	}
	keys := strings.Split(features.Annotations[gpuFeatureV1], ",")
	for key := range gpuUnified(limits) {
		if !slices.Contains(keys, key) {
			return fmt.Errorf("%s cannot be enforced by runtime %q on cgroup v1: it does not take %s; use the runc that comes with this dockerd", gpuFlags(limits), runtime, key)
		}
	}
	return nil
}

// checkGPUUpdate refuses an update that the container's own runtime cannot
// take, running or not, before anything is changed.
func (daemon *Daemon) checkGPUUpdate(ctr *container.Container, update *containertypes.HostConfig) error {
	limits := gpuLimits(update.Resources)
	if !namesGPU(limits) {
		return nil
	}
	err := verifyGPURuntime(daemon.config(), ctr.HostConfig.Runtime, limits, daemon.RawSysInfo().CgroupUnified)
	if err != nil {
		return errCannotUpdate(ctr.ID, errdefs.InvalidParameter(err))
	}
	return nil
}

// gpuUnified spells the GPU fields of r as entries of linux.resources.unified,
// nil if there is none.
func gpuUnified(r containertypes.Resources) map[string]string {
	if !namesGPU(r) {
		return nil
	}
	u := make(map[string]string, 2)
	if r.GPUPriority != nil {
		u[unifiedGPUPriority] = strconv.FormatInt(*r.GPUPriority, 10)
	}
	if r.GPUMemory != nil {
		u[unifiedGPUMemory] = gpuMemoryString(*r.GPUMemory)
	}
	return u
}

func gpuMemoryString(limit int64) string {
	if limit == gpuUnlimited {
		return "max"
	}
	return strconv.FormatInt(limit, 10)
}

// withGPU puts the container's GPU limits into the spec. It checks once more:
// a restart policy and a daemon restart start containers without passing
// verifyContainerSettings, and the host may have changed since create.
func withGPU(daemon *Daemon, daemonCfg *configStore, c *container.Container) coci.SpecOpts {
	return func(_ context.Context, _ coci.Client, _ *containers.Container, s *coci.Spec) error {
		if err := verifyGPU(daemonCfg, c.HostConfig, daemon.RawSysInfo(), false); err != nil {
			return err
		}
		s.Linux.Resources.Unified = gpuUnified(gpuLimits(c.HostConfig.Resources))
		return nil
	}
}

// verifyGPUStarted reads back the limits of a container whose init process
// exists but does not run the user's program yet.
func verifyGPUStarted(ctr *container.Container, tsk libcontainerdtypes.Task) error {
	if err := verifyGPUApplied(ctr.ID, int(tsk.Pid()), gpuLimits(ctr.HostConfig.Resources)); err != nil {
		return errdefs.System(err)
	}
	return nil
}

// verifyGPUApplied reads the kernel's files of the container that pid is the
// init process of and returns an error unless they show the GPU fields of r.
func verifyGPUApplied(id string, pid int, r containertypes.Resources) error {
	if !namesGPU(r) {
		return nil
	}
	dir, v2, err := containerCgroupDir(id, pid, "gpu")
	if err != nil {
		return fmt.Errorf("cannot tell whether %s was applied: %w", gpuFlags(r), err)
	}
	return compareGPUFiles(dir, v2, r)
}

func compareGPUFiles(dir string, v2 bool, r containertypes.Resources) error {
	want := map[string]string{}
	if r.GPUPriority != nil {
		want["gpu.priority"] = strconv.FormatInt(*r.GPUPriority, 10)
	}
	if r.GPUMemory != nil {
		name, value := "gpu.memory.max", gpuMemoryString(*r.GPUMemory)
		if !v2 {
			name = "gpu.max_mem_in_bytes"
			if *r.GPUMemory == gpuUnlimited {
				value = "18446744073709551615"
			}
		}
		want[name] = value
	}
	for name, value := range want {
		file := filepath.Join(dir, name)
		b, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("cannot tell whether %s was applied: %w", gpuFlags(r), err)
		}
		if got := strings.TrimSpace(string(b)); got != value {
			return fmt.Errorf("%s was not applied: %s shows %s, want %s", gpuFlags(r), file, got, value)
		}
	}
	return nil
}

// containerCgroupDir returns the directory of a container's cgroup in the
// hierarchy of controller, and whether that is the cgroup v2 one.
//
// It starts from /proc/PID/cgroup, which is right for every cgroup driver and
// parent, and cuts the path behind the component that names the container: an
// init like systemd moves itself into a child cgroup, which has no limits.
func containerCgroupDir(id string, pid int, controller string) (dir string, v2 bool, _ error) {
	v1, unified, err := cgroups.ParseCgroupFileUnified(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", false, err
	}
	path, isV1 := v1[controller]
	if !isV1 {
		path = unified
	}
	if i := strings.Index(path, id); i >= 0 {
		if j := strings.IndexByte(path[i:], '/'); j >= 0 {
			path = path[:i+j]
		}
	}
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		if isV1 {
			return m.FSType != "cgroup" || !slices.Contains(strings.Split(m.VFSOptions, ","), controller), false
		}
		return m.FSType != "cgroup2", false
	})
	if err != nil {
		return "", false, err
	}
	for _, m := range mounts {
		// In a nested daemon the mount may show only a part of the hierarchy.
		if rel, err := filepath.Rel(m.Root, path); err == nil && filepath.IsLocal(rel) {
			return filepath.Join(m.Mountpoint, rel), !isV1, nil
		}
	}
	return "", false, fmt.Errorf("no mount of the %s cgroup hierarchy shows %s", controller, path)
}

// canLimitGPU tells whether both limits can be enforced with the default runtime.
func (daemon *Daemon) canLimitGPU() bool {
	one := int64(1)
	hostConfig := &containertypes.HostConfig{Resources: containertypes.Resources{GPUPriority: &one, GPUMemory: &one}}
	return verifyGPU(daemon.config(), hostConfig, daemon.RawSysInfo(), false) == nil
}
