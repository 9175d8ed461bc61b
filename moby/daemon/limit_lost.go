// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/log"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/container"
)

// A limit that is not in force while its container runs, and for which nobody
// waits: something stood in the way when dockerd started over running containers,
// when an update was rolled back, or after another program's change. Inspect shows
// it, an event and `docker info` tell of it, and dockerd tries again until it holds
// or has gone.

// Events of a container whose attributes name the limit and, if there is one, the
// network.
const (
	actionLimitLost     events.Action = "limit_lost" // also says why
	actionLimitRestored events.Action = "limit_restored"
)

// The first attempt comes after retryLostAfter, each further one after twice as long,
// until nothing of the container is lost any more.
const (
	retryLostAfter = 10 * time.Second
	retryLostLast  = 5 * time.Minute
)

type lostRetry struct {
	due   bool
	delay time.Duration // of the last attempt
}

// lostOn is where limits are not in force.
type lostOn struct {
	container string
	kind      string // the name of a limitKind, or "update" or "copy"
	endpoint  string // its ID, "" if it is not about one
	network   string
}

// reapply is [limitKind.reapply] of a kind, or the same for what is no kind of limits
// but is retried like one.
func (daemon *Daemon) reapply(kind string, ctr *container.Container) map[lostOn]bool {
	switch kind {
	case "update":
		return daemon.reapplyUpdate(ctr)
	case "copy":
		return daemon.reapplyCopy(ctr)
	}
	for _, k := range daemon.limitKinds() {
		if k.name() == kind {
			return k.reapply(ctr)
		}
	}
	return nil
}

// lostLimits has the reasons, by field of HostConfig. There may be none, where
// something that is no limit could not be taken away.
type lostLimits struct {
	sync.Mutex
	reasons map[lostOn]map[string]string
	retries map[string]lostRetry // by container

	retryAfter time.Duration // Of tests, 0 for retryLostAfter.
}

// lostOf returns what is lost of one container, or of all ("").
func (daemon *Daemon) lostOf(containerID string) map[lostOn]map[string]string {
	state := &daemon.limits.lost
	state.Lock()
	defer state.Unlock()
	lost := maps.Clone(state.reasons)
	maps.DeleteFunc(lost, func(on lostOn, _ map[string]string) bool { return containerID != "" && on.container != containerID })
	return lost
}

// noteLost remembers that limits are not in force, with a reason for each field of
// HostConfig that it is about, says so, and sees to it that they are tried again.
// Fields that were lost there and are not named any more are in force again.
func (daemon *Daemon) noteLost(ctr *container.Container, on lostOn, now map[string]string) {
	state := &daemon.limits.lost
	state.Lock()
	if state.reasons == nil {
		state.reasons, state.retries = map[lostOn]map[string]string{}, map[string]lostRetry{}
	}
	before := state.reasons[on]
	state.reasons[on] = now
	if r := state.retries[ctr.ID]; !r.due {
		first := cmp.Or(state.retryAfter, retryLostAfter)
		r = lostRetry{due: true, delay: min(max(2*r.delay, first), max(retryLostLast, first))}
		state.retries[ctr.ID] = r
		time.AfterFunc(r.delay, func() { daemon.retryLost(ctr.ID) })
	}
	state.Unlock()
	daemon.tellLost(ctr, on, before, now)
}

// noteHolds remembers that all limits there are in force.
func (daemon *Daemon) noteHolds(ctr *container.Container, on lostOn) {
	state := &daemon.limits.lost
	state.Lock()
	before := state.reasons[on]
	delete(state.reasons, on)
	state.Unlock()
	daemon.tellLost(ctr, on, before, nil)
}

func (daemon *Daemon) tellLost(ctr *container.Container, on lostOn, before, now map[string]string) {
	logger := log.G(context.TODO()).WithField("container", ctr.ID)
	about := func(field string) map[string]string {
		attributes := map[string]string{"limit": field}
		if on.network != "" {
			attributes["network"] = on.network
		}
		return attributes
	}
	if on.network != "" {
		logger = logger.WithField("network", on.network)
	}
	for _, field := range slices.Sorted(maps.Keys(now)) {
		if _, known := before[field]; !known {
			logger.WithField("reason", now[field]).Errorf("%s is not in force", field)
			attributes := about(field)
			attributes["reason"] = now[field]
			daemon.LogContainerEventWithAttributes(ctr, actionLimitLost, attributes)
		}
	}
	for _, field := range slices.Sorted(maps.Keys(before)) {
		if _, still := now[field]; !still {
			logger.Infof("%s is in force again", field)
			daemon.LogContainerEventWithAttributes(ctr, actionLimitRestored, about(field))
		}
	}
}

func (daemon *Daemon) retryLost(containerID string) {
	state := &daemon.limits.lost
	defer daemon.lockUpdates(containerID)()
	state.Lock()
	r := state.retries[containerID]
	r.due = false
	state.retries[containerID] = r
	state.Unlock()
	daemon.reapplyLost(containerID)
	if len(daemon.lostOf(containerID)) == 0 {
		state.Lock()
		defer state.Unlock()
		if !state.retries[containerID].due {
			delete(state.retries, containerID)
		}
	}
}

// reapplyLost tries once more to put in force what is lost of a container, and
// forgets what has gone meanwhile. Callers hold the container's update lock.
func (daemon *Daemon) reapplyLost(containerID string) {
	state := &daemon.limits.lost
	lost := daemon.lostOf(containerID)
	if len(lost) == 0 {
		return
	}
	if ctr := daemon.containers.Get(containerID); ctr != nil {
		kinds := map[string]bool{}
		for on := range lost {
			kinds[on.kind] = true
		}
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			for on := range daemon.reapply(kind, ctr) {
				delete(lost, on)
			}
		}
	}
	state.Lock()
	defer state.Unlock()
	for on := range lost {
		delete(state.reasons, on)
	}
}

// limitsNotInForce is for inspect: a line for each limit and network.
func (daemon *Daemon) limitsNotInForce(ctr *container.Container) (lines []string) {
	for on, reasons := range daemon.lostOf(ctr.ID) {
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

// lostWarnings is for `docker info`.
func (daemon *Daemon) lostWarnings() []string {
	names, uncopied := map[string]bool{}, map[string]bool{}
	for on := range daemon.lostOf("") {
		ctr := daemon.containers.Get(on.container)
		if ctr == nil {
			continue
		}
		name := strings.TrimPrefix(ctr.Name, "/")
		if on.kind == "copy" {
			uncopied[name] = true
		}
		if len(daemon.limitsNotInForce(ctr)) > 0 {
			names[name] = true
		}
	}
	var warnings []string
	if len(names) > 0 {
		warnings = append(warnings, fmt.Sprintf("WARNING: limits are not in force; see LimitsNotInForce of docker inspect: %s", strings.Join(slices.Sorted(maps.Keys(names)), ", ")))
	}
	if len(uncopied) > 0 {
		warnings = append(warnings, fmt.Sprintf("WARNING: limits are lost if upstream's dockerd is started on this data, as %s cannot be written: %s", limitsCopyFile, strings.Join(slices.Sorted(maps.Keys(uncopied)), ", ")))
	}
	return warnings
}
