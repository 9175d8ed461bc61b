// SPDX-License-Identifier: Apache-2.0

package netlimit

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// testEnd is a host of its own (a network namespace) with a container (another
// one) at the other end of a veth pair.
type testEnd struct {
	host, ctr netns.NsHandle
	nlh       *netlink.Handle
	end       netlink.Link
}

const (
	hostAddr = "192.0.2.1"
	ctrAddr  = "192.0.2.2"
)

// newTestEnd leaves the test's goroutine on a thread that is in the host.
func newTestEnd(t *testing.T, id string) *testEnd {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	// The thread is never unlocked, so it ends with the goroutine.
	runtime.LockOSThread()
	e := &testEnd{}
	var err error
	e.ctr, err = netns.New()
	assert.NilError(t, err)
	e.host, err = netns.New()
	assert.NilError(t, err)
	e.nlh, err = netlink.NewHandle(unix.NETLINK_ROUTE)
	assert.NilError(t, err)
	old, oldInBackground := handle, inBackground
	inBackground = func(f func()) { f() }
	clear(tables)
	handle = func() *netlink.Handle { return e.nlh }
	t.Cleanup(func() {
		Wait()
		handle, inBackground = old, oldInBackground
		e.nlh.Close()
		e.ctr.Close()
		e.host.Close()
	})

	attrs := netlink.NewLinkAttrs()
	attrs.Name = "veth0123456"
	assert.NilError(t, e.nlh.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(e.ctr)}))
	e.end, err = e.nlh.LinkByName(attrs.Name)
	assert.NilError(t, err)
	if id != "" {
		assert.NilError(t, Tag(e.nlh, e.end, id))
	}
	up(t, e.nlh, attrs.Name, hostAddr+"/24", "fd00::1/64")
	ctr, err := netlink.NewHandleAt(e.ctr, unix.NETLINK_ROUTE)
	assert.NilError(t, err)
	defer ctr.Close()
	up(t, ctr, "eth0", ctrAddr+"/24", "fd00::2/64")
	return e
}

func up(t *testing.T, nlh *netlink.Handle, name string, addrs ...string) {
	t.Helper()
	for _, n := range []string{"lo", name} {
		l, err := nlh.LinkByName(n)
		assert.NilError(t, err)
		if n == name {
			for _, a := range addrs {
				addr, err := netlink.ParseAddr(a)
				assert.NilError(t, err)
				addr.Flags = unix.IFA_F_NODAD
				assert.NilError(t, nlh.AddrAdd(l, addr))
			}
		}
		assert.NilError(t, nlh.LinkSetUp(l))
	}
}

// state is all that a limit could leave behind, as text.
func (e *testEnd) state(t *testing.T) string {
	t.Helper()
	Wait()
	var s strings.Builder
	links, err := e.nlh.LinkList()
	assert.NilError(t, err)
	for _, l := range links {
		fmt.Fprintln(&s, l.Type(), l.Attrs().Name, l.Attrs().Alias, l.Attrs().Group)
		for _, parent := range []uint32{netlink.HANDLE_ROOT, ingressHandle} {
			filters, _ := e.nlh.FilterList(l, parent)
			for _, f := range filters {
				fmt.Fprintln(&s, " filter", f.Type(), f.Attrs().Priority)
			}
		}
	}
	qdiscs, err := e.nlh.QdiscList(nil)
	assert.NilError(t, err)
	for _, q := range qdiscs {
		fmt.Fprintln(&s, q.Type(), q.Attrs().LinkIndex)
	}
	for _, cmd := range []string{"iptables", "ip6tables"} {
		out, err := exec.Command(cmd, "-t", "mangle", "-S").CombinedOutput()
		assert.NilError(t, err, "%s", out)
		s.Write(out)
	}
	return s.String()
}

