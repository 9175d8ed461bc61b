// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
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
	"github.com/docker/docker/libnetwork"
	"github.com/docker/docker/libnetwork/iptables"
	"github.com/docker/docker/libnetwork/netlimit"
	"github.com/docker/docker/pkg/sysinfo"
	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// What enforces the network limits of a container depends on its network:
//
//	bridge     netlimit.Begin, or Set, for each endpoint, before the container's program runs
//	host, v1   net_cls.classid and net_prio.ifpriomap, written by the runtime
//	host, v2   netlimit.SetCgroup
//	others     nothing: refused

// verifyNet refuses network limits that this host cannot enforce, or not for
// the network that the container is created with.
func verifyNet(daemonCfg *configStore, hostConfig *containertypes.HostConfig, sysInfo *sysinfo.SysInfo, update bool) error {
	limits := netLimits(hostConfig.Resources)
	flags := limitFlags(limits)
	if flags == "" || update {
		// What an update comes to depends on the container: see checkNetUpdate.
		return nil
	}
	if err := canEnforceNet(daemonCfg, hostConfig.NetworkMode, limits, sysInfo.CgroupUnified); err != nil {
		return fmt.Errorf("%s cannot be enforced: %w", flags, err)
	}
	return nil
}

func canEnforceNet(daemonCfg *configStore, mode containertypes.NetworkMode, limits containertypes.Resources, cgroupV2 bool) error {
	if daemonCfg.IsRootless() {
		return errors.New("a rootless daemon has no rights on the host's interfaces and cgroups; run dockerd as root")
	}
	for _, p := range limits.NetPriorities {
		if _, err := net.InterfaceByName(p.Interface); err != nil {
			return fmt.Errorf("the host has no interface %s", p.Interface)
		}
	}
	rates := limits.NetEgressRate != nil || limits.NetIngressRate != nil
	classes := limits.NetClassID != nil || len(limits.NetPriorities) > 0
	switch {
	case mode.IsNone():
		return errors.New("the container has no network (--network=none)")
	case mode.IsContainer():
		return fmt.Errorf("the container uses the network of another one (--network=%s); limit that one", mode)
	case mode.IsHost() && rates:
		return errors.New("a container that uses the host's interfaces (--network=host) has none of its own to keep to a rate; use a bridge network")
	}
	if limits.NetClassID != nil && len(limits.NetPriorities) > 0 && (cgroupV2 || !mode.IsHost()) {
		return errors.New("--net-classid and --net-prio both stand for the priority of a packet here; only for --network=host on cgroup v1 are they two things; use one of them")
	}
	if mode.IsHost() {
		if cgroupV2 {
			return nil
		}
		return errors.Join(
			needHierarchy("net_cls", limits.NetClassID != nil),
			needHierarchy("net_prio", len(limits.NetPriorities) > 0),
		)
	}
	if classes && !daemonCfg.EnableIPTables {
		return errors.New("for a bridge network it takes an iptables rule, and dockerd runs with --iptables=false")
	}
	abilities := netlimit.Probe()
	if rates && abilities.Rates != nil {
		return fmt.Errorf("this host cannot limit rates: %w", abilities.Rates)
	}
	if classes && abilities.Class != nil {
		return fmt.Errorf("this host cannot classify packets, which takes iptables and the kernel's xt_CLASSIFY and xt_comment: %w", abilities.Class)
	}
	return nil
}

// needHierarchy says how to get a cgroup v1 hierarchy that is not mounted. It
// looks each time: to mount one is enough, dockerd need not be restarted.
func needHierarchy(controller string, needed bool) error {
	if !needed {
		return nil
	}
	mounts, err := cgroupMounts()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(mounts, func(m *mountinfo.Info) bool { return isHierarchyOf(m, controller) }) {
		return nil
	}
	known, err := os.ReadFile("/proc/cgroups")
	if err != nil {
		return err
	}
	if !strings.Contains(string(known), "\n"+controller+"\t") {
		return fmt.Errorf("the kernel has no cgroup controller %s", controller)
	}
	dir := "/sys/fs/cgroup/" + controller
	return fmt.Errorf("the cgroup hierarchy %[1]s is not mounted; mount it by \"mkdir -p %[2]s && mount -t cgroup -o %[1]s %[1]s %[2]s\"", controller, dir)
}

