// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/netns"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// benchNet skips unless BENCH_NET names the part. These are for make bench, which
// sets the other variables to what the goals are about.
func benchNet(t *testing.T, part string) {
	t.Helper()
	place.Measurement(t, "BENCH_NET="+part)
	require.NetRate(t)
}

// benchInt is a size of a measurement, small unless the environment says otherwise.
func benchInt(t *testing.T, name string, small int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return small
	}
	n, err := strconv.Atoi(text)
	assert.NilError(t, err, name)
	return n
}

func benchInts(t *testing.T, name string, small ...int) []int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return small
	}
	var list []int
	for _, f := range strings.Split(text, ",") {
		n, err := strconv.Atoi(f)
		assert.NilError(t, err, name)
		list = append(list, n)
	}
	return list
}

// benchHost is a host with a daemon, for one measurement.
func benchHost(t *testing.T) (netHost, *daemon.Daemon) {
	t.Helper()
	h := newNetHost(t, netns.New(t), netns.New(t))
	d := daemon.NewIn(t, h.NS, "--live-restore")
	t.Cleanup(func() { d.RemoveAll(t) })
	// A bridge of docker's has no place for more than 1,000.
	d.Must(t, "network", "create", "--subnet=10.88.0.0/16", "--ip-range=10.88.0.0/20", "bench")
	return h, d
}