// stream sends TCP one way for a time and returns the bits/s of the frames
// that carried it, from the number of bytes and the size of a segment.
func (e *testEnd) stream(t *testing.T, fromContainer bool, d time.Duration) float64 {
	t.Helper()
	listen := func(ns netns.NsHandle, addr string) (l net.Listener) {
		inNS(t, ns, func() (err error) { l, err = net.Listen("tcp4", addr+":0"); return err })
		return l
	}
	from, to, addr := e.host, e.ctr, ctrAddr
	if fromContainer {
		from, to, addr = e.ctr, e.host, hostAddr
	}
	l := listen(to, addr)
	defer l.Close()
	var c net.Conn
	inNS(t, from, func() (err error) { c, err = net.Dial("tcp4", l.Addr().String()); return err })
	defer c.Close()
	go func() {
		buf := make([]byte, 1<<16)
		for {
			if _, err := c.Write(buf); err != nil {
				return
			}
		}
	}()
	r, err := l.Accept()
	assert.NilError(t, err)
	defer r.Close()
	read := func(d time.Duration) (n int64, took time.Duration) {
		start := time.Now()
		assert.NilError(t, r.SetReadDeadline(start.Add(d)))
		n, err := io.Copy(io.Discard, r)
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		return n, time.Since(start)
	}
	read(d / 4)
	n, took := read(d)
	// 1500 less IP and TCP headers with timestamps, and the Ethernet header.
	return float64(n) * 8 / took.Seconds() * 1514 / 1448
}

func inNS(t *testing.T, ns netns.NsHandle, f func() error) {
	t.Helper()
	errs := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock
		if err := netns.Set(ns); err != nil {
			errs <- err
			return
		}
		errs <- f()
	}()
	assert.NilError(t, <-errs)
}

func TestRatesHoldAndCanBeChangedLive(t *testing.T) {
	e := newTestEnd(t, "ep1")
	before := e.state(t)
	ep := Endpoint{ID: "ep1"}
	for _, mbit := range []int64{80, 8, 800} { // less and more, with packets waiting
		bits := mbit * 1000_000
		assert.NilError(t, Set(ep, Settings{Egress: bits, Ingress: bits}))
		assert.NilError(t, Set(ep, Settings{Egress: bits, Ingress: bits}), "the same once more")
		for _, out := range []bool{true, false} {
			var got float64
			for range 3 { // A reader that had to wait for a processor finds more than came in its time.
				got = e.stream(t, out, time.Second+32*time.Second/time.Duration(mbit))
				t.Logf("asked %d Mbit/s, out %t: %.2f Mbit/s, %+.2f %%", mbit, out, got/1e6, (got/float64(bits)-1)*100)
				if got < float64(bits)*1.03 {
					break
				}
			}
			assert.Check(t, got < float64(bits)*1.03, "asked %d, out %t: %.0f", bits, out, got)
		}
	}
	assert.NilError(t, Set(ep, Settings{}))
	assert.Equal(t, e.state(t), before)
}

func TestOneDirectionAlone(t *testing.T) {
	e := newTestEnd(t, "ep1")
	ep := Endpoint{ID: "ep1"}
	for _, s := range []Settings{{Egress: 8e6}, {Ingress: 8e6}} {
		assert.NilError(t, Set(ep, s))
		limited, free := e.stream(t, s.Egress != 0, time.Second), e.stream(t, s.Egress == 0, time.Second)
		assert.Check(t, limited < 9e6, "%+v: %.0f", s, limited)
		assert.Check(t, free > 80e6, "%+v: %.0f", s, free)
	}
}

