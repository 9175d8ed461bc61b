// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/netns"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// Classes of the uplink as priorities.
const (
	prio1 = 0x100001
	prio3 = 0x100003
)

// netSoon is how long what changed on the host may take to be in force, or to be
// said not to be.
func netSoon() time.Duration {
	if os.Getenv("NET_UNIT") != "" { // an emulated machine
		return 20 * time.Second
	}
	return 2 * time.Second
}

// pause is before asking again. On an emulated machine an answer of
// dockerd takes longer than the wait on a real one, and what is waited for shares the
// processor with it.
func pause() {
	if os.Getenv("NET_UNIT") != "" {
		time.Sleep(300 * time.Millisecond)
		return
	}
	time.Sleep(20 * time.Millisecond)
}

// polled asks again and again, and tells whether it came true in time.
func polled(within time.Duration, is func() bool) bool {
	for end := time.Now().Add(within); ; pause() {
		if is() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// bytesOn counts the bytes of each class of an interface.
func (h netHost) bytesOn(t *testing.T, dev string) map[string]int {
	t.Helper()
	return h.classes(t, dev, 1)
}

// most is what all of an amount of bytes has to be in; less than a tenth of it
// elsewhere is neighbour discovery and the like.
const most = 50_000

// wantIn fails unless what f makes leave dev, at least most bytes, does so in one
// class.
func (h netHost) wantIn(t *testing.T, what, dev, class string, f func()) {
	t.Helper()
	before := h.bytesOn(t, dev)
	f()
	after := h.bytesOn(t, dev)
	for c, n := range after {
		after[c] = n - before[c]
	}
	for c, n := range after {
		if c == class && n < most || c != class && n > most/10 {
			t.Errorf("%s: want class %s, got %v", what, class, after)
			return
		}
	}
}

// answerAt serves a port of ns: most bytes for each connection or packet.
func answerAt(t *testing.T, ns *netns.NS, network, addr string, priority int) {
	t.Helper()
	prioritise := func(c syscall.RawConn) (err error) {
		return errors.Join(c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PRIORITY, priority) }), err)
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return prioritise(c) }}
	if network == "udp" {
		var l net.PacketConn
		assert.NilError(t, ns.Do(func() (err error) { l, err = lc.ListenPacket(t.Context(), network, addr); return err }))
		t.Cleanup(func() { l.Close() })
		go func() {
			buf := make([]byte, 1000)
			for {
				_, from, err := l.ReadFrom(buf)
				if errors.Is(err, net.ErrClosed) {
					return
				}
				for range most / len(buf) {
					_, _ = l.WriteTo(buf, from)
				}
			}
		}()
		return
	}
	var l net.Listener
	assert.NilError(t, ns.Do(func() (err error) { l, err = lc.Listen(t.Context(), network, addr); return err }))
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				raw, err := c.(*net.TCPConn).SyscallConn()
				if err == nil {
					err = prioritise(raw) // it does not have the listener's
				}
				if err != nil {
					t.Error(err)
				}
				_, _ = io.CopyN(c, zeros{}, most)
			}()
		}
	}()
}

// ask gets an answer from the outside.
func (h netHost) ask(t *testing.T, network, addr string) {
	t.Helper()
	var err error
	// A proxy that was just started may not listen yet.
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var c net.Conn
		if err = h.outside.Do(func() (err error) { c, err = net.DialTimeout(network, addr, 2*time.Second); return err }); err != nil {
			continue
		}
		err = func() error {
			defer c.Close()
			if network == "udp" {
				if _, err := c.Write([]byte("?")); err != nil {
					return err
				}
			}
			if err := c.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
				return err
			}
			buf := make([]byte, most)
			for n := 0; n < most; {
				m, err := c.Read(buf)
				if n += m; err != nil && n < most {
					return fmt.Errorf("after %d bytes: %w", n, err)
				}
			}
			return nil
		}()
		if err == nil {
			return
		}
	}
	t.Fatalf("%s %s: %v", network, addr, err)
}

// wantAnswerIn asks through the uplink.
func (h netHost) wantAnswerIn(t *testing.T, class, network, addr string) {
	t.Helper()
	h.wantIn(t, "answer of "+network+" "+addr, uplink, class, func() { h.ask(t, network, addr) })
}

func nsOf(t *testing.T, d *daemon.Daemon, name string) *netns.NS {
	t.Helper()
	return netns.Of(t, d.Inspect(t, name).State.Pid)
}

// proxyArgs are for a daemon with docker-proxy, as one is by default.
func proxyArgs(more ...string) []string {
	return append([]string{"--userland-proxy=true", "--userland-proxy-path=" + filepath.Join(require.Bin(), "docker-proxy"), "--live-restore"}, more...)
}

// A client that comes by IPv6 to a container that has IPv4 alone is served by
// docker-proxy, whose packets have the host's address.
func TestNetClassHoldsForTheAnswersOfDockerProxy(t *testing.T) {
	place.OnHost(t)
	require.NetRate(t)
	h := newNetHost(t, netns.New(t), netns.New(t))
	h.Must(t, "ip", "-6", "addr", "add", "2001:db8::11/64", "dev", uplink, "nodad")
	d := daemon.NewIn(t, h.NS, proxyArgs()...)
	d.Must(t, "run", "-d", "--name=c1", "--net-classid=10:1", "-p", "8080:9000", "-p", "8080:9000/udp", "-p", "8090-8092:9000-9002",
		"-p", "203.0.113.1:8081:9000", "-p", "[2001:db8::1]:8082:9000", "-p", "9000", "busybox", "sleep", "inf")
	// The same port of another address is another container's.
	d.Must(t, "run", "-d", "--name=c2", "--net-prio="+uplink+":"+strconv.Itoa(prio3), "-p", "[2001:db8::11]:8082:9000", "-p", "8083:9000", "busybox", "sleep", "inf")
	d.Must(t, "run", "-d", "--name=free", "-p", "8084:9000", "busybox", "sleep", "inf")
	var any string // the port that docker chose
	serveAll := func(names ...string) {
		for _, name := range names {
			ns := nsOf(t, d, name)
			for _, port := range []string{":9000", ":9001", ":9002"} {
				answerAt(t, ns, "tcp", port, 0)
			}
			answerAt(t, ns, "udp", ":9000", 0)
		}
		for _, line := range strings.Fields(d.Must(t, "port", "c1", "9000/tcp")) {
			_, port, err := net.SplitHostPort(line)
			assert.NilError(t, err)
			if n, _ := strconv.Atoi(port); n > 10000 {
				any = port
			}
		}
		assert.Assert(t, any != "", "no port was chosen")
	}
	serveAll("c1", "c2", "free")
	all := func(class1, class2 string) {
		t.Helper()
		for _, addr := range []string{
			"203.0.113.1:8080", "[2001:db8::1]:8080", "[2001:db8::11]:8080", "[2001:db8::1]:8090", "[2001:db8::1]:8092", "203.0.113.1:8091",
			"203.0.113.1:8081", "[2001:db8::1]:8082", "[2001:db8::1]:" + any,
		} {
			h.wantAnswerIn(t, class1, "tcp", addr)
		}
		h.wantAnswerIn(t, class1, "udp", "203.0.113.1:8080")
		h.wantAnswerIn(t, class1, "udp", "[2001:db8::1]:8080")
		for _, addr := range []string{"[2001:db8::11]:8082", "[2001:db8::1]:8083", "203.0.113.1:8083"} {
			h.wantAnswerIn(t, class2, "tcp", addr)
		}
		h.wantAnswerIn(t, classOther, "tcp", "[2001:db8::1]:8084")
	}
	all("10:1", "10:3")

	d.Must(t, "update", "--net-classid=10:3", "c1")
	d.Must(t, "update", "--net-prio="+uplink+":"+strconv.Itoa(prio1), "c2")
	all("10:3", "10:1")
	d.Must(t, "update", "--net-prio=lo:"+strconv.Itoa(prio1), "c2")
	d.Must(t, "update", "--net-classid=0", "c1")
	all(classOther, classOther)
	d.Must(t, "update", "--net-prio=", "c2")
	d.Must(t, "modresources", "--net-classid=10:1", "c1", "free")
	h.wantAnswerIn(t, "10:1", "tcp", "[2001:db8::1]:8084")
	d.Must(t, "update", "--net-classid=0", "free")
	d.Must(t, "update", "--net-prio="+uplink+":"+strconv.Itoa(prio3), "c2")
	all("10:1", "10:3")

	for _, restart := range []func(){func() { d.Restart(t) }, func() { d.Kill(t); d.StartAgain(t) }} {
		restart()
		all("10:1", "10:3")
	}
	d.Must(t, "restart", "-t0", "c1")
	serveAll("c1")
	all("10:1", "10:3")

	// The next one with a port does not get the class of the last.
	d.Must(t, "rm", "-f", "c1")
	answerAt(t, h.NS, "tcp", "[::]:8080", 0)
	h.wantAnswerIn(t, classOther, "tcp", "[2001:db8::1]:8080")
	d.Must(t, "run", "-d", "--name=next", "-p", "8090:9000", "busybox", "sleep", "inf")
	answerAt(t, nsOf(t, d, "next"), "tcp", ":9000", 0)
	h.wantAnswerIn(t, classOther, "tcp", "[2001:db8::1]:8090")
}

