// SPDX-License-Identifier: Apache-2.0

//go:build linux || freebsd

package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/containers"
	coci "github.com/containerd/containerd/v2/pkg/oci"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/container"
	"github.com/docker/docker/errdefs"
	libcontainerdtypes "github.com/docker/docker/libcontainerd/types"
	"github.com/docker/docker/pkg/sysinfo"
)

// Keys of the OCI spec's linux.resources.unified that carry the GPU limits to
// the runtime. They are the cgroup v2 file names, on cgroup v1 hosts too:
// `unified` is the one part of the spec that a stock shim passes on and that a
// stock runtime refuses, rather than ignores, when it cannot apply it.
const (
	unifiedGPUPriority = "gpu.priority"
	unifiedGPUMemory   = "gpu.memory.max"
)

// How the limit files of cgroup v1 and v2 spell "no limit".
const (
	gpuFileUnlimitedV1 = "18446744073709551615"
	gpuFileUnlimitedV2 = "max"
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
	obstacle := gpuHostObstacle(daemonCfg, sysInfo, limits)
	// The runtime in an update request is filled in with the default and says
	// nothing of the container: see checkGPUUpdate.
	if obstacle == nil && !update {
		obstacle = gpuRuntimeObstacle(daemonCfg, hostConfig.Runtime, limits, sysInfo.CgroupUnified)
	}
	return gpuRefusal(limits, obstacle)
}

func gpuRefusal(limits containertypes.Resources, obstacle error) error {
	if obstacle == nil {
		return nil
	}
	return fmt.Errorf("%s cannot be enforced: %w", gpuFlags(limits), obstacle)
}

// gpuHostObstacle says why one of these GPU limits cannot be enforced on this
// host, nil if all can.
func gpuHostObstacle(daemonCfg *configStore, sysInfo *sysinfo.SysInfo, limits containertypes.Resources) error {
	switch {
	case daemonCfg.IsRootless():
		return errors.New("the daemon is rootless, and the gpu cgroup controller is not delegated to users; run dockerd as root")
	case limits.GPUMemory != nil && !sysInfo.GPUMemory:
		return errors.New(sysInfo.GPUMemoryReason)
	case limits.GPUPriority != nil && !sysInfo.GPUPriority:
		return errors.New(sysInfo.GPUPriorityReason)
	default:
		return nil
	}
}

// gpuRuntimeObstacle says what a runtime lacks to enforce these limits, nil for
// nothing. A runtime configured by type has no features to ask for.
func gpuRuntimeObstacle(daemonCfg *configStore, runtime string, limits containertypes.Resources, cgroupV2 bool) error {
	if runtime == "" {
		runtime = daemonCfg.Runtimes.Default
	}
	features := daemonCfg.Runtimes.Features(runtime)
	if features == nil {
		return fmt.Errorf("runtime %q does not answer \"features\"; use the runc that comes with this dockerd", runtime)
	}
	if cgroupV2 {
		if l := features.Linux; l == nil || l.Cgroup == nil || l.Cgroup.V2 == nil || !*l.Cgroup.V2 {
			return fmt.Errorf("runtime %q does not support cgroup v2; use the runc that comes with this dockerd", runtime)
		}
		return nil
	}
	keys := strings.Split(features.Annotations[gpuFeatureV1], ",")
	for key := range gpuUnified(limits) {
		if !slices.Contains(keys, key) {
			return fmt.Errorf("runtime %q does not take %s on cgroup v1; use the runc that comes with this dockerd", runtime, key)
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
	obstacle := gpuRuntimeObstacle(daemon.config(), ctr.HostConfig.Runtime, limits, daemon.hostInfo().CgroupUnified)
	err := gpuRefusal(limits, obstacle)
	if err == nil {
		_, err = daemon.judgeGPUUpdate(ctr, ctr.GetPID(), limits)
	}
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
		return gpuFileUnlimitedV2
	}
	return strconv.FormatInt(limit, 10)
}

// withGPU puts the container's GPU limits into the spec. It checks once more:
// a restart policy and a daemon restart start containers without passing
// verifyContainerSettings, and the host may have changed since create.
func withGPU(daemon *Daemon, daemonCfg *configStore, c *container.Container) coci.SpecOpts {
	return func(_ context.Context, _ coci.Client, _ *containers.Container, s *coci.Spec) error {
		if err := verifyGPU(daemonCfg, c.HostConfig, daemon.hostInfo(), false); err != nil {
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
				value = gpuFileUnlimitedV1
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

// gpuResourceLimits tells whether GPU memory and GPU priority can be limited
// with the default runtime.
func (daemon *Daemon) gpuResourceLimits() (memory, priority system.ResourceLimits) {
	one := int64(1)
	return daemon.gpuResourceLimit(containertypes.Resources{GPUMemory: &one}), daemon.gpuResourceLimit(containertypes.Resources{GPUPriority: &one})
}

func (daemon *Daemon) gpuResourceLimit(limits containertypes.Resources) system.ResourceLimits {
	daemonCfg, sysInfo := daemon.config(), daemon.hostInfo()
	obstacle := gpuHostObstacle(daemonCfg, sysInfo, limits)
	if obstacle == nil {
		obstacle = gpuRuntimeObstacle(daemonCfg, "", limits, sysInfo.CgroupUnified)
	}
	switch {
	case obstacle != nil:
		return system.ResourceLimits{Reason: obstacle.Error()}
	case sysInfo.CgroupUnified:
		return system.ResourceLimits{Backend: "gpu controller of cgroup v2", Devices: daemon.gpusKept(limits)}
	default:
		return system.ResourceLimits{Backend: "gpu controller of cgroup v1", Devices: daemon.gpusKept(limits)}
	}
}
