// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/log"
	containertypes "github.com/docker/docker/api/types/container"
	networktypes "github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/container"
	"github.com/docker/docker/daemon/network"
	"github.com/docker/docker/errdefs"
	libcontainerdtypes "github.com/docker/docker/libcontainerd/types"
	"github.com/docker/docker/libnetwork"
	"github.com/docker/docker/libnetwork/drivers/bridge"
	"github.com/docker/docker/libnetwork/netlabel"
	"github.com/docker/docker/libnetwork/netlimit"
	"github.com/docker/docker/libnetwork/types"
	"github.com/docker/docker/pkg/sysinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// What enforces the network limits of a container depends on its network:
//
//	bridge     the netlimit.Limiter, for each endpoint, before the container's program runs
//	host, v1   net_cls.classid and net_prio.ifpriomap, written by the runtime, or by
//	           dockerd for an interface that comes later
//	host, v2   netlimit.SetCgroup
//	others     nothing: refused

// netState is dockerd's own of network limits.
type netState struct {
	prober  netlimit.Prober
	limiter *netlimit.Limiter // nil if dockerd is rootless or has no networks
	stop    chan struct{}
}

// netKind has the limits of networks. dockerd enforces them itself, in package netlimit,
// but for class and priority in the host's network on cgroup v1.
type netKind struct{ *Daemon }

func (netKind) name() string { return "net" }

func (daemon netKind) admit(daemonCfg *configStore, hostConfig *containertypes.HostConfig, sysInfo *sysinfo.SysInfo, update bool) error {
	limits := netLimits(hostConfig.Resources)
	if !namesNet(limits) || update {
		// What an update comes to depends on the container: see admitUpdate.
		return nil
	}
	if err := daemon.canEnforceNet(daemonCfg, hostConfig.NetworkMode, limits, sysInfo.CgroupUnified); err != nil {
		return &errNotJustNow{refusal(netFields, limits, err)}
	}
	return nil
}

// admitNew sees all networks of a new container, where the HostConfig names one.
func (daemon netKind) admitNew(_ *configStore, config *containertypes.Config, hostConfig *containertypes.HostConfig, networking *networktypes.NetworkingConfig) error {
	if err := verifyHasNetwork(config, hostConfig); err != nil {
		return err
	}
	limits := netLimits(hostConfig.Resources)
	if !namesNet(limits) {
		return nil
	}
	var networks []string
	if mode := hostConfig.NetworkMode; isDefaultBridge(mode) {
		networks = []string{network.DefaultNetwork}
	} else if mode.IsUserDefined() {
		networks = []string{mode.NetworkName()}
	}
	if networking != nil {
		networks = slices.AppendSeq(networks, maps.Keys(networking.EndpointsConfig))
	}
	return refusal(netFields, limits, daemon.checkNetworks(networks, limits))
}

// checkNetRates refuses a rate that is too low for the frames of a bridge network, by
// the options that it was made with and dockerd's --mtu.
func checkNetRates(options map[string]string, mtu int, limits containertypes.Resources) error {
	if own, err := strconv.Atoi(options[netlabel.DriverMTU]); err == nil && own > 0 {
		mtu = own
	}
	least := netlimit.MinRate(max(mtu, 0))
	for _, rate := range []*int64{limits.NetEgressRate, limits.NetIngressRate} {
		if rate != nil && *rate < least {
			return fmt.Errorf("with an MTU of %d the least rate is %d bits per second", mtu, least)
		}
	}
	return nil
}