// Without rules of dockerd's for published ports the proxy serves IPv4 as well: the
// class holds there or is refused.
func TestNetClassHoldsForDockerProxyWithoutIptables(t *testing.T) {
	place.OnHost(t)
	require.NetRate(t)
	h := newNetHost(t, netns.New(t), netns.New(t))
	d := daemon.NewIn(t, h.NS, proxyArgs("--iptables=false", "--ip6tables=false")...)
	r := d.Docker(t, "run", "-d", "--name=c1", "--net-classid=10:1", "-p", "8080:9000", "-p", "8080:9000/udp", "-p", "203.0.113.1:8081:9000", "busybox", "sleep", "inf")
	if r.Code != 0 {
		wantWords(t, r.Stderr, "--net-classid=10:1", "--iptables=false")
		return
	}
	answerAt(t, nsOf(t, d, "c1"), "tcp", ":9000", 0)
	answerAt(t, nsOf(t, d, "c1"), "udp", ":9000", 0)
	for _, class := range []string{"10:1", "10:3", classOther} {
		if class == classOther {
			d.Must(t, "update", "--net-classid=0", "c1")
		} else {
			d.Must(t, "update", "--net-classid="+class, "c1")
		}
		for _, addr := range []string{"203.0.113.1:8080", "203.0.113.1:8081", "[2001:db8::1]:8080"} {
			h.wantAnswerIn(t, class, "tcp", addr)
		}
		h.wantAnswerIn(t, class, "udp", "203.0.113.1:8080")
	}
}

// What has a published port's number and is not the proxy.
func TestNetClassOfAPublishedPortIsNotThatOfTheHostsProcesses(t *testing.T) {
	place.OnHost(t)
	require.NetRate(t)
	h := newNetHost(t, netns.New(t), netns.New(t))
	h.Must(t, "ip", "-6", "addr", "add", "2001:db8::11/64", "dev", uplink, "nodad")
	h.Must(t, "ip", "addr", "add", "203.0.113.11/24", "dev", uplink)
	d := daemon.NewIn(t, h.NS, proxyArgs()...)
	d.Must(t, "run", "-d", "--name=c1", "--net-classid=10:1", "-p", "8080:9000", "-p", "[2001:db8::1]:8082:9000", "-p", "203.0.113.1:8082:9000", "busybox", "sleep", "inf")
	answerAt(t, nsOf(t, d, "c1"), "tcp", ":9000", 0)
	h.wantAnswerIn(t, "10:1", "tcp", "203.0.113.1:8082") // it is in force
	for _, p := range []struct {
		network, addr string
		priority      int
		class         string
	}{
		{"tcp", "[2001:db8::11]:8082", 0, classOther},
		{"tcp", "203.0.113.11:8082", 0, classOther},
		{"udp", "[2001:db8::1]:8080", 0, classOther},
		{"udp", "203.0.113.1:8080", prio3, "10:3"},
		{"udp", "[2001:db8::11]:9000", prio3, "10:3"},
		{"tcp", "[2001:db8::1]:9000", prio3, "10:3"},
		{"tcp", "203.0.113.1:9000", 0, classOther},
	} {
		answerAt(t, h.NS, p.network, p.addr, p.priority)
		h.wantAnswerIn(t, p.class, p.network, p.addr)
	}
	// And what has the number at its other end.
	h.wantIn(t, "a client of port 8080 elsewhere", uplink, classOther, func() {
		var l net.Listener
		assert.NilError(t, h.outside.Do(func() (err error) { l, err = net.Listen("tcp", "["+outside6+"]:8080"); return err }))
		defer l.Close()
		done := make(chan error, 1)
		go func() {
			c, err := l.Accept()
			if err == nil {
				_, err = io.Copy(io.Discard, c)
			}
			done <- err
		}()
		assert.NilError(t, h.Do(func() error {
			c, err := net.DialTimeout("tcp", l.Addr().String(), 5*time.Second)
			if err == nil {
				_, err = io.CopyN(c, zeros{}, most)
				err = errors.Join(err, c.Close())
			}
			return err
		}))
		assert.NilError(t, <-done)
	})
}

// sendFrom sends most bytes of UDP from an address that ns has, and what the
// network said to it.
func sendFrom(t *testing.T, ns *netns.NS, from, to string) error {
	t.Helper()
	c := dialFrom(t, ns, from, to)
	defer c.Close()
	var err error
	for range most / 1000 {
		_, e := c.Write(make([]byte, 1000))
		err = errors.Join(err, e)
	}
	return err
}

func dialFrom(t *testing.T, ns *netns.NS, from, to string) *net.UDPConn {
	t.Helper()
	var c net.Conn
	assert.NilError(t, ns.Do(func() (err error) {
		dialer := net.Dialer{}
		if from != "" {
			dialer.LocalAddr = &net.UDPAddr{IP: net.ParseIP(from)}
		}
		c, err = dialer.Dial("udp", to)
		return err
	}))
	return c.(*net.UDPConn)
}

// echoAt answers each packet with the same.
func echoAt(t *testing.T, ns *netns.NS, addr string) {
	t.Helper()
	var l net.PacketConn
	assert.NilError(t, ns.Do(func() (err error) { l, err = net.ListenPacket("udp", addr); return err }))
	t.Cleanup(func() { l.Close() })
	go func() {
		buf := make([]byte, 2000)
		for {
			n, from, err := l.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_, _ = l.WriteTo(buf[:n], from)
			}
		}
	}()
}

