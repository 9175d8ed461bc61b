// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"
)

func TestModresourcesChangesAllContainersOrNone(t *testing.T) {
	place.OneVM(t)
	d := setup(t)
	d.Must(t, "run", "-d", "--name=one", "--pids-limit=100", "busybox", "sleep", "600")
	d.Must(t, "run", "-d", "--name=two", "busybox", "sleep", "600")
	want := func(one, two string) {
		t.Helper()
		d.Cgroup(t, "one").Want(t, "pids.max", one)
		d.Cgroup(t, "two").Want(t, "pids.max", two)
	}

	d.Must(t, "modresources", "--dry-run", "--pids-limit=133", "one", "two")
	want("100", "max")
	d.Must(t, "modresources", "--pids-limit=133", "--container=one", "two")
	want("133", "133")

	r := d.Docker(t, "modresources", "--pids-limit=144", "one", "missing")
	assert.Assert(t, r.Code != 0)
	wantWords(t, r.Stderr, "missing")
	want("133", "133")

	if require.Has("gpu") {
		d.Must(t, "modresources", "--gpu-memory=10240", "--gpu-priority=50", "one", "two")
		wantLimits(t, d, "one", 50, 10240)
		wantLimits(t, d, "two", 50, 10240)
	} else {
		r := d.Docker(t, "modresources", "--pids-limit=155", "--gpu-memory=10240", "one", "two")
		assert.Assert(t, r.Code != 0)
		wantWords(t, r.Stderr, "--gpu-memory=10240", "CONFIG_CGROUP_GPU")
	}
	want("133", "133")
}

// Ctrl-C waits for what is under way in the daemon, which would go on alone, and
// leaves no container with the new value.
func TestInterruptedModresourcesChangesNothing(t *testing.T) {
	place.OnHost(t)
	require.Daemon(t)
	dir := t.TempDir()
	hold, script := filepath.Join(dir, "hold"), filepath.Join(dir, "runc.sh")
	text := fmt.Sprintf("#!/bin/sh\ncase \"$*\" in *update-many*) while [ -e %s ]; do sleep 0.1; done;; esac\nexec %s \"$@\"\n",
		hold, filepath.Join(require.Bin(), "runc"))
	assert.NilError(t, os.WriteFile(script, []byte(text), 0o700))
	d := daemon.New(t, "--add-runtime", "slow="+script)
	d.Must(t, "run", "-d", "--name=fast", "--pids-limit=100", "busybox", "sleep", "600")
	d.Must(t, "run", "-d", "--name=slow", "--pids-limit=100", "--runtime=slow", "busybox", "sleep", "600")
	pids := func(name string) string {
		value, _ := d.Cgroup(t, name).Read("pids.max")
		return value
	}

	assert.NilError(t, os.WriteFile(hold, nil, 0o600))
	stderr, err := os.Create(filepath.Join(dir, "stderr"))
	assert.NilError(t, err)
	defer stderr.Close()
	said := func() string {
		text, err := os.ReadFile(stderr.Name())
		assert.NilError(t, err)
		return string(text)
	}
	cmd := exec.Command(d.Binary("docker"), "--host", "unix://"+d.Socket(), "modresources", "--pids-limit=133", "fast", "slow")
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+dir)
	cmd.Stderr = stderr
	assert.NilError(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill() }()
	wait := func(what string, done func() bool) {
		t.Helper()
		poll.WaitOn(t, func(poll.LogT) poll.Result {
			if done() {
				return poll.Success()
			}
			return poll.Continue("waiting for %s", what)
		}, poll.WithTimeout(time.Minute))
	}
	wait("one of them to be changed", func() bool { return pids("fast") == "133" })
	assert.NilError(t, cmd.Process.Signal(os.Interrupt))
	wait("the command to say that it waits", func() bool { return strings.Contains(said(), "waiting for the updates") })
	assert.Equal(t, pids("slow"), "100") // it would have been too late

	assert.NilError(t, os.Remove(hold))
	_ = cmd.Wait()
	assert.Equal(t, cmd.ProcessState.ExitCode(), 130, said())
	wantWords(t, said(), "interrupted; put back to the old values: fast, slow")
	for _, name := range []string{"fast", "slow"} {
		assert.Equal(t, pids(name), "100", name)
		wantWords(t, d.Must(t, "inspect", name), `"PidsLimit": 100`)
	}
}

