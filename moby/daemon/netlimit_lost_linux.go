// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"slices"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/container"
	"github.com/docker/docker/libnetwork"
	"github.com/docker/docker/libnetwork/netlimit"
)

// A network limit that is not in force: see limit_lost.go.

// noteNet remembers what came of an attempt to put limits in force. limits is
// what netLimits returns.
func (daemon *Daemon) noteNet(ctr *container.Container, on lostOn, limits containertypes.Resources, err error) {
	on.kind = "net"
	if err == nil {
		daemon.noteHolds(ctr, on)
		return
	}
	daemon.noteLost(ctr, on, lostReasons(limits, err))
}

func lostReasons(limits containertypes.Resources, err error) map[string]string {
	reasons := map[string]string{}
	if err == nil {
		return reasons
	}
	parts := &netlimit.Error{Ingress: err, Egress: err, IngressPPS: err, EgressPPS: err, Class: err}
	errors.As(err, &parts)
	note := func(field string, asked bool, err error) {
		if asked && err != nil {
			reasons[field] = err.Error()
		}
	}
	for _, rate := range netRates {
		note(rate.field.Name, rate.field.Named(&limits), rate.err(parts))
	}
	note("NetClassID", limits.NetClassID != nil, parts.Class)
	note("NetPriorities", len(limits.NetPriorities) > 0, parts.Class)
	return reasons
}

// reapply is about limits that dockerd itself enforces.
func (daemon netKind) reapply(ctr *container.Container) map[lostOn]bool {
	// All the time, or it may end meanwhile and leave the limits of an endpoint
	// that is no more.
	ctr.Lock()
	defer ctr.Unlock()
	limits, mode, running, pid := netLimits(ctr.HostConfig.Resources), ctr.HostConfig.NetworkMode, ctr.State.Running, ctr.State.Pid
	tried := map[lostOn]bool{}
	note := func(endpoint, network string, err error) {
		on := lostOn{container: ctr.ID, kind: "net", endpoint: endpoint, network: network}
		tried[on] = true
		daemon.noteNet(ctr, on, limits, err)
	}
	switch {
	case !running || mode.IsNone() || mode.IsContainer():
	case mode.IsHost():
		if !namesNet(limits) {
			note("", "host", nil)
		} else if daemon.hostInfo().CgroupUnified {
			note("", "host", setHostNet(ctr.ID, pid, limits))
		} else {
			note("", "host", setHostV1(ctr.ID, pid, limits))
		}
	default:
		eps, err := daemon.bridgeEndpoints(ctr)
		note("", "", err)
		for _, ep := range eps {
			err := daemon.setEndpoint(ctr, ep, netSettings(limits))
			if err == nil {
				err = daemon.limits.net.limiter.Lost(ep.ID())
			}
			note(ep.ID(), ep.Network(), err)
		}
	}
	return tried
}

// netChanged is called when limits of endpoints were lost, or hold again, by the hand
// of another program or because an attempt of the limiter's own succeeded.
func (daemon *Daemon) netChanged(changes []netlimit.Change) {
	byEndpoint := map[string][]netlimit.Change{}
	gone := false
	for _, c := range changes {
		gone = gone || c.Gone
		byEndpoint[c.Endpoint] = append(byEndpoint[c.Endpoint], c)
	}
	for _, ctr := range daemon.containers.List() {
		eps, err := daemon.bridgeEndpoints(ctr)
		if err != nil {
			continue
		}
		if gone && len(eps) != 0 {
			daemon.limitPorts(ctr) // another endpoint may publish them now
		}
		for _, ep := range eps {
			for _, c := range byEndpoint[ep.ID()] {
				// The container's lock is not needed, and an update that holds it may be
				// the caller.
				daemon.noteNet(ctr, lostOn{container: ctr.ID, endpoint: ep.ID(), network: ep.Network()}, limitsOf(c.Settings), c.Err)
			}
			if list := byEndpoint[ep.ID()]; list != nil {
				// What was told by several at a time may have come in another order.
				on := lostOn{container: ctr.ID, endpoint: ep.ID(), network: ep.Network()}
				daemon.noteNet(ctr, on, limitsOf(list[len(list)-1].Settings), daemon.limits.net.limiter.Lost(ep.ID()))
			}
		}
	}
}

// limitsOf are the fields of HostConfig that settings come from.
func limitsOf(s netlimit.Settings) (r containertypes.Resources) {
	for _, rate := range netRates {
		if n := *rate.setting(&s); n != 0 {
			rate.field.SetNumber(&r, n)
		}
	}
	if s.Class != 0 {
		r.NetClassID = &s.Class
	}
	for name, p := range s.Priorities {
		r.NetPriorities = append(r.NetPriorities, containertypes.NetPriority{Interface: name, Priority: p})
	}
	return r
}

// interfacesSeen puts the priorities of containers in the host's network in force on
// interfaces that have come.
func (daemon *Daemon) interfacesSeen(names map[string]bool) {
	for _, ctr := range daemon.containers.List() {
		limits, _, ok, busy := peekHost(ctr)
		if !busy && (!ok || !slices.ContainsFunc(limits.NetPriorities, func(p containertypes.NetPriority) bool { return names[p.Interface] })) {
			continue
		}
		go func() {
			defer daemon.lockUpdates(ctr.ID)()
			netKind{daemon}.reapply(ctr)
		}()
	}
}

// noteNetErrors remembers errors of several containers, by ID of the endpoint.
func (daemon *Daemon) noteNetErrors(ctr *container.Container, errs map[string]error) {
	if len(errs) == 0 {
		return
	}
	eps, err := daemon.bridgeEndpoints(ctr)
	if err != nil {
		return // it does not run
	}
	for _, ep := range eps {
		if err := errs[ep.ID()]; err != nil {
			ctr.Lock()
			limits := netLimits(ctr.HostConfig.Resources)
			ctr.Unlock()
			daemon.noteNet(ctr, lostOn{container: ctr.ID, endpoint: ep.ID(), network: ep.Network()}, limits, err)
		}
	}
}

func (daemon *Daemon) hasEndpoint(ctr *container.Container, id string) bool {
	eps, err := daemon.bridgeEndpoints(ctr)
	return err == nil && slices.ContainsFunc(eps, func(ep *libnetwork.Endpoint) bool { return ep.ID() == id })
}