// A docker network on the bridge that has the LAN's NIC: packets to the LAN are
// bridged, and go through iptables only if bridge-nf-call-iptables says so.
func TestNetClassAndPriorityOfABridgeWithTheLANsNIC(t *testing.T) {
	place.OnHost(t)
	require.NetRate(t)
	h := newBridgedHost(t)
	d := daemon.NewIn(t, h.NS, "--live-restore")
	lanNetwork(t, d)
	d.Must(t, "run", "-d", "--name=c1", "--network=lan", "--net-classid=10:1", "busybox", "sleep", "inf")
	d.Must(t, "run", "-d", "--name=c2", "--network=lan", "--net-prio="+uplink+":"+strconv.Itoa(prio3), "busybox", "sleep", "inf")
	d.Must(t, "run", "-d", "--name=free", "--network=lan", "busybox", "sleep", "inf")
	for _, call := range []string{"0", "1"} {
		t.Run("bridge-nf-call-iptables="+call, func(t *testing.T) {
			h.bridgeNF(t, call)
			want := func(class1, class2 string) {
				t.Helper()
				for _, addr := range []string{outside4, outside6} {
					h.wantPing(t, d, "c1", addr, class1)
					h.wantPing(t, d, "c2", addr, class2)
					h.wantPing(t, d, "free", addr, classOther)
				}
			}
			want("10:1", "10:3")
			d.Must(t, "update", "--net-classid=10:3", "c1")
			d.Must(t, "update", "--net-prio="+uplink+":"+strconv.Itoa(prio1), "c2")
			want("10:3", "10:1")
			d.Must(t, "update", "--net-prio=lo:"+strconv.Itoa(prio1), "c2")
			d.Must(t, "update", "--net-classid=0", "c1")
			want(classOther, classOther)
			d.Must(t, "update", "--net-classid=10:1", "c1")
			d.Must(t, "update", "--net-prio="+uplink+":"+strconv.Itoa(prio3), "c2")
			d.Must(t, "restart", "-t0", "c1")
			want("10:1", "10:3")
			d.Kill(t)
			d.StartAgain(t)
			want("10:1", "10:3")
			// The NIC leaves the bridge and comes back.
			h.Must(t, "ip", "link", "set", uplink, "nomaster")
			h.Must(t, "ip", "link", "set", uplink, "master", "br0")
			want("10:1", "10:3")
			assert.DeepEqual(t, notInForce(t, d, "c1"), []string(nil))
		})
	}
}

// newBridgedHost is newNetHost with the uplink in a bridge br0, which has the
// addresses.
func newBridgedHost(t *testing.T) netHost {
	t.Helper()
	h := newNetHost(t, netns.New(t), netns.New(t))
	h.Must(t, "ip", "link", "add", "br0", "type", "bridge")
	h.Must(t, "ip", "addr", "flush", "dev", uplink)
	h.Must(t, "ip", "link", "set", uplink, "master", "br0")
	h.Must(t, "ip", "addr", "add", "203.0.113.1/24", "dev", "br0")
	h.Must(t, "ip", "-6", "addr", "add", "2001:db8::1/64", "dev", "br0", "nodad")
	h.Must(t, "ip", "link", "set", "br0", "up")
	return h
}

func lanNetwork(t *testing.T, d *daemon.Daemon) {
	t.Helper()
	d.Must(t, "network", "create", "-o", "com.docker.network.bridge.name=br0", "--subnet=203.0.113.0/24", "--gateway=203.0.113.1",
		"--ip-range=203.0.113.64/26", "--ipv6", "--subnet=2001:db8::/64", "--ip-range=2001:db8::64:0/112", "--gateway=2001:db8::1", "lan")
}

func (h netHost) bridgeNF(t *testing.T, call string) {
	t.Helper()
	for _, table := range []string{"iptables", "ip6tables"} {
		h.Must(t, "sh", "-c", "echo "+call+" > /proc/sys/net/bridge/bridge-nf-call-"+table)
	}
}

// wantPing is classOf where a wrong class is not the end.
func (h netHost) wantPing(t *testing.T, d *daemon.Daemon, name, addr, class string) {
	t.Helper()
	h.wantPingOn(t, d, uplink, name, addr, class)
}

func (h netHost) wantPingOn(t *testing.T, d *daemon.Daemon, dev, name, addr, class string) {
	t.Helper()
	h.wantIn(t, "ping from "+name+" to "+addr, dev, class, func() {
		d.Must(t, "exec", name, "ping", "-c", "40", "-i", "0.01", "-s", "1400", "-W", "5", addr)
	})
}

// comes makes an interface like the uplink, with 198.51.100.2 at its other end.
func (h netHost) comes(t *testing.T, name string) {
	t.Helper()
	peer := name + "-out"
	h.Must(t, "ip", "link", "add", name, "type", "veth", "peer", "name", peer, "netns", h.outside.Path())
	h.outside.Must(t, "ip", "addr", "add", "198.51.100.2/24", "dev", peer)
	h.outside.Must(t, "ip", "link", "set", peer, "up")
	h.Must(t, "ip", "addr", "add", "198.51.100.1/24", "dev", name)
	h.Must(t, "tc", "qdisc", "add", "dev", name, "root", "handle", uplinkHTB, "htb", "default", "2")
	for _, c := range []string{"10:1", classOther, "10:3"} {
		h.Must(t, "tc", "class", "add", "dev", name, "parent", uplinkHTB, "classid", c, "htb", "rate", "1gbit")
	}
	h.Must(t, "ip", "link", "set", name, "up")
}

// rename takes an interface down for it where the kernel says that it must be.
func (h netHost) rename(t *testing.T, from, to string) {
	t.Helper()
	if _, err := h.Run("ip", "link", "set", from, "name", to); err != nil {
		h.Must(t, "ip", "link", "set", from, "down")
		h.Must(t, "ip", "link", "set", from, "name", to, "up")
	}
}

const second4 = "198.51.100.2"

func wantInForce(t *testing.T, d *daemon.Daemon, name string) {
	t.Helper()
	if !polled(netSoon(), func() bool { return len(notInForce(t, d, name)) == 0 }) {
		t.Errorf("%s: not in force after %s: %q", name, netSoon(), notInForce(t, d, name))
	}
}

func wantLost(t *testing.T, d *daemon.Daemon, name string, words ...string) {
	t.Helper()
	if !polled(netSoon(), func() bool { return len(notInForce(t, d, name)) > 0 }) {
		t.Errorf("%s: said to be in force after %s", name, netSoon())
		return
	}
	lost := notInForce(t, d, name)
	assert.Equal(t, len(lost), 1, "%q", lost)
	wantWords(t, lost[0], words...)
}

