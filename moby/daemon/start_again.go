// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"cmp"
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
const (
	startAgainFirst = time.Second
	startAgainLast  = 5 * time.Minute
)

// startingAgain has the containers that are tried again.
type startingAgain struct {
	sync.Mutex
	attempts map[string]*attempts

	// Of tests, unset for startAgainFirst and containerStart.
	first time.Duration
	start func(context.Context, *container.Container) error
}

type attempts struct {
	cancel context.CancelFunc
	done   chan struct{} // closed after the last one
}

// startAgain is called with what became of a start that no client asked for.
func (daemon *Daemon) startAgain(ctr *container.Container, err error) {
	if !errors.As(err, new(*errNotJustNow)) {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	again := &daemon.limits.again
	again.Lock()
	defer again.Unlock()
	if _, ok := again.attempts[ctr.ID]; ok {
		cancel()
		return
	}
	a := &attempts{cancel: cancel, done: make(chan struct{})}
	if again.attempts == nil {
		again.attempts = map[string]*attempts{}
	}
	again.attempts[ctr.ID] = a
	start := again.start
	if start == nil {
		start = func(ctx context.Context, ctr *container.Container) error {
			return daemon.containerStart(ctx, daemon.config(), ctr, "", "", true)
		}
	}
	first := cmp.Or(again.first, startAgainFirst)
	go func() {
		defer func() {
			cancel()
			again.Lock()
			defer again.Unlock()
			if again.attempts[ctr.ID] == a {
				delete(again.attempts, ctr.ID)
			}
			close(a.done)
		}()
		select {
		case <-ctx.Done():
			return
		case <-daemon.startupDone:
		}
		logger := log.G(ctx).WithField("container", ctr.ID)
		for delay := first; ; delay = min(2*delay, startAgainLast) {
			logger.WithError(err).Warnf("the container is down until a limit can be put in force; trying again in %s", delay)
			select {
			case <-ctx.Done():
				return
			case <-time.After(delay):
			}
			if ctx.Err() != nil || !daemon.shouldRun(ctr) {
				return
			}
			err = start(context.WithoutCancel(ctx), ctr)
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

// stopWhileDown is `docker stop` of a container that did not run: it ends the
// attempts. It tells whether that was all; the last one may have succeeded.
func (daemon *Daemon) stopWhileDown(ctr *container.Container) bool {
	again := &daemon.limits.again
	again.Lock()
	a := again.attempts[ctr.ID]
	delete(again.attempts, ctr.ID)
	again.Unlock()
	if a == nil {
		return false
	}
	a.cancel()
	<-a.done
	ctr.Lock()
	defer ctr.Unlock()
	if ctr.Running {
		return false
	}
	ctr.HasBeenManuallyStopped = true
	if err := ctr.CheckpointTo(context.TODO(), daemon.containersReplica); err != nil {
		log.G(context.TODO()).WithError(err).WithField("container", ctr.ID).Error("that it was stopped could not be stored")
	}
	return true
}
