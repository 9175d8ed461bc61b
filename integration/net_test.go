// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/cgroupfs"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/netns"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

const (
	uplink     = "up0"
	outside4   = "203.0.113.2"
	outside6   = "2001:db8::2"
	uplinkHTB  = "10:"
	classOther = "10:2" // what no one classifies
)

// unit is what the tests' rates are multiples of, in bits/s: NET_UNIT, as an
// emulated machine is not fast enough for what tells limits apart elsewhere.
func unit(t *testing.T) int64 {
	t.Helper()
	text := os.Getenv("NET_UNIT")
	if text == "" {
		return 1000_000
	}
	n, err := strconv.ParseInt(text, 10, 64)
	assert.NilError(t, err, "NET_UNIT")
	return n
}

// rateFlag spells a number of units as the value of a flag.
func rateFlag(t *testing.T, name string, n int64) string {
	t.Helper()
	return fmt.Sprintf("--net-%s-rate=%dkbit", name, n*unit(t)/1000)
}

// netHost is a host with an uplink, and what is at the other end of it.
type netHost struct {
	*netns.NS
	outside *netns.NS
}

// newNetHost makes a host whose uplink has an HTB with the classes 10:1, 10:2
// and 10:3 and no filter: a packet's priority is all that it goes by.
func newNetHost(t *testing.T, ns, outside *netns.NS) netHost {
	t.Helper()
	h := addUplink(t, ns, outside)
	h.Must(t, "ip", "route", "add", "default", "via", outside4)
	h.Must(t, "ip", "-6", "route", "add", "default", "via", outside6)
	return h
}

func addUplink(t *testing.T, ns, outside *netns.NS) netHost {
	t.Helper()
	h := netHost{ns, outside}
	h.Must(t, "ip", "link", "add", uplink, "type", "veth", "peer", "name", "out0", "netns", h.outside.Path())
	h.outside.Must(t, "ip", "addr", "add", outside4+"/24", "dev", "out0")
	h.outside.Must(t, "ip", "-6", "addr", "add", outside6+"/64", "dev", "out0", "nodad")
	h.outside.Must(t, "ip", "link", "set", "out0", "up")
	h.Must(t, "ip", "addr", "add", "203.0.113.1/24", "dev", uplink)
	h.Must(t, "ip", "-6", "addr", "add", "2001:db8::1/64", "dev", uplink, "nodad")
	h.Must(t, "ip", "link", "set", uplink, "up")
	h.Must(t, "tc", "qdisc", "add", "dev", uplink, "root", "handle", uplinkHTB, "htb", "default", "2")
	for _, c := range []string{"10:1", classOther, "10:3"} {
		h.Must(t, "tc", "class", "add", "dev", uplink, "parent", uplinkHTB, "classid", c, "htb", "rate", "1gbit")
	}
	return h
}

// sent counts the packets of each class of the uplink.
func (h netHost) sent(t *testing.T) map[string]int {
	t.Helper()
	return h.classes(t, uplink, 3)
}

// classes reads a number of each class of an interface: a field of tc's line
// "Sent BYTES bytes PACKETS pkt".
func (h netHost) classes(t *testing.T, dev string, field int) map[string]int {
	t.Helper()
	count := map[string]int{}
	var class string
	for _, line := range strings.Split(h.Must(t, "tc", "-s", "class", "show", "dev", dev), "\n") {
		f := strings.Fields(line)
		switch {
		case len(f) > 2 && f[0] == "class":
			class = f[2]
		case len(f) > 3 && f[0] == "Sent":
			n, err := strconv.Atoi(f[field])
			assert.NilError(t, err)
			count[class] = n
		}
	}
	return count
}

// classOf sends pings from a container to the outside and returns the class in
// which the uplink saw them.
func (h netHost) classOf(t *testing.T, d *daemon.Daemon, name, addr string) string {
	t.Helper()
	const pings = 10 // more than neighbour discovery and the like, which come in between
	before := h.sent(t)
	d.Must(t, "exec", name, "ping", "-c", strconv.Itoa(pings), "-i", "0.05", "-W", "5", addr)
	after, most := h.sent(t), ""
	for class, n := range after {
		if most == "" || n-before[class] > after[most]-before[most] {
			most = class
		}
	}
	assert.Assert(t, after[most]-before[most] >= pings, "no class of %s saw %d packets: %v, then %v", uplink, pings, before, after)
	return most
}

// leftovers is all of the host that a limit could leave behind, as text.
func (h netHost) leftovers(t *testing.T) string {
	t.Helper()
	ifbs, rules := regexp.MustCompile(`alias docker egress ([0-9a-f]{64})`), regexp.MustCompile(`comment "?([0-9a-f]{64})`)
	empty := regexp.MustCompile(`(?m)^table \S+ docker-limits-\S+ \{\n\}`) // Up to Linux 6.15 a chain goes with its interface.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		var s strings.Builder
		for _, cmd := range []string{
			"ip -o link", "tc qdisc", "tc filter show dev " + uplink, "iptables -t mangle -S", "ip6tables -t mangle -S",
		} {
			s.WriteString(h.Must(t, strings.Fields(cmd)...))
		}
		limits, changing := h.limitTables(t)
		s.WriteString(limits)
		// dockerd does not wait for the end of an ifb and of rules whose veth is gone.
		gone := func(found *regexp.Regexp) bool {
			return slices.ContainsFunc(found.FindAllStringSubmatch(s.String(), -1), func(m []string) bool {
				return !strings.Contains(s.String(), "alias docker endpoint "+m[1])
			})
		}
		// Nor does ip wait until nobody changes what it lists.
		going := changing || gone(ifbs) || gone(rules) || empty.MatchString(s.String()) || strings.Contains(s.String(), "Dump was interrupted")
		if going && time.Now().Before(deadline) {
			continue
		}
		// The state of a bridge that lost its last port, handles of ours, and a length
		// that the kernel sets with the first qdisc.
		return regexp.MustCompile(`(?m)(state \w+|d0[cd]:|qlen \d+|mode DEFAULT|<[^>]*>|brd \S+|link/ether \S+)`).ReplaceAllString(s.String(), "")
	}
}