// An interface that is not there, at each moment at which that can be. args are
// dockerd's, other is an update that has nothing to do with it.
func netPriorityOfAMissingInterface(t *testing.T, h netHost, d *daemon.Daemon, args []string, network, other string, begin func()) {
	const name = "upx0"
	lost := []string{"NetPriorities", name}
	r := d.Docker(t, "create", "--name=c1", "--restart=always", "--network="+network, "--net-prio="+name+":"+strconv.Itoa(prio3), "busybox", "sleep", "inf")
	assert.Equal(t, r.Code, 0, "create: %s", r.Stderr)
	wantWords(t, r.Stderr, "--net-prio", name)
	d.Must(t, "start", "c1")
	running := func() {
		t.Helper()
		c := d.Inspect(t, "c1")
		assert.Assert(t, c.State.Running && !c.State.Restarting, "%+v", c.State)
	}
	works := func(class string) {
		t.Helper()
		wantInForce(t, d, "c1")
		h.wantPingOn(t, d, name, "c1", second4, class)
	}
	running()
	wantLost(t, d, "c1", lost...)
	d.Must(t, "update", other, "c1")
	begin()
	h.comes(t, name)
	works("10:3")

	// It goes under a running container, and comes with another index.
	h.Must(t, "ip", "link", "del", name)
	wantLost(t, d, "c1", lost...)
	running()
	d.Must(t, "update", "--pids-limit=200", "c1")
	h.comes(t, name)
	works("10:3")
	// Somebody else gets its name.
	h.rename(t, name, "was0")
	wantLost(t, d, "c1", lost...)
	h.rename(t, "was0", name)
	works("10:3")

	// It is not there at a start by hand, nor at an update of this very limit.
	d.Must(t, "stop", "-t0", "c1")
	h.Must(t, "ip", "link", "del", name)
	d.Must(t, "start", "c1")
	wantLost(t, d, "c1", lost...)
	d.Must(t, "update", "--net-prio="+name+":"+strconv.Itoa(prio1), "c1")
	wantLost(t, d, "c1", lost...)
	h.comes(t, name)
	works("10:1")

	// At dockerd's start, which restarts the container or finds it running.
	for _, live := range []string{"false", "true"} {
		old := d.Inspect(t, "c1").State.Pid
		d.Kill(t)
		h.Must(t, "ip", "link", "del", name)
		if live == "true" {
			old = 0
		}
		d.StartAgain(t, append(slices.Clone(args), "--live-restore="+live)...)
		d.WaitRunning(t, "c1", old)
		wantLost(t, d, "c1", lost...)
		h.comes(t, name)
		works("10:1")
	}
	// Nor at one by its policy, when it ends by itself.
	h.Must(t, "ip", "link", "del", name)
	old := d.Inspect(t, "c1").State.Pid
	kill(t, old)
	d.WaitRunning(t, "c1", old)
	wantLost(t, d, "c1", lost...)
	h.comes(t, name)
	works("10:1")

	events := strings.Split(pastEvents(t, d, "limit_restored", "{{.Actor.Attributes.name}} {{.Actor.Attributes.limit}}"), "\n")
	restored := 0
	for _, e := range events {
		if e == "c1 NetPriorities" {
			restored++
		}
	}
	// The events of the dockerds before went with them.
	assert.Assert(t, restored > 0, "%q", events)
}

func TestNetPriorityOfAMissingInterfaceIsInForceOnceItComes(t *testing.T) {
	place.OnHost(t)
	require.NetRate(t)
	h := newNetHost(t, netns.New(t), netns.New(t))
	d := daemon.NewIn(t, h.NS, netArgs...)
	netPriorityOfAMissingInterface(t, h, d, netArgs, "bridge", rateFlag(t, "egress", 8), func() {
		serve(t, d, "c1")
		h.wantRate(t, addrOf(t, d, "c1", "bridge"), true, 8)
		assert.Equal(t, len(notInForce(t, d, "c1")), 1)
	})
}

func TestNetPriorityOfAMissingInterfaceInTheHostsNetworkV2(t *testing.T) {
	require.NetRate(t)
	require.CgroupV2(t)
	h, d := setupNet(t)
	t.Cleanup(func() { _, _ = h.Run("ip", "link", "del", "upx0") })
	netPriorityOfAMissingInterface(t, h, d, netArgs, "host", "--pids-limit=100", func() {})
}

// net_prio.ifpriomap knows the interfaces of the host's first network alone.
func TestNetPriorityOfAMissingInterfaceInTheHostsNetworkV1(t *testing.T) {
	require.NetRate(t)
	require.CgroupV1(t)
	require.NetCgroups(t)
	h := netHost{netns.Current(t), netns.New(t)}
	t.Cleanup(func() {
		for _, name := range []string{"upx0", "was0"} {
			_, _ = h.Run("ip", "link", "del", name)
		}
	})
	d := daemon.New(t, "--live-restore")
	netPriorityOfAMissingInterface(t, h, d, nil, "host", "--pids-limit=100", func() {
		prios := readFile(t, d.Cgroup(t, "c1"), "net_prio", "net_prio.ifpriomap")
		assert.Assert(t, !strings.Contains(prios, "upx0"), prios)
	})
	prios := readFile(t, d.Cgroup(t, "c1"), "net_prio", "net_prio.ifpriomap")
	assert.Assert(t, strings.Contains(prios, "upx0 "+strconv.Itoa(prio1)), prios)
}

func TestNetClassAndRatesOfANetworkWithIPv6Alone(t *testing.T) {
	place.OnHost(t)
	h, d := setupNet(t)
	clean := h.leftovers(t)
	d.Must(t, "network", "create", "--ipv4=false", "--ipv6", "--subnet=fd78::/64", "v6")
	d.Must(t, "run", "-d", "--name=c1", "--network=v6", rateFlag(t, "egress", 8), rateFlag(t, "ingress", 16), "--net-classid=10:1", "busybox", "sleep", "inf")
	d.Must(t, "run", "-d", "--name=free", "--network=v6", "busybox", "sleep", "inf")
	addr := d.Must(t, "inspect", "-f", "{{.NetworkSettings.Networks.v6.GlobalIPv6Address}}", "c1")
	ping := func(name, class string) {
		t.Helper()
		assert.Equal(t, h.classOf(t, d, name, outside6), class)
	}
	serve(t, d, "c1")
	ping("c1", "10:1")
	ping("free", classOther)
	h.wantRate(t, addr, true, 8)
	h.wantRate(t, addr, false, 16)
	d.Must(t, "update", "--net-classid=0", "--net-prio="+uplink+":"+strconv.Itoa(prio3), rateFlag(t, "egress", 16), "--net-ingress-rate=-1", "c1")
	ping("c1", "10:3")
	h.wantRate(t, addr, true, 16)
	h.wantFree(t, addr, false)
	d.Kill(t)
	d.StartAgain(t)
	ping("c1", "10:3")
	h.wantRate(t, addr, true, 16)
	d.Must(t, "update", "--net-prio=", "--net-egress-rate=-1", "c1")
	ping("c1", classOther)
	h.wantFree(t, addr, true)
	d.Must(t, "rm", "-f", "c1", "free")
	d.Must(t, "network", "rm", "v6")
	assert.Equal(t, h.leftovers(t), clean)
}

// leftIn counts the bytes that f makes leave the uplink, of each class.
func (h netHost) leftIn(t *testing.T, f func()) map[string]int {
	t.Helper()
	before := h.bytesOn(t, uplink)
	f()
	after := h.bytesOn(t, uplink)
	for c, n := range after {
		after[c] = n - before[c]
	}
	return after
}

// forger makes a network with a container c1 and gives it addresses that are not
// its own: one more of the subnet, one of another container, one of nowhere.
func forger(t *testing.T, d *daemon.Daemon, network string, flags ...string) (ns *netns.NS, v4, v6 []string) {
	t.Helper()
	d.Must(t, append(append([]string{"run", "-d", "--name=c1", "--network=" + network, "--cap-add=NET_ADMIN"}, flags...), "busybox", "sleep", "inf")...)
	ns = nsOf(t, d, "c1")
	v4 = []string{"172.30.8.200", "172.30.8.10", "192.0.2.7"}
	v6 = []string{"fd79::200", "fd79::10", "2001:db8:7::7"}
	for _, a := range v4 {
		ns.Must(t, "ip", "addr", "add", a+"/32", "dev", "eth0")
	}
	for _, a := range v6 {
		ns.Must(t, "ip", "-6", "addr", "add", a+"/128", "dev", "eth0", "nodad")
	}
	return ns, v4, v6
}

