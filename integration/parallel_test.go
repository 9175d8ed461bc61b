// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/netns"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"gotest.tools/v3/assert"
)

// raceDaemon is the shared daemon, or one of its own in ns; if RACE names a folder
// with a dockerd and a runc that have the race detector, it is one with these. The
// test fails for every race that they find; with a network only for those that a
// file of ours takes part in, as libnetwork's networks race with each other
// (libnetwork/store.go: who reads one from its cache writes to it).
func raceDaemon(t *testing.T, ns *netns.NS) *daemon.Daemon {
	dir := os.Getenv("RACE")
	switch {
	case dir == "" && ns == nil:
		return setup(t)
	case dir == "":
		return daemon.NewIn(t, ns)
	}
	require.Daemon(t)
	reports := t.TempDir()
	t.Setenv("GORACE", "log_path="+filepath.Join(reports, "race"))
	d, err := daemon.StartWith(map[string]string{"dockerd": filepath.Join(dir, "dockerd"), "runc": filepath.Join(dir, "runc")}, ns)
	assert.NilError(t, err)
	t.Cleanup(func() {
		// A process may report until it has ended.
		assert.Check(t, d.Close())
		files, err := filepath.Glob(filepath.Join(reports, "*"))
		assert.NilError(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			assert.NilError(t, err)
			for report := range strings.SplitSeq(string(text), "==================\n") {
				if strings.Contains(report, "DATA RACE") && (ns == nil || isOurs(t, report)) {
					t.Errorf("%s\n%s", filepath.Base(file), report)
				}
			}
		}
	})
	t.Cleanup(func() { d.RemoveAll(t) })
	return d
}

// isOurs tells whether one of the two accesses that a report of a race begins
// with is in a file of ours.
func isOurs(t *testing.T, report string) bool {
	t.Helper()
	accesses, _, _ := strings.Cut(report, "\nGoroutine ")
	for access := range strings.SplitSeq(accesses, "\n\n") {
		for _, m := range regexp.MustCompile(`(?m)^ +(\S+\.go):\d+`).FindAllStringSubmatch(access, -1) {
			own, inMoby := strings.CutPrefix(m[1], "github.com/docker/docker/")
			if !inMoby {
				continue // the map, the slice, the lock that it is about
			}
			if _, err := os.Stat(filepath.Join("../moby", own)); err == nil {
				return true
			}
			break
		}
	}
	return false
}

// parallelUpdates sends one update for each set, all at the same time, to the
// containers in turn, and returns which of the sets each container may have.
func parallelUpdates(t *testing.T, d *daemon.Daemon, sets []settings, names []string, withGPU bool) {
	t.Helper()
	var wg sync.WaitGroup
	for i, s := range sets {
		wg.Go(func() {
			name := names[i%len(names)]
			r, err := d.TryAPI(http.MethodPost, "/containers/"+name+"/update", s.body(withGPU, false))
			if err != nil || r.Status != http.StatusOK {
				t.Errorf("%s: %v %d %s", name, err, r.Status, r.Body)
			}
		})
	}
	wg.Wait()
}

func someSettings(n, round int, withGPU bool) []settings {
	sets := make([]settings, n)
	for i := range sets {
		k := int64(round*n + i)
		sets[i] = settings{pids: 100 + k, memory: (16 + k) * mib}
		if withGPU {
			sets[i].priority, sets[i].gpu = 1+k%1000, 4096*(1+k)
		}
	}
	return sets
}

// The last one wins, whole: kernel, inspect and disk have one and the same set,
// and the next update finds no trace of the others.
func TestParallelUpdatesOfOneContainer(t *testing.T) {
	place.OnHost(t)
	d := raceDaemon(t, nil)
	withGPU := require.Has("gpu")
	d.Must(t, "run", "-d", "--name=box", "busybox", "sleep", "600")
	rounds := 3
	if withGPU { // The VM, where each update takes much longer.
		rounds = 1
	}
	for round := range rounds {
		sets := someSettings(50, round, withGPU)
		parallelUpdates(t, d, sets, []string{"box"}, withGPU)
		assert.Assert(t, contains(sets, inForce(t, d, "box", withGPU, "")), "a mixture: %+v", inForce(t, d, "box", withGPU, ""))
	}
}

func contains(sets []settings, s settings) bool {
	for _, one := range sets {
		if one == s {
			return true
		}
	}
	return false
}

// Two updates for each of many containers at the same time, by the API, and
// then all of them by one command.
func TestParallelUpdatesOfManyContainers(t *testing.T) {
	place.OnHost(t)
	d := raceDaemon(t, nil)
	withGPU := require.Has("gpu")
	n := 50
	if withGPU { // The VM, where each start takes seconds.
		n = 5
	}
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("box%d", i)
		d.Must(t, "run", "-d", "--name="+names[i], "busybox", "sleep", "86400")
	}
	sets := someSettings(2*n, 0, withGPU)
	parallelUpdates(t, d, sets, names, withGPU)
	for i, name := range names {
		got := inForce(t, d, name, withGPU, "")
		assert.Check(t, got == sets[i] || got == sets[n+i], "%s: a mixture: %+v", name, got)
	}

	// Two commands with all containers: each container has one of the two.
	var wg sync.WaitGroup
	for _, pids := range []string{"1111", "2222"} {
		wg.Go(func() {
			if r := d.Docker(t, append([]string{"modresources", "-q", "--pids-limit=" + pids}, names...)...); r.Code != 0 {
				t.Errorf("%d %s", r.Code, r.Stderr)
			}
		})
	}
	wg.Wait()
	for i, name := range names {
		got := inForce(t, d, name, withGPU, "")
		assert.Check(t, got.pids == 1111 || got.pids == 2222, "%s: %+v", name, got)
		assert.Check(t, got.memory == sets[i].memory || got.memory == sets[n+i].memory, "%s: %+v", name, got)
	}
}

// Each packet of each container has its class, and nothing is left of them.
func TestParallelStartsAndEndsWithLimits(t *testing.T) {
	place.OnHost(t)
	require.NetRate(t)
	h := newNetHost(t, netns.New(t), netns.New(t))
	d := raceDaemon(t, h.NS)
	d.Must(t, "network", "create", "n")
	clean := h.leftovers(t)
	d.Must(t, "run", "-d", "--name=changed", "--net-classid=10:3", "busybox", "sleep", "600")
	before := h.sent(t)
	const at, times = 8, 3
	var wg sync.WaitGroup
	for range at {
		wg.Go(func() {
			for range times {
				r := d.Docker(t, "run", "--rm", "--net-classid=10:1", "--net-egress-rate=8mbit", "--net-ingress-rate=8mbit", "--blkio-read-limit=40m",
					"busybox", "ping", "-c1", "-W5", outside4)
				if r.Code != 0 {
					t.Errorf("%d: %s", r.Code, r.Stderr)
				}
			}
		})
	}
	wg.Go(func() {
		for i := range times {
			for _, args := range [][]string{
				{"network", "connect", "n", "changed"}, {"modresources", fmt.Sprintf("--net-egress-rate=%dmbit", 10+i), "changed"},
				{"network", "disconnect", "n", "changed"}, {"modresources", "--net-egress-rate=-1", "changed"},
			} {
				if r := d.Docker(t, args...); r.Code != 0 {
					t.Errorf("%v: %s", args, r.Stderr)
				}
			}
		}
	})
	wg.Wait()
	assert.Equal(t, h.sent(t)["10:1"]-before["10:1"], at*times)
	d.Must(t, "rm", "-f", "changed")
	assert.Equal(t, h.leftovers(t), clean)
}