// needOwnCgroups refuses what a running container in the host's network could not
// be given on cgroup v1.
func needOwnCgroups(id string, pid int, limits containertypes.Resources) error {
	for controller, needed := range map[string]bool{"net_cls": limits.NetClassID != nil, "net_prio": len(limits.NetPriorities) > 0} {
		if !needed {
			continue
		}
		if _, _, err := containerCgroupDir(id, pid, controller); errors.Is(err, errNoOwnCgroup) {
			return err
		}
	}
	return nil
}

// checkNetUpdate refuses an update of network limits that cannot be enforced on
// the container's networks, running or not, before anything is changed.
func (daemon *Daemon) checkNetUpdate(ctr *container.Container, update containertypes.Resources) error {
	if !namesNet(update) {
		return nil
	}
	ctr.Lock()
	limits := ctr.HostConfig.Resources
	mode := ctr.HostConfig.NetworkMode
	pid := 0
	if ctr.State != nil && ctr.State.Running {
		pid = ctr.State.Pid
	}
	var networks []string
	if ctr.NetworkSettings != nil {
		for name := range ctr.NetworkSettings.Networks {
			networks = append(networks, name)
		}
	}
	ctr.Unlock()
	overlayNet(&limits, update)
	limits = netLimits(limits)
	flags := limitFlags(limits)
	if flags == "" {
		return nil
	}
	if err := verifyHasNetwork(ctr.Config, &containertypes.HostConfig{Resources: limits}); err != nil {
		return errCannotUpdate(ctr.ID, errdefs.InvalidParameter(err))
	}
	cgroupV2 := daemon.RawSysInfo().CgroupUnified
	err := canEnforceNet(daemon.config(), mode, limits, cgroupV2)
	if err == nil && pid != 0 && mode.IsHost() && !cgroupV2 {
		err = needOwnCgroups(ctr.ID, pid, netLimits(update))
	}
	for _, name := range networks {
		if n, findErr := daemon.FindNetwork(name); err == nil && findErr == nil {
			if err = canEnforceOn(n); err == nil && n.Type() == "bridge" {
				err = checkNetRates(n.DriverOptions(), daemon.config().MTU, netLimits(limits))
			}
		}
	}
	if err != nil {
		return errCannotUpdate(ctr.ID, errdefs.InvalidParameter(fmt.Errorf("%s cannot be enforced: %w", flags, err)))
	}
	return nil
}

// canEnforceOn refuses a driver whose packets never pass the host's end of an
// interface where only the host can reach them.
func canEnforceOn(n *libnetwork.Network) error {
	switch n.Type() {
	case "bridge", "host":
		return nil
	case "macvlan", "ipvlan":
		return fmt.Errorf("the packets of network %s (driver %s) leave from an interface that is in the container, which could take the limit off again with CAP_NET_ADMIN; use a bridge network", n.Name(), n.Type())
	default:
		return fmt.Errorf("this dockerd cannot limit the packets of network %s (driver %s); use a bridge network", n.Name(), n.Type())
	}
}

// namesNet tells whether r has any network field set.
func namesNet(r containertypes.Resources) bool {
	return r.NetClassID != nil || r.NetPriorities != nil || r.NetEgressRate != nil || r.NetIngressRate != nil
}