func TestNetClassHoldsForForgedAddresses(t *testing.T) {
	place.OnHost(t)
	h, d := setupNet(t)
	d.Must(t, "network", "create", "--ipv6", "--subnet=172.30.8.0/24", "--subnet=fd79::/64", "n")
	// Whose class would be the better one.
	d.Must(t, "run", "-d", "--name=rich", "--network=n", "--ip=172.30.8.10", "--ip6=fd79::10", "--net-classid=10:3", "busybox", "sleep", "inf")
	echoAt(t, h.outside, ":7007")
	for _, tc := range []struct {
		flags []string
		class string // "" is one that is not hindered
	}{
		{[]string{"--net-classid=10:1"}, "10:1"},
		{[]string{"--net-prio=" + uplink + ":" + strconv.Itoa(prio1)}, "10:1"},
		{[]string{rateFlag(t, "egress", 100), rateFlag(t, "ingress", 100)}, ""},
		{nil, ""},
	} {
		t.Run(strings.Join(append([]string{"flags"}, tc.flags...), " "), func(t *testing.T) {
			ns, v4, v6 := forger(t, d, "n", append(tc.flags, "--ip=172.30.8.9", "--ip6=fd79::9")...)
			defer d.Must(t, "rm", "-f", "c1")
			check := func() {
				t.Helper()
				for i, from := range slices.Concat(v4, v6) {
					to := outside4 + ":7007"
					if i >= len(v4) {
						to = "[" + outside6 + "]:7007"
					}
					var said error
					left := h.leftIn(t, func() { said = sendFrom(t, ns, from, to) })
					all := 0
					for class, n := range left {
						all += n
						if tc.class != "" && class != tc.class && n > 5000 {
							t.Errorf("from %s: left in class %s: %v (%v)", from, class, left, said)
						}
					}
					if tc.class == "" && all < most {
						t.Errorf("from %s: only %v left (%v)", from, left, said)
					}
				}
				// Its own address is free.
				want := tc.class
				if want == "" {
					want = classOther
				}
				for from, to := range map[string]string{"172.30.8.9": outside4 + ":7007", "fd79::9": "[" + outside6 + "]:7007"} {
					h.wantIn(t, "from "+from, uplink, want, func() { assert.Check(t, sendFrom(t, ns, from, to)) })
				}
			}
			check()
			if tc.class == "" {
				return
			}
			d.Kill(t)
			d.StartAgain(t)
			check()
			for _, flag := range []string{"--net-classid=0", "--net-prio="} {
				if strings.HasPrefix(tc.flags[0], strings.TrimSuffix(flag, "0")) {
					d.Must(t, "update", flag, "c1")
				}
			}
			tc.class = ""
			check()
		})
	}
}

// What has no address of the container's and has to get through.
func TestNetClassLetsDHCPAndNeighbourDiscoveryThrough(t *testing.T) {
	place.OnHost(t)
	h, d := setupNet(t)
	d.Must(t, "network", "create", "--ipv6", "--subnet=172.30.8.0/24", "--subnet=fd79::/64", "n")
	for _, flag := range []string{"--net-classid=10:1", "--net-prio=" + uplink + ":" + strconv.Itoa(prio1), "--net-egress-rate=100mbit"} {
		t.Run(flag, func(t *testing.T) {
			d.Must(t, "run", "-d", "--name=c1", "--network=n", "--cap-add=NET_ADMIN", flag, "busybox", "sleep", "inf")
			defer d.Must(t, "rm", "-f", "c1")
			ns := nsOf(t, d, "c1")
			var l net.PacketConn
			assert.NilError(t, h.Do(func() (err error) { l, err = net.ListenPacket("udp4", ":67"); return err }))
			defer l.Close()
			buf := make([]byte, 100)
			assert.Check(t, polled(5*time.Second, func() bool {
				sendFrame(t, ns, "eth0", ethernet(unix.ETH_P_IP, ipv4UDP("0.0.0.0", "255.255.255.255", 68, 67, []byte("discover"))))
				assert.NilError(t, l.SetReadDeadline(time.Now().Add(200*time.Millisecond)))
				n, _, err := l.ReadFrom(buf)
				return err == nil && string(buf[:n]) == "discover"
			}), "no packet from 0.0.0.0 came to the host")

			// From a link-local address to the bridge's.
			gateway := linkLocal(t, h.NS, "inet6", "br-"+d.Must(t, "network", "inspect", "-f", "{{slice .ID 0 12}}", "n"))
			d.Must(t, "exec", "c1", "ping", "-c1", "-W5", gateway+"%eth0")
			// Duplicate address detection asks from :: and learns that the gateway has it.
			ns.Must(t, "ip", "-6", "addr", "add", "fd79::1/64", "dev", "eth0")
			assert.Check(t, polled(10*time.Second, func() bool {
				return strings.Contains(ns.Must(t, "ip", "-6", "addr", "show", "dev", "eth0"), "dadfailed")
			}), ns.Must(t, "ip", "-6", "addr", "show", "dev", "eth0"))
			ns.Must(t, "ip", "-6", "addr", "del", "fd79::1/64", "dev", "eth0")
			// Neighbours and the router, from nothing.
			ns.Must(t, "ip", "neigh", "flush", "all")
			d.Must(t, "exec", "c1", "ping", "-c1", "-W5", outside4)
			d.Must(t, "exec", "c1", "ping", "-c1", "-W5", outside6)
			d.Must(t, "exec", "c1", "arping", "-c1", "-w5", "-I", "eth0", "172.30.8.1")
		})
	}
}

func linkLocal(t *testing.T, ns *netns.NS, family, dev string) string {
	t.Helper()
	for _, f := range strings.Fields(ns.Must(t, "ip", "-f", family, "-o", "addr", "show", "dev", dev, "scope", "link")) {
		if addr, _, ok := strings.Cut(f, "/"); ok && strings.HasPrefix(addr, "fe80:") {
			return addr
		}
	}
	t.Fatalf("%s has no link-local address", dev)
	return ""
}

// Packets of frames are made by hand where the kernel would not send them.
func ethernet(kind uint16, payload []byte) []byte {
	b := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9}
	return append(binary.BigEndian.AppendUint16(b, kind), payload...)
}

func ipv4UDP(from, to string, fromPort, toPort uint16, payload []byte) []byte {
	b := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
	binary.BigEndian.PutUint16(b[2:], uint16(28+len(payload)))
	for _, a := range []string{from, to} {
		b = append(b, netip.MustParseAddr(a).AsSlice()...)
	}
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum+sum>>16))
	for _, n := range []uint16{fromPort, toPort, uint16(8 + len(payload)), 0} {
		b = binary.BigEndian.AppendUint16(b, n)
	}
	return append(b, payload...)
}

func sendFrame(t *testing.T, ns *netns.NS, dev string, frames ...[]byte) {
	t.Helper()
	assert.NilError(t, ns.Do(func() error {
		i, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, f := range frames {
			if err := unix.Sendto(fd, f, 0, &unix.SockaddrLinklayer{Ifindex: i.Index}); err != nil {
				return err
			}
		}
		return nil
	}))
}