// limitTables is what dockerds have in nftables, sorted by table, as a set has no order.
// changing tells that a table went while it was read.
func (h netHost) limitTables(t *testing.T) (text string, changing bool) {
	t.Helper()
	// What a rule has counted is not a limit.
	counted := regexp.MustCompile(`counter packets \d+ bytes \d+`)
	for _, line := range slices.Sorted(strings.Lines(h.Must(t, "nft", "list", "tables"))) {
		table := strings.Fields(line)
		if len(table) != 3 || !strings.HasPrefix(table[2], "docker-limits-") {
			continue
		}
		out, err := h.Run("nft", "list", "table", table[1], table[2])
		if err != nil {
			return text, true
		}
		var lines []string
		for line := range strings.Lines(counted.ReplaceAllString(out, "counter")) {
			line = strings.TrimPrefix(strings.TrimSpace(line), "elements = { ")
			for element := range strings.SplitSeq(strings.TrimSuffix(line, " }"), ", ") {
				lines = append(lines, strings.TrimSuffix(element, ",")+"\n")
			}
		}
		slices.Sort(lines)
		text += strings.Join(lines, "")
	}
	return text, false
}

// serve makes a container send zeros to whoever connects to port 9000, and
// take what it gets on port 9001.
func serve(t *testing.T, d *daemon.Daemon, name string) {
	t.Helper()
	d.Must(t, "exec", "-d", name, "sh", "-c", "while true; do nc -l -p 9000 </dev/zero >/dev/null; done")
	d.Must(t, "exec", "-d", name, "sh", "-c", "while true; do nc -l -p 9001 >/dev/null </dev/null; done")
}

// overhead is what a frame of a TCP stream has more than payload, at an MTU of
// 1500 with time stamps.
const overhead = 1514.0 / 1448.0

// stream is a TCP stream between a container that serves and the host or
// another container.
type stream struct {
	conn          net.Conn
	fromContainer bool
}

// streamFrom opens a stream whose other end is in peer.
func streamFrom(t *testing.T, peer *netns.NS, addr string, fromContainer bool) *stream {
	t.Helper()
	port := "9001"
	if fromContainer {
		port = "9000"
	}
	s := &stream{fromContainer: fromContainer}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		err := peer.Do(func() (err error) {
			s.conn, err = net.DialTimeout("tcp", net.JoinHostPort(addr, port), 20*time.Second)
			return err
		})
		if err == nil && fromContainer {
			// On a busy machine who served the stream before may still hold the port.
			err = errors.Join(s.conn.SetReadDeadline(time.Now().Add(20*time.Second)), firstByte(s.conn))
		}
		if err == nil {
			t.Cleanup(func() { s.conn.Close() })
			return s
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func firstByte(conn net.Conn) error {
	_, err := conn.Read(make([]byte, 1))
	if err != nil {
		conn.Close()
	}
	return err
}

// waiting is what has been sent but not received: it does not count.
func (s *stream) waiting(t *testing.T) int64 {
	t.Helper()
	if s.fromContainer {
		return 0
	}
	raw, err := s.conn.(*net.TCPConn).SyscallConn()
	assert.NilError(t, err)
	var n int
	assert.NilError(t, raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }))
	assert.NilError(t, err)
	return int64(n)
}

// pass lets bytes pass for a time and counts them.
func (s *stream) pass(t *testing.T, d time.Duration) (n int64, took time.Duration) {
	t.Helper()
	begin, before := time.Now(), s.waiting(t)
	assert.NilError(t, s.conn.SetDeadline(begin.Add(d)))
	var err error
	if s.fromContainer {
		n, err = io.Copy(io.Discard, s.conn)
	} else {
		n, err = io.Copy(s.conn, zeros{})
	}
	assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
	return n + before - s.waiting(t), time.Since(begin)
}

// frameRate is in bits/s of the frames that carried n bytes: what tc counts.
func frameRate(n int64, took time.Duration) float64 {
	return float64(n) * 8 / took.Seconds() * overhead
}

