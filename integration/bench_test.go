// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/netns"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"gotest.tools/v3/assert"
)

// TestBenchNetRates prints how well the rates are kept: TCP streams of five
// seconds, at 8 Mbit/s of thirty, as what waits to be acknowledged at the end does
// not count: the median of three and the worst. It is for make bench; a rate
// that is off by more than 3 % fails.
func TestBenchNetRates(t *testing.T) {
	if os.Getenv("BENCH") == "" {
		t.Skip("BENCH is not set: a measurement, not a test")
	}
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
				slices.Sort(got)
				off := func(r float64) float64 { return (r/float64(rate) - 1) * 100 }
				worst := off(got[0])
				if off(got[2]) > -worst {
					worst = off(got[2])
				}
				direction := "in"
				if out {
					direction = "out"
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