// With CAP_NET_RAW, which a container has, it sends what frames it likes; on a
// bridge with the LAN's NIC they go out as they are.
func TestNetClassHoldsForFramesToTheLAN(t *testing.T) {
	place.OnHost(t)
	require.NetRate(t)
	h := newBridgedHost(t)
	d := daemon.NewIn(t, h.NS)
	lanNetwork(t, d)
	h.bridgeNF(t, "0")
	d.Must(t, "run", "-d", "--name=rich", "--network=lan", "--ip=203.0.113.80", "--net-classid=10:3", "busybox", "sleep", "inf")
	data := make([]byte, 1000)
	vlan := func(inner []byte) []byte {
		return ethernet(unix.ETH_P_8021Q, append([]byte{0, 100, 8, 0}, inner...))
	}
	frames := []struct {
		what  string
		frame []byte
	}{
		{"IPv4 from its own address", ethernet(unix.ETH_P_IP, ipv4UDP("203.0.113.81", outside4, 1, 7007, data))},
		{"IPv4 from another container's address", ethernet(unix.ETH_P_IP, ipv4UDP("203.0.113.80", outside4, 1, 7007, data))},
		{"IPv4 from a foreign address", ethernet(unix.ETH_P_IP, ipv4UDP("192.0.2.7", outside4, 1, 7007, data))},
		{"IPv4 from 0.0.0.0", ethernet(unix.ETH_P_IP, ipv4UDP("0.0.0.0", "255.255.255.255", 68, 67, data))},
		{"IPv4 in a VLAN", vlan(ipv4UDP("203.0.113.81", outside4, 1, 7007, data))},
		{"another protocol", ethernet(0x88b5, data)},
	}
	for _, tc := range []struct{ flag, class string }{{"--net-classid=10:1", "10:1"}, {"--net-prio=" + uplink + ":" + strconv.Itoa(prio1), "10:1"}, {"--net-egress-rate=100mbit", ""}} {
		d.Must(t, "run", "-d", "--name=c1", "--network=lan", "--ip=203.0.113.81", tc.flag, "busybox", "sleep", "inf")
		ns := nsOf(t, d, "c1")
		for _, f := range frames {
			var many [][]byte
			for range most / len(data) {
				many = append(many, f.frame)
			}
			left := h.leftIn(t, func() { sendFrame(t, ns, "eth0", many...) })
			all := 0
			for class, n := range left {
				all += n
				if tc.class != "" && class != tc.class && n > 5000 {
					t.Errorf("%s, %s: left in class %s: %v", tc.flag, f.what, class, left)
				}
			}
			if tc.class == "" && all < most {
				t.Errorf("%s, %s: only %v left", tc.flag, f.what, left)
			}
		}
		d.Must(t, "rm", "-f", "c1")
	}
}

// refusal sends packets until an ICMP error comes back, and says its type and code;
// "answer" if one of them is answered.
func refusal(t *testing.T, ns *netns.NS, to string) string {
	t.Helper()
	c := dialFrom(t, ns, "", to)
	defer c.Close()
	raw, err := c.SyscallConn()
	assert.NilError(t, err)
	v6 := netip.MustParseAddrPort(to).Addr().Is6()
	assert.NilError(t, errors.Join(raw.Control(func(fd uintptr) {
		if err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_RECVERR, 1); v6 {
			err = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_RECVERR, 1)
		}
	}), err))
	said := "nothing"
	polled(5*time.Second, func() bool {
		_, _ = c.Write([]byte("?"))
		assert.NilError(t, c.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
		if n, err := c.Read(make([]byte, 10)); err == nil && n > 0 {
			said = "answer"
			return true
		}
		oob := make([]byte, 512)
		n := 0
		err := raw.Control(func(fd uintptr) { _, n, _, _, err = unix.Recvmsg(int(fd), make([]byte, 100), oob, unix.MSG_ERRQUEUE) })
		if err != nil {
			return false
		}
		list, _ := unix.ParseSocketControlMessage(oob[:n])
		for _, m := range list {
			// struct sock_extended_err: errno, origin, type, code
			if len(m.Data) >= 8 && (m.Data[4] == unix.SO_EE_ORIGIN_ICMP || m.Data[4] == unix.SO_EE_ORIGIN_ICMP6) {
				said = fmt.Sprintf("ICMP %d/%d", m.Data[5], m.Data[6])
				return true
			}
		}
		return false
	})
	return said
}

// A container that is the router of another one: the packets have the other's
// address, and with a class of the router's they would not be in it.
func TestNetClassOfAContainerThatForwards(t *testing.T) {
	place.OnHost(t)
	h, d := setupNet(t)
	d.Must(t, "network", "create", "--ipv6", "--subnet=172.30.8.0/24", "--subnet=fd79::/64", "n")
	echoAt(t, h.outside, ":7007")
	// A connection that iptables saw bridged to the router is not masqueraded later.
	h.bridgeNF(t, "0")
	t.Cleanup(func() { h.bridgeNF(t, "1") })
	prohibited := map[string][]string{
		outside4 + ":7007":        {"ICMP 3/9", "ICMP 3/10", "ICMP 3/13"},
		"[" + outside6 + "]:7007": {"ICMP 1/1"},
	}
	d.Must(t, "run", "-d", "--name=client", "--network=n", "--cap-add=NET_ADMIN", "busybox", "sleep", "inf")
	client := nsOf(t, d, "client")
	client.Must(t, "ip", "route", "add", outside4, "via", "172.30.8.9")
	client.Must(t, "ip", "-6", "route", "add", outside6, "via", "fd79::9")
	for _, tc := range []struct {
		flags   []string
		refused bool
	}{
		{nil, false},
		{[]string{"--net-egress-rate=100mbit", "--net-ingress-rate=100mbit"}, false},
		{[]string{"--net-classid=10:1"}, true},
		{[]string{"--net-prio=" + uplink + ":" + strconv.Itoa(prio1)}, true},
	} {
		d.Must(t, append(append([]string{
			"run", "-d", "--name=router", "--network=n", "--ip=172.30.8.9", "--ip6=fd79::9",
			"--sysctl=net.ipv4.ip_forward=1", "--sysctl=net.ipv4.conf.all.send_redirects=0", "--sysctl=net.ipv4.conf.default.send_redirects=0", "--sysctl=net.ipv6.conf.all.forwarding=1",
		}, tc.flags...), "busybox", "sleep", "inf")...)
		nsOf(t, d, "router").Must(t, "sh", "-c", "echo 0 > /proc/sys/net/ipv4/conf/eth0/send_redirects")
		check := func(refused bool) {
			t.Helper()
			for to, codes := range prohibited {
				left := h.leftIn(t, func() {
					said := refusal(t, client, to)
					if refused && !slices.Contains(codes, said) || !refused && said != "answer" {
						t.Errorf("%q, to %s: %s", tc.flags, to, said)
					}
				})
				if refused && left["10:1"]+left["10:3"] > 0 {
					t.Errorf("%q, to %s: left %v", tc.flags, to, left)
				}
			}
		}
		check(tc.refused)
		if tc.refused {
			// The router's own packets are not refused.
			h.wantPing(t, d, "router", outside4, "10:1")
			if tc.flags[0] == "--net-classid=10:1" {
				d.Must(t, "update", "--net-classid=0", "router")
			} else {
				d.Must(t, "update", "--net-prio=", "router")
			}
			check(false)
		}
		d.Must(t, "rm", "-f", "router")
		client.Must(t, "ip", "neigh", "flush", "all")
	}
}