// rateFrom measures a stream whose other end is in peer.
func rateFrom(t *testing.T, peer *netns.NS, addr string, fromContainer bool, d time.Duration) float64 {
	t.Helper()
	s := streamFrom(t, peer, addr, fromContainer)
	defer s.conn.Close()
	// What the bucket holds comes first.
	s.pass(t, d/5)
	return frameRate(s.pass(t, d))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// wantRate tells one limit from another. How well it is kept is for make bench:
// in a few seconds, what the receiver got before a packet that was lost came
// again makes several percent. A second within a tenth is enough, up to four
// within a quarter.
func (h netHost) wantRate(t *testing.T, addr string, out bool, units int64) {
	t.Helper()
	want := float64(units * unit(t))
	s := streamFrom(t, h.NS, addr, out)
	defer s.conn.Close()
	s.pass(t, 300*time.Millisecond)
	var n int64
	var took time.Duration
	for off := 0.1; ; {
		more, d := s.pass(t, time.Second)
		n, took = n+more, took+d
		if took >= 4*time.Second {
			off = 0.25
		}
		got := frameRate(n, took)
		ok := got < want*(1+off) && got > want*(1-off)
		if !ok && off == 0.1 {
			continue
		}
		t.Logf("want %.1f, from the container %t: %.2f Mbit/s in %.1f s, %+.1f %%", want/1e6, out, got/1e6, took.Seconds(), (got/want-1)*100)
		if !ok {
			t.Errorf("want %.0f bit/s, from the container %t: %.0f bit/s", want, out, got)
		}
		return
	}
}

// wantFree fails if a limit is still there: a busy machine may be slow for a
// while, but what has a limit is never fast.
func (h netHost) wantFree(t *testing.T, addr string, out bool) {
	t.Helper()
	got := 0.0
	for range 4 {
		if got = rateFrom(t, h.NS, addr, out, time.Second/2); got >= float64(40*unit(t)) {
			return
		}
	}
	t.Errorf("want no limit, from the container %t: %.0f bit/s", out, got)
}

func addrOf(t *testing.T, d *daemon.Daemon, name, network string) string {
	t.Helper()
	return d.Must(t, "inspect", "-f", `{{(index .NetworkSettings.Networks "`+network+`").IPAddress}}`, name)
}

func TestNetRatesHoldLiveAndAgainstTheContainer(t *testing.T) {
	place.OnHost(t)
	h, d := setupNet(t)
	clean := h.leftovers(t)
	d.Must(t, "run", "-d", "--name", "c1", "--cap-add=NET_ADMIN", rateFlag(t, "egress", 8), rateFlag(t, "ingress", 16), "busybox", "sleep", "inf")
	serve(t, d, "c1")
	addr := addrOf(t, d, "c1", "bridge")
	h.wantRate(t, addr, true, 8)
	h.wantRate(t, addr, false, 16)

	// All that root can do in there.
	d.Must(t, "exec", "c1", "sh", "-c", strings.Join([]string{
		"tc qdisc del dev eth0 root", "tc qdisc del dev eth0 ingress", "tc qdisc add dev eth0 root pfifo", "tc qdisc replace dev eth0 root pfifo",
		"ip link set eth0 txqueuelen 10000", "ip link set eth0 mtu 1400", "ip link set eth0 mtu 1500",
	}, "; "))
	h.wantRate(t, addr, true, 8)
	// Nor does another address help.
	d.Must(t, "exec", "c1", "ip", "addr", "add", "172.17.255.9/16", "dev", "eth0")
	h.wantRate(t, "172.17.255.9", true, 8)

	d.Must(t, "update", rateFlag(t, "egress", 24), "--net-ingress-rate=-1", "c1")
	h.wantRate(t, addr, true, 24)
	h.wantFree(t, addr, false)
	assert.Equal(t, d.Must(t, "inspect", "-f", "{{.HostConfig.NetEgressRate}} {{.HostConfig.NetIngressRate}}", "c1"), fmt.Sprint(24*unit(t), " -1"))

	d.Must(t, "restart", "-t", "0", "c1")
	serve(t, d, "c1")
	addr = addrOf(t, d, "c1", "bridge")
	h.wantRate(t, addr, true, 24)

	d.Must(t, "update", "--net-egress-rate=-1", "c1")
	h.wantFree(t, addr, true)
	d.Must(t, "rm", "-f", "c1")
	assert.Equal(t, h.leftovers(t), clean)
}

func TestNetLimitsHoldOnEachNetwork(t *testing.T) {
	place.OnHost(t)
	h, d := setupNet(t)
	clean := h.leftovers(t)
	d.Must(t, "network", "create", "--ipv6", "--subnet", "10.77.0.0/24", "--subnet", "fd77::/64", "n1")
	d.Must(t, "network", "create", "n2")
	d.Must(t, "run", "-d", "--name", "c1", "--network", "n1", rateFlag(t, "egress", 8), "--net-classid=10:1", "busybox", "sleep", "inf")
	serve(t, d, "c1")
	assert.Equal(t, h.classOf(t, d, "c1", outside4), "10:1")
	assert.Equal(t, h.classOf(t, d, "c1", outside6), "10:1")

	d.Must(t, "network", "connect", "n2", "c1")
	h.wantRate(t, addrOf(t, d, "c1", "n1"), true, 8)
	h.wantRate(t, addrOf(t, d, "c1", "n2"), true, 8)
	d.Must(t, "update", rateFlag(t, "egress", 16), "--net-classid=10:3", "c1")
	h.wantRate(t, addrOf(t, d, "c1", "n2"), true, 16)
	assert.Equal(t, h.classOf(t, d, "c1", outside6), "10:3")

	// n2 alone now, then n1 again.
	d.Must(t, "network", "disconnect", "n1", "c1")
	assert.Equal(t, h.classOf(t, d, "c1", outside4), "10:3")
	d.Must(t, "network", "connect", "n1", "c1")
	d.Must(t, "network", "disconnect", "n2", "c1")
	h.wantRate(t, addrOf(t, d, "c1", "n1"), true, 16)
	assert.Equal(t, h.classOf(t, d, "c1", outside6), "10:3")

	d.Must(t, "rm", "-f", "c1")
	d.Must(t, "network", "rm", "n1", "n2")
	assert.Equal(t, h.leftovers(t), clean)
}

func TestNetClassAndPriorityOfABridgedContainer(t *testing.T) {
	place.OnHost(t)
	h, d := setupNet(t)
	clean := h.leftovers(t)
	d.Must(t, "run", "-d", "--name", "c1", "busybox", "sleep", "inf")
	d.Must(t, "run", "-d", "--name", "other", "busybox", "sleep", "inf")
	assert.Equal(t, h.classOf(t, d, "c1", outside4), classOther)
	d.Must(t, "modresources", "--net-classid=10:1", "c1")
	assert.Equal(t, h.classOf(t, d, "c1", outside4), "10:1")
	assert.Equal(t, h.classOf(t, d, "other", outside4), classOther)
	d.Must(t, "update", "--net-classid=0", "--net-prio="+uplink+":"+strconv.Itoa(0x100003), "c1")
	assert.Equal(t, h.classOf(t, d, "c1", outside4), "10:3")
	// Through another interface it does not hold.
	d.Must(t, "update", "--net-prio=lo:"+strconv.Itoa(0x100003), "c1")
	assert.Equal(t, h.classOf(t, d, "c1", outside4), classOther)

	// What cannot be is refused, and changes nothing.
	r := d.Docker(t, "update", "--net-classid=10:1", "c1")
	assert.Check(t, r.Code != 0, "a class was taken beside priorities")
	wantWords(t, r.Stderr, "--net-classid=10:1", "--net-prio=lo", "use one of them")
	d.Must(t, "rm", "-f", "c1", "other")
	assert.Equal(t, h.leftovers(t), clean)
}

// dockerd limits an endpoint while it goes on to start the container, and removes
// the rules of one that has ended while the next one gets its address.
func TestTheFirstPacketOfAProgramHasItsClassAndNoOther(t *testing.T) {
	place.OnHost(t)
	h, d := setupNet(t)
	clean := h.leftovers(t)
	d.Must(t, "network", "create", "--subnet=172.30.9.0/24", "n")
	for range 5 {
		for _, flags := range [][]string{{"--net-classid=10:1"}, {"--net-classid=10:3", rateFlag(t, "egress", 8), rateFlag(t, "ingress", 8)}, nil} {
			before := h.sent(t)
			d.Must(t, append(append([]string{"run", "--rm", "--network=n", "--ip=172.30.9.9"}, flags...), "busybox", "ping", "-c1", "-W5", outside4)...)
			after := h.sent(t)
			for _, class := range []string{"10:1", "10:3"} {
				want := 0
				if flags != nil && flags[0] == "--net-classid="+class {
					want = 1
				}
				assert.Equal(t, after[class]-before[class], want, "%s, %v", class, flags)
			}
		}
	}
	d.Must(t, "network", "rm", "n")
	assert.Equal(t, h.leftovers(t), clean)
}

// The kernel refuses a part of the update, as in
// TestAnUpdateRefusedByTheKernelIsTakenBack, after the network was changed.
func TestAFailedUpdateLeavesTheNetworkAsItWas(t *testing.T) {
	place.OnHost(t)
	require.CgroupV1(t)
	h, d := setupNet(t)
	d.Must(t, "run", "-d", "--name=c1", "--cpus=0.2", "--net-egress-rate=8mbit", "busybox", "sleep", "inf")
	cpu, err := d.Cgroup(t, "c1").Dir("cpu")
	assert.NilError(t, err)
	quota := filepath.Join(filepath.Dir(cpu), "cpu.cfs_quota_us")
	assert.NilError(t, os.WriteFile(quota, []byte("50000"), 0o644))
	t.Cleanup(func() { assert.Check(t, os.WriteFile(quota, []byte("-1"), 0o644)) })
	before := h.leftovers(t)
	inspect := func() string { return d.Must(t, "inspect", "-f", "{{json .HostConfig}}", "c1") }
	config := inspect()

	r := d.Docker(t, "update", rateFlag(t, "egress", 16), rateFlag(t, "ingress", 8), "--net-classid=10:1", "--cpus=2", "c1")
	if r.Code == 0 {
		t.Fatal("an update was taken that the kernel refuses")
	}
	assert.Equal(t, inspect(), config)
	assert.Equal(t, h.leftovers(t), before)
	d.Must(t, "update", "--net-egress-rate=16mbit", "c1")
}

// The kernel refuses one of several containers after their networks and disks
// were changed.
func TestOfSeveralContainersNetworksAndDisksAreAllPutBack(t *testing.T) {
	place.OnHost(t)
	h, d := setupNet(t)
	quota, burst := "cpu.cfs_quota_us", "cpu.cfs_burst_us"
	if require.Has("v2") {
		quota, burst = "cpu.max", "cpu.max.burst"
	}
	names := []string{"one", "two", "three"}
	for _, name := range names {
		d.Must(t, "run", "-d", "--name="+name, "--cpu-period=100000", "--cpu-quota=80000", "--blkio-read-limit=40m", "--net-egress-rate=8mbit", "--net-classid=10:1", "busybox", "sleep", "inf")
	}
	dir, err := d.Cgroup(t, "two").Dir("cpu")
	assert.NilError(t, err)
	assert.NilError(t, os.WriteFile(filepath.Join(dir, burst), []byte("60000"), 0))
	all := func() string {
		// A rule that is put back is the last one then.
		lines := slices.Sorted(strings.Lines(h.leftovers(t)))
		for _, name := range names {
			lines = append(lines, fmt.Sprintln(hostConfig(t, d, name), kernelRates(t, d, name)))
		}
		return strings.Join(lines, "")
	}
	before := all()
	flags := []string{"modresources", "--cpu-quota=50000", "--blkio-read-limit=80m", "--net-egress-rate=16mbit", "--net-ingress-rate=8mbit", "--net-classid=10:3"}
	r := d.Docker(t, append(flags, names...)...)
	assert.Assert(t, r.Code != 0, "the kernel took it")
	wantWords(t, r.Stderr, "two: ", quota, "invalid argument")
	assert.Equal(t, all(), before)
	d.Must(t, append(flags, "one", "three")...)
	assert.Assert(t, all() != before)
}

func TestNetLimitsOutliveDockerd(t *testing.T) {
	place.OnHost(t)
	h, d := setupNet(t)
	clean := h.leftovers(t)
	d.Must(t, "run", "-d", "--name", "c1", rateFlag(t, "egress", 8), rateFlag(t, "ingress", 8), "--net-classid=10:1", "busybox", "sleep", "inf")
	before := h.leftovers(t)

	d.Kill(t)
	// Another program's reload meanwhile, and what an update half done leaves.
	tables := h.mustTables(t)
	h.Must(t, append([]string{"nft", "delete", "table"}, strings.Fields(tables[0])...)...)
	ifb := regexp.MustCompile(`ifb[0-9a-f]{11}`).FindString(before)
	h.Must(t, "tc", "qdisc", "del", "dev", ifb, "root")
	d.StartAgain(t)
	assert.Equal(t, h.leftovers(t), before)
	serve(t, d, "c1")
	addr := addrOf(t, d, "c1", "bridge")
	h.wantRate(t, addr, true, 8)
	assert.Equal(t, h.classOf(t, d, "c1", outside4), "10:1")

	d.Restart(t)
	assert.Equal(t, h.leftovers(t), before)
	d.Must(t, "update", rateFlag(t, "egress", 16), "c1")
	h.wantRate(t, addr, true, 16)

	// Killed, and the container ends before the next start.
	pid := d.Inspect(t, "c1").State.Pid
	d.Kill(t)
	kill(t, pid)
	d.StartAgain(t)
	assert.Equal(t, h.leftovers(t), clean)
	d.Must(t, "start", "c1")
	d.Must(t, "rm", "-f", "c1")
	assert.Equal(t, h.leftovers(t), clean)
}

// notInForce is what inspect shows as lost.
func notInForce(t *testing.T, d *daemon.Daemon, name string) []string {
	t.Helper()
	var c struct{ LimitsNotInForce []string }
	assert.NilError(t, json.Unmarshal(d.API(t, http.MethodGet, "/containers/"+name+"/json", "").Body, &c))
	return c.LimitsNotInForce
}

// What stands in the way when dockerd starts: an administrator's root qdisc, and a
// table that is another program's.
func TestNetLimitsThatAreLostAreShownAndTriedAgain(t *testing.T) {
	place.OnHost(t)
	h, d := setupNet(t)
	since := time.Now()
	b := runBox(t, h, d, "c1", "--net-egress-rate=8mbit", "--net-ingress-rate=16mbit", "--net-classid=10:1")
	before := h.leftovers(t)
	end := b.veth(t)
	table := ""
	for _, name := range h.mustTables(t) {
		if strings.HasPrefix(name, "inet ") {
			table = name
		}
	}
	var release func()
	block := func() {
		t.Helper()
		d.Kill(t)
		h.Must(t, "tc", "qdisc", "replace", "dev", end, "root", "handle", "1:", "htb")
		release = h.takeTable(t, table)
		d.StartAgain(t)
	}
	unblock := func() {
		t.Helper()
		h.Must(t, "tc", "qdisc", "del", "dev", end, "root")
		release()
	}
	warnings := func() string { return d.Must(t, "info", "-f", "{{.Warnings}}") }

	block()
	lost := notInForce(t, d, "c1")
	assert.Equal(t, len(lost), 2, "%q", lost)
	wantWords(t, lost[0], "NetClassID on network bridge: ", strings.Fields(table)[1])
	wantWords(t, lost[1], "NetIngressRate on network bridge: ", "root qdisc of interface "+end+" is htb 1:")
	wantWords(t, warnings(), "not in force", "LimitsNotInForce", "c1")
	// An update of it is refused, and what is shown stays true.
	r := d.Docker(t, "update", "--net-ingress-rate=24mbit", "c1")
	assert.Assert(t, r.Code != 0, "an update was taken that cannot be enforced")
	wantWords(t, r.Stderr, "root qdisc of interface "+end+" is htb 1:")
	assert.DeepEqual(t, notInForce(t, d, "c1"), lost)
	assert.Equal(t, d.Must(t, "inspect", "-f", "{{.HostConfig.NetIngressRate}}", "c1"), "16000000")

	unblock()
	until(t, func() error {
		if lost := notInForce(t, d, "c1"); len(lost) > 0 {
			return fmt.Errorf("not in force: %q", lost)
		}
		return nil
	})
	assert.Equal(t, h.leftovers(t), before)
	assert.Assert(t, !strings.Contains(warnings(), "not in force"), warnings())
	// The event comes just after inspect knows.
	want := []string{"limit_lost NetClassID bridge", "limit_lost NetIngressRate bridge", "limit_restored NetClassID bridge", "limit_restored NetIngressRate bridge"}
	var events []string
	for stop := time.Now().Add(10 * time.Second); len(events) < len(want) && time.Now().Before(stop); {
		events = strings.Split(d.Must(t, "events", "--since", since.Format(time.RFC3339Nano), "--until", nextSecond(), "--filter", "container=c1", "--filter", "event=limit_lost", "--filter", "event=limit_restored",
			"--format", "{{.Action}} {{.Actor.Attributes.limit}} {{.Actor.Attributes.network}}"), "\n")
	}
	slices.Sort(events)
	assert.DeepEqual(t, events, want)

	// Any update of the container is a reason to try at once.
	block()
	assert.Equal(t, len(notInForce(t, d, "c1")), 2)
	unblock()
	d.Must(t, "update", "--pids-limit=100", "c1")
	assert.DeepEqual(t, notInForce(t, d, "c1"), []string(nil))
	assert.Equal(t, h.leftovers(t), before)

	// What has gone is not lost.
	block()
	d.Must(t, "kill", "c1")
	assert.DeepEqual(t, notInForce(t, d, "c1"), []string(nil))
	assert.Assert(t, !strings.Contains(warnings(), "not in force"), warnings())
	release()
}

// The lock that every runc takes on the container's state holds the update up,
// after the network was changed.
func TestAConnectInTheMiddleOfAFailingUpdateGetsTheOldLimits(t *testing.T) {
	place.OnHost(t)
	h, d := setupNet(t)
	d.Must(t, "network", "create", "n1")
	d.Must(t, "run", "-d", "--name", "c1", "--net-egress-rate=8mbit", "busybox", "sleep", "inf")
	dir, err := os.Open(filepath.Dir(d.StateFile(d.Inspect(t, "c1").ID)))
	assert.NilError(t, err)
	defer dir.Close()
	assert.NilError(t, unix.Flock(int(dir.Fd()), unix.LOCK_EX))
	rates := func() []string { return regexp.MustCompile(`rate \S+`).FindAllString(h.Must(t, "tc", "qdisc"), -1) }
	send := func(path, body string) chan daemon.Response {
		done := make(chan daemon.Response, 1)
		go func() {
			r, err := d.TryAPI(http.MethodPost, path, body)
			if err != nil {
				r.Body = []byte(err.Error())
			}
			done <- r
		}()
		return done
	}
	update := send("/containers/c1/update", `{"NetEgressRate":16000000,"PidsLimit":100}`)
	until(t, func() error {
		if got := rates(); !slices.Equal(got, []string{"rate 16Mbit"}) {
			return fmt.Errorf("the update does not come to the network: %q", got)
		}
		return nil
	})
	connect := send("/networks/n1/connect", `{"Container":"c1"}`)
	select {
	case r := <-connect:
		t.Errorf("connected in the middle of an update: %d %s", r.Status, r.Message())
	case <-time.After(time.Second):
	}
	until(t, func() error {
		if !d.KillRuntime() {
			return errors.New("no runc was started")
		}
		return nil
	})
	assert.NilError(t, unix.Flock(int(dir.Fd()), unix.LOCK_UN))
	r := <-update
	assert.Equal(t, r.Status, http.StatusInternalServerError, r.Message())
	r = <-connect
	assert.Equal(t, r.Status, http.StatusOK, r.Message())
	assert.DeepEqual(t, rates(), []string{"rate 8Mbit", "rate 8Mbit"})
}

// kill ends a process of a container, and waits until its shim knows.
func kill(t *testing.T, pid int) {
	t.Helper()
	assert.NilError(t, unix.Kill(pid, unix.SIGKILL))
	until(t, func() error {
		if unix.Kill(pid, 0) == nil {
			return fmt.Errorf("process %d does not end", pid)
		}
		return nil
	})
}

// Containers come and go, several at a time, and dockerd does.
func TestNetLimitsLeaveNothingBehind(t *testing.T) {
	place.OnHost(t)
	h, d := setupNet(t)
	d.Must(t, "network", "create", "--ipv6", "n1")
	clean := h.leftovers(t)
	cycles := 50
	if v := os.Getenv("CYCLES"); v != "" {
		var err error
		cycles, err = strconv.Atoi(v)
		assert.NilError(t, err)
	}
	call := func(method, path, body string) {
		r, err := d.TryAPI(method, path, body)
		if err != nil || r.Status >= 300 {
			t.Errorf("%s %s: %v %d %s", method, path, err, r.Status, r.Message())
		}
	}
	const limits = `"NetEgressRate":8000000,"NetIngressRate":8000000,"NetClassID":1048577`
	boxes := []string{"c0", "c1", "c2", "c3", "c4"}
	each := func(f func(i int, name string)) {
		var wg sync.WaitGroup
		for i, name := range boxes {
			wg.Go(func() { f(i, name) })
		}
		wg.Wait()
		if t.Failed() {
			t.FailNow()
		}
	}
	end := func(_ int, name string) {
		call(http.MethodPost, "/containers/"+name+"/kill", "")
		call(http.MethodPost, "/containers/"+name+"/wait", "")
	}
	each(func(_ int, name string) {
		call(http.MethodPost, "/containers/create?name="+name, `{"Image":"busybox","Cmd":["sleep","inf"],"HostConfig":{`+limits+`}}`)
	})
	for round := range (cycles + len(boxes) - 1) / len(boxes) {
		each(func(i int, name string) {
			call(http.MethodPost, "/containers/"+name+"/start", "")
			connect, disconnect := "/networks/n1/connect", "/networks/n1/disconnect"
			body := `{"Container":"` + name + `"}`
			call(http.MethodPost, connect, body)
			switch (round + i) % 3 {
			case 0:
				call(http.MethodPost, "/containers/"+name+"/update", `{"NetEgressRate":-1,"NetClassID":0}`)
				call(http.MethodPost, "/containers/"+name+"/update", `{`+limits+`}`)
			case 1:
				call(http.MethodPost, disconnect, body)
				call(http.MethodPost, connect, body)
			}
		})
		switch round % 4 {
		case 0: // dockerd dies, some containers meanwhile, the others later
			var pids []int
			for i, name := range boxes {
				if i%2 == 0 {
					pids = append(pids, d.Inspect(t, name).State.Pid)
				}
			}
			d.Kill(t)
			for _, pid := range pids {
				kill(t, pid)
			}
			d.StartAgain(t)
			each(func(i int, name string) {
				if i%2 != 0 {
					end(i, name)
				}
			})
		case 2: // all at the start of the next dockerd
			d.Kill(t)
			d.StartAgain(t, append(slices.Clone(netArgs), "--live-restore=false")...)
		default:
			each(end)
		}
		each(func(_ int, name string) {
			call(http.MethodPost, "/networks/n1/disconnect", `{"Container":"`+name+`","Force":true}`)
		})
	}
	each(func(_ int, name string) { call(http.MethodDelete, "/containers/"+name+"?force=1", "") })
	assert.Equal(t, h.leftovers(t), clean)
}

func TestNetLimitsThatCannotBeAreRefused(t *testing.T) {
	place.OnHost(t)
	h, d := setupNet(t)
	d.Must(t, "network", "create", "-d", "macvlan", "-o", "parent="+uplink, "mac")
	h.Must(t, "ip", "link", "add", "forip", "type", "veth", "peer", "name", "forip1")
	d.Must(t, "network", "create", "-d", "ipvlan", "-o", "parent=forip", "ipv")
	d.Must(t, "run", "-d", "--name", "c1", "busybox", "sleep", "inf")
	for _, tc := range []struct{ args, words string }{
		{"--network=none --net-egress-rate=8mbit", "--net-egress-rate=8000000 no network"},
		{"--network=none --net-classid=10:1", "--net-classid=10:1 no network"},
		{"--network=container:c1 --net-ingress-rate=8mbit", "--net-ingress-rate=8000000 another one"},
		{"--network=container:c1 --net-prio=lo:1", "--net-prio=lo:1 another one"},
		{"--network=host --net-egress-rate=8mbit", "--net-egress-rate=8000000 --network=host use a bridge network"},
		{"--network=mac --net-egress-rate=8mbit", "--net-egress-rate=8000000 mac macvlan CAP_NET_ADMIN bridge"},
		{"--network=mac --net-classid=10:1", "--net-classid=10:1 mac macvlan bridge"},
		{"--network=ipv --net-ingress-rate=8mbit", "--net-ingress-rate=8000000 ipv ipvlan CAP_NET_ADMIN bridge"},
		{"--net-egress-rate=6071", "--net-egress-rate 6072 to 1000000000000000"},
	} {
		args := append([]string{"run", "--rm", "--name", "refused"}, strings.Fields(tc.args)...)
		r := d.Docker(t, append(args, "busybox", "true")...)
		if r.Code == 0 {
			t.Errorf("%s was taken", tc.args)
		}
		wantWords(t, r.Stderr, strings.Fields(tc.words)...)
	}
	// It is refused when it is made: a restart policy has nothing to try again.
	r := d.Docker(t, "create", "--name=again", "--restart=always", "--network=mac", "--net-egress-rate=8mbit", "busybox", "true")
	assert.Check(t, r.Code != 0)
	assert.Check(t, !slices.Contains(d.Names(t), "/again"))

	// A container that the API makes without any network.
	made := d.API(t, http.MethodPost, "/containers/create?name=refused", `{"Image":"busybox","Cmd":["true"],"NetworkDisabled":true,"HostConfig":{"NetEgressRate":8000000}}`)
	assert.Equal(t, made.Status, http.StatusBadRequest, "%s", made.Body)
	wantWords(t, made.Message(), "--net-egress-rate=8000000", "NetworkDisabled")
	made = d.API(t, http.MethodPost, "/containers/create?name=without", `{"Image":"busybox","Cmd":["sleep","600"],"NetworkDisabled":true}`)
	assert.Equal(t, made.Status, http.StatusCreated, "%s", made.Body)
	for _, state := range []string{"created", "running"} {
		r = d.Docker(t, "update", "--net-egress-rate=8mbit", "without")
		assert.Check(t, r.Code != 0, "a limit of a container without a network, %s, was taken", state)
		wantWords(t, r.Stderr, "--net-egress-rate=8000000", "NetworkDisabled")
		d.Must(t, "start", "without")
	}

	// Not live either, and then the container is not connected.
	d.Must(t, "update", "--net-egress-rate=8mbit", "c1")
	r = d.Docker(t, "network", "connect", "mac", "c1")
	if r.Code == 0 {
		t.Error("a limited container was connected to a macvlan network")
	}
	wantWords(t, r.Stderr, "macvlan")
	var networks map[string]json.RawMessage
	assert.NilError(t, json.Unmarshal([]byte(d.Must(t, "inspect", "-f", "{{json .NetworkSettings.Networks}}", "c1")), &networks))
	assert.Equal(t, len(networks), 1, fmt.Sprint(networks))

	d.Must(t, "run", "-d", "--name", "m1", "--network", "mac", "busybox", "sleep", "inf")
	r = d.Docker(t, "update", "--net-ingress-rate=8mbit", "m1")
	if r.Code == 0 {
		t.Error("a container on a macvlan network was limited")
	}
	wantWords(t, r.Stderr, "--net-ingress-rate=8000000", "macvlan")
}

// On cgroup v2 a BPF program on the container's cgroup sets the priority.
func TestNetClassInTheHostsNetworkV2(t *testing.T) {
	require.CgroupV2(t)
	h, d := setupNet(t)
	d.Must(t, "run", "-d", "--name=c1", "--network=host", "--net-classid=10:1", "busybox", "sleep", "inf")
	d.Must(t, "run", "-d", "--name=other", "--network=host", "busybox", "sleep", "inf")
	assert.Equal(t, h.classOf(t, d, "c1", outside4), "10:1")
	assert.Equal(t, h.classOf(t, d, "c1", outside6), "10:1")
	assert.Equal(t, h.classOf(t, d, "other", outside4), classOther)
	assert.Equal(t, strings.TrimSpace(d.Must(t, "inspect", "-f", "{{json .NetLimitEndpoints}}", "c1")), `[{"Network":"host","Interface":"","ClassID":1048577}]`)
	d.Must(t, "update", "--net-classid=0", "--net-prio="+uplink+":"+strconv.Itoa(0x100003), "c1")
	assert.Equal(t, h.classOf(t, d, "c1", outside4), "10:3")
	d.Kill(t)
	d.StartAgain(t)
	assert.Equal(t, h.classOf(t, d, "c1", outside4), "10:3")
	d.Must(t, "modresources", "--net-prio=lo:5", "c1")
	assert.Equal(t, h.classOf(t, d, "c1", outside4), classOther)
}

// On cgroup v1 it is for a filter of the administrator's to use the class; the
// priority counts by itself.
func TestNetClassInTheHostsNetworkV1(t *testing.T) {
	require.NetRate(t)
	require.NetCgroups(t)
	d := setup(t)
	h := addUplink(t, netns.Current(t), netns.New(t))
	t.Cleanup(func() { h.Must(t, "ip", "link", "del", uplink) })
	h.Must(t, "tc", "filter", "add", "dev", uplink, "parent", uplinkHTB, "protocol", "all", "prio", "1", "handle", "1:", "cgroup")
	d.Must(t, "run", "-d", "--name=c1", "--network=host", "--net-classid=10:1", "busybox", "sleep", "inf")
	d.Must(t, "run", "-d", "--name=c2", "--network=host", "--net-prio="+uplink+":"+strconv.Itoa(0x100003), "busybox", "sleep", "inf")
	g1, g2 := d.Cgroup(t, "c1"), d.Cgroup(t, "c2")
	class := func() string { return readFile(t, g1, "net_cls", "net_cls.classid") }
	prios := func() string { return readFile(t, g2, "net_prio", "net_prio.ifpriomap") }
	assert.Equal(t, class(), "1048577")
	assert.Assert(t, strings.Contains(prios(), uplink+" 1048579"), prios())
	assert.Equal(t, h.classOf(t, d, "c1", outside4), "10:1")

	// Another program's hand, of which the kernel tells nobody.
	shown := func(name string) string {
		return strings.TrimSpace(d.Must(t, "inspect", "-f", "{{json .NetLimitEndpoints}}", name))
	}
	assert.Equal(t, shown("c1"), `[{"Network":"host","Interface":"","ClassID":1048577}]`)
	writeFile(t, g1, "net_cls", "net_cls.classid", "0")
	writeFile(t, g2, "net_prio", "net_prio.ifpriomap", uplink+" 0")
	within(t, noticed(), "class and priority again", func() error {
		if class() != "1048577" || !strings.Contains(prios(), uplink+" 1048579") {
			return fmt.Errorf("%s, %s", class(), prios())
		}
		return nil
	})
	events := pastEvents(t, d, "limit_restored", `{{index .Actor.Attributes "limit"}}`)
	assert.Assert(t, strings.Contains(events, "NetClassID") && strings.Contains(events, "NetPriorities"), events)

	d.Must(t, "update", "--net-classid=10:3", "c1")
	assert.Equal(t, class(), "1048579")
	d.Must(t, "update", "--net-classid=0", "c1")
	assert.Equal(t, class(), "0")
	// The filter comes before the priority.
	h.Must(t, "tc", "filter", "del", "dev", uplink, "parent", uplinkHTB)
	assert.Equal(t, h.classOf(t, d, "c1", outside4), classOther)
	assert.Equal(t, h.classOf(t, d, "c2", outside4), "10:3")
	d.Must(t, "update", "--net-prio="+uplink+":"+strconv.Itoa(0x100001), "c2")
	assert.Equal(t, h.classOf(t, d, "c2", outside4), "10:1")
	d.Must(t, "modresources", "--net-prio=lo:5", "c2")
	assert.Assert(t, strings.Contains(prios(), uplink+" 0") && strings.Contains(prios(), "lo 5"), prios())
}

func readFile(t *testing.T, g cgroupfs.Group, controller, name string) string {
	t.Helper()
	dir, err := g.Dir(controller)
	assert.NilError(t, err)
	b, err := os.ReadFile(filepath.Join(dir, name))
	assert.NilError(t, err)
	return strings.TrimSpace(string(b))
}

func writeFile(t *testing.T, g cgroupfs.Group, controller, name, value string) {
	t.Helper()
	dir, err := g.Dir(controller)
	assert.NilError(t, err)
	assert.NilError(t, os.WriteFile(filepath.Join(dir, name), []byte(value), 0))
}

func TestAHierarchyThatIsNotMountedIsNamed(t *testing.T) {
	require.NetRate(t)
	require.CgroupV1(t)
	require.NoNetCgroups(t)
	d := setup(t)
	r := d.Docker(t, "create", "--network=host", "--net-classid=10:1", "busybox")
	if r.Code == 0 {
		t.Error("--net-classid was taken")
	}
	wantWords(t, r.Stderr, "--net-classid=10:1", "mount -t cgroup -o net_cls net_cls /sys/fs/cgroup/net_cls")
	r = d.Docker(t, "create", "--network=host", "--net-prio=lo:5", "busybox")
	if r.Code == 0 {
		t.Error("--net-prio was taken")
	}
	wantWords(t, r.Stderr, "--net-prio=lo:5", "mount -t cgroup -o net_prio net_prio /sys/fs/cgroup/net_prio")
}

func TestNetFeaturesAreSaid(t *testing.T) {
	place.OnHost(t)
	_, d := setupNet(t)
	features := func() string {
		return d.API(t, http.MethodGet, "/_ping", "").Header.Get("Docker-Resource-Features")
	}
	wantWords(t, features(), "net-class", "net-rate")
}

// TestACrashInMidUpdateLeavesNoMixture for the network, whose state is in
// qdiscs and rules and not in files that the runtime writes.
func TestACrashInMidUpdateLeavesNoMixtureOfNetworkLimits(t *testing.T) {
	place.OnHost(t)
	h, d := setupNet(t)
	n, seed := kills(t)
	n = max(n/10, 3) // each takes a restart of dockerd
	t.Logf("%d kills, SEED=%d", n, seed)
	random := rand.New(rand.NewPCG(seed, seed))

	d.Must(t, "run", "-d", "--name=c1", "--memory=64m", "busybox", "sleep", "inf")
	d.Kill(t) // Docker 29 shows [] for a null list until it has read the container from the disk
	d.StartAgain(t)
	type limits struct{ inspect, kernel string }
	look := func() limits {
		var c struct{ HostConfig json.RawMessage }
		assert.NilError(t, json.Unmarshal(d.API(t, http.MethodGet, "/containers/c1/json", "").Body, &c))
		return limits{
			string(c.HostConfig),
			h.leftovers(t) + readFile(t, d.Cgroup(t, "c1"), "memory", memoryMax(t)),
		}
	}
	bodies := []string{
		`{"NetEgressRate":8000000,"NetIngressRate":-1,"NetClassID":0,"Memory":67108864,"MemorySwap":67108864}`,
		`{"NetEgressRate":16000000,"NetIngressRate":8000000,"NetClassID":1048577,"Memory":134217728,"MemorySwap":134217728}`,
	}
	var sets [2]limits
	var window time.Duration
	for i, body := range bodies {
		start := time.Now()
		r := d.API(t, http.MethodPost, "/containers/c1/update", body)
		assert.Equal(t, r.Status, http.StatusOK, "%s", r.Body)
		window = time.Since(start) * 3 / 2
		sets[i] = look()
	}
	assert.Assert(t, sets[0].kernel != sets[1].kernel)
	now, took := 1, 0
	for i := range n {
		next := 1 - now
		delay := time.Duration(random.Int64N(int64(window)))
		done := make(chan bool, 1)
		go func() {
			r, err := d.TryAPI(http.MethodPost, "/containers/c1/update", bodies[next])
			done <- err == nil && r.Status == http.StatusOK
		}()
		time.Sleep(delay)
		d.Kill(t)
		said := <-done
		d.StartAgain(t)
		switch got := look(); {
		case got == sets[next]:
			now = next
			took++
		case said || got != sets[now]:
			t.Fatalf("kill %d after %v, told that it is done: %t: want set %d:\n%+v\ngot:\n%+v", i, delay, said, next, sets[next], got)
		}
	}
	t.Logf("%d times the new settings, %d times the old ones", took, n-took)
}

func memoryMax(t *testing.T) string {
	t.Helper()
	if require.Has("v2") {
		return "memory.max"
	}
	return "memory.limit_in_bytes"
}