func TestClassRules(t *testing.T) {
	e := newTestEnd(t, "ep1")
	before := e.state(t)
	ep := Endpoint{ID: "ep1", Addrs: []netip.Addr{netip.MustParseAddr(ctrAddr), netip.MustParseAddr("fd00::2")}}
	other := Endpoint{ID: "ep2", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.3")}}

	assert.NilError(t, Set(ep, Settings{Class: 0x100001}))
	assert.NilError(t, Set(other, Settings{Class: 0xfffeffff}))
	s := e.state(t)
	assert.Check(t, is.Contains(s, "-s 192.0.2.2/32"))
	assert.Check(t, is.Contains(s, "-s fd00::2/128"))
	assert.Check(t, is.Contains(s, "--set-class 0010:0001"))
	assert.Check(t, is.Contains(s, "--set-class fffe:ffff"))

	assert.NilError(t, Set(ep, Settings{Priorities: map[string]uint32{"lo": 5, "veth0123456": 0x10002, `q"\'x`: 7}}))
	s = e.state(t)
	assert.Check(t, !strings.Contains(s, "0010:0001"), s)
	assert.Check(t, is.Contains(s, "-o lo"))
	assert.Check(t, is.Contains(s, `q"\'x`))

	// A reload of firewalld.
	for _, cmd := range []string{"iptables", "ip6tables"} {
		for _, args := range []string{"-F", "-X"} {
			out, err := exec.Command(cmd, "-t", "mangle", args).CombinedOutput()
			assert.NilError(t, err, "%s", out)
		}
	}
	assert.Equal(t, len(Replay()), 0)
	lines := func(s string) int { return strings.Count(s, "\n") }
	assert.Equal(t, lines(e.state(t)), lines(s))

	Forget(ep.ID)
	assert.NilError(t, Set(other, Settings{}))
	assert.Equal(t, e.state(t), before)
}

// What is believed of a table is no longer so.
func TestOthersChangeTheTable(t *testing.T) {
	e := newTestEnd(t, "ep1")
	before := e.state(t)
	iptables := func(args ...string) {
		t.Helper()
		out, err := exec.Command("iptables", append([]string{"-t", "mangle"}, args...)...).CombinedOutput()
		assert.NilError(t, err, "%s", out)
	}
	ep := Endpoint{ID: "ep1", Addrs: []netip.Addr{netip.MustParseAddr(ctrAddr)}}
	other := Endpoint{ID: "ep2", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.3")}}
	s := Settings{Class: 7}
	set := func(ep Endpoint) {
		t.Helper()
		assert.NilError(t, Set(ep, s))
		for _, want := range []string{"-j DOCKER-NETCLASS", "--comment " + ep.ID + " "} {
			assert.Equal(t, strings.Count(e.state(t), want), 1, want)
		}
	}
	set(ep)
	iptables("-F") // all, with the jump
	set(ep)
	iptables("-F")
	iptables("-X")
	set(other)
	iptables("-D", fromChain, "-j", classChain)
	set(ep)

	iptables("-A", classChain, "-s", "192.0.2.4", "-m", "comment", "--comment", "ep3", "-j", "CLASSIFY", "--set-class", "0:7")
	Forget(ep.ID)
	Forget(other.ID)
	assert.Check(t, is.Contains(e.state(t), "--comment ep3"))
	assert.Check(t, !strings.Contains(e.state(t), "--comment ep1"))
	iptables("-F", classChain)
	set(ep)
	iptables("-D", classChain, "1")
	Forget(ep.ID)
	assert.Equal(t, e.state(t), before)
}

func TestBegin(t *testing.T) {
	e := newTestEnd(t, "ep1")
	before := e.state(t)
	ep := Endpoint{ID: "ep1", Addrs: []netip.Addr{netip.MustParseAddr(ctrAddr)}}
	s := Settings{Egress: 8e6, Ingress: 8e6, Class: 7}
	assert.NilError(t, Begin(ep, s)())
	set := e.state(t)
	assert.Check(t, is.Contains(set, "--comment ep1 "))
	assert.Equal(t, strings.Count(set, "\ntbf "), 2)
	assert.NilError(t, Set(ep, Settings{}))

	// The endpoint is deleted before its turn comes.
	var begun func()
	inBackground = func(f func()) { begun = f }
	wait := Begin(ep, s)
	inBackground = func(f func()) { f() }
	Forget(ep.ID)
	begun()
	assert.ErrorContains(t, wait(), "deleted")
	assert.Equal(t, e.state(t), before)

	assert.ErrorContains(t, Begin(Endpoint{ID: "nosuch"}, s)(), "nosuch")
	Forget("nosuch")
}

func TestSettleWaitsForTheRulesToGo(t *testing.T) {
	e := newTestEnd(t, "ep1")
	ep := Endpoint{ID: "ep1", Addrs: []netip.Addr{netip.MustParseAddr(ctrAddr)}}
	assert.NilError(t, Set(ep, Settings{Class: 7}))
	var forget func()
	inBackground = func(f func()) { forget = f }
	Forget(ep.ID)
	settled := make(chan struct{})
	go func() { Settle(); close(settled) }()
	select {
	case <-settled:
		t.Error("settled, with the rule still there")
	case <-time.After(100 * time.Millisecond):
	}
	forget()
	<-settled
	assert.Check(t, !strings.Contains(e.state(t), "--comment"))
}

func TestSyncRemovesWhatIsLeftOver(t *testing.T) {
	e := newTestEnd(t, "ep1")
	before := e.state(t)
	ep := Endpoint{ID: "ep1", Addrs: []netip.Addr{netip.MustParseAddr(ctrAddr)}}
	gone := Endpoint{ID: "gone", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.3")}}
	s := Settings{Egress: 8e6, Class: 7}
	assert.NilError(t, Set(ep, s))
	live := e.state(t)
	assert.NilError(t, Set(gone, Settings{Class: 7}))
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Group = "ifb7654321", ifbGroup
	assert.NilError(t, e.nlh.LinkAdd(&netlink.Ifb{LinkAttrs: attrs}))

	// A daemon that was killed knows nothing.
	known = map[string]knownLimits{}
	assert.Equal(t, len(Sync([]Limited{{ep, s}})), 0)
	assert.Equal(t, e.state(t), live)

	// Without anything live, what has an interface is another daemon's.
	known = map[string]knownLimits{}
	assert.Equal(t, len(Sync(nil)), 0)
	assert.Equal(t, e.state(t), live)

	// One whose limits come from an update that dockerd did not survive.
	known = map[string]knownLimits{}
	assert.Equal(t, len(Sync([]Limited{{ep, Settings{}}})), 0)
	assert.Equal(t, e.state(t), before)

	assert.NilError(t, Set(ep, s))
	assert.NilError(t, e.nlh.LinkDel(e.end))
	known = map[string]knownLimits{}
	assert.Equal(t, len(Sync(nil)), 0)
	assert.Check(t, !strings.Contains(e.state(t), "ifb"), e.state(t))
	assert.Check(t, !strings.Contains(e.state(t), classChain), e.state(t))
}

func TestSetRepairs(t *testing.T) {
	e := newTestEnd(t, "ep1")
	ep := Endpoint{ID: "ep1"}
	s := Settings{Egress: 8e6, Ingress: 16e6}
	assert.NilError(t, Set(ep, s))
	want := e.state(t)
	ifb, err := e.nlh.LinkByName("ifb0123456")
	assert.NilError(t, err)

	assert.NilError(t, e.nlh.LinkDel(ifb))
	assert.NilError(t, Set(ep, s))
	assert.Equal(t, strings.Count(e.state(t), "\n"), strings.Count(want, "\n"))

	ifb, err = e.nlh.LinkByName("ifb0123456")
	assert.NilError(t, err)
	assert.NilError(t, e.nlh.LinkSetDown(ifb))
	w, err := look(e.nlh)
	assert.NilError(t, err)
	assert.ErrorContains(t, verifyEgress(e.nlh, w, ep.ID, s.Egress), "down")
	assert.ErrorContains(t, verifyIngress(w, ep.ID, 0), "shows a rate of 2000000")
	assert.NilError(t, Set(ep, s))
	assert.NilError(t, Set(ep, Settings{}))
}

// An ingress qdisc of another kind, and a rule in our chain that is not ours,
// are in the way of what goes out alone.
func TestWhatCannotBeSetIsNamed(t *testing.T) {
	e := newTestEnd(t, "ep1")
	before := e.state(t)
	ep := Endpoint{ID: "ep1", Addrs: []netip.Addr{netip.MustParseAddr(ctrAddr)}}
	s := Settings{Egress: 8e6, Ingress: 16e6, Class: 0x100001}
	clsact := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: e.end.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
	assert.NilError(t, e.nlh.QdiscAdd(clsact))
	mangle := func(args ...string) {
		t.Helper()
		out, err := exec.Command("iptables", append([]string{"-t", "mangle"}, args...)...).CombinedOutput()
		assert.NilError(t, err, "%s", out)
	}
	mangle("-N", classChain)
	mangle("-A", classChain, "-d", "192.0.2.9", "-j", "RETURN")

	var got *Error
	assert.Assert(t, errors.As(Set(ep, s), &got))
	assert.Check(t, is.ErrorContains(got.Egress, "ingress qdisc on veth0123456"))
	assert.Check(t, is.ErrorContains(got.Class, "unknown option -d"))
	assert.Check(t, got.Ingress)
	w, err := look(e.nlh)
	assert.NilError(t, err)
	assert.Check(t, verifyIngress(w, ep.ID, s.Ingress))

	errs := Replay()
	assert.Check(t, is.Len(errs, 1))
	assert.Check(t, is.ErrorContains(errs[ep.ID], "unknown option -d"))
	mangle("-F", classChain)
	assert.Check(t, is.Len(Replay(), 0))
	assert.Check(t, is.Contains(e.state(t), "--set-class 0010:0001"))

	assert.NilError(t, e.nlh.QdiscDel(clsact))
	assert.NilError(t, Set(ep, s))
	assert.NilError(t, Set(ep, Settings{}))
	assert.Equal(t, e.state(t), before)
}

func TestUnmarkedEndpointIsRefused(t *testing.T) {
	newTestEnd(t, "")
	assert.ErrorContains(t, Set(Endpoint{ID: "ep1"}, Settings{Egress: 8e6}), "connect the container to its network again")
	assert.NilError(t, Set(Endpoint{ID: "ep1"}, Settings{}))
}

func TestShapes(t *testing.T) {
	for _, tc := range []struct {
		bits int64
		mtu  int
		want shape
		err  string
	}{
		{bits: 8e6, mtu: 1500, want: shape{rate: 1e6, burst: 10000, limit: 110000}},
		{bits: 800e6, mtu: 1500, want: shape{rate: 100e6, burst: 1e6, limit: 11e6}},
		{bits: 64000, mtu: 1500, want: shape{rate: 8000, burst: 6072, limit: 6072 + 16*1518}},
		{bits: MinRate(1500), mtu: 1500, want: shape{rate: 759, burst: 3036, limit: 3036 + 16*1518}},
		{bits: MinRate(1500) - 8, mtu: 1500, err: "the least is 6072 bit/s"},
		{bits: MinRate(65535), mtu: 65535, want: shape{rate: 32777, burst: 131108, limit: 131108 + 16*65553}},
		{bits: 1e12, mtu: 1500, want: shape{rate: 125e9, burst: 1.25e9, limit: 1<<32 - 1}},
	} {
		got, err := shapeFor(tc.bits, tc.mtu)
		if tc.err != "" {
			assert.Check(t, is.ErrorContains(err, tc.err))
			continue
		}
		assert.Check(t, err)
		assert.Check(t, is.Equal(got, tc.want))
		// What tbf takes as the largest packet has to hold a frame.
		assert.Check(t, float64(netlink.Xmittime(got.rate, got.burst))*64 < 1<<32)
		assert.Check(t, uint64(got.burst) >= uint64(tc.mtu)+frameOverhead)
	}
}

func TestParseClassTable(t *testing.T) {
	got, err := parseClassTable(`-P POSTROUTING ACCEPT
-N DOCKER-NETCLASS
-A POSTROUTING -s 10.0.0.0/8 -j ACCEPT
-A POSTROUTING -j DOCKER-NETCLASS
-A DOCKER-NETCLASS -s 10.1.2.3/32 -o eth0 -m comment --comment "ab12" -j CLASSIFY --set-class 0000:0005
-A DOCKER-NETCLASS -s fd00::2/128 -m comment --comment ab12 -j CLASSIFY --set-class 0010:ffff
`)
	assert.NilError(t, err)
	assert.Check(t, got.chain && got.jump)
	assert.Check(t, slices.Equal(got.rules, []classRule{
		{endpoint: "ab12", src: netip.MustParseAddr("10.1.2.3"), out: "eth0", class: 5},
		{endpoint: "ab12", src: netip.MustParseAddr("fd00::2"), class: 0x10ffff},
	}))

	_, err = parseClassTable("-A DOCKER-NETCLASS -d 10.1.2.3/32 -j DROP")
	assert.ErrorContains(t, err, "unknown option -d")
}