// networksOf lists what inspect shows.
func networksOf(t *testing.T, d *daemon.Daemon, name string) []string {
	t.Helper()
	var networks map[string]json.RawMessage
	assert.NilError(t, json.Unmarshal([]byte(d.Must(t, "inspect", "-f", "{{json .NetworkSettings.Networks}}", name)), &networks))
	var names []string
	for n := range networks {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// netDriverWithoutLimits says that no limit comes to be on a network of a driver,
// at the first command that would make it so.
func netDriverWithoutLimits(t *testing.T, h netHost, d *daemon.Daemon, network, driver string) {
	limits := []string{"--net-egress-rate=8000000", "--net-ingress-rate=8000000", "--net-classid=10:1", "--net-prio=lo:1"}
	d.Must(t, "network", "create", "n1")
	refused := func(what string, r daemon.Result, words ...string) {
		t.Helper()
		if r.Code == 0 {
			t.Errorf("%s: %s was taken", network, what)
			return
		}
		wantWords(t, r.Stderr, append(words, driver)...)
	}
	gone := func(name string) {
		t.Helper()
		for _, n := range d.Names(t) {
			if n == "/"+name {
				t.Errorf("%s: a refused create left %s", network, name)
				d.Must(t, "rm", "-f", name)
			}
		}
	}
	for _, limit := range limits {
		for _, nets := range [][]string{{"--network=" + network}, {"--network=n1", "--network=" + network}} {
			args := append(append([]string{"create", "--name=refused", limit}, nets...), "busybox", "sleep", "inf")
			refused(strings.Join(args, " "), d.Docker(t, args...), limit)
			gone("refused")
		}
	}
	// One that has a limit on a bridge is not connected, whatever its state.
	d.Must(t, "create", "--name=c1", "--net-egress-rate=8000000", "--net-classid=10:1", "busybox", "sleep", "inf")
	for _, state := range []string{"created", "running", "exited"} {
		switch state {
		case "running":
			d.Must(t, "start", "c1")
		case "exited":
			d.Must(t, "stop", "-t0", "c1")
		}
		refused("connect of one that is "+state, d.Docker(t, "network", "connect", network, "c1"), "--net-egress-rate=8000000")
		assert.Check(t, slices.Equal(networksOf(t, d, "c1"), []string{"bridge"}), "%s: %q", state, networksOf(t, d, "c1"))
		if state == "running" {
			links := d.Must(t, "exec", "c1", "ls", "/sys/class/net")
			assert.Check(t, !strings.Contains(links, "eth1"), links)
			assert.Check(t, !strings.Contains(d.Must(t, "network", "inspect", network), d.Inspect(t, "c1").ID), "the network has an endpoint of c1")
		}
		for _, n := range networksOf(t, d, "c1") {
			if n != "bridge" { // what follows is worth a look still
				d.Must(t, "network", "disconnect", "-f", n, "c1")
			}
		}
	}
	d.Must(t, "start", "c1")
	h.wantPing(t, d, "c1", outside4, "10:1")
	d.Must(t, "rm", "-f", "c1")

	// One that is on it gets no limit, and may go on without.
	d.Must(t, "create", "--name=c2", "--network="+network, "busybox", "sleep", "inf")
	for _, limit := range limits {
		refused("update "+limit+" of one that is created", d.Docker(t, "update", limit, "c2"), limit)
	}
	assert.Equal(t, d.Must(t, "inspect", "-f", "{{.HostConfig.NetEgressRate}}", "c2"), d.Must(t, "inspect", "-f", "{{.HostConfig.NetIngressRate}}", "c2"))
	d.Must(t, "rm", "-f", "c2")
	// Without limits both networks go together.
	d.Must(t, "create", "--name=c3", "--net-egress-rate=8000000", "busybox", "sleep", "inf")
	d.Must(t, "update", "--net-egress-rate=-1", "c3")
	d.Must(t, "network", "connect", network, "c3")
	refused("update of one that is on both", d.Docker(t, "update", "--net-egress-rate=8000000", "c3"), "--net-egress-rate=8000000")
	d.Must(t, "rm", "-f", "c3")
}

func TestNetLimitsOnAMacvlanAreRefusedEarly(t *testing.T) {
	place.OnHost(t)
	h, d := setupNet(t)
	d.Must(t, "network", "create", "-d", "macvlan", "-o", "parent="+uplink, "mac")
	netDriverWithoutLimits(t, h, d, "mac", "macvlan")
}

func TestNetLimitsOnAnIPvlanAreRefusedEarly(t *testing.T) {
	place.OnHost(t)
	h, d := setupNet(t)
	h.Must(t, "ip", "link", "add", "ipvl0", "type", "veth", "peer", "name", "ipvl1")
	t.Cleanup(func() { h.Must(t, "ip", "link", "del", "ipvl0") })
	d.Must(t, "network", "create", "-d", "ipvlan", "-o", "parent=ipvl0", "ipv")
	netDriverWithoutLimits(t, h, d, "ipv", "ipvlan")
	d.Must(t, "network", "rm", "ipv")
}

// A swarm wants a dockerd without live-restore.
func TestNetLimitsOnAnOverlayAreRefusedEarly(t *testing.T) {
	place.OnHost(t)
	require.NetRate(t)
	h := newNetHost(t, netns.New(t), netns.New(t))
	d := daemon.NewIn(t, h.NS)
	d.Must(t, "swarm", "init", "--advertise-addr=203.0.113.1", "--listen-addr=203.0.113.1")
	t.Cleanup(func() {
		d.RemoveAll(t)
		d.Docker(t, "swarm", "leave", "--force")
	})
	d.Must(t, "network", "create", "-d", "overlay", "--attachable", "ov")
	netDriverWithoutLimits(t, h, d, "ov", "overlay")
}

func TestNetLimitsWithoutADefaultBridge(t *testing.T) {
	place.OnHost(t)
	require.NetRate(t)
	h := newNetHost(t, netns.New(t), netns.New(t))
	d := daemon.NewIn(t, h.NS, "--bridge=none", "--live-restore")
	limits := []string{"--net-egress-rate=8000000", "--net-ingress-rate=8000000", "--net-classid=10:1", "--net-prio=lo:1"}
	for _, limit := range limits {
		for _, network := range []string{"default", "bridge"} {
			r := d.Docker(t, "create", "--name=refused", "--network="+network, limit, "busybox", "sleep", "inf")
			if r.Code == 0 {
				t.Errorf("--network=%s %s was taken", network, limit)
				d.Must(t, "rm", "-f", "refused")
				continue
			}
			wantWords(t, r.Stderr, limit, "bridge")
		}
	}
	// Without limits it has no network, and is told so as well.
	d.Must(t, "run", "-d", "--name=free", "busybox", "sleep", "inf")
	for _, again := range []func(){func() {}, func() { d.Must(t, "restart", "-t0", "free") }} {
		again()
		r := d.Docker(t, "update", limits[0], "free")
		assert.Check(t, r.Code != 0, "an update was taken")
		wantWords(t, r.Stderr, limits[0])
	}

	d.Must(t, "network", "create", "own")
	d.Must(t, "run", "-d", "--name=c1", "--network=own", rateFlag(t, "egress", 8), "--net-classid=10:1", "busybox", "sleep", "inf")
	works := func() {
		t.Helper()
		assert.DeepEqual(t, notInForce(t, d, "c1"), []string(nil))
		h.wantPing(t, d, "c1", outside4, "10:1")
	}
	works()
	serve(t, d, "c1")
	h.wantRate(t, addrOf(t, d, "c1", "own"), true, 8)
	d.Must(t, "restart", "-t0", "c1")
	works()
	d.Restart(t)
	works()
	d.Must(t, "update", rateFlag(t, "egress", 16), "--net-classid=10:3", "c1")
	d.Must(t, "update", "--net-classid=10:1", "c1")
	works()
	d.Must(t, "rm", "-f", "c1", "free")

	// A container of the bridge that dockerd had before: not started without its limits, and as it was when the bridge is back.
	d.Restart(t, append(slices.Clone(netArgs), "--live-restore=false")...)
	d.Must(t, "create", "--name=c1", "--net-classid=10:1", "busybox", "sleep", "inf")
	d.Restart(t)
	d.Restart(t, append(slices.Clone(netArgs), "--bridge=none")...)
	r := d.Docker(t, "start", "c1")
	assert.Check(t, r.Code != 0, "it was started without its network")
	wantWords(t, r.Stderr, "--net-classid=10:1", "bridge")
	d.Restart(t, netArgs...)
	d.Must(t, "start", "c1")
	works()
}

// meddle does to our rules what an administrator could: one of his own in each of
// our chains.
func (h netHost) meddle(t *testing.T) {
	t.Helper()
	if _, err := h.Run("iptables", "-t", "mangle", "-S", "DOCKER-NETCLASS"); err == nil {
		h.Must(t, "iptables", "-t", "mangle", "-I", "DOCKER-NETCLASS", "-d", "192.0.2.9", "-j", "RETURN")
	}
	text, err := h.Run("nft", "list", "tables")
	if err != nil {
		return // what has no nft is not meddled with by it
	}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 3 && strings.HasPrefix(f[2], "docker-limits-") {
			// The kernel refuses it in a table that has an owner.
			_, _ = h.Run("nft", "add", "chain", f[1], f[2], "foreign")
			for line := range strings.Lines(h.Must(t, "nft", "list", "table", f[1], f[2])) {
				if c := strings.Fields(line); len(c) == 3 && c[0] == "chain" {
					_, _ = h.Run("nft", "insert", "rule", f[1], f[2], c[1], "counter")
				}
			}
		}
	}
}

// The address of a container that has ended, in whatever way, is the next one's,
// and its class is not.
func TestNetClassOfAContainerThatEndedIsNotTheNextOnes(t *testing.T) {
	place.OnHost(t)
	require.NetRate(t)
	h := newNetHost(t, netns.New(t), netns.New(t))
	d := daemon.NewIn(t, h.NS, netArgs...)
	d.Must(t, "network", "create", "--ipv6", "--subnet=172.30.8.0/24", "--subnet=fd79::/64", "n")
	d.Must(t, "network", "create", "n2")
	address := []string{"--network=n", "--ip=172.30.8.9", "--ip6=fd79::9"}
	killed := func(gap func()) func() {
		return func() {
			pid := d.Inspect(t, "old").State.Pid
			d.Kill(t)
			kill(t, pid)
			gap()
			d.StartAgain(t)
			d.Must(t, "rm", "-f", "old")
		}
	}
	for _, tc := range []struct {
		name string
		end  func()
	}{
		{"rm", func() { d.Must(t, "rm", "-f", "old") }},
		{"stop", func() { d.Must(t, "stop", "-t0", "old") }},
		{"its own end", func() {
			pid := d.Inspect(t, "old").State.Pid
			kill(t, pid)
			assert.Assert(t, polled(time.Minute, func() bool { return !d.Inspect(t, "old").State.Running }))
		}},
		{"disconnect", func() {
			d.Must(t, "network", "connect", "n2", "old")
			d.Must(t, "network", "disconnect", "n", "old")
		}},
		{"the end of dockerd and it", killed(func() {})},
		{"the end of all in the network", func() {
			d.Must(t, "rm", "-f", "old")
			d.Must(t, "network", "rm", "n")
			d.Must(t, "network", "create", "--ipv6", "--subnet=172.30.8.0/24", "--subnet=fd79::/64", "n")
		}},
		{"dockerd without live-restore", func() {
			d.Kill(t)
			d.StartAgain(t, append(slices.Clone(netArgs), "--live-restore=false")...)
			d.Must(t, "rm", "-f", "old")
			d.Restart(t)
		}},
		{"rm after somebody meddled", func() {
			h.meddle(t)
			d.Must(t, "rm", "-f", "old")
		}},
		{"the end of dockerd and it after somebody meddled", killed(func() { h.meddle(t) })},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d.RemoveAll(t)
			for _, flag := range []string{"--net-classid=10:1", "--net-prio=" + uplink + ":" + strconv.Itoa(prio3)} {
				d.Must(t, slices.Concat([]string{"run", "-d", "--name=old", "--restart=no", flag}, address, []string{"busybox", "sleep", "inf"})...)
				if flag == "--net-classid=10:1" {
					h.wantPing(t, d, "old", outside4, "10:1")
				}
				tc.end()
				d.Must(t, slices.Concat([]string{"run", "-d", "--name=new"}, address, []string{"busybox", "sleep", "inf"})...)
				h.wantPing(t, d, "new", outside4, classOther)
				h.wantPing(t, d, "new", outside6, classOther)
				d.RemoveAll(t)
			}
		})
	}
}