// overlayNet puts the network fields that over names on top of those of base.
func overlayNet(base *containertypes.Resources, over containertypes.Resources) {
	if over.NetClassID != nil {
		base.NetClassID = over.NetClassID
	}
	if over.NetPriorities != nil {
		base.NetPriorities = over.NetPriorities
	}
	if over.NetEgressRate != nil {
		base.NetEgressRate = over.NetEgressRate
	}
	if over.NetIngressRate != nil {
		base.NetIngressRate = over.NetIngressRate
	}
}

func netSettings(r containertypes.Resources) (s netlimit.Settings) {
	limits := netLimits(r)
	if limits.NetClassID != nil {
		s.Class = *limits.NetClassID
	}
	if len(limits.NetPriorities) > 0 {
		s.Priorities = make(map[string]uint32, len(limits.NetPriorities))
		for _, p := range limits.NetPriorities {
			s.Priorities[p.Interface] = p.Priority
		}
	}
	if limits.NetEgressRate != nil {
		s.Egress = *limits.NetEgressRate
	}
	if limits.NetIngressRate != nil {
		s.Ingress = *limits.NetIngressRate
	}
	return s
}

// withNet gives the runtime the class and the priorities of a container in the
// host's network on cgroup v1. It checks once more, as withGPU does.
func withNet(daemon *Daemon, daemonCfg *configStore, c *container.Container) coci.SpecOpts {
	return func(_ context.Context, _ coci.Client, _ *containers.Container, s *coci.Spec) error {
		sysInfo := daemon.RawSysInfo()
		if err := verifyNet(daemonCfg, c.HostConfig, sysInfo, false); err != nil {
			return err
		}
		if err := verifyHasNetwork(c.Config, c.HostConfig); err != nil {
			return err
		}
		if c.HostConfig.NetworkMode.IsHost() && !sysInfo.CgroupUnified {
			s.Linux.Resources.Network = specNetwork(netLimits(c.HostConfig.Resources), nil)
		}
		return nil
	}
}

// specNetwork spells class and priorities for the runtime, nil if there are
// none. Priority 0 takes away what is in gone and not in limits.
func specNetwork(limits containertypes.Resources, gone map[string]uint32) *specs.LinuxNetwork {
	n := &specs.LinuxNetwork{ClassID: limits.NetClassID}
	for _, p := range limits.NetPriorities {
		n.Priorities = append(n.Priorities, specs.LinuxInterfacePriority{Name: p.Interface, Priority: p.Priority})
		delete(gone, p.Interface)
	}
	for name := range gone {
		n.Priorities = append(n.Priorities, specs.LinuxInterfacePriority{Name: name})
	}
	if n.ClassID == nil && len(n.Priorities) == 0 {
		return nil
	}
	return n
}

// endpointLimits are the limits of the endpoints of a container that is being
// started, while they are being set. It is known to a context.
type endpointLimits struct{ waits []func() error }

type endpointLimitsKey struct{}

// beginEndpoints returns the context to connect a container with whose program
// does not run yet, and a function that then waits until its limits are in force.
func beginEndpoints(ctx context.Context) (context.Context, func() error) {
	limits := &endpointLimits{}
	return context.WithValue(ctx, endpointLimitsKey{}, limits), func() error {
		netlimit.Settle()
		var errs []error
		for _, wait := range limits.waits {
			errs = append(errs, wait())
		}
		if err := errors.Join(errs...); err != nil {
			// Without these words a restart policy tries again and again.
			return fmt.Errorf("%s: %w", errSetupNetworking, err)
		}
		return nil
	}
}

