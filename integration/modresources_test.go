// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"gotest.tools/v3/assert"
)

func TestModresourcesChangesAllContainersOrNone(t *testing.T) {
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

// What one change costs: the calls of the API, and the processes of the runtime.
func TestModresourcesDoesNoMoreThanItNeeds(t *testing.T) {
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