// dockerd is killed at any moment of the end of a container.
func TestNetClassOfAContainerIsGoneThoughDockerdDiedWhileItEnded(t *testing.T) {
	place.OnHost(t)
	require.NetRate(t)
	h := newNetHost(t, netns.New(t), netns.New(t))
	d := daemon.NewIn(t, h.NS, netArgs...)
	d.Must(t, "network", "create", "--ipv6", "--subnet=172.30.8.0/24", "--subnet=fd79::/64", "n")
	address := []string{"--network=n", "--ip=172.30.8.9", "--ip6=fd79::9"}
	n, seed := kills(t)
	n = max(n/10, 3) // each takes a restart of dockerd
	t.Logf("%d kills, SEED=%d", n, seed)
	random := rand.New(rand.NewPCG(seed, seed))
	for i := range n {
		d.Must(t, slices.Concat([]string{"run", "-d", "--name=old", "--net-classid=10:1", "--net-egress-rate=100mbit"}, address, []string{"busybox", "sleep", "inf"})...)
		delay := time.Duration(random.Int64N(int64(300 * time.Millisecond)))
		done := make(chan error, 1)
		go func() {
			_, err := d.TryAPI(http.MethodDelete, "/containers/old?force=1", "")
			done <- err
		}()
		time.Sleep(delay)
		d.Kill(t)
		<-done
		d.StartAgain(t)
		d.RemoveAll(t)
		d.Must(t, slices.Concat([]string{"run", "-d", "--name=new"}, address, []string{"busybox", "sleep", "inf"})...)
		h.wantPing(t, d, "new", outside4, classOther)
		h.wantPing(t, d, "new", outside6, classOther)
		if t.Failed() {
			t.Fatalf("kill %d after %s", i, delay)
		}
		d.RemoveAll(t)
	}
}
