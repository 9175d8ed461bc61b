// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/log"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/container"
	"github.com/docker/docker/daemon/cgroupdir"
	"github.com/docker/docker/daemon/gpudevice"
	"github.com/docker/docker/errdefs"
	libcontainerdtypes "github.com/docker/docker/libcontainerd/types"
	"github.com/moby/sys/atomicwriter"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// A GPU limit is kept by the driver of each GPU, or by nobody. So dockerd looks three
// times at what a container gets, and refuses a limit that one of its GPUs does not
// keep: at what was asked for, as early as create; at the spec, where CDI and drivers
// of devices have put theirs; and at the container itself before its program runs,
// where hooks and runtimes have.

const (
	nvidiaRuntime = "nvidia-container-runtime" // also with .cdi and .legacy
	nvidiaVolumes = "/var/run/nvidia-container-devices"
)

// gpuRecordFile is in a container's folder and has a gpuRecord.
const gpuRecordFile = "gpu.devices.json"

// gpuRecord is what the third look found at a start. An update must not look into a
// running container's /dev, where root can remove a node.
type gpuRecord struct {
	Boot  string // of the machine
	Pid   int    // of the container's init process
	Since uint64 // when that was started, in ticks after the boot
	Set   gpudevice.Set
	// Unknown says why that is not all. A container may see to it: a volume in its
	// /dev may have too much in it, or not answer.
	Unknown string `json:",omitempty"`
}

func (daemon *Daemon) gpuDeviceHost() gpudevice.Host {
	return gpudevice.New(daemon.hostInfo().GPUDevicesFile)
}

func gpuWants(limits containertypes.Resources, owner string) gpudevice.Wants {
	return gpudevice.Wants{
		Owner:    owner,
		Memory:   gpuFlags(containertypes.Resources{GPUMemory: limits.GPUMemory}),
		Priority: gpuFlags(containertypes.Resources{GPUPriority: limits.GPUPriority}),
	}
}

// gpusAskedFor is the first look: at what the user asked for.
func gpusAskedFor(daemonCfg *configStore, env []string, hostConfig *containertypes.HostConfig) (s gpudevice.Set) {
	for _, d := range hostConfig.Devices {
		s.Add(gpudevice.OnHost(d.PathOnHost))
	}
	if hostConfig.Privileged {
		s.Rules = append(s.Rules, gpudevice.Rule{Major: gpudevice.Any, Minor: gpudevice.Any, By: "--privileged"})
	}
	for _, rule := range hostConfig.DeviceCgroupRules {
		if r, ok := gpudevice.ParseRule(rule); ok {
			r.By = fmt.Sprintf("--device-cgroup-rule=%q", rule)
			s.Add(gpudevice.Set{Rules: []gpudevice.Rule{r}})
		}
	}
	if by := nvidiaAskedFor(daemonCfg, env, hostConfig); by != "" {
		s.Requests = append(s.Requests, gpudevice.Request{Vendor: gpudevice.NVIDIA, By: by})
	}
	return s
}

// nvidiaAskedFor says what brings NVIDIA's GPUs into a container, "" for nothing.
func nvidiaAskedFor(daemonCfg *configStore, env []string, hostConfig *containertypes.HostConfig) string {
	for _, req := range hostConfig.DeviceRequests {
		switch req.Driver {
		case "cdi":
			for _, name := range req.DeviceIDs {
				vendor, _, _ := strings.Cut(name, "/")
				if vendor == "nvidia.com" || strings.HasSuffix(vendor, ".nvidia.com") {
					return "--device " + name
				}
			}
		case "nvidia", "nvidia.cdi", "nvidia.runtime-hook": // the latter two are Docker 29's
			if req.Count != 0 || len(req.DeviceIDs) > 0 {
				return "--gpus"
			}
		case "":
			if d := deviceDrivers["nvidia"]; d != nil && d.capset.Match(req.Capabilities) != nil && (req.Count != 0 || len(req.DeviceIDs) > 0) {
				return "--gpus"
			}
		}
	}
	if !isNVIDIARuntime(daemonCfg, hostConfig.Runtime) {
		return ""
	}
	if name := nvidiaEnv(env); name != "" {
		return name
	}
	for _, bind := range hostConfig.Binds {
		if _, inside, _ := strings.Cut(bind, ":"); strings.HasPrefix(inside, nvidiaVolumes) {
			return "-v " + bind
		}
	}
	for _, m := range hostConfig.Mounts {
		if strings.HasPrefix(m.Target, nvidiaVolumes) {
			return "--mount target=" + m.Target
		}
	}
	return ""
}

