// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"testing"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	eventtypes "github.com/docker/docker/api/types/events"
	"github.com/docker/docker/container"
	"github.com/docker/docker/daemon/events"
	"github.com/docker/docker/libnetwork/netlimit"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
	"gotest.tools/v3/poll"
)

func TestLostNetLimitsAreShownUntilTheyHold(t *testing.T) {
	ctr := container.NewBaseContainer("lostnet", t.TempDir())
	ctr.Name = "/web"
	ctr.Config = &containertypes.Config{}
	ctr.HostConfig = &containertypes.HostConfig{NetworkMode: "host"}
	daemon := &Daemon{EventsService: events.New(), containers: container.NewMemoryStore()}
	daemon.limits.lost.retryAfter = time.Hour
	daemon.containers.Add(ctr.ID, ctr)
	_, seen, cancel := daemon.EventsService.Subscribe()
	defer cancel()
	wantEvents := func(want ...string) {
		t.Helper()
		var got []string
		for len(seen) > 0 {
			m := (<-seen).(eventtypes.Message)
			got = append(got, string(m.Action)+" "+m.Actor.Attributes["limit"]+" "+m.Actor.Attributes["network"]+" "+m.Actor.Attributes["reason"])
		}
		assert.DeepEqual(t, got, want)
	}

	class, rate := uint32(7), int64(8e6)
	limits := containertypes.Resources{NetClassID: &class, NetEgressRate: &rate}
	on := lostOn{container: ctr.ID, network: "host"}
	onlyClass := &netlimit.Error{Class: errors.New("no rule"), Ingress: errors.New("not asked for")}
	daemon.noteNet(ctr, on, limits, onlyClass)
	wantEvents("limit_lost NetClassID host no rule")
	daemon.noteNet(ctr, on, limits, onlyClass)
	wantEvents()
	assert.DeepEqual(t, daemon.limitsNotInForce(ctr), []string{"NetClassID on network host: no rule"})
	assert.DeepEqual(t, daemon.lostWarnings(), []string{"WARNING: limits are not in force; see LimitsNotInForce of docker inspect: web"})

	daemon.noteNet(ctr, on, limits, errors.New("no kernel"))
	wantEvents("limit_lost NetEgressRate host no kernel")
	assert.Check(t, is.Len(daemon.limitsNotInForce(ctr), 2))
	daemon.noteNet(ctr, on, limits, onlyClass)
	wantEvents("limit_restored NetEgressRate host ")
	daemon.noteNet(ctr, on, limits, nil)
	wantEvents("limit_restored NetClassID host ")
	assert.Check(t, is.Len(daemon.limitsNotInForce(ctr), 0))
	assert.Check(t, is.Len(daemon.lostWarnings(), 0))

	// One that has ended is forgotten, without a word.
	daemon.noteNet(ctr, on, limits, onlyClass)
	wantEvents("limit_lost NetClassID host no rule")
	daemon.retryLost(ctr.ID)
	assert.Check(t, is.Len(daemon.lostOf(ctr.ID), 0))
	wantEvents()

	// By itself, too, and by the next update.
	daemon.limits.lost.retryAfter = time.Millisecond
	daemon.noteNet(ctr, on, limits, onlyClass)
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		if len(daemon.lostOf(ctr.ID)) > 0 {
			return poll.Continue("still lost")
		}
		return poll.Success()
	})
	daemon.limits.lost.retryAfter = time.Hour
	daemon.noteNet(ctr, on, limits, onlyClass)
	_, err := daemon.transact(ctr.ID, 0, func(*container.Container) (containertypes.Resources, resourceSet, error) {
		return containertypes.Resources{}, resourceSet{}, errors.New("refused")
	})
	assert.Check(t, err != nil)
	assert.Check(t, is.Len(daemon.lostOf(ctr.ID), 0))
}

func TestConnectWaitsForTheEndOfAnUpdate(t *testing.T) {
	daemon := &Daemon{}
	unlock := daemon.lockNetUpdates("connect")
	done := make(chan struct{})
	go func() {
		defer close(done)
		// It ends by a panic: there is no network in this daemon.
		defer func() { _ = recover() }()
		ctr := container.NewBaseContainer("connect", t.TempDir())
		_ = daemon.ConnectToNetwork(t.Context(), ctr, "n1", nil)
	}()
	select {
	case <-done:
		t.Error("connected in the middle of an update")
	case <-time.After(100 * time.Millisecond):
	}
	unlock()
	<-done
}
