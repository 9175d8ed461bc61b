// SPDX-License-Identifier: Apache-2.0

package daemon

import (
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
// until nothing of the container is lost any more. Tests replace it.
var retryLostAfter = 10 * time.Second

const retryLostLast = 5 * time.Minute

type lostRetry struct {
	due   bool
	delay time.Duration // of the last attempt
}

// lostOn is where limits are not in force.
type lostOn struct {
	container string
	kind      string // of limits: a key of reapplyKinds
	endpoint  string // its ID, "" if it is not about one
	network   string
}

// reapplyKinds has, by kind of limits, who puts all of that kind in force again for
// a container, notes what came of it, and returns for which places. Places of the
// kind that it does not return are forgotten. It is called with the container's
// update lock held.
var reapplyKinds = map[string]func(*Daemon, *container.Container) map[lostOn]bool{}

// lostLimits has the reasons, by field of HostConfig. There may be none, where
// something that is no limit could not be taken away.
var lostLimits = struct {
	sync.Mutex
	reasons map[lostOn]map[string]string
	retries map[string]lostRetry // by container
}{reasons: map[lostOn]map[string]string{}, retries: map[string]lostRetry{}}

// lostOf returns what is lost of one container, or of all ("").
func lostOf(containerID string) map[lostOn]map[string]string {
	lostLimits.Lock()
	defer lostLimits.Unlock()
	lost := maps.Clone(lostLimits.reasons)
	maps.DeleteFunc(lost, func(on lostOn, _ map[string]string) bool { return containerID != "" && on.container != containerID })
	return lost
}

// noteLost remembers that limits are not in force, with a reason for each field of
// HostConfig that it is about, says so, and sees to it that they are tried again.
// Fields that were lost there and are not named any more are in force again.
func (daemon *Daemon) noteLost(ctr *container.Container, on lostOn, now map[string]string) {
	lostLimits.Lock()
	before := lostLimits.reasons[on]
	lostLimits.reasons[on] = now
	if r := lostLimits.retries[ctr.ID]; !r.due {
		r = lostRetry{due: true, delay: min(max(2*r.delay, retryLostAfter), max(retryLostLast, retryLostAfter))}
		lostLimits.retries[ctr.ID] = r
		time.AfterFunc(r.delay, func() { daemon.retryLost(ctr.ID) })
	}
	lostLimits.Unlock()
	daemon.tellLost(ctr, on, before, now)
}

// noteHolds remembers that all limits there are in force.
func (daemon *Daemon) noteHolds(ctr *container.Container, on lostOn) {
	lostLimits.Lock()
	before := lostLimits.reasons[on]
	delete(lostLimits.reasons, on)
	lostLimits.Unlock()
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
	defer lockUpdates(containerID)()
	lostLimits.Lock()
	r := lostLimits.retries[containerID]
	r.due = false
	lostLimits.retries[containerID] = r
	lostLimits.Unlock()
	daemon.reapplyLost(containerID)
	if len(lostOf(containerID)) == 0 {
		lostLimits.Lock()
		defer lostLimits.Unlock()
		if !lostLimits.retries[containerID].due {
			delete(lostLimits.retries, containerID)
		}
	}
}

// reapplyLost tries once more to put in force what is lost of a container, and
// forgets what has gone meanwhile. Callers hold the container's update lock.
func (daemon *Daemon) reapplyLost(containerID string) {
	lost := lostOf(containerID)
	if len(lost) == 0 {
		return
	}
	if ctr := daemon.containers.Get(containerID); ctr != nil {
		kinds := map[string]bool{}
		for on := range lost {
			kinds[on.kind] = true
		}
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			for on := range reapplyKinds[kind](daemon, ctr) {
				delete(lost, on)
			}
		}
	}
	lostLimits.Lock()
	defer lostLimits.Unlock()
	for on := range lost {
		delete(lostLimits.reasons, on)
	}
}

// limitsNotInForce is for inspect: a line for each limit and network.
func (daemon *Daemon) limitsNotInForce(ctr *container.Container) (lines []string) {
	for on, reasons := range lostOf(ctr.ID) {
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
	for on := range lostOf("") {
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
