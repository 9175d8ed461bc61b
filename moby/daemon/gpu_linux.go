// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/container"
	"github.com/docker/docker/daemon/cgroupdir"
	"github.com/docker/docker/errdefs"
	libcontainerdtypes "github.com/docker/docker/libcontainerd/types"
	"github.com/docker/docker/pkg/sysinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
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

// gpuUnlimited is the GPUMemory that removes the limit.
const gpuUnlimited = -1

// gpuKind has the limits of GPUs. The runtime puts them into the files of the gpu
// controller; the drivers of the container's GPUs keep them: gpu_devices_linux.go.
type gpuKind struct{ *Daemon }

func (gpuKind) name() string { return "gpu" }

// gpuLimits returns only those GPU fields of r that limit something. Priority
// 0 and memory -1 ask for what every container has anyway: they need no
// controller, so that a limit can be taken off on a host that lost it.
func gpuLimits(r containertypes.Resources) containertypes.Resources { return gpuFields.Limits(r) }

// namesGPU tells whether r has any GPU field set.
func namesGPU(r containertypes.Resources) bool { return gpuFields.Named(r) }

// gpuFlags spells the GPU fields of r as the flags that set them, for errors.
func gpuFlags(r containertypes.Resources) string { return gpuFields.Flags(r) }

func (gpuKind) admit(daemonCfg *configStore, hostConfig *containertypes.HostConfig, sysInfo *sysinfo.SysInfo, update bool) error {
	limits := gpuLimits(hostConfig.Resources)
	if !namesGPU(limits) {
		return nil
	}
	reason := unsupportedByHost(daemonCfg, sysInfo, limits)
	// The runtime in an update request is filled in with the default and says
	// nothing of the container: see admitUpdate.
	if reason == nil && !update {
		reason = unsupportedByRuntime(daemonCfg, hostConfig.Runtime, limits, sysInfo.CgroupUnified)
	}
	return refusal(gpuFields, limits, reason)
}

// unsupportedByHost says why one of these GPU limits cannot be enforced on this
// host, nil if all can.
func unsupportedByHost(daemonCfg *configStore, sysInfo *sysinfo.SysInfo, limits containertypes.Resources) error {
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

// unsupportedByRuntime says what a runtime lacks to enforce these limits, nil for
// nothing. A runtime configured by type has no features to ask for.
func unsupportedByRuntime(daemonCfg *configStore, runtime string, limits containertypes.Resources, cgroupV2 bool) error {
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

func (daemon gpuKind) admitUpdate(ctr *container.Container, change containertypes.Resources) error {
	limits := gpuLimits(change)
	if !namesGPU(limits) {
		return nil
	}
	reason := unsupportedByRuntime(daemon.config(), ctr.HostConfig.Runtime, limits, daemon.hostInfo().CgroupUnified)
	err := refusal(gpuFields, limits, reason)
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

// spec refuses a start with limits that the spec's GPUs do not keep.
func (daemon gpuKind) spec(daemonCfg *configStore, c *container.Container, s *specs.Spec) error {
	limits := gpuLimits(c.HostConfig.Resources)
	if !namesGPU(limits) {
		return nil
	}
	s.Linux.Resources.Unified = gpuUnified(limits)
	set := gpusAskedFor(daemonCfg, c.Config.Env, c.HostConfig)
	set.Add(gpusOfSpec(s))
	if _, err := daemon.judgeGPUs(set, c.HostConfig, limits); err != nil {
		return errdefs.InvalidParameter(err)
	}
	return nil
}

func (daemon gpuKind) update(ctr *container.Container, tsk libcontainerdtypes.Task, r *libcontainerdtypes.Resources, change, _ containertypes.Resources, _ bool) (func() error, error) {
	// Without the container's file there is nothing to take off, and the runtime would
	// stumble over it. That there is no controller for new limits does not say so.
	dir, v2, err := cgroupdir.Of(ctr.ID, int(tsk.Pid()), "gpu")
	if err != nil {
		dir = ""
	}
	change = withoutFiles(dir, v2, daemon.hostInfo(), change)
	r.Unified = gpuUnified(change)
	return func() error { return verifyGPUApplied(ctr.ID, int(tsk.Pid()), change) }, nil
}

// withoutFiles leaves out of an update what asks for no limit where there is no file of
// it in a container's cgroup, which is "" if it has none.
func withoutFiles(dir string, v2 bool, sysInfo *sysinfo.SysInfo, change containertypes.Resources) containertypes.Resources {
	memory := "gpu.max_mem_in_bytes"
	if v2 {
		memory = "gpu.memory.max"
	}
	missing := func(name string) bool {
		_, err := os.Stat(filepath.Join(dir, name))
		return dir == "" || errors.Is(err, os.ErrNotExist)
	}
	limits := gpuLimits(change)
	if limits.GPUMemory == nil && !sysInfo.GPUMemory && missing(memory) {
		change.GPUMemory = nil
	}
	if limits.GPUPriority == nil && !sysInfo.GPUPriority && missing("gpu.priority") {
		change.GPUPriority = nil
	}
	return change
}

// verifyGPUApplied reads the kernel's files of the container that pid is the
// init process of and returns an error unless they show the GPU fields of r.
func verifyGPUApplied(id string, pid int, r containertypes.Resources) error {
	if !namesGPU(r) {
		return nil
	}
	dir, v2, err := cgroupdir.Of(id, pid, "gpu")
	if err != nil {
		return fmt.Errorf("cannot tell whether %s was applied: %w", gpuFlags(r), err)
	}
	return compareGPUFiles(dir, v2, r)
}

func compareGPUFiles(dir string, v2 bool, r containertypes.Resources) error {
	var want [][2]string // file and value, in the order of the table
	if r.GPUPriority != nil {
		want = append(want, [2]string{"gpu.priority", strconv.FormatInt(*r.GPUPriority, 10)})
	}
	if r.GPUMemory != nil {
		name, value := "gpu.memory.max", gpuMemoryString(*r.GPUMemory)
		if !v2 {
			name = "gpu.max_mem_in_bytes"
			if *r.GPUMemory == gpuUnlimited {
				value = gpuFileUnlimitedV1
			}
		}
		want = append(want, [2]string{name, value})
	}
	for _, w := range want {
		file, value := filepath.Join(dir, w[0]), w[1]
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

func (daemon gpuKind) mechanisms() []system.ResourceLimits {
	one := int64(1)
	return []system.ResourceLimits{
		daemon.mechanism("gpu-memory", containertypes.Resources{GPUMemory: &one}),
		daemon.mechanism("gpu-priority", containertypes.Resources{GPUPriority: &one}),
	}
}

// mechanism tells what enforces a limit with the default runtime.
func (daemon gpuKind) mechanism(feature string, limits containertypes.Resources) system.ResourceLimits {
	daemonCfg, sysInfo := daemon.config(), daemon.hostInfo()
	reason := unsupportedByHost(daemonCfg, sysInfo, limits)
	if reason == nil {
		reason = unsupportedByRuntime(daemonCfg, "", limits, sysInfo.CgroupUnified)
	}
	switch {
	case reason != nil:
		return system.ResourceLimits{Feature: feature, Reason: reason.Error()}
	case sysInfo.CgroupUnified:
		return system.ResourceLimits{Feature: feature, Backend: "gpu controller of cgroup v2", Devices: daemon.gpusKept(limits)}
	default:
		return system.ResourceLimits{Feature: feature, Backend: "gpu controller of cgroup v1", Devices: daemon.gpusKept(limits)}
	}
}