// limitEndpoint is called when an endpoint is made. No packet of the container's
// program goes without: a container that runs is not in it yet, and one that is
// being started waits for what [beginEndpoints] returned.
func (daemon *Daemon) limitEndpoint(ctx context.Context, ctr *container.Container, n *libnetwork.Network, ep *libnetwork.Endpoint) error {
	limits := netLimits(ctr.HostConfig.Resources)
	flags := limitFlags(limits)
	refused := func(err error) error {
		if err == nil {
			return nil
		}
		return errdefs.InvalidParameter(fmt.Errorf("%s cannot be enforced: %w", flags, err))
	}
	starting, _ := ctx.Value(endpointLimitsKey{}).(*endpointLimits)
	if starting == nil {
		netlimit.Settle()
	}
	if flags == "" {
		return nil
	}
	err := canEnforceOn(n)
	if err == nil && n.Type() == "bridge" {
		e := limitedEndpoint(ep)
		s := netSettings(limits)
		switch err = canSet(daemon.config(), e, s); {
		case err != nil:
		case starting != nil:
			wait := netlimit.Begin(e, s)
			starting.waits = append(starting.waits, func() error { return refused(wait()) })
		default:
			err = netlimit.Set(e, s)
		}
	}
	if err != nil && ctr.State.Running {
		// Connecting has put the network in here already.
		delete(ctr.NetworkSettings.Networks, n.Name())
	}
	return refused(err)
}

func setEndpoint(daemonCfg *configStore, ep *libnetwork.Endpoint, s netlimit.Settings) error {
	e := limitedEndpoint(ep)
	if err := canSet(daemonCfg, e, s); err != nil {
		return err
	}
	return netlimit.Set(e, s)
}

func canSet(daemonCfg *configStore, e netlimit.Endpoint, s netlimit.Settings) error {
	classifies := s.Class != 0 || len(s.Priorities) > 0
	if classifies && !daemonCfg.EnableIP6Tables && slices.ContainsFunc(e.Addrs, netip.Addr.Is6) {
		return errors.New("for the IPv6 address it takes an ip6tables rule, and dockerd runs with --ip6tables=false")
	}
	return nil
}

func limitedEndpoint(ep *libnetwork.Endpoint) netlimit.Endpoint {
	e := netlimit.Endpoint{ID: ep.ID()}
	if iface := ep.Iface(); iface != nil {
		for _, a := range []*net.IPNet{iface.Address(), iface.AddressIPv6()} {
			if a == nil {
				continue
			}
			if addr, ok := netip.AddrFromSlice(a.IP); ok {
				e.Addrs = append(e.Addrs, addr.Unmap())
			}
		}
	}
	return e
}

// bridgeEndpoints returns the endpoints of a running container that can be
// limited.
func (daemon *Daemon) bridgeEndpoints(ctr *container.Container) ([]*libnetwork.Endpoint, error) {
	sb, err := daemon.netController.GetSandbox(ctr.ID)
	if err != nil {
		return nil, err
	}
	var eps []*libnetwork.Endpoint
	for _, ep := range sb.Endpoints() {
		if n, err := daemon.netController.NetworkByName(ep.Network()); err == nil && n.Type() == "bridge" {
			eps = append(eps, ep)
		}
	}
	return eps, nil
}

// startNet is for what needs the container's cgroup and no endpoint: it limits
// a container in the host's network on cgroup v2, and on v1 reads back what the
// runtime did.
func (daemon *Daemon) startNet(ctr *container.Container, tsk libcontainerdtypes.Task) error {
	limits := netLimits(ctr.HostConfig.Resources)
	if !ctr.HostConfig.NetworkMode.IsHost() || !namesNet(limits) {
		return nil
	}
	pid := int(tsk.Pid())
	var err error
	if daemon.RawSysInfo().CgroupUnified {
		err = setHostNet(ctr.ID, pid, limits)
	} else {
		err = verifyHostNet(ctr.ID, pid, limits)
	}
	if err != nil {
		return errdefs.System(fmt.Errorf("%s cannot be enforced: %w", limitFlags(limits), err))
	}
	return nil
}

func setHostNet(id string, pid int, limits containertypes.Resources) error {
	dir, _, err := containerCgroupDir(id, pid, "")
	if err != nil {
		return err
	}
	s := netSettings(limits)
	return netlimit.SetCgroup(dir, s.Class, s.Priorities)
}

