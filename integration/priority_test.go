// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"math"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

const (
	engine = "/dev/dri/renderD129"

	// Long enough for thousands of jobs of two milliseconds.
	window = 6 * time.Second

	// How far a measured share may be from the formula, as a part of the smaller
	// of the two: room for the whole jobs at both ends of the window and for
	// timers under emulation, and less than what 40 points of priority make.
	tolerance = 0.2
)

// weight is the formula of the documentation: 128 points double the share.
func weight(priority int64) float64 { return math.Exp2(float64(priority) / 128) }

// load starts a container that keeps the engine busy.
func load(t *testing.T, d *daemon.Daemon, name string, priority int64, args ...string) {
	t.Helper()
	run := []string{"run", "-d", "--name=" + name, "--device=" + engine, fmt.Sprintf("--gpu-priority=%d", priority), "busybox", "gpuload"}
	d.Must(t, append(run, args...)...)
}

func setPriority(t *testing.T, d *daemon.Daemon, name string, priority int64) {
	t.Helper()
	r := d.API(t, http.MethodPost, "/containers/"+name+"/update", fmt.Sprintf(`{"GPUPriority":%d}`, priority))
	assert.Equal(t, r.Status, http.StatusOK, "%s", r.Body)
}

// reading is one line of gpuload.
type reading struct{ at, jobs, busy int64 }

func readings(t *testing.T, d *daemon.Daemon, name string) []reading {
	t.Helper()
	var all []reading
	for line := range strings.Lines(d.Must(t, "logs", name)) {
		var r reading
		if _, err := fmt.Sscan(line, &r.at, &r.jobs, &r.busy); err != nil {
			t.Fatalf("%s printed %q", name, line)
		}
		all = append(all, r)
	}
	return all
}

// at estimates the time on the engine up to a moment between two lines.
func at(t *testing.T, all []reading, moment int64) float64 {
	t.Helper()
	i, _ := slices.BinarySearchFunc(all, moment, func(r reading, m int64) int { return int(r.at - m) })
	if i == 0 || i == len(all) {
		t.Fatalf("no lines around %d µs", moment)
	}
	a, b := all[i-1], all[i]
	return float64(a.busy) + float64(b.busy-a.busy)*float64(moment-a.at)/float64(b.at-a.at)
}

func now(t *testing.T) int64 {
	t.Helper()
	var ts unix.Timespec
	assert.NilError(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts))
	return ts.Nano() / 1000
}

// waitBusy waits for the first job of a container.
func waitBusy(t *testing.T, d *daemon.Daemon, name string) {
	t.Helper()
	for end := time.Now().Add(soon); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if all := readings(t, d, name); len(all) > 0 && all[len(all)-1].jobs > 0 {
			return
		}
	}
	t.Fatalf("%s did not finish a job in %s", name, soon)
}

// wantShares measures what a and b get and compares it with their priorities.
func wantShares(t *testing.T, d *daemon.Daemon, when string, a, b int64) {
	t.Helper()
	from := now(t)
	time.Sleep(window)
	to := now(t)
	time.Sleep(time.Second) // for a line after the end
	inA, inB := readings(t, d, "aa"), readings(t, d, "bb")
	gotA, gotB := at(t, inA, to)-at(t, inA, from), at(t, inB, to)-at(t, inB, from)
	got := gotA / (gotA + gotB)
	want := weight(a) / (weight(a) + weight(b))
	t.Logf("%s, %d : %d: got %.2f%% : %.2f%%, formula %.2f%% : %.2f%%, engine busy %.0f%% of the time",
		when, a, b, 100*got, 100*(1-got), 100*want, 100*(1-want), 100*(gotA+gotB)/float64(to-from))
	if limit := tolerance * min(want, 1-want); math.Abs(got-want) > limit {
		t.Errorf("%s, %d : %d: the share of the first is %.4f, want %.4f ± %.4f", when, a, b, got, want, limit)
	}
}

func TestPriorityDecidesTheShareOfTheGPU(t *testing.T) {
	require.GPU(t)
	require.Engine(t)
	for _, pair := range [][2]int64{{-100, 100}, {0, 50}, {10, 900}, {7, 7}} {
		t.Run(fmt.Sprint(pair[0], " ", pair[1]), func(t *testing.T) {
			d := setup(t)
			load(t, d, "aa", pair[0])
			load(t, d, "bb", pair[1])
			waitBusy(t, d, "aa")
			waitBusy(t, d, "bb")
			wantShares(t, d, "after run", pair[0], pair[1])

			// Both have jobs queued all the time.
			setPriority(t, d, "aa", pair[1])
			setPriority(t, d, "bb", pair[0])
			wantShares(t, d, "after a live change", pair[1], pair[0])
		})
	}
}

func TestTheShareIsOfTimeAndOfContainers(t *testing.T) {
	require.GPU(t)
	require.Engine(t)
	for _, tc := range []struct {
		name string
		b    []string
	}{
		{"long jobs against short ones", []string{"--run=15ms"}},
		{"ten files against one", []string{"--files=10"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := setup(t)
			load(t, d, "aa", 0)
			load(t, d, "bb", 0, tc.b...)
			waitBusy(t, d, "aa")
			waitBusy(t, d, "bb")
			wantShares(t, d, tc.name, 0, 0)
		})
	}
}

// The formula says 1 : 65536. That is little, but not nothing, and whoever comes
// back from a pause does not have to wait for it.
func TestTheLowestPriorityIsServedToo(t *testing.T) {
	require.GPU(t)
	require.Engine(t)
	d := setup(t)
	load(t, d, "bb", 1024)
	waitBusy(t, d, "bb")
	load(t, d, "aa", -1024, "--run=20us")
	waitBusy(t, d, "aa")
	began := time.Now()
	const more, patience = 3, 4 * time.Minute
	first := readings(t, d, "aa")
	for {
		all := readings(t, d, "aa")
		last := all[len(all)-1]
		if n := last.jobs - first[0].jobs; n >= more {
			t.Logf("%d jobs of 20µs in %.0fs", n, time.Since(began).Seconds())
			break
		}
		if time.Since(began) > patience {
			t.Fatalf("only %d jobs in %s", last.jobs, patience)
		}
		time.Sleep(time.Second)
	}
	inA, inB := readings(t, d, "aa"), readings(t, d, "bb")
	gotA, gotB := inA[len(inA)-1].busy, inB[len(inB)-1].busy
	t.Logf("engine time %dµs : %dµs", gotA, gotB)
	if gotA*1000 > gotB {
		t.Errorf("the lowest priority got %dµs, the highest %dµs", gotA, gotB)
	}

	// Raised, it does not wait off what it used at a low weight.
	setPriority(t, d, "aa", 1024)
	before := readings(t, d, "aa")
	time.Sleep(2 * time.Second)
	after := readings(t, d, "aa")
	if n := after[len(after)-1].jobs - before[len(before)-1].jobs; n < 100 {
		t.Errorf("%d jobs in two seconds after the change, want at least 100", n)
	}
}

// The kernel ran its unit tests at boot.
func TestTheUnitTestsOfTheKernelPassed(t *testing.T) {
	require.KUnit(t)
	raw, err := os.ReadFile(require.KUnitResults)
	assert.NilError(t, err)
	passed := 0
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "not ok"), strings.Contains(line, "# SKIP"):
			t.Error(line)
		case strings.HasPrefix(line, "ok"):
			passed++
		}
	}
	if t.Failed() || passed < 2 {
		t.Fatalf("%s says:\n%s", require.KUnitResults, raw)
	}
	t.Logf("%d lines of ok", passed)
}