// isNVIDIARuntime tells whether a runtime brings the GPUs that the container's
// environment names.
func isNVIDIARuntime(daemonCfg *configStore, name string) bool {
	if name == "" {
		name = daemonCfg.Runtimes.Default
	}
	binary := daemonCfg.Config.Runtimes[name].Path // a wrapper for its arguments hides it in the options
	if rt := daemonCfg.Runtimes.configured[name]; binary == "" && rt != nil {
		if opts, ok := rt.Opts.(*runcoptions.Options); ok {
			binary = opts.BinaryName
		}
	}
	return strings.HasPrefix(filepath.Base(binary), nvidiaRuntime)
}

// nvidiaEnv is the variable by which NVIDIA's runtime or hook brings GPUs, "" if
// none does.
func nvidiaEnv(env []string) (found string) {
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		if name != "NVIDIA_VISIBLE_DEVICES" && !strings.HasPrefix(name, "DOCKER_RESOURCE_") {
			continue
		}
		switch value {
		case "", "void", "none":
			if strings.HasPrefix(found, name+"=") {
				found = ""
			}
		default:
			found = e
		}
	}
	return found
}

// gpusOfSpec is the second look: at a spec.
func gpusOfSpec(s *specs.Spec) (set gpudevice.Set) {
	if s.Linux != nil {
		for _, d := range s.Linux.Devices {
			if (d.Type == "c" || d.Type == "u") && d.Major >= 0 && d.Minor >= 0 {
				set.Nodes = append(set.Nodes, gpudevice.Node{Number: gpudevice.Number{Major: uint32(d.Major), Minor: uint32(d.Minor)}, Path: d.Path})
			}
		}
		if r := s.Linux.Resources; r != nil {
			for _, rule := range r.Devices {
				if !rule.Allow {
					continue
				}
				text := specRule(rule)
				if r, ok := gpudevice.ParseRule(text); ok {
					r.By = fmt.Sprintf("device cgroup rule %q", text)
					set.Rules = append(set.Rules, r)
				}
			}
		}
	}
	if s.Hooks != nil && s.Process != nil {
		hooks := slices.Concat(s.Hooks.Prestart, s.Hooks.CreateRuntime) //nolint:staticcheck // upstream uses the deprecated ones
		if slices.ContainsFunc(hooks, func(h specs.Hook) bool { return path.Base(h.Path) == nvidiaHook }) {
			if by := nvidiaEnv(s.Process.Env); by != "" {
				set.Requests = append(set.Requests, gpudevice.Request{Vendor: gpudevice.NVIDIA, By: by})
			}
		}
	}
	return set
}

func specRule(r specs.LinuxDeviceCgroup) string {
	number := func(n *int64) string {
		if n == nil || *n < 0 {
			return "*"
		}
		return strconv.FormatInt(*n, 10)
	}
	kind, access := r.Type, r.Access
	if kind == "" {
		kind = "a"
	}
	if access == "" {
		access = "rwm"
	}
	return fmt.Sprintf("%s %s:%s %s", kind, number(r.Major), number(r.Minor), access)
}

// judgeGPUs asks for each GPU of a set whether it keeps the limits of a container with
// this hostConfig.
func (daemon *Daemon) judgeGPUs(set gpudevice.Set, hostConfig *containertypes.HostConfig, limits containertypes.Resources) ([]string, error) {
	owner := daemon.cgroupOwner(hostConfig)
	if owner != "" && limits.GPUPriority != nil && !daemon.hostInfo().CgroupUnified {
		return nil, fmt.Errorf("%s cannot be enforced: with %s the container can write its own gpu.priority on cgroup v1; leave out one of the two, or use cgroup v2",
			gpuFlags(containertypes.Resources{GPUPriority: limits.GPUPriority}), owner)
	}
	return daemon.gpuDeviceHost().Judge(set, gpuWants(limits, owner))
}

// cgroupOwner is what gives a container's root its cgroup, "" if nothing does; see
// withMounts and, for user namespaces, OwnerUID in runc, which only the systemd driver
// heeds. A container with --privileged may do to the host what it likes.
func (daemon *Daemon) cgroupOwner(hostConfig *containertypes.HostConfig) string {
	if hostConfig.Privileged {
		return ""
	}
	writable := false
	for _, opt := range hostConfig.SecurityOpt { // not parseSecurityOpt, which reserves labels of SELinux
		sep := ":"
		if strings.Contains(opt, "=") {
			sep = "="
		}
		name, value, ok := strings.Cut(opt, sep)
		if name == "writable-cgroups" {
			writable, _ = strconv.ParseBool(value)
			writable = writable || !ok
		}
	}
	if writable {
		return "--security-opt writable-cgroups"
	}
	if daemon.idMapping.UIDMaps == nil || !daemon.hostInfo().CgroupUnified {
		return ""
	}
	if hostConfig.UsernsMode.IsHost() || UsingSystemd(&daemon.config().Config) {
		return "--userns-remap"
	}
	return ""
}

