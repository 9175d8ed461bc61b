// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/containerd/log"
	"github.com/docker/docker/container"
)

// A container that its restart policy, or dockerd's start, could not start because
// a limit cannot be put in force just now is tried again until it runs: no client
// waits for an answer, and nobody else would start it. A client that does wait is
// refused.

// errNotJustNow is a limit that may be possible at another time.
type errNotJustNow struct{ error }

func (e *errNotJustNow) Unwrap() error { return e.error }

// The first attempt comes after a second, each further one after twice as long.
var (
	startAgainFirst = time.Second
	startAgainLast  = 5 * time.Minute
)

// startingAgain has the containers that are tried again, and how to end that.
var startingAgain = struct {
	sync.Mutex
	cancel map[string]context.CancelFunc
}{cancel: map[string]context.CancelFunc{}}

// startAgain is called with what became of a start that no client asked for.
func (daemon *Daemon) startAgain(ctr *container.Container, err error) {
	if !errors.As(err, new(*errNotJustNow)) {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	startingAgain.Lock()
	defer startingAgain.Unlock()
	if _, ok := startingAgain.cancel[ctr.ID]; ok {
		cancel()
		return
	}
	startingAgain.cancel[ctr.ID] = cancel
	go func() {
		defer stopStartingAgain(ctr.ID)
		daemon.waitForStartupDone()
		logger := log.G(ctx).WithField("container", ctr.ID)
		for delay := startAgainFirst; ; delay = min(2*delay, startAgainLast) {
			logger.WithError(err).Warnf("the container is down until a limit can be put in force; trying again in %s", delay)
			select {
			case <-ctx.Done():
				return
			case <-time.After(delay):
			}
			if !daemon.shouldRun(ctr) {
				return
			}
			err = daemon.containerStart(context.WithoutCancel(ctx), daemon.config(), ctr, "", "", true)
			if err == nil {
				logger.Info("the container runs again")
				return
			}
			if !errors.As(err, new(*errNotJustNow)) {
				logger.WithError(err).Error("failed to start container")
				return
			}
		}
	}()
}

// shouldRun tells whether a container that is down would be restarted by its policy.
func (daemon *Daemon) shouldRun(ctr *container.Container) bool {
	if daemon.IsShuttingDown() || daemon.containers.Get(ctr.ID) != ctr {
		return false
	}
	ctr.Lock()
	defer ctr.Unlock()
	policy := ctr.HostConfig.RestartPolicy
	return !ctr.Running && !ctr.RemovalInProgress && !ctr.Dead && !ctr.HasBeenManuallyStopped && !policy.IsNone()
}

// stopStartingAgain tells whether there was anything to stop. `docker stop` of a
// container that is down ends the attempts.
func stopStartingAgain(containerID string) bool {
	startingAgain.Lock()
	defer startingAgain.Unlock()
	cancel, ok := startingAgain.cancel[containerID]
	if ok {
		cancel()
		delete(startingAgain.cancel, containerID)
	}
	return ok
}

// stopWhileDown is `docker stop` of a container that does not run. It tells whether
// that changed anything.
func (daemon *Daemon) stopWhileDown(ctr *container.Container) bool {
	if !stopStartingAgain(ctr.ID) {
		return false
	}
	ctr.Lock()
	defer ctr.Unlock()
	ctr.HasBeenManuallyStopped = true
	if err := ctr.CheckpointTo(context.TODO(), daemon.containersReplica); err != nil {
		log.G(context.TODO()).WithError(err).WithField("container", ctr.ID).Error("that it was stopped could not be stored")
	}
	return true
}
