// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/netns"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"gotest.tools/v3/assert"
)

// record prints values for scripts/performance, a line each.
func record(figure, series string, values ...float64) {
	for _, v := range values {
		fmt.Printf("bench,%s,%s,%.6g\n", figure, series, v)
	}
}

func seconds(times []time.Duration) []float64 {
	var out []float64
	for _, d := range times {
		out = append(out, d.Seconds())
	}
	return out
}

// TestBenchRun times docker run with limits against upstream's without, in
// turns. BENCH_ROUNDS says how many, BENCH_FIGURE what the figure is called.
func TestBenchRun(t *testing.T) {
	place.Measurement(t, "BENCH_ROUNDS")
	rounds, err := strconv.Atoi(os.Getenv("BENCH_ROUNDS"))
	assert.NilError(t, err)
	require.Stock(t)
	require.NetRate(t)
	theirs := daemon.NewStockIn(t, netns.New(t))
	ours := daemon.NewIn(t, netns.New(t))

	disks := []string{"--blkio-read-limit=40m", "--blkio-write-limit=40m", "--blkio-read-iops-limit=1000", "--blkio-write-iops-limit=1000"}
	nets := []string{"--net-egress-rate=100mbit", "--net-ingress-rate=100mbit", "--net-classid=10:1"}
	gpu := []string{"--gpu-memory=64m", "--gpu-priority=5"}
	// What upstream can limit too, for the price of limits as such.
	known := []string{"--memory=64m", "--cpus=1", "--pids-limit=100"}
	variants := []struct {
		name  string
		d     *daemon.Daemon
		flags []string
	}{
		{"upstream's", theirs, nil},
		{"upstream's, limits it has", theirs, known},
		{"ours", ours, nil},
		{"ours, GPU limits", ours, gpu},
		{"ours, disk limits", ours, disks},
		{"ours, network limits", ours, nets},
		{"ours, all limits", ours, slices.Concat(disks, nets)},
	}
	if require.Has("gpu") {
		variants[6].flags = append(variants[6].flags, gpu...)
	} else {
		variants = slices.Delete(variants, 3, 4)
	}
	times := make([][]float64, len(variants))
	for round := range rounds + 1 {
		for i := range variants {
			// Nobody is always the one after the same other.
			at := (i + round) % len(variants)
			v := variants[at]
			args := append([]string{"run", "--rm"}, v.flags...)
			start := time.Now()
			v.d.Must(t, append(args, "busybox", "true")...)
			// The first round warms up.
			if round > 0 {
				times[at] = append(times[at], time.Since(start).Seconds())
			}
		}
	}
	figure := os.Getenv("BENCH_FIGURE")
	for i, v := range variants {
		record(figure, v.name, times[i]...)
	}
}

// TestBenchNetRates prints how well the rates are kept: TCP streams of five
// seconds, at 8 Mbit/s of thirty, as what waits to be acknowledged at the end does
// not count: the median of three and the worst. It is for make bench; a rate
// that is off by more than 3 % fails.
func TestBenchNetRates(t *testing.T) {
	place.Measurement(t, "BENCH")
	require.NetRate(t)
	h := newNetHost(t, netns.New(t), netns.New(t))
	d := daemon.NewIn(t, h.NS)
	d.Must(t, "run", "-d", "--name=c1", "busybox", "sleep", "inf")
	d.Must(t, "run", "-d", "--name=c2", "busybox", "sleep", "inf")
	// The servers are in the test: nc would be the one to slow down a stream.
	ns := netns.Of(t, d.Inspect(t, "c1").State.Pid)
	serveIn(t, ns)
	addr := addrOf(t, d, "c1", "bridge")
	peers := []struct {
		name string
		ns   *netns.NS
	}{
		{"the host", h.NS},
		{"another container", netns.Of(t, d.Inspect(t, "c2").State.Pid)},
	}
	for _, peer := range peers {
		for _, out := range []bool{true, false} {
			fmt.Printf("no limit, from the container %t, other end %s: %.0f Mbit/s\n", out, peer.name, rateFrom(t, peer.ns, addr, out, 3*time.Second)/1e6)
		}
	}
	fmt.Printf("| Mbit/s asked | direction | other end | frames, Mbit/s | off | worst of 3 | payload, Mbit/s |\n|---|---|---|---|---|---|---|\n")
	for _, rate := range []int64{8, 80, 800} {
		length := 5 * time.Second
		if rate == 8 {
			length *= 6
		}
		limit := fmt.Sprintf("%dmbit", rate)
		d.Must(t, "update", "--net-egress-rate="+limit, "--net-ingress-rate="+limit, "c1")
		for _, peer := range peers {
			for _, out := range []bool{true, false} {
				var got []float64
				for range 3 {
					got = append(got, rateFrom(t, peer.ns, addr, out, length)/1e6)
				}
				direction := "in"
				if out {
					direction = "out"
				}
				off := func(r float64) float64 { return (r/float64(rate) - 1) * 100 }
				for _, r := range got {
					record("net", fmt.Sprintf("%d Mbit/s %s, %s", rate, direction, peer.name), off(r))
				}
				slices.Sort(got)
				worst := off(got[0])
				if off(got[2]) > -worst {
					worst = off(got[2])
				}
				fmt.Printf("| %d | %s | %s | %.2f | %+.2f %% | %+.2f %% | %.2f |\n", rate, direction, peer.name, got[1], off(got[1]), worst, got[1]/overhead)
				if w := off(got[1]); w > 3 || w < -3 {
					t.Errorf("%d Mbit/s, %s, %s: off by %.1f %%", rate, direction, peer.name, w)
				}
			}
		}
	}
}

// serveIn is serve without programs in the container.
func serveIn(t *testing.T, ns *netns.NS) {
	t.Helper()
	for port, handle := range map[string]func(net.Conn) error{
		"9000": func(c net.Conn) error { _, err := io.Copy(c, zeros{}); return err },
		"9001": func(c net.Conn) error { _, err := io.Copy(io.Discard, c); return err },
	} {
		var l net.Listener
		assert.NilError(t, ns.Do(func() (err error) { l, err = net.Listen("tcp", ":"+port); return err }))
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					// It ends when the other end goes away.
					_ = handle(c)
					c.Close()
				}()
			}
		}()
	}
}