func (daemon *Daemon) canEnforceNet(daemonCfg *configStore, mode containertypes.NetworkMode, limits containertypes.Resources, cgroupV2 bool) error {
	if daemonCfg.IsRootless() {
		return errors.New("a rootless daemon has no rights on the host's interfaces and cgroups; run dockerd as root")
	}
	rates, packets := ratesFields.Named(limits), packetsFields.Named(limits)
	classes := limits.NetClassID != nil || len(limits.NetPriorities) > 0
	switch {
	case mode.IsNone():
		return errors.New("the container has no network (--network=none)")
	case mode.IsContainer():
		return fmt.Errorf("the container uses the network of another one (--network=%s); limit that one", mode)
	case isDefaultBridge(mode) && daemonCfg.DisableBridge:
		return errors.New("the container has no network: dockerd runs with --bridge=none; use a network of your own")
	case mode.IsHost() && (rates || packets):
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
	abilities := daemon.limits.net.prober.Probe()
	if rates && abilities.Rates != nil {
		return fmt.Errorf("this host cannot limit rates: %w", abilities.Rates)
	}
	if packets && abilities.PPS != nil {
		return fmt.Errorf("this host cannot limit packets per second: %w", abilities.PPS)
	}
	if classes && abilities.Class != nil {
		return fmt.Errorf("this host cannot classify packets: %w", abilities.Class)
	}
	return nil
}

// isDefaultBridge tells whether a container with this mode is on dockerd's own network.
func isDefaultBridge(mode containertypes.NetworkMode) bool {
	return mode == "" || mode.IsDefault() || mode.IsBridge()
}

func (daemon netKind) admitUpdate(ctr *container.Container, update containertypes.Resources) error {
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
	netFields.Overlay(&limits, update)
	limits = netLimits(limits)
	flags := limitFlags(limits)
	if flags == "" {
		return nil
	}
	if err := verifyHasNetwork(ctr.Config, &containertypes.HostConfig{Resources: limits}); err != nil {
		return errCannotUpdate(ctr.ID, errdefs.InvalidParameter(err))
	}
	cgroupV2 := daemon.hostInfo().CgroupUnified
	err := daemon.canEnforceNet(daemon.config(), mode, limits, cgroupV2)
	if err == nil && pid != 0 && mode.IsHost() && !cgroupV2 {
		err = needOwnCgroups(ctr.ID, pid, netLimits(update))
	}
	if err == nil {
		err = daemon.checkNetworks(networks, limits)
	}
	if err != nil {
		return errCannotUpdate(ctr.ID, errdefs.InvalidParameter(fmt.Errorf("%s cannot be enforced: %w", flags, err)))
	}
	return nil
}

// checkNetworks refuses limits on one of a container's networks.
func (daemon *Daemon) checkNetworks(networks []string, limits containertypes.Resources) error {
	for _, name := range networks {
		n, err := daemon.FindNetwork(name)
		if err != nil {
			if err := daemon.checkSwarmNetwork(name); err != nil {
				return err
			}
			continue
		}
		if err := canEnforceOn(n.Name(), n.Type()); err != nil {
			return err
		}
		if n.Type() == "bridge" {
			if err := checkNetRates(n.DriverOptions(), daemon.config().MTU, limits); err != nil {
				return fmt.Errorf("network %s: %w", n.Name(), err)
			}
		}
	}
	return nil
}

// checkSwarmNetwork is for a network that this dockerd gets when the first container
// is attached to it. Only a manager knows it before; elsewhere the start is refused.
func (daemon *Daemon) checkSwarmNetwork(name string) error {
	cluster := daemon.GetCluster()
	if cluster == nil || !cluster.IsManager() {
		return nil
	}
	n, err := swarmNetwork(cluster, name)
	if err != nil {
		return nil // attaching says so
	}
	return canEnforceOn(n.Name, n.Driver)
}

// checkConnect refuses to give a limited container a network on which its limits
// could not be enforced.
func (daemon *Daemon) checkConnect(ctr *container.Container, network string) error {
	limits := netLimits(ctr.HostConfig.Resources)
	flags := limitFlags(limits)
	if flags == "" {
		return nil
	}
	if err := daemon.checkNetworks([]string{network}, limits); err != nil {
		return errdefs.InvalidParameter(fmt.Errorf("%s cannot be enforced: %w", flags, err))
	}
	return nil
}

// canEnforceOn refuses a driver whose packets never pass the host's end of an
// interface where only the host can reach them.
func canEnforceOn(network, driver string) error {
	switch driver {
	case "bridge", "host":
		return nil
	case "macvlan", "ipvlan":
		return fmt.Errorf("the packets of network %s (driver %s) leave from an interface that is in the container, which could take the limit off again with CAP_NET_ADMIN; use a bridge network", network, driver)
	default:
		return fmt.Errorf("this dockerd cannot limit the packets of network %s (driver %s); use a bridge network", network, driver)
	}
}

// namesNet tells whether r has any network field set.
func namesNet(r containertypes.Resources) bool { return netFields.Named(r) }

// netRates are the fields that are rates, with their places in package netlimit.
var netRates = []struct {
	field   *containertypes.ResourceField
	setting func(*netlimit.Settings) *int64
	err     func(*netlimit.Error) error
}{
	{
		containertypes.ResourceFieldNamed("NetEgressRate"),
		func(s *netlimit.Settings) *int64 { return &s.Egress }, func(e *netlimit.Error) error { return e.Egress },
	},
	{
		containertypes.ResourceFieldNamed("NetIngressRate"),
		func(s *netlimit.Settings) *int64 { return &s.Ingress }, func(e *netlimit.Error) error { return e.Ingress },
	},
	{
		containertypes.ResourceFieldNamed("NetEgressPPS"),
		func(s *netlimit.Settings) *int64 { return &s.EgressPPS }, func(e *netlimit.Error) error { return e.EgressPPS },
	},
	{
		containertypes.ResourceFieldNamed("NetIngressPPS"),
		func(s *netlimit.Settings) *int64 { return &s.IngressPPS }, func(e *netlimit.Error) error { return e.IngressPPS },
	},
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
	for _, rate := range netRates {
		if n, ok := rate.field.Number(&limits); ok {
			*rate.setting(&s) = n
		}
	}
	return s
}

// spec gives the runtime the class and the priorities of a container in the host's
// network on cgroup v1.
func (daemon netKind) spec(_ *configStore, c *container.Container, s *specs.Spec) error {
	if err := verifyHasNetwork(c.Config, c.HostConfig); err != nil {
		return err
	}
	if c.HostConfig.NetworkMode.IsHost() && !daemon.hostInfo().CgroupUnified {
		limits, _ := withoutMissing(netLimits(c.HostConfig.Resources))
		s.Linux.Resources.Network = specNetwork(limits, nil)
	}
	return nil
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

// withoutMissing leaves out the priorities for interfaces that the host does not have
// now, and says which. They get theirs when they come.
func withoutMissing(limits containertypes.Resources) (containertypes.Resources, error) {
	var there []containertypes.NetPriority
	var missing []string
	for _, p := range limits.NetPriorities {
		if _, err := net.InterfaceByName(p.Interface); err == nil {
			there = append(there, p)
		} else {
			missing = append(missing, p.Interface)
		}
	}
	limits.NetPriorities = there
	if len(missing) == 0 {
		return limits, nil
	}
	return limits, &netlimit.Error{Class: &netlimit.MissingError{Interfaces: missing}}
}

func (daemon netKind) warnings(ctr *container.Container) []string {
	return append(netWarnings(ctr.HostConfig.Resources), daemon.forwardWarnings(ctr.HostConfig)...)
}

func (netKind) updateWarnings(_ *container.Container, change containertypes.Resources) []string {
	return netWarnings(change)
}

// netWarnings says what is in force only later.
func netWarnings(limits containertypes.Resources) (warnings []string) {
	if _, err := withoutMissing(limits); err != nil {
		warnings = append(warnings, fmt.Sprintf("--net-prio: %v; it is in force when the interface comes", err))
	}
	return warnings
}

// forwardWarnings says what a class means for a container that is told to forward
// what others send.
func (daemon *Daemon) forwardWarnings(hostConfig *containertypes.HostConfig) (warnings []string) {
	limits := netLimits(hostConfig.Resources)
	if hostConfig.NetworkMode.IsHost() || limits.NetClassID == nil && len(limits.NetPriorities) == 0 {
		return nil
	}
	refused := `is refused with ICMP "administratively prohibited"`
	if daemon.limits.net.prober.Probe().WithoutNft() {
		refused = "is dropped without an answer (the kernel has no nf_tables)"
	}
	for _, name := range slices.Sorted(maps.Keys(hostConfig.Sysctls)) {
		if value := hostConfig.Sysctls[name]; value == "1" && (strings.HasSuffix(name, ".forwarding") || name == "net.ipv4.ip_forward") {
			warnings = append(warnings, fmt.Sprintf("%s: a container with %s may send only from its own addresses: what it forwards for others without NAT %s; limit the senders instead", name, limitFlags(limits), refused))
		}
	}
	return warnings
}

// endpointLimits are the limits of the endpoints of a container that is being
// started, while they are being set. It is known to a context.
type endpointLimits struct {
	begun []begunEndpoint
}

type begunEndpoint struct {
	on   lostOn
	wait func() error
}

type endpointLimitsKey struct{}

// beginEndpoints returns the context to connect a container with whose program
// does not run yet, and a function that then waits until its limits are in force.
func (daemon *Daemon) beginEndpoints(ctx context.Context, ctr *container.Container) (context.Context, func() error) {
	limits := &endpointLimits{}
	return context.WithValue(ctx, endpointLimitsKey{}, limits), func() error {
		var errs []error
		for _, e := range limits.begun {
			errs = append(errs, e.wait())
		}
		if err := errors.Join(errs...); err != nil {
			// Without these words a restart policy tries again and again.
			return fmt.Errorf("%s: %w", errSetupNetworking, &errNotJustNow{err})
		}
		for _, e := range limits.begun {
			daemon.noteNet(ctr, e.on, netLimits(ctr.HostConfig.Resources), daemon.limits.net.limiter.Lost(e.on.endpoint))
		}
		return nil
	}
}

// limitEndpoint is called when an endpoint is made. No packet of the container's
// program goes without: a container that runs is not in it yet, and one that is
// being started waits for what [Daemon.beginEndpoints] returned.
func (daemon *Daemon) limitEndpoint(ctx context.Context, ctr *container.Container, n *libnetwork.Network, ep *libnetwork.Endpoint) error {
	limiter := daemon.limits.net.limiter
	limits := netLimits(ctr.HostConfig.Resources)
	flags := limitFlags(limits)
	if limiter == nil {
		if flags == "" || ctr.HostConfig.NetworkMode.IsHost() {
			return nil
		}
		return &errNotJustNow{fmt.Errorf("%s cannot be enforced: %w", flags, errNoLimiter)}
	}
	refused := func(err error) error {
		if err == nil {
			return nil
		}
		return errdefs.InvalidParameter(fmt.Errorf("%s cannot be enforced: %w", flags, err))
	}
	e := daemon.limitedEndpoint(ctr, n, ep)
	if err := limiter.Claim(e.ID, e.Addrs); err != nil {
		log.G(ctx).WithError(err).WithField("container", ctr.ID).Warn("the network class of a container that had this address before could not be removed")
	}
	if flags == "" {
		return nil
	}
	starting, _ := ctx.Value(endpointLimitsKey{}).(*endpointLimits)
	err := canEnforceOn(n.Name(), n.Type())
	if err == nil && n.Type() == "bridge" {
		s, on := netSettings(limits), lostOn{container: ctr.ID, kind: "net", endpoint: e.ID, network: n.Name()}
		if starting != nil {
			wait := limiter.Begin(e, s)
			starting.begun = append(starting.begun, begunEndpoint{on, func() error { return refused(wait()) }})
		} else if err = limiter.Set(e, s); err == nil {
			daemon.noteNet(ctr, on, limits, limiter.Lost(e.ID))
		}
	}
	if err != nil && ctr.State.Running {
		// Connecting has put the network in here already.
		delete(ctr.NetworkSettings.Networks, n.Name())
	}
	return refused(err)
}

// limitPorts gives what docker-proxy sends for a container the container's class. It
// is called when ports may have been published, by whichever endpoint.
func (daemon *Daemon) limitPorts(ctr *container.Container) {
	limits := netLimits(ctr.HostConfig.Resources)
	if daemon.limits.net.limiter == nil || limits.NetClassID == nil && len(limits.NetPriorities) == 0 {
		return
	}
	eps, err := daemon.bridgeEndpoints(ctr)
	if err != nil {
		return
	}
	for _, ep := range eps {
		err := daemon.limits.net.limiter.SetPorts(ep.ID(), proxiedPorts(ep))
		if err != nil {
			daemon.noteNet(ctr, lostOn{container: ctr.ID, endpoint: ep.ID(), network: ep.Network()}, limits, err)
		}
	}
}

// proxiedPorts are the ports on the host that an endpoint has published.
func proxiedPorts(ep *libnetwork.Endpoint) (ports []netlimit.Port) {
	info, err := ep.DriverInfo()
	if err != nil {
		return nil
	}
	bindings, _ := info[netlabel.PortMap].([]types.PortBinding)
	for _, b := range bindings {
		if b.HostPort == 0 {
			continue
		}
		addr, _ := netip.AddrFromSlice(b.HostIP)
		ports = append(ports, netlimit.Port{Addr: addr.Unmap(), Proto: uint8(b.Proto), Port: b.HostPort})
	}
	return ports
}

// errNoLimiter: dockerd's log has the reason.
var errNoLimiter = errors.New("dockerd could not reach the kernel's network tables when it started; restart it")

func (daemon *Daemon) setEndpoint(ctr *container.Container, ep *libnetwork.Endpoint, s netlimit.Settings) error {
	if daemon.limits.net.limiter == nil {
		return errNoLimiter
	}
	n, err := daemon.netController.NetworkByName(ep.Network())
	if err != nil {
		return err
	}
	return daemon.limits.net.limiter.Set(daemon.limitedEndpoint(ctr, n, ep), s)
}

func (daemon *Daemon) limitedEndpoint(ctr *container.Container, n *libnetwork.Network, ep *libnetwork.Endpoint) netlimit.Endpoint {
	e := netlimit.Endpoint{ID: ep.ID(), Ports: proxiedPorts(ep), Bridge: bridgeName(n)}
	if sb, err := daemon.netController.GetSandbox(ctr.ID); err == nil {
		e.NetNS = sb.Key()
	}
	iface := ep.Iface()
	if iface == nil {
		return e
	}
	e.MAC = iface.MacAddress().String()
	for _, a := range append([]*net.IPNet{iface.Address(), iface.AddressIPv6()}, iface.LinkLocalAddresses()...) {
		if a == nil {
			continue
		}
		if addr, ok := netip.AddrFromSlice(a.IP); ok {
			e.Addrs = append(e.Addrs, addr.Unmap())
		}
	}
	return e
}

// bridgeName is how the bridge driver calls the bridge of a network.
func bridgeName(n *libnetwork.Network) string {
	if n.Type() != "bridge" {
		return ""
	}
	if name := n.DriverOptions()[bridge.BridgeName]; name != "" {
		return name
	}
	return "br-" + n.ID()[:12]
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

// update applies the network limits that change names to a running container, or puts
// them into what the runtime is going to be sent. It comes before the runtime, which
// is more likely to refuse.
func (daemon netKind) update(ctr *container.Container, tsk libcontainerdtypes.Task, r *libcontainerdtypes.Resources, change, _ containertypes.Resources, isBack bool) (func() error, error) {
	if err := daemon.updateNet(ctr, tsk, change, r, isBack); err != nil {
		return nothingToVerify, err
	}
	return func() error { return daemon.verifyNetApplied(ctr, tsk, change) }, nil
}

// updateNet: if an update is rolled back (isBack), an endpoint that fails keeps neither the others
// nor the roll-back from being done: it is noted, and tried again for itself.
func (daemon *Daemon) updateNet(ctr *container.Container, tsk libcontainerdtypes.Task, update containertypes.Resources, resources *libcontainerdtypes.Resources, isBack bool) error {
	if !namesNet(update) {
		return nil
	}
	ctr.Lock()
	defer ctr.Unlock()
	limits := ctr.HostConfig.Resources
	netFields.Overlay(&limits, update)
	limits = netLimits(limits)
	pid := int(tsk.Pid())
	switch mode := ctr.HostConfig.NetworkMode; {
	case mode.IsHost() && daemon.hostInfo().CgroupUnified:
		err := setHostNet(ctr.ID, pid, limits)
		if (isBack || err == nil || isMissing(err)) && daemon.netController != nil {
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
		named, missing := withoutMissing(named)
		if named.NetPriorities == nil && update.NetPriorities != nil {
			named.NetPriorities = []containertypes.NetPriority{}
		}
		resources.Network = specNetwork(named, gone)
		if update.NetPriorities != nil {
			daemon.noteNet(ctr, lostOn{container: ctr.ID, network: "host"}, limits, missing)
		}
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
		err := daemon.setEndpoint(ctr, ep, netSettings(limits))
		refusal := netRefusal(update, err)
		if refusal != nil && !isBack {
			return fmt.Errorf("network %s: %w", ep.Network(), refusal)
		}
		daemon.noteNet(ctr, lostOn{container: ctr.ID, endpoint: ep.ID(), network: ep.Network()}, limits, errors.Join(err, daemon.limits.net.limiter.Lost(ep.ID())))
	}
	return nil
}

// netRefusal is what err means for an update. What it does not name was lost before,
// or is lost now: that is shown, and no reason to refuse the update.
func netRefusal(update containertypes.Resources, err error) error {
	var parts *netlimit.Error
	if !errors.As(err, &parts) {
		return err
	}
	var named containertypes.Resources
	for _, rate := range netRates {
		if rate.err(parts) != nil {
			rate.field.Copy(&named, &update)
		}
	}
	if parts.Class != nil {
		named.NetClassID, named.NetPriorities = update.NetClassID, update.NetPriorities
	}
	if !namesNet(named) {
		return nil
	}
	if flags := limitFlags(netLimits(named)); flags != "" {
		err = fmt.Errorf("%s cannot be enforced: %w", flags, err)
	}
	return err
}

// restore puts the limits of containers that went on running to what is on disk, which
// may differ after a crash in the middle of an update, and removes what containers left
// behind that did not.
func (daemon netKind) restore(containers map[string]*container.Container) {
	if daemon.config().IsRootless() {
		return
	}
	limiter, err := netlimit.New(daemon.netOwner())
	if err != nil {
		log.G(context.TODO()).WithError(err).Error("network limits cannot be enforced")
		for _, c := range containers {
			if namesNet(netLimits(c.HostConfig.Resources)) {
				daemon.reapply(c) // shows them as not in force
			}
		}
		return
	}
	daemon.limits.net.limiter, daemon.limits.net.stop = limiter, make(chan struct{})
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
				daemon.reapply(c)
			}
			continue
		}
		for _, ep := range eps {
			if n, err := daemon.netController.NetworkByName(ep.Network()); err == nil {
				live = append(live, netlimit.Limited{Endpoint: daemon.limitedEndpoint(c, n, ep), Settings: netSettings(limits)})
			}
		}
	}
	errs := limiter.Sync(live)
	for _, c := range containers {
		daemon.noteNetErrors(c, errs)
	}
	if err := limiter.Run(daemon.netChanged, daemon.interfacesSeen); err != nil {
		log.G(context.TODO()).WithError(err).Error("what other programs do to network limits will not be seen")
	}
	go daemon.watchHost(daemon.limits.net.stop)
}

// netOwner tells the dockerds of one network namespace apart.
func (daemon *Daemon) netOwner() string {
	sum := sha256.Sum256([]byte(daemon.root))
	return hex.EncodeToString(sum[:4])
}

// stopNet is called when dockerd has let go of its containers.
func (daemon *Daemon) stopNet() {
	if daemon.limits.net.limiter != nil {
		close(daemon.limits.net.stop)
		daemon.limits.net.limiter.Close()
	}
}

// netLimitEndpoints is for inspect: what the kernel has.
func (daemon *Daemon) netLimitEndpoints(ctr *container.Container) (shown []containertypes.NetLimitEndpoint) {
	if daemon.limits.net.limiter == nil || daemon.netController == nil || !ctr.State.Running || limitFlags(netLimits(ctr.HostConfig.Resources)) == "" {
		return nil
	}
	if ctr.HostConfig.NetworkMode.IsHost() {
		return daemon.shownHost(ctr, netLimits(ctr.HostConfig.Resources))
	}
	eps, err := daemon.bridgeEndpoints(ctr)
	if err != nil {
		return nil
	}
	for _, ep := range eps {
		n, err := daemon.netController.NetworkByName(ep.Network())
		if err != nil {
			continue
		}
		s, err := daemon.limits.net.limiter.Show(daemon.limitedEndpoint(ctr, n, ep))
		if err != nil {
			log.G(context.TODO()).WithError(err).WithField("container", ctr.ID).Warn("network limits could not be read")
			continue
		}
		e := containertypes.NetLimitEndpoint{Network: ep.Network(), Interface: s.Interface, EgressRate: s.Egress, IngressRate: s.Ingress, EgressPPS: s.EgressPPS, IngressPPS: s.IngressPPS, ClassID: s.Class}
		for _, name := range slices.Sorted(maps.Keys(s.Priorities)) {
			e.Priorities = append(e.Priorities, containertypes.NetPriority{Interface: name, Priority: s.Priorities[name]})
		}
		shown = append(shown, e)
	}
	return shown
}

// mechanisms are those of the networks of this host that can do it at all.
func (daemon netKind) mechanisms() []system.ResourceLimits {
	class, rate, packets := system.ResourceLimits{Feature: "net-class"}, system.ResourceLimits{Feature: "net-rate"}, system.ResourceLimits{Feature: "net-pps"}
	cfg, unified := daemon.config(), daemon.hostInfo().CgroupUnified
	id, bits := uint32(1), int64(1)
	unsupported := func(mode containertypes.NetworkMode, limits containertypes.Resources) error {
		return daemon.canEnforceNet(cfg, mode, limits, unified)
	}
	byClass := containertypes.Resources{NetClassID: &id}
	var backends []string
	onBridge, onHost := unsupported("bridge", byClass), unsupported("host", byClass)
	if onBridge == nil {
		backend := daemon.limits.net.prober.Probe().Backend
		if daemon.limits.net.limiter != nil {
			backend = daemon.limits.net.limiter.Backend()
		}
		backends = append(backends, backend+" (bridge networks)")
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
	if err := unsupported("bridge", containertypes.Resources{NetEgressRate: &bits}); err != nil {
		rate.Reason = err.Error()
	} else {
		rate.Backend = "queueing disciplines (bridge networks)"
	}
	if err := unsupported("bridge", containertypes.Resources{NetEgressPPS: &bits}); err != nil {
		packets.Reason = err.Error()
	} else {
		packets.Backend = "nftables (bridge networks)"
	}
	return []system.ResourceLimits{class, rate, packets}
}
