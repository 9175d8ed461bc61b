// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/container"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func TestStartAgain(t *testing.T) {
	notNow := fmt.Errorf("network: %w", &errNotJustNow{errors.New("no room")})
	for _, tc := range []struct {
		name    string
		first   error
		answers []error // of the attempts, the last one again and again
		policy  containertypes.RestartPolicyMode
		stop    int  // the attempt during which docker stop is called; 0 is none
		want    int  // attempts
		runs    bool // in the end
	}{
		{name: "until it runs", first: notNow, answers: []error{notNow, notNow, nil}, policy: "always", want: 3, runs: true},
		{name: "until something else is wrong", first: notNow, answers: []error{notNow, errors.New("no program")}, policy: "always", want: 2},
		{name: "something else is wrong", first: errors.New("no program"), answers: []error{nil}, policy: "always"},
		{name: "no policy", first: notNow, answers: []error{nil}, policy: "no"},
		{name: "until it is stopped", first: notNow, answers: []error{notNow}, policy: "always", stop: 2, want: 2},
		{name: "stopped while it starts", first: notNow, answers: []error{notNow, nil}, policy: "always", stop: 2, want: 2, runs: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			replica, err := container.NewViewDB()
			assert.NilError(t, err)
			daemon := &Daemon{containers: container.NewMemoryStore(), containersReplica: replica, startupDone: make(chan struct{})}
			close(daemon.startupDone)
			again := &daemon.limits.again
			again.first = time.Millisecond
			ctr := container.NewBaseContainer("startagain", t.TempDir())
			ctr.Config = &containertypes.Config{}
			ctr.HostConfig = &containertypes.HostConfig{RestartPolicy: containertypes.RestartPolicy{Name: tc.policy}}
			daemon.containers.Add(ctr.ID, ctr)
			n := 0
			stopped := make(chan bool, 1)
			again.start = func(_ context.Context, c *container.Container) error {
				if n++; n == tc.stop {
					go func() { stopped <- daemon.stopWhileDown(c) }()
					assert.Check(t, gone(again, c.ID))
				}
				err := tc.answers[min(n, len(tc.answers))-1]
				if err == nil {
					c.Lock()
					c.Running = true
					c.Unlock()
				}
				return err
			}
			daemon.startAgain(ctr, tc.first)
			again.Lock()
			a := again.attempts[ctr.ID]
			again.Unlock()
			if a != nil {
				daemon.startAgain(ctr, tc.first) // once is enough
				<-a.done
			}
			assert.Check(t, gone(again, ctr.ID))
			assert.Check(t, is.Equal(n, tc.want))
			assert.Check(t, is.Equal(ctr.Running, tc.runs))
			if tc.stop != 0 {
				assert.Check(t, is.Equal(<-stopped, !tc.runs), "whether there is nothing more to stop")
				assert.Check(t, is.Equal(ctr.HasBeenManuallyStopped, !tc.runs))
			}
			assert.Check(t, !daemon.stopWhileDown(ctr))
		})
	}
}

// gone waits until nobody tries a container again.
func gone(again *startingAgain, id string) bool {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		again.Lock()
		_, ok := again.attempts[id]
		again.Unlock()
		if !ok {
			return true
		}
	}
	return false
}