// admitNew refuses a new container whose GPUs do not keep its limits, as far as the
// request tells which those are.
func (daemon gpuKind) admitNew(daemonCfg *configStore, config *containertypes.Config, hostConfig *containertypes.HostConfig, _ *network.NetworkingConfig) error {
	if hostConfig == nil || config == nil || !namesGPU(gpuLimits(hostConfig.Resources)) {
		return nil
	}
	_, err := daemon.judgeGPUs(gpusAskedFor(daemonCfg, config.Env, hostConfig), hostConfig, gpuLimits(hostConfig.Resources))
	return err
}

// warnings: GPUs whose nodes come at the container's start are not known yet.
func (daemon gpuKind) warnings(ctr *container.Container) []string {
	limits := gpuLimits(ctr.HostConfig.Resources)
	if !namesGPU(limits) || len(ctr.HostConfig.DeviceRequests) > 0 {
		return nil
	}
	warnings, _ := daemon.judgeGPUs(gpusAskedFor(daemon.config(), ctr.Config.Env, ctr.HostConfig), ctr.HostConfig, limits)
	return warnings
}

func (daemon gpuKind) updateWarnings(ctr *container.Container, change containertypes.Resources) []string {
	limits := gpuLimits(change)
	if !namesGPU(limits) {
		return nil
	}
	warnings, _ := daemon.judgeGPUUpdate(ctr, ctr.Pid, limits)
	return warnings
}

// started reads the limits back, looks at the container that is to get them, and
// records its GPUs for updates.
func (daemon gpuKind) started(ctx context.Context, ctr *container.Container, tsk libcontainerdtypes.Task) error {
	if err := verifyGPUApplied(ctr.ID, int(tsk.Pid()), gpuLimits(ctr.HostConfig.Resources)); err != nil {
		return errdefs.System(err)
	}
	limits, pid := gpuLimits(ctr.HostConfig.Resources), int(tsk.Pid())
	record := filepath.Join(ctr.Root, gpuRecordFile)
	set, err := daemon.gpusOfStarted(ctr, pid)
	if err == nil && set.Empty() {
		err = removeIfThere(record)
	} else if recordErr := writeGPURecord(record, pid, set, err); err == nil {
		err = recordErr
	}
	if !namesGPU(limits) {
		if err != nil {
			log.G(ctx).WithError(err).WithField("container", ctr.ID).Debug("it is not known which GPUs it has")
		}
		return nil
	}
	if err != nil {
		return errdefs.System(fmt.Errorf("%s cannot be enforced: it cannot be told which GPUs the container gets: %w", gpuFlags(limits), err))
	}
	warnings, err := daemon.judgeGPUs(set, ctr.HostConfig, limits)
	if err != nil {
		return errdefs.InvalidParameter(err)
	}
	for _, warning := range warnings {
		log.G(ctx).WithField("container", ctr.ID).Warn(warning)
	}
	return nil
}

// gpusOfStarted is all three looks together.
func (daemon *Daemon) gpusOfStarted(ctr *container.Container, pid int) (set gpudevice.Set, _ error) {
	// Without a controller nothing will ever be asked.
	if info := daemon.hostInfo(); !info.GPUMemory && !info.GPUPriority {
		return set, nil
	}
	set, err := daemon.gpusOfBundle(ctr, pid)
	if err != nil {
		return set, err
	}
	inside, err := gpudevice.InDev(pid)
	if err != nil {
		return set, err
	}
	set.Add(inside)
	if !daemon.hostInfo().CgroupUnified {
		dir, v2, err := cgroupdir.Of(ctr.ID, pid, "devices")
		if err == nil && !v2 {
			text, err := os.ReadFile(filepath.Join(dir, "devices.list"))
			if err != nil {
				return set, err
			}
			set.Add(gpudevice.ParseDevicesList(string(text)))
		}
	}
	return daemon.gpuDeviceHost().GPUs(set), nil
}