// runBoxes starts containers, two at a time.
func runBoxes(t *testing.T, d *daemon.Daemon, n int, flags ...string) (names []string) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		names = append(names, fmt.Sprintf("box%d", i))
	}
	for half := range 2 {
		wg.Go(func() {
			for i := half; i < n; i += 2 {
				args := append([]string{"run", "-d", "--network=bench", "--name=" + names[i]}, flags...)
				if r := d.Docker(t, append(args, "busybox", "sleep", "inf")...); r.Code != 0 {
					t.Errorf("%s: %s", names[i], r.Stderr)
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return names
}

var allNetLimits = []string{"--net-egress-rate=100mbit", "--net-ingress-rate=100mbit", "--net-egress-pps=100000", "--net-ingress-pps=100000", "--net-classid=10:1"}
var noNetLimits = []string{"--net-egress-rate=-1", "--net-ingress-rate=-1", "--net-egress-pps=-1", "--net-ingress-pps=-1", "--net-classid=0"}

func setAll(t *testing.T, d *daemon.Daemon, flags, names []string) {
	t.Helper()
	if len(names) > 0 {
		d.Must(t, slices.Concat([]string{"modresources", "--quiet"}, flags, names)...)
	}
}

// moreClassified makes the host look as if n more endpoints had the class of a
// container at addr: what the kernel has of this one is there again with other
// addresses. It knows both what dockerd does, elements of nftables maps, and what
// it did, rules of iptables.
func moreClassified(t *testing.T, h netHost, addr string, n int) (remove func()) {
	t.Helper()
	var others []string
	for a := netip.MustParseAddr("10.99.0.1"); len(others) < n; a = a.Next() {
		others = append(others, a.String())
	}
	if text, err := h.Run("iptables", "-t", "mangle", "-S", "DOCKER-NETCLASS"); err == nil {
		var add, del strings.Builder
		for line := range strings.Lines(text) {
			if !strings.Contains(line, " "+addr+"/32 ") {
				continue
			}
			for _, o := range others {
				rule := strings.Replace(line, " "+addr+"/32 ", " "+o+"/32 ", 1)
				add.WriteString(rule)
				del.WriteString(strings.Replace(rule, "-A ", "-D ", 1))
			}
		}
		if add.Len() > 0 {
			restore := func(rules string) {
				t.Helper()
				input(t, h.NS, "*mangle\n"+rules+"COMMIT\n", "iptables-restore", "--noflush")
			}
			restore(add.String())
			return func() { restore(del.String()) }
		}
	}
	type elements struct {
		Family string            `json:"family"`
		Table  string            `json:"table"`
		Name   string            `json:"name"`
		Elem   []json.RawMessage `json:"elem"`
	}
	var all struct {
		Nftables []struct{ Map, Set *elements }
	}
	assert.NilError(t, json.Unmarshal([]byte(h.Must(t, "nft", "-j", "list", "ruleset")), &all))
	var found []elements
	for _, object := range all.Nftables {
		for _, m := range []*elements{object.Map, object.Set} {
			if m == nil || !strings.HasPrefix(m.Table, "docker-limits-") {
				continue
			}
			more := elements{m.Family, m.Table, m.Name, nil}
			for _, e := range m.Elem {
				if !bytes.Contains(e, []byte(`"`+addr+`"`)) {
					continue
				}
				for _, o := range others {
					more.Elem = append(more.Elem, bytes.ReplaceAll(e, []byte(`"`+addr+`"`), []byte(`"`+o+`"`)))
				}
			}
			if more.Elem != nil {
				found = append(found, more)
			}
		}
	}
	assert.Assert(t, len(found) > 0, "the host has neither a rule nor an element for %s", addr)
	send := func(verb string) {
		t.Helper()
		var commands []any
		for _, e := range found {
			commands = append(commands, map[string]any{verb: map[string]any{"element": e}})
		}
		text, err := json.Marshal(map[string]any{"nftables": commands})
		assert.NilError(t, err)
		input(t, h.NS, string(text), "nft", "-j", "-f", "-")
	}
	send("add")
	return func() { send("delete") }
}

// input runs a program in ns with a text on its standard input.
func input(t *testing.T, ns *netns.NS, text string, args ...string) {
	t.Helper()
	assert.NilError(t, ns.Do(func() error {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%q: %w: %s", args, err, out)
		}
		return nil
	}))
}

// TestBenchNetPacketCost measures what packets of a container without a limit cost
// the CPU on their way to the uplink, while others have a class. BENCH_ENDPOINTS
// says how many these are, BENCH_CONTAINERS how many of them are containers.
func TestBenchNetPacketCost(t *testing.T) {
	benchNet(t, "cost")
	levels := benchInts(t, "BENCH_ENDPOINTS", 0, 4, 100)
	rounds, packets, containers := benchInt(t, "BENCH_ROUNDS", 2), benchInt(t, "BENCH_PACKETS", 20_000), benchInt(t, "BENCH_CONTAINERS", 4)
	h, d := benchHost(t)
	h.outside.Must(t, "iptables", "-t", "raw", "-A", "PREROUTING", "-p", "udp", "--dport", "9", "-j", "DROP")
	d.Must(t, "run", "-d", "--network=bench", "--name=free", "busybox", "sleep", "inf")
	ns := nsOf(t, d, "free")
	names := runBoxes(t, d, containers)
	addr := addrOf(t, d, names[0], "bench")
	t.Cleanup(func() { assert.Check(t, unix.Kill(d.Pid(), unix.SIGCONT)) })
	// What others do on the machine makes a packet dearer, never cheaper: the cost
	// is the lower decile of many short slices.
	const parts = 60
	cost := func() float64 {
		t.Helper()
		var spent []float64
		assert.NilError(t, ns.Do(func() error {
			c, err := net.Dial("udp", outside4+":9")
			if err != nil {
				return err
			}
			defer c.Close()
			data := make([]byte, 64)
			for range parts {
				before := threadTime()
				for range packets / parts {
					if _, err := c.Write(data); err != nil {
						return err
					}
				}
				spent = append(spent, float64((threadTime()-before).Nanoseconds())/float64(packets/parts))
			}
			return nil
		}))
		slices.Sort(spent)
		return spent[parts/10]
	}
	for round := range rounds {
		for i := range levels {
			level := levels[(i+round)%len(levels)]
			series := fmt.Sprintf("%d with a class", level)
			limited := names[:min(level, len(names))]
			setAll(t, d, []string{"--net-classid=10:1"}, limited)
			// Nobody puts away what no container has.
			assert.NilError(t, unix.Kill(d.Pid(), unix.SIGSTOP))
			remove := func() {}
			if more := level - len(limited); more > 0 {
				remove = moreClassified(t, h, addr, more)
			}
			record("net-cost", series, cost())
			remove()
			assert.NilError(t, unix.Kill(d.Pid(), unix.SIGCONT))
			setAll(t, d, []string{"--net-classid=0"}, limited)
		}
	}
}

func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		panic(err)
	}
	return time.Duration(ts.Nano())
}

// cpuOf is what a process and its children that ended have used.
func cpuOf(t *testing.T, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	assert.NilError(t, err)
	_, rest, _ := strings.Cut(string(text), ") ")
	f := strings.Fields(rest)
	var ticks int64
	for _, s := range f[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.ParseInt(s, 10, 64)
		assert.NilError(t, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // USER_HZ is 100 everywhere
}

// TestBenchNetStart measures the CPU that docker run -d costs dockerd, with all
// limits of the network and without, as the first ones and beside BENCH_ENDPOINTS
// endpoints with a class, BENCH_CONTAINERS of them containers.
func TestBenchNetStart(t *testing.T) {
	benchNet(t, "start")
	endpoints, containers := benchInt(t, "BENCH_ENDPOINTS", 20), benchInt(t, "BENCH_CONTAINERS", 4)
	rounds, batch := benchInt(t, "BENCH_ROUNDS", 2), benchInt(t, "BENCH_BATCH", 3)
	h, d := benchHost(t)
	measure := func(figure string) {
		for round := range rounds {
			variants := []struct {
				name  string
				flags []string
			}{{"without limits", nil}, {"all network limits", allNetLimits}}
			if round%2 == 1 {
				slices.Reverse(variants)
			}
			for _, v := range variants {
				before := cpuOf(t, d.Pid())
				var names []string
				for i := range batch {
					name := fmt.Sprintf("timed%d", i)
					names = append(names, name)
					d.Must(t, slices.Concat([]string{"run", "-d", "--network=bench", "--name=" + name}, v.flags, []string{"busybox", "sleep", "inf"})...)
				}
				record(figure, v.name, (cpuOf(t, d.Pid())-before).Seconds()/float64(batch))
				d.Must(t, append([]string{"rm", "-f"}, names...)...)
			}
		}
	}
	d.Must(t, "run", "--rm", "--network=bench", "busybox", "true") // warms up
	measure("net-start-1")
	names := runBoxes(t, d, containers, allNetLimits...)
	if more := endpoints - containers; more > 0 {
		defer moreClassified(t, h, addrOf(t, d, names[0], "bench"), more)()
	}
	measure(fmt.Sprintf("net-start-%d", 500))
	fmt.Printf("the second is beside %d containers and %d endpoints without one\n", containers, endpoints-containers)
}

// TestBenchNetDockerd measures dockerd's start over BENCH_CONTAINERS running
// containers after a kill, with limits of their networks and without.
func TestBenchNetDockerd(t *testing.T) {
	benchNet(t, "dockerd")
	rounds, settle := benchInt(t, "BENCH_ROUNDS", 2), time.Duration(benchInt(t, "BENCH_SECONDS", 2))*time.Second
	_, d := benchHost(t)
	names := runBoxes(t, d, benchInt(t, "BENCH_CONTAINERS", 4))
	for round := range rounds + 1 {
		for _, v := range []struct {
			name  string
			flags []string
		}{{"unlimited", noNetLimits}, {"limited", allNetLimits}} {
			if round > 0 || v.name == "limited" { // they begin without
				setAll(t, d, v.flags, names)
			}
			d.Kill(t)
			start := time.Now()
			d.StartAgain(t)
			wall := time.Since(start)
			time.Sleep(settle) // what it does after it answers counts as well
			if round == 0 {
				continue // warms up
			}
			record("net-dockerd", v.name, wall.Seconds())
			record("net-dockerd-cpu", v.name, cpuOf(t, d.Pid()).Seconds())
			for _, name := range []string{names[0], names[len(names)-1]} {
				assert.DeepEqual(t, notInForce(t, d, name), []string(nil))
			}
		}
	}
}

// TestBenchNetIdle measures what dockerd uses while nothing happens, in per cent of
// a core, for BENCH_SECONDS at a time.
func TestBenchNetIdle(t *testing.T) {
	benchNet(t, "idle")
	rounds, length := benchInt(t, "BENCH_ROUNDS", 1), time.Duration(benchInt(t, "BENCH_SECONDS", 5))*time.Second
	_, d := benchHost(t)
	names := runBoxes(t, d, benchInt(t, "BENCH_CONTAINERS", 4))
	for range rounds {
		var used []float64
		for _, flags := range [][]string{noNetLimits, allNetLimits} {
			setAll(t, d, flags, names)
			time.Sleep(length / 6) // until what the change began has ended
			before, start := cpuOf(t, d.Pid()), time.Now()
			time.Sleep(length)
			used = append(used, (cpuOf(t, d.Pid())-before).Seconds()/time.Since(start).Seconds()*100)
		}
		record("net-idle", "unlimited", used[0])
		record("net-idle", "limited", used[1])
		record("net-idle", "the watch", used[1]-used[0])
	}
}

// bucket is a tbf of a container: what has passed it and what it may save up, in
// bytes.
type bucket struct {
	at            time.Time
	passed, burst int64
}

// bucketOf finds the one of a direction: there is one container.
func bucketOf(t *testing.T, h netHost, fromContainer bool) bucket {
	t.Helper()
	var list []struct {
		Kind, Dev string
		Options   struct{ Burst int64 }
		Bytes     int64
	}
	start := time.Now()
	text := h.Must(t, "tc", "-s", "-j", "qdisc", "show")
	at := start.Add(time.Since(start) / 2)
	assert.NilError(t, json.Unmarshal([]byte(text), &list))
	for _, q := range list {
		if q.Kind == "tbf" && strings.HasPrefix(q.Dev, "ifb") == fromContainer {
			return bucket{at, q.Bytes, q.Options.Burst}
		}
	}
	t.Fatalf("no tbf, from the container %t: %s", fromContainer, text)
	return bucket{}
}

// TestBenchNetExact measures rates at the qdisc: over BENCH_SECONDS in streams, in
// the first second of one, and in the first second after a live change to half.
func TestBenchNetExact(t *testing.T) {
	benchNet(t, "exact")
	rounds, length := benchInt(t, "BENCH_ROUNDS", 1), time.Duration(benchInt(t, "BENCH_SECONDS", 2))*time.Second
	rates := benchInts(t, "RATES", 8, 80)
	h, d := benchHost(t)
	d.Must(t, "run", "-d", "--name=c1", "--network=bench", "busybox", "sleep", "inf")
	serveIn(t, nsOf(t, d, "c1"))
	addr := addrOf(t, d, "c1", "bench")
	set := func(mbit int) {
		t.Helper()
		limit := fmt.Sprintf("%dmbit", mbit)
		d.Must(t, "update", "--net-egress-rate="+limit, "--net-ingress-rate="+limit, "c1")
	}
	for _, out := range []bool{true, false} {
		direction := "in"
		if out {
			direction = "out"
		}
		free := rateFrom(t, h.NS, addr, out, time.Second) / 1e6
		fmt.Printf("no limit, %s: %.0f Mbit/s\n", direction, free)
		for _, rate := range rates {
			if free < float64(rate)*1.1 {
				fmt.Printf("%d Mbit/s, %s: this machine does not get there\n", rate, direction)
				continue
			}
			name := fmt.Sprintf("%d Mbit/s %s", rate, direction)
			// over is how much more passed in the second since then than may have.
			over := func(since bucket) float64 {
				time.Sleep(time.Until(since.at.Add(time.Second)))
				now := bucketOf(t, h, out)
				may := float64(rate)*1e6/8*now.at.Sub(since.at).Seconds() + float64(now.burst)
				return (float64(now.passed-since.passed)/may - 1) * 100
			}
			for range rounds {
				set(rate)
				time.Sleep(500 * time.Millisecond) // the bucket is full
				stop := make(chan struct{})
				var wg sync.WaitGroup
				since := bucketOf(t, h, out)
				// One alone waits for what it lost.
				for range 4 {
					s := streamFrom(t, h.NS, addr, out)
					wg.Go(func() {
						defer s.conn.Close()
						for {
							select {
							case <-stop:
								return
							default:
								s.pass(t, 100*time.Millisecond)
							}
						}
					})
				}
				record("net-first", name+", first second", over(since))

				a := bucketOf(t, h, out)
				time.Sleep(length)
				b := bucketOf(t, h, out)
				record("net-exact", name, (float64(b.passed-a.passed)*8/b.at.Sub(a.at).Seconds()/1e6/float64(rate)-1)*100)

				set(rate * 2)
				time.Sleep(time.Second)
				set(rate)
				record("net-first", name+", after a change", over(bucketOf(t, h, out)))
				close(stop)
				wg.Wait()
			}
			d.Must(t, "update", "--net-egress-rate=-1", "--net-ingress-rate=-1", "c1")
		}
	}
}