// updateNet applies the network limits that update names to a running
// container, or puts them into what the runtime is going to be sent. It comes
// before the runtime, which is more likely to refuse.
//
// If an update is rolled back (isBack), an endpoint that fails keeps neither the others
// nor the roll-back from being done: it is noted, and tried again for itself.
func (daemon *Daemon) updateNet(ctr *container.Container, tsk libcontainerdtypes.Task, update containertypes.Resources, resources *libcontainerdtypes.Resources, isBack bool) error {
	if !namesNet(update) {
		return nil
	}
	ctr.Lock()
	defer ctr.Unlock()
	limits := ctr.HostConfig.Resources
	overlayNet(&limits, update)
	limits = netLimits(limits)
	pid := int(tsk.Pid())
	switch mode := ctr.HostConfig.NetworkMode; {
	case mode.IsHost() && daemon.RawSysInfo().CgroupUnified:
		err := setHostNet(ctr.ID, pid, limits)
		if isBack && daemon.netController != nil {
			daemon.noteNet(ctr, lostOn{container: ctr.ID, network: "host"}, limits, err)
			return nil
		}
		return err
	case mode.IsHost():
		named := update
		if c := named.NetClassID; c != nil && *c == 0 && hasNoClass(ctr.ID, pid) {
			named.NetClassID = nil
		}
		var gone map[string]uint32
		if named.NetPriorities != nil {
			var err error
			if gone, err = hostPriorities(ctr.ID, pid); err != nil {
				return err
			}
		}
		resources.Network = specNetwork(named, gone)
		return nil
	case mode.IsNone(), mode.IsContainer():
		return nil
	}
	if daemon.netController == nil {
		// At start-up; restoreNet comes when there are networks.
		return nil
	}
	eps, err := daemon.bridgeEndpoints(ctr)
	if err != nil {
		return err
	}
	for _, ep := range eps {
		err := setEndpoint(daemon.config(), ep, netSettings(limits))
		if isBack || err == nil {
			daemon.noteNet(ctr, lostOn{container: ctr.ID, endpoint: ep.ID(), network: ep.Network()}, limits, err)
		}
		if err != nil && !isBack {
			return fmt.Errorf("network %s: %w", ep.Network(), err)
		}
	}
	return nil
}

// verifyNetApplied reads back what the runtime did of an update on cgroup v1.
// All else is read back where it is set.
func (daemon *Daemon) verifyNetApplied(ctr *container.Container, tsk libcontainerdtypes.Task, update containertypes.Resources) error {
	if !namesNet(update) || !ctr.HostConfig.NetworkMode.IsHost() || daemon.RawSysInfo().CgroupUnified {
		return nil
	}
	return verifyHostNet(ctr.ID, int(tsk.Pid()), update)
}

// verifyHostNet compares net_cls.classid and net_prio.ifpriomap with what r
// names. Class 0 is what there is without a hierarchy.
func verifyHostNet(id string, pid int, r containertypes.Resources) error {
	if c := r.NetClassID; c != nil && (*c != 0 || !hasNoClass(id, pid)) {
		dir, v2, err := containerCgroupDir(id, pid, "net_cls")
		if err == nil && v2 {
			err = errors.New("the container has no net_cls cgroup")
		}
		if err != nil {
			return err
		}
		file := filepath.Join(dir, "net_cls.classid")
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if got := strings.TrimSpace(string(b)); got != strconv.FormatUint(uint64(*c), 10) {
			return fmt.Errorf("%s shows %s, want %d", file, got, *c)
		}
	}
	if len(r.NetPriorities) == 0 {
		return nil
	}
	got, err := hostPriorities(id, pid)
	if err != nil {
		return err
	}
	for _, p := range r.NetPriorities {
		if got[p.Interface] != p.Priority {
			return fmt.Errorf("net_prio.ifpriomap of the container shows %d for %s, want %d", got[p.Interface], p.Interface, p.Priority)
		}
	}
	return nil
}