// gpusOfBundle is the first look and the second, the latter at what a runtime has
// made of dockerd's spec.
func (daemon *Daemon) gpusOfBundle(ctr *container.Container, pid int) (set gpudevice.Set, _ error) {
	set = gpusAskedFor(daemon.config(), ctr.Config.Env, ctr.HostConfig)
	spec, err := bundleSpec(ctr.ID, pid)
	if err != nil {
		return set, err
	}
	set.Add(gpusOfSpec(spec))
	return set, nil
}

// bundleSpec reads config.json of a container by its init process, whose parent is
// the shim: that runs in the bundle.
func bundleSpec(id string, pid int) (*specs.Spec, error) {
	parent, _, err := processStat(pid)
	if err != nil {
		return nil, err
	}
	bundle := fmt.Sprintf("/proc/%d/cwd", parent)
	where, err := os.Readlink(bundle)
	if err != nil {
		return nil, err
	}
	if filepath.Base(where) != id {
		return nil, fmt.Errorf("process %d, the parent of the container's init process, is not its shim: it runs in %s", parent, where)
	}
	data, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		return nil, err
	}
	var spec specs.Spec
	if err := json.Unmarshal(data, &spec); err != nil {
		return nil, fmt.Errorf("%s/config.json: %w", where, err)
	}
	return &spec, nil
}

// processStat returns the parent of a process, and when it was started.
func processStat(pid int) (parent int, since uint64, _ error) {
	file := fmt.Sprintf("/proc/%d/stat", pid)
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, 0, err
	}
	// The second field is a name in brackets that may have anything in it.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(fields) < 20 {
		return 0, 0, fmt.Errorf("%s: %q", file, data)
	}
	parent, err = strconv.Atoi(fields[1])
	if err != nil {
		return 0, 0, err
	}
	since, err = strconv.ParseUint(fields[19], 10, 64)
	return parent, since, err
}

func writeGPURecord(file string, pid int, set gpudevice.Set, unknown error) error {
	_, since, err := processStat(pid)
	if err != nil {
		return err
	}
	r := gpuRecord{Boot: bootID(), Pid: pid, Since: since, Set: set}
	if unknown != nil {
		r.Unknown = unknown.Error()
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return atomicwriter.WriteFile(file, data, 0o600)
}

// readGPURecord returns what was recorded at the start of this very process, and
// whether there is such a record: another dockerd may have started it.
func readGPURecord(file string, pid int) (set gpudevice.Set, ok bool, _ error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return set, false, nil
	}
	if err != nil {
		return set, false, err
	}
	var r gpuRecord
	if json.Unmarshal(data, &r) != nil {
		return set, false, nil
	}
	_, since, err := processStat(pid)
	if err != nil {
		return set, false, err
	}
	ok = r.Boot == bootID() && r.Pid == pid && r.Since == since
	if ok && r.Unknown != "" {
		return set, false, fmt.Errorf("at its start %s; start it again without that", r.Unknown)
	}
	return r.Set, ok, nil
}

// judgeGPUUpdate asks whether a container's GPUs keep limits that it is to get. pid is
// that of its init process, 0 if it does not run.
func (daemon *Daemon) judgeGPUUpdate(ctr *container.Container, pid int, limits containertypes.Resources) ([]string, error) {
	var env []string
	if ctr.Config != nil {
		env = ctr.Config.Env
	}
	set := gpusAskedFor(daemon.config(), env, ctr.HostConfig)
	if pid > 0 {
		recorded, ok, err := readGPURecord(filepath.Join(ctr.Root, gpuRecordFile), pid)
		if err == nil && !ok {
			recorded, err = daemon.gpusOfBundle(ctr, pid)
		}
		if err != nil {
			return nil, fmt.Errorf("%s cannot be enforced: it cannot be told which GPUs the container has: %w", gpuFlags(limits), err)
		}
		set.Add(recorded)
	} else if len(ctr.HostConfig.DeviceRequests) > 0 && len(set.Nodes)+len(set.Requests) == 0 {
		return nil, nil // its start looks again, where the nodes are known
	}
	return daemon.judgeGPUs(set, ctr.HostConfig, limits)
}

// gpusKept names the GPUs of this host that keep a limit.
func (daemon *Daemon) gpusKept(limits containertypes.Resources) []string {
	memory, priority, err := daemon.gpuDeviceHost().Summary()
	if err != nil {
		log.G(context.TODO()).WithError(err).Warn("cannot tell which GPUs keep limits")
		return nil
	}
	if limits.GPUMemory != nil {
		return memory
	}
	return priority
}