// The runtime does not decode the filter when it updates; exec takes it from the
// state that the update has written.
func TestAnUpdateKeepsTheSeccompFilter(t *testing.T) {
	place.OnHost(t)
	d := setup(t)
	d.Must(t, "run", "-d", "--name=filtered", "busybox", "sleep", "600")
	d.Must(t, "run", "-d", "--name=free", "--security-opt=seccomp=unconfined", "busybox", "sleep", "600")
	seen := func(name string) string {
		t.Helper()
		data, err := os.ReadFile(d.StateFile(d.Inspect(t, name).ID))
		assert.NilError(t, err)
		var state struct {
			Config struct {
				Seccomp any `json:"seccomp"`
			} `json:"config"`
		}
		assert.NilError(t, json.Unmarshal(data, &state))
		filter, err := json.Marshal(state.Config.Seccomp)
		assert.NilError(t, err)
		return d.Must(t, "exec", name, "grep", "^Seccomp", "/proc/self/status") + string(filter)
	}
	filtered, free := seen("filtered"), seen("free")
	assert.Assert(t, strings.HasPrefix(filtered, "Seccomp:\t2\n") && len(filtered) > 10000, filtered)
	assert.Assert(t, strings.HasPrefix(free, "Seccomp:\t0\n") && strings.HasSuffix(free, "null"), free)
	for range 2 {
		d.Must(t, "modresources", "--pids-limit=133", "filtered", "free")
		assert.Equal(t, seen("filtered"), filtered)
		assert.Equal(t, seen("free"), free)
	}
}

// What one change costs: the calls of the API, and the processes of the runtime.
func TestModresourcesDoesNoMoreThanItNeeds(t *testing.T) {
	place.OnHost(t)
	require.Daemon(t)
	dir := t.TempDir()
	log, script := filepath.Join(dir, "runc.log"), filepath.Join(dir, "runc.sh")
	text := fmt.Sprintf("#!/bin/sh\necho \"$*\" >>%s\nexec %s \"$@\"\n", log, filepath.Join(require.Bin(), "runc"))
	assert.NilError(t, os.WriteFile(script, []byte(text), 0o700))
	d := daemon.New(t, "--add-runtime", "counted="+script)
	names := []string{"one", "two", "three"}
	for _, name := range names {
		d.Must(t, "run", "-d", "--name="+name, "--runtime=counted", "busybox", "sleep", "600")
	}
	var mu sync.Mutex
	calls := map[string]int{}
	socket := proxy(t, d, func(r *http.Response) error {
		mu.Lock()
		defer mu.Unlock()
		calls[r.Request.Method+" "+path.Base(r.Request.URL.Path)]++
		return nil
	})
	for n := 1; n <= len(names); n++ {
		clear(calls)
		assert.NilError(t, os.WriteFile(log, nil, 0o600))
		args := append([]string{"modresources", "--pids-limit=" + strconv.Itoa(100+n)}, names[:n]...)
		r := d.CLI(t, d.Binary("docker"), socket, args...)
		assert.Equal(t, r.Code, 0, r.Stderr)
		mu.Lock()
		want := map[string]int{"HEAD _ping": 1, "GET json": 1, "POST update": n}
		if n > 1 {
			want = map[string]int{"HEAD _ping": 1, "GET resources": 1, "POST update": n}
		}
		assert.DeepEqual(t, calls, want)
		mu.Unlock()
		started, err := os.ReadFile(log)
		assert.NilError(t, err)
		// None, if that of the last command still waits for more.
		assert.Assert(t, strings.Count(string(started), "\n") <= 1, "%s", started)
	}
	wantWords(t, d.Must(t, "inspect", "one"), `"PidsLimit": 103`)
}
