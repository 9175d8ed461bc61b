// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

const (
	engine = require.FirstRender

	// Long enough for more than a thousand jobs of two milliseconds; where one gets
	// little, for as many of its jobs as tell a share from nothing.
	window     = 3 * time.Second
	longWindow = 6 * time.Second
	little     = 0.1

	// How far a measured share may be from the formula: a part of the smaller of
	// the two, which is what 20 points of priority make, and these whole jobs at
	// the ends of the window.
	tolerance     = 0.05
	toleranceJobs = 3

	// The formula is for an engine that is never idle. A window that does not meet
	// it on a host too loaded for that is measured again, so often, and then judged
	// with its idle time on top: either could have had that.
	enoughIdle = 0.02
	windows    = 3
)

// weight is the formula of the documentation: 128 points double the share.
func weight(priority int64) float64 { return math.Exp2(float64(priority) / 128) }

// load starts a container that keeps the engine busy.
func load(t *testing.T, d *daemon.Daemon, name string, priority int64, args ...string) {
	t.Helper()
	// -t: the API gives the lines as they are, without stdcopy's headers.
	run := []string{"run", "-d", "-t", "--name=" + name, "--device=" + engine, fmt.Sprintf("--gpu-priority=%d", priority), "busybox", "gpuload"}
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
	return lastReadings(t, d, name, "all")
}

// lastReadings are so many of them: who asks often asks for one.
func lastReadings(t *testing.T, d *daemon.Daemon, name, n string) []reading {
	t.Helper()
	var all []reading
	logs := d.API(t, http.MethodGet, "/containers/"+name+"/logs?stdout=1&tail="+n, "")
	assert.Equal(t, logs.Status, http.StatusOK, "%s", logs.Body)
	for line := range strings.Lines(string(logs.Body)) {
		var r reading
		if _, err := fmt.Sscan(line, &r.at, &r.jobs, &r.busy); err != nil {
			t.Fatalf("%s printed %q", name, line)
		}
		all = append(all, r)
	}
	return all
}

// at estimates jobs and time on the engine up to a moment between two lines.
func at(t *testing.T, all []reading, moment int64) (jobs, busy float64) {
	t.Helper()
	i, _ := slices.BinarySearchFunc(all, moment, func(r reading, m int64) int { return int(r.at - m) })
	if i == 0 || i == len(all) {
		t.Fatalf("no lines around %d µs", moment)
	}
	a, b := all[i-1], all[i]
	part := float64(moment-a.at) / float64(b.at-a.at)
	return float64(a.jobs) + part*float64(b.jobs-a.jobs), float64(a.busy) + part*float64(b.busy-a.busy)
}

// readingsPast waits for a line after a moment.
func readingsPast(t *testing.T, d *daemon.Daemon, name string, moment int64) []reading {
	t.Helper()
	for end := time.Now().Add(soon); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if last := lastReadings(t, d, name, "1"); len(last) > 0 && last[0].at > moment {
			return readings(t, d, name)
		}
	}
	t.Fatalf("%s printed nothing for %s", name, soon)
	return nil
}

// between is what a container got in a time, in µs and jobs.
func between(t *testing.T, d *daemon.Daemon, name string, from, to int64) (jobs, busy float64) {
	t.Helper()
	all := readingsPast(t, d, name, to)
	jobs0, busy0 := at(t, all, from)
	jobs1, busy1 := at(t, all, to)
	return jobs1 - jobs0, busy1 - busy0
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
		if last := lastReadings(t, d, name, "1"); len(last) > 0 && last[0].jobs > 0 {
			return
		}
	}
	t.Fatalf("%s did not finish a job in %s", name, soon)
}

// wantShares measures what a and b get and compares it with their priorities.
func wantShares(t *testing.T, d *daemon.Daemon, when string, a, b int64) {
	t.Helper()
	// The line in which the window begins must not reach back to before a
	// change: at() spreads evenly what lies between two lines.
	changed := now(t)
	readingsPast(t, d, "one", changed)
	readingsPast(t, d, "two", changed)
	want := weight(a) / (weight(a) + weight(b))
	length := window
	if min(want, 1-want) < little {
		length = longWindow
	}
	var got, idle, limit float64
	for range windows {
		from := now(t)
		time.Sleep(length)
		to := now(t)
		jobsA, gotA := between(t, d, "one", from, to)
		jobsB, gotB := between(t, d, "two", from, to)
		together := gotA + gotB
		got = gotA / together
		idle = max(0, 1-together/float64(to-from))
		longest := max(gotA/max(jobsA, 1), gotB/max(jobsB, 1))
		limit = tolerance*min(want, 1-want) + toleranceJobs*longest/together
		t.Logf("%s, %d : %d: got %.2f%% : %.2f%%, formula %.2f%% : %.2f%%, engine idle %.0f%% of the time",
			when, a, b, 100*got, 100*(1-got), 100*want, 100*(1-want), 100*idle)
		if math.Abs(got-want) <= limit {
			return
		}
		if idle <= enoughIdle {
			break
		}
	}
	if math.Abs(got-want) > limit+idle {
		t.Errorf("%s, %d : %d: the share of the first is %.4f, want %.4f ± %.4f", when, a, b, got, want, limit+idle)
	}
}

