// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/log"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/container"
	"github.com/docker/docker/libnetwork"
	"github.com/docker/docker/libnetwork/netlimit"
)

// A network limit that is not in force while its container runs: the state of
// the host may stand in the way when dockerd starts over running containers,
// after a reload of firewalld, or when an update is taken back. Nobody waits for
// an error then. So inspect shows it, an event and `docker info` tell of it, and
// dockerd tries again until it holds or has gone.

// Events of a container whose attributes name the limit and the network.
const (
	actionLimitLost     events.Action = "limit_lost" // also says why
	actionLimitRestored events.Action = "limit_restored"
)

// retryNetAfter is replaced by tests.
var retryNetAfter = 10 * time.Second

// lostOn is where limits are not in force.
type lostOn struct {
	container string
	endpoint  string // its ID, "" if it is not about one
	network   string
}

// lostNet has the reasons, by field of HostConfig. There may be none, where
// something that is no limit could not be taken away.
var lostNet = struct {
	sync.Mutex
	reasons map[lostOn]map[string]string
	retries map[string]bool // by container
}{reasons: map[lostOn]map[string]string{}, retries: map[string]bool{}}

// lostOf returns what is lost of one container, or of all ("").
func lostOf(containerID string) map[lostOn]map[string]string {
	lostNet.Lock()
	defer lostNet.Unlock()
	lost := maps.Clone(lostNet.reasons)
	maps.DeleteFunc(lost, func(on lostOn, _ map[string]string) bool { return containerID != "" && on.container != containerID })
	return lost
}

// noteNet remembers what came of an attempt to put limits in force. limits is
// what netLimits returns.
func (daemon *Daemon) noteNet(ctr *container.Container, on lostOn, limits containertypes.Resources, err error) {
	now := lostReasons(limits, err)
	lostNet.Lock()
	before := lostNet.reasons[on]
	if err == nil {
		delete(lostNet.reasons, on)
	} else {
		lostNet.reasons[on] = now
		if !lostNet.retries[ctr.ID] {
			lostNet.retries[ctr.ID] = true
			time.AfterFunc(retryNetAfter, func() { daemon.retryNet(ctr.ID) })
		}
	}
	lostNet.Unlock()

	logger := log.G(context.TODO()).WithFields(log.Fields{"container": ctr.ID, "network": on.network})
	for _, field := range slices.Sorted(maps.Keys(now)) {
		if _, known := before[field]; !known {
			logger.WithField("reason", now[field]).Errorf("%s is not in force", field)
			daemon.LogContainerEventWithAttributes(ctr, actionLimitLost, map[string]string{"limit": field, "network": on.network, "reason": now[field]})
		}
	}
	for _, field := range slices.Sorted(maps.Keys(before)) {
		if _, still := now[field]; !still {
			logger.Infof("%s is in force again", field)
			daemon.LogContainerEventWithAttributes(ctr, actionLimitRestored, map[string]string{"limit": field, "network": on.network})
		}
	}
}

func lostReasons(limits containertypes.Resources, err error) map[string]string {
	reasons := map[string]string{}
	if err == nil {
		return reasons
	}
	parts := &netlimit.Error{Ingress: err, Egress: err, Class: err}
	errors.As(err, &parts)
	for field, lost := range map[string]struct {
		asked bool
		err   error
	}{
		"NetIngressRate": {limits.NetIngressRate != nil, parts.Ingress},
		"NetEgressRate":  {limits.NetEgressRate != nil, parts.Egress},
		"NetClassID":     {limits.NetClassID != nil, parts.Class},
		"NetPriorities":  {len(limits.NetPriorities) > 0, parts.Class},
	} {
		if lost.asked && lost.err != nil {
			reasons[field] = lost.err.Error()
		}
	}
	return reasons
}

func (daemon *Daemon) retryNet(containerID string) {
	defer lockUpdates(containerID)()
	lostNet.Lock()
	delete(lostNet.retries, containerID)
	lostNet.Unlock()
	daemon.reapplyNet(containerID)
}

// reapplyNet tries once more to put in force what is lost of a container, and
// forgets what has gone meanwhile. Callers hold the container's update lock.
func (daemon *Daemon) reapplyNet(containerID string) {
	lost := lostOf(containerID)
	if len(lost) == 0 {
		return
	}
	if ctr := daemon.containers.Get(containerID); ctr != nil {
		for on := range daemon.applyNet(ctr) {
			delete(lost, on)
		}
	}
	lostNet.Lock()
	defer lostNet.Unlock()
	for on := range lost {
		delete(lostNet.reasons, on)
	}
}

// applyNet puts all network limits of a container in force that dockerd itself
// enforces, if it runs, and returns where it tried to.
func (daemon *Daemon) applyNet(ctr *container.Container) map[lostOn]bool {
	// All the time, or it may end meanwhile and leave the limits of an endpoint
	// that is no more.
	ctr.Lock()
	defer ctr.Unlock()
	limits, mode, running, pid := netLimits(ctr.HostConfig.Resources), ctr.HostConfig.NetworkMode, ctr.State.Running, ctr.State.Pid
	tried := map[lostOn]bool{}
	note := func(endpoint, network string, err error) {
		on := lostOn{ctr.ID, endpoint, network}
		tried[on] = true
		daemon.noteNet(ctr, on, limits, err)
	}
	switch {
	case !running || mode.IsNone() || mode.IsContainer():
	case mode.IsHost():
		if daemon.RawSysInfo().CgroupUnified {
			note("", "host", setHostNet(ctr.ID, pid, limits))
		}
	default:
		eps, err := daemon.bridgeEndpoints(ctr)
		note("", "", err)
		for _, ep := range eps {
			note(ep.ID(), ep.Network(), setEndpoint(daemon.config(), ep, netSettings(limits)))
		}
	}
	return tried
}

// replayNet is called after a reload of firewalld.
func (daemon *Daemon) replayNet() {
	errs := netlimit.Replay()
	for _, ctr := range daemon.containers.List() {
		daemon.noteNetErrors(ctr, errs)
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
			daemon.noteNet(ctr, lostOn{ctr.ID, ep.ID(), ep.Network()}, limits, err)
		}
	}
}

// limitsNotInForce is for inspect: a line for each limit and network.
func (daemon *Daemon) limitsNotInForce(ctr *container.Container) (lines []string) {
	lost := lostOf(ctr.ID)
	if len(lost) == 0 {
		return nil
	}
	for on, reasons := range lost {
		// What has ended, or left the network, is known until the next attempt.
		if on.endpoint != "" && !daemon.hasEndpoint(ctr, on.endpoint) {
			continue
		}
		for field, reason := range reasons {
			if on.network != "" {
				field += " on network " + on.network
			}
			lines = append(lines, field+": "+reason)
		}
	}
	slices.Sort(lines)
	return lines
}

func (daemon *Daemon) hasEndpoint(ctr *container.Container, id string) bool {
	eps, err := daemon.bridgeEndpoints(ctr)
	return err == nil && slices.ContainsFunc(eps, func(ep *libnetwork.Endpoint) bool { return ep.ID() == id })
}

// lostWarnings is for `docker info`.
func (daemon *Daemon) lostWarnings() []string {
	names := map[string]bool{}
	for on := range lostOf("") {
		if ctr := daemon.containers.Get(on.container); ctr != nil && len(daemon.limitsNotInForce(ctr)) > 0 {
			names[strings.TrimPrefix(ctr.Name, "/")] = true
		}
	}
	if len(names) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("WARNING: network limits are not in force; see LimitsNotInForce of docker inspect: %s", strings.Join(slices.Sorted(maps.Keys(names)), ", "))}
}