// hasNoClass reports whether there is nowhere that a container in the host's
// network could have a class on cgroup v1.
func hasNoClass(id string, pid int) bool {
	if needHierarchy("net_cls", true) != nil {
		return true
	}
	_, _, err := containerCgroupDir(id, pid, "net_cls")
	return errors.Is(err, errNoOwnCgroup)
}

// hostPriorities returns what net_prio.ifpriomap of a container has but 0.
func hostPriorities(id string, pid int) (map[string]uint32, error) {
	if needHierarchy("net_prio", true) != nil {
		return nil, nil
	}
	dir, v2, err := containerCgroupDir(id, pid, "net_prio")
	if errors.Is(err, errNoOwnCgroup) {
		return nil, nil
	}
	if err != nil || v2 {
		return nil, err
	}
	file := filepath.Join(dir, "net_prio.ifpriomap")
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	prios := map[string]uint32{}
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		name, value, _ := strings.Cut(line, " ")
		prio, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%s: line %q: %w", file, line, err)
		}
		if prio != 0 {
			prios[name] = uint32(prio)
		}
	}
	return prios, nil
}

// restoreNet is called when dockerd has started and knows its networks again.
// It puts the limits of containers that went on running to what is on disk,
// which may differ after a crash in the middle of an update, and removes what
// containers left behind that did not.
func (daemon *Daemon) restoreNet(containers map[string]*container.Container) {
	cfg := daemon.config()
	if cfg.IsRootless() {
		return
	}
	if cfg.EnableIPTables {
		iptables.OnReloaded(daemon.replayNet)
	}
	var live []netlimit.Limited
	for _, c := range containers {
		c.Lock()
		limits, mode, running := netLimits(c.HostConfig.Resources), c.HostConfig.NetworkMode, c.State.Running
		c.Unlock()
		if !running || mode.IsContainer() || mode.IsNone() {
			continue
		}
		eps, err := daemon.bridgeEndpoints(c)
		if mode.IsHost() || err != nil {
			if namesNet(limits) {
				daemon.applyNet(c)
			}
			continue
		}
		for _, ep := range eps {
			live = append(live, netlimit.Limited{Endpoint: limitedEndpoint(ep), Settings: netSettings(limits)})
		}
	}
	errs := netlimit.Sync(live)
	for _, c := range containers {
		daemon.noteNetErrors(c, errs)
	}
}

// stopNet is called when dockerd has let go of its containers.
func (daemon *Daemon) stopNet() { netlimit.Wait() }

// netResourceLimits tells by what class and rate are enforced, on the networks
// of this host that can do it at all.
func (daemon *Daemon) netResourceLimits() (class, rate system.ResourceLimits) {
	cfg, unified := daemon.config(), daemon.RawSysInfo().CgroupUnified
	id, bits := uint32(1), int64(minNetRate)
	obstacle := func(mode containertypes.NetworkMode, limits containertypes.Resources) error {
		return canEnforceNet(cfg, mode, limits, unified)
	}
	byClass := containertypes.Resources{NetClassID: &id}
	var backends []string
	onBridge, onHost := obstacle("bridge", byClass), obstacle("host", byClass)
	if onBridge == nil {
		backends = append(backends, "iptables (bridge networks)")
	}
	switch {
	case onHost != nil:
	case unified:
		backends = append(backends, "BPF program of cgroup v2 (host network)")
	default:
		backends = append(backends, "net_cls and net_prio controllers of cgroup v1 (host network)")
	}
	class.Backend = strings.Join(backends, ", ")
	if class.Backend == "" {
		class.Reason = fmt.Sprintf("bridge networks: %v; host network: %v", onBridge, onHost)
	}
	if err := obstacle("bridge", containertypes.Resources{NetEgressRate: &bits}); err != nil {
		rate.Reason = err.Error()
	} else {
		rate.Backend = "queueing disciplines (bridge networks)"
	}
	return class, rate
}