func TestPriorityDecidesTheShareOfTheGPU(t *testing.T) {
	place.EachVersion(t)
	require.GPU(t)
	require.Engine(t)
	for _, pair := range [][2]int64{{-100, 100}, {0, 50}, {10, 900}, {7, 7}} {
		t.Run(fmt.Sprint(pair[0], " ", pair[1]), func(t *testing.T) {
			d := setup(t)
			load(t, d, "one", pair[0])
			load(t, d, "two", pair[1])
			waitBusy(t, d, "one")
			waitBusy(t, d, "two")
			wantShares(t, d, "after run", pair[0], pair[1])

			// Both have jobs queued all the time.
			setPriority(t, d, "one", pair[1])
			setPriority(t, d, "two", pair[0])
			wantShares(t, d, "after a live change", pair[1], pair[0])
		})
	}
}

func TestTheShareIsOfTimeAndOfContainers(t *testing.T) {
	place.EachVersion(t)
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
			load(t, d, "one", 0)
			load(t, d, "two", 0, tc.b...)
			waitBusy(t, d, "one")
			waitBusy(t, d, "two")
			wantShares(t, d, tc.name, 0, 0)
		})
	}
}

// What a container gets comes out of the share of the cgroup that it is in,
// whatever its own priority: that is for its siblings there.
func TestAParentsShareIsDivided(t *testing.T) {
	place.EachVersion(t)
	require.GPU(t)
	require.Engine(t)
	d := setup(t)
	d.Must(t, "run", "-d", "-t", "--name=one", "--device="+engine, "--cgroup-parent=/divided", "--gpu-priority=900", "busybox", "gpuload")
	load(t, d, "two", 100)
	waitBusy(t, d, "one")
	waitBusy(t, d, "two")
	dir, err := d.Cgroup(t, "one").Dir("gpu")
	assert.NilError(t, err)
	parent := filepath.Dir(dir)
	assert.Equal(t, filepath.Base(parent), "divided")
	// Siblings: this one, and the one that holds all other containers.
	wantShares(t, d, "under a parent of the default", 0, 0)
	assert.NilError(t, os.WriteFile(filepath.Join(parent, "gpu.priority"), []byte("-100"), 0))
	wantShares(t, d, "under a parent of less", -100, 0)
}

// nested makes five cgroups below the container's own and opens the engine once
// in each, with the highest priority there is.
const nested = `
dir=/sys/fs/cgroup
[ ! -d $dir/gpu ] || dir=$dir/gpu
cd $dir
for i in 3 4 5 6 7; do mkdir child$i; done
echo $$ >child3/cgroup.procs
[ ! -e cgroup.subtree_control ] || echo +gpu >cgroup.subtree_control
for i in 3 4 5 6 7; do
	echo 1024 >child$i/gpu.priority
	echo $$ >child$i/cgroup.procs
	eval "exec $i<>` + engine + `"
done
exec gpuload --opened=5`

// A container that makes cgroups below its own gets no more with them.
func TestNestedCgroupsDivideTheShareOfTheContainer(t *testing.T) {
	place.EachVersion(t)
	require.GPU(t)
	require.Engine(t)
	d := setup(t)
	d.Must(t, "run", "-d", "-t", "--name=one", "--privileged", "busybox", "sh", "-ec", nested)
	load(t, d, "two", 0)
	waitBusy(t, d, "one")
	waitBusy(t, d, "two")
	wantShares(t, d, "five children against one", 0, 0)
}

// Little is not nothing: the lowest is served at once when it comes, gets its
// share, and does not wait off later what it used at a low weight.
func TestTheLowestPriorityIsServedToo(t *testing.T) {
	place.EachVersion(t)
	require.GPU(t)
	require.Engine(t)
	d := setup(t)
	load(t, d, "two", 1024)
	waitBusy(t, d, "two")
	load(t, d, "one", -1024)
	// At 1 : 65536 the second job is minutes away, the first is not.
	waitBusy(t, d, "one")

	setPriority(t, d, "two", 0)
	const more, patience = 24, 3 * time.Minute
	var ratio float64
	for range windows {
		began, from := time.Now(), now(t)
		time.Sleep(time.Second)
		start := lastReadings(t, d, "one", "1")
		for {
			if lastReadings(t, d, "one", "1")[0].jobs-start[0].jobs >= more {
				break
			}
			if time.Since(began) > patience {
				t.Fatalf("less than %d jobs in %s", more, patience)
			}
			time.Sleep(time.Second)
		}
		to := now(t)
		_, gotA := between(t, d, "one", from, to)
		_, gotB := between(t, d, "two", from, to)
		ratio = gotB / gotA
		t.Logf("-1024 : 0: got 1 : %.0f in %.0fs, formula 1 : 256", ratio, float64(to-from)/1e6)
		// On a loaded host the other may have nothing queued for a moment, which
		// the lowest then gets.
		if ratio >= 128 && ratio <= 512 {
			break
		}
	}
	if ratio < 128 || ratio > 512 {
		t.Errorf("the lowest got 1 : %.0f of the default, want 1 : 256 or, with so few jobs, half or twice that", ratio)
	}

	setPriority(t, d, "one", 0)
	wantShares(t, d, "raised to the same", 0, 0)
}
