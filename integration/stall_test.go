// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
)

// promptly is how long may take what waits for nobody. An emulated machine is ten
// times as slow.
func promptly() time.Duration {
	if require.Has("gpu") { // The VM.
		return 20 * time.Second
	}
	return 3 * time.Second
}

func (l lateAnswer) notYet(t *testing.T) {
	t.Helper()
	select {
	case r := <-l:
		t.Fatalf("answered while it was held: %d %s", r.Status, r.Message())
	default:
	}
}

type lateAnswer chan daemon.Response

func later(d *daemon.Daemon, path, body string) lateAnswer {
	done := make(lateAnswer, 1)
	go func() {
		r, err := d.TryAPI(http.MethodPost, path, body)
		if err != nil {
			r.Body = []byte(err.Error())
		}
		done <- r
	}()
	return done
}

// One container's runtime does not answer: its state is locked by another
// program. Nobody else waits for that, nor does what has nothing to do with it,
// and after a minute it is given up and rolled back, for which it has another one.
func TestUpdateThatHangsHoldsUpNobodyElse(t *testing.T) {
	place.OnHost(t)
	_, d := setupNet(t)
	d.Must(t, "network", "create", "n1")
	d.Must(t, "run", "-d", "--name=h1", "--pids-limit=100", "busybox", "sleep", "inf")
	d.Must(t, "run", "-d", "--name=h2", "--pids-limit=100", "busybox", "sleep", "inf")
	// A new runtime process, for which the first update is the one that hangs.
	time.Sleep(2 * time.Second)
	letGo := holdRuntime(t, d, "h1")
	defer letGo()
	begin := time.Now()
	hangs := later(d, "/containers/h1/update", `{"PidsLimit":133}`)
	waitForRuntime(t, d)

	for _, pids := range []string{"101", "102"} {
		begin := time.Now()
		d.Must(t, "update", "--pids-limit="+pids, "h2")
		took := time.Since(begin)
		assert.Assert(t, took < promptly(), "an update of another container took %s", took)
		t.Logf("an update of another container took %s", took)
		assert.Equal(t, readFile(t, d.Cgroup(t, "h2"), "pids", "pids.max"), pids)
	}
	begin2 := time.Now()
	d.Must(t, "network", "connect", "n1", "h1")
	took := time.Since(begin2)
	assert.Assert(t, took < promptly(), "a connect of the same container took %s", took)
	hangs.notYet(t)

	r := <-hangs
	took = time.Since(begin)
	assert.Equal(t, r.Status, http.StatusInternalServerError, "%s", r.Body)
	wantWords(t, r.Message(), "did not finish within 1m0s", "another program may hold the container's state")
	assert.Assert(t, took > time.Minute && took < 3*time.Minute, "given up after %s", took)
	letGo()
	d.Must(t, "update", "--cpu-shares=512", "h1") // It rolls back what is left of the other one.
	assert.Equal(t, readFile(t, d.Cgroup(t, "h1"), "pids", "pids.max"), "100")
	assert.Assert(t, strings.Contains(d.Must(t, "inspect", "h1"), `"PidsLimit": 100,`))
}

// dockerd died in the middle of an update, and when it is started the runtime does
// not answer for that container. The others need dockerd.
func TestUpdateThatHangsDoesNotHoldUpTheStart(t *testing.T) {
	place.OnHost(t)
	d := daemon.New(t, "--live-restore")
	d.Must(t, "run", "-d", "--name=h1", "--pids-limit=100", "busybox", "sleep", "inf")
	d.Must(t, "run", "-d", "--name=h2", "busybox", "sleep", "inf")
	letGo := holdRuntime(t, d, "h1")
	defer letGo()
	later(d, "/containers/h1/update", `{"PidsLimit":133}`)
	waitForRuntime(t, d)
	d.Kill(t)
	pending := filepath.Join(filepath.Dir(d.HostConfigFile(idOnDisk(t, d))), "update.pending.json")
	_, err := os.Stat(pending)
	assert.NilError(t, err)

	begin := time.Now()
	d.StartAgain(t)
	took := time.Since(begin)
	t.Logf("the start took %s", took)
	assert.Assert(t, took < 3*time.Second+2*promptly(), "the start took %s", took)
	d.Must(t, "update", "--pids-limit=101", "h2")
	wantWords(t, d.Must(t, "inspect", "-f", "{{json .LimitsNotInForce}}", "h1"), "PidsLimit", "is being rolled back")
	wantWords(t, d.Must(t, "info", "--format", "{{json .Warnings}}"), "WARNING: limits are not in force", "h1")

	letGo()
	until(t, func() error {
		if _, err := os.Stat(pending); !os.IsNotExist(err) || d.Must(t, "inspect", "-f", "{{json .LimitsNotInForce}}", "h1") != "null" {
			return errors.New("it is not rolled back")
		}
		return nil
	})
	assert.Equal(t, readFile(t, d.Cgroup(t, "h1"), "pids", "pids.max"), "100")
	assert.Assert(t, strings.Contains(d.Must(t, "inspect", "h1"), `"PidsLimit": 100,`))
}

// idOnDisk finds the container that has a pending update, while dockerd is away.
func idOnDisk(t *testing.T, d *daemon.Daemon) string {
	t.Helper()
	found, err := filepath.Glob(d.HostConfigFile("*"))
	assert.NilError(t, err)
	for _, file := range found {
		dir := filepath.Dir(file)
		if _, err := os.Stat(filepath.Join(dir, "update.pending.json")); err == nil {
			return filepath.Base(dir)
		}
	}
	t.Fatal("no container has a pending update")
	return ""
}
