// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"gotest.tools/v3/assert"
)

// TestBenchModresources times modresources against upstream's docker update:
// the same limits on the same number of containers, in turns. It prints lines
// for "make bench", which sets BENCH_CONTAINERS to the number of containers.
func TestBenchModresources(t *testing.T) {
	place.Measurement(t, "BENCH_CONTAINERS")
	require.Stock(t)
	n, err := strconv.Atoi(os.Getenv("BENCH_CONTAINERS"))
	assert.NilError(t, err)
	stock, err := daemon.StartStock()
	assert.NilError(t, err)
	daemon.Until(t, stock)
	ours := daemon.New(t)

	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("box%d", i)
	}
	for _, d := range []*daemon.Daemon{stock, ours} {
		t.Cleanup(func() { d.RemoveAll(t) })
		var wg sync.WaitGroup
		for half := range 2 {
			wg.Go(func() {
				for i := half; i < n; i += 2 {
					if r := d.Docker(t, "run", "-d", "--name="+names[i], "busybox", "sleep", "86400"); r.Code != 0 {
						t.Errorf("%s: %s", names[i], r.Stderr)
					}
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			t.FailNow()
		}
	}

	shares := 100
	timed := func(d *daemon.Daemon, command string, names ...string) time.Duration {
		shares++
		args := append([]string{command, "--cpu-shares=" + strconv.Itoa(shares)}, names...)
		start := time.Now()
		d.Must(t, args...)
		took := time.Since(start)
		for _, name := range []string{names[0], names[len(names)-1]} {
			wantCPUShares(t, d, name, shares)
		}
		return took
	}
	rounds := func(count int, names ...string) {
		var theirs, mine []time.Duration
		for range count {
			theirs = append(theirs, timed(stock, "update", names...))
			mine = append(mine, timed(ours, "modresources", names...))
		}
		what := fmt.Sprintf("%d containers", len(names))
		if len(names) == 1 {
			what = "1 container"
		}
		printTimes("docker update (stock), "+what, theirs)
		printTimes("docker modresources, "+what, mine)
		fmt.Printf("%-46s %6.2f\n", "how many times as fast, "+what, float64(medianTime(theirs))/float64(medianTime(mine)))
		figure := fmt.Sprintf("update-%d", len(names))
		record(figure, "upstream's", seconds(theirs)...)
		record(figure, "modresources", seconds(mine)...)
	}
	rounds(5, names...)
	rounds(15, names[0])

	// The floor: what the kernel takes for the change itself.
	g := ours.Cgroup(t, names[0])
	dir, err := g.Dir("cpu")
	assert.NilError(t, err)
	file, value := filepath.Join(dir, "cpu.shares"), shares
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		file = filepath.Join(dir, "cpu.weight")
	}
	var writes []time.Duration
	for range 1000 {
		value = 100 + (value+1)%100
		start := time.Now()
		assert.NilError(t, os.WriteFile(file, []byte(strconv.Itoa(value)), 0))
		writes = append(writes, time.Since(start))
	}
	slices.Sort(writes)
	fmt.Printf("%-46s %6.1f  (%.1f to %.1f)\n", "one write to the cgroup file, microseconds",
		writes[500].Seconds()*1e6, writes[50].Seconds()*1e6, writes[950].Seconds()*1e6)
}

func wantCPUShares(t *testing.T, d *daemon.Daemon, name string, shares int) {
	t.Helper()
	g := d.Cgroup(t, name)
	if require.Has("v2") {
		// What runc makes of shares from 2 to 262144.
		g.Want(t, "cpu.weight", strconv.Itoa(1+(shares-2)*9999/262142))
		return
	}
	g.Want(t, "cpu.shares", strconv.Itoa(shares))
}

func medianTime(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}

func printTimes(name string, d []time.Duration) {
	fmt.Printf("%-46s %6.2f  (%.2f to %.2f)\n", name, medianTime(d).Seconds(), slices.Min(d).Seconds(), slices.Max(d).Seconds())
}
