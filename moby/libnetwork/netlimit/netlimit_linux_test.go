// SPDX-License-Identifier: Apache-2.0

package netlimit

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	mdnetlink "github.com/mdlayher/netlink"

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
	l         *Limiter
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
	e.l, err = New("test")
	assert.NilError(t, err)
	t.Cleanup(func() {
		e.l.Close()
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
	var s strings.Builder
	links, err := e.nlh.LinkList()
	assert.NilError(t, err)
	for _, l := range links {
		fmt.Fprintln(&s, l.Type(), l.Attrs().Name, l.Attrs().Alias, l.Attrs().AltNames, l.Attrs().Group)
		for _, parent := range []uint32{netlink.HANDLE_ROOT, netlink.MakeHandle(0xffff, 0)} {
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
	// With a connection of its own: the limiter may be at work.
	n := nft{nftConn: &nftConn{netns: int(e.host), option: func(*mdnetlink.Conn) error { return nil }}, owner: "test"}
	assert.NilError(t, n.open())
	defer func() { _ = n.conn.CloseLasting() }()
	is, err := n.read()
	assert.NilError(t, err)
	for _, f := range families {
		if is.exists[f] {
			fmt.Fprintln(&s, "table of family", f)
		}
	}
	for _, name := range slices.SortedFunc(maps.Keys(is.chains), chainOrder) {
		fmt.Fprintf(&s, " chain %s", name.name)
		for _, r := range is.chains[name] {
			fmt.Fprintf(&s, " %q", r.name)
		}
		fmt.Fprintln(&s)
	}
	for _, id := range slices.Sorted(maps.Keys(is.hooks)) {
		fmt.Fprintf(&s, " hook %s %+v\n", id, is.hooks[id])
	}
	for _, k := range kinds {
		for _, key := range slices.Sorted(maps.Keys(is.elements[k.name])) {
			v := is.elements[k.name][key]
			fmt.Fprintf(&s, " %s %x = %x of %s\n", k.name, key, v.value, v.endpoint)
		}
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
		assert.NilError(t, e.l.Set(ep, Settings{Egress: bits, Ingress: bits}))
		assert.NilError(t, e.l.Set(ep, Settings{Egress: bits, Ingress: bits}), "the same once more")
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
	assert.NilError(t, e.l.Set(ep, Settings{}))
	assert.Equal(t, e.state(t), before)
}

// delHook is another program that removes a chain of ep1.
func delHook(conn *nftables.Conn, prefix string) error {
	conn.DelChain(&nftables.Chain{Name: prefix + "ep1", Table: &nftables.Table{Name: tablePrefix + "test", Family: nftables.TableFamilyNetdev}})
	return conn.Flush()
}

// packets sends small UDP packets one way, as fast as it can for a time, and returns
// how many came, and how long the sender had to wait for a processor: beyond what a
// bucket that fills in a time saves up.
func (e *testEnd) packets(t *testing.T, fromContainer bool, d, bucket time.Duration) (came int, lost time.Duration) {
	t.Helper()
	from, to, addr := e.host, e.ctr, ctrAddr
	if fromContainer {
		from, to, addr = e.ctr, e.host, hostAddr
	}
	l, err := listenUDP(t, to, addr+":9")
	assert.NilError(t, err)
	defer l.Close()
	raw, err := l.(*net.UDPConn).SyscallConn()
	assert.NilError(t, err)
	assert.NilError(t, raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20) }))
	assert.NilError(t, err)
	var c net.Conn
	inNS(t, from, func() (err error) { c, err = net.Dial("udp4", addr+":9"); return err })
	defer c.Close()
	done := make(chan int)
	go func() {
		n, buf := 0, make([]byte, 100)
		for {
			if _, _, err := l.ReadFrom(buf); err != nil {
				done <- n
				return
			}
			n++
		}
	}()
	last := time.Now()
	for end := last.Add(d); last.Before(end); {
		_, _ = c.Write(make([]byte, 22)) // A frame of 64 bytes. What is dropped at the egress is an error here.
		now := time.Now()
		lost += max(now.Sub(last)-bucket, 0)
		last = now
	}
	assert.NilError(t, l.SetReadDeadline(time.Now().Add(500*time.Millisecond)))
	return <-done, lost
}

// Each way has its rate, from its start on and after each change, beside a rate of bits
// that does not bind, and is free again without.
func TestPacketsPerSecond(t *testing.T) {
	e := newTestEnd(t, "ep1")
	before := e.state(t)
	ep := Endpoint{ID: "ep1"}
	for _, s := range []Settings{
		{EgressPPS: 500, IngressPPS: 1000},
		{EgressPPS: 2000, IngressPPS: 100},
		{EgressPPS: 2000, IngressPPS: 2000, Egress: 800e6, Ingress: 800e6},
		{EgressPPS: 1},
	} {
		assert.NilError(t, e.l.Set(ep, s))
		for _, out := range []bool{true, false} {
			rate := s.IngressPPS
			if out {
				rate = s.EgressPPS
			}
			if rate == 0 {
				came, _ := e.packets(t, out, time.Second, time.Second)
				assert.Check(t, came > 1000, "%+v, out %t: %d", s, out, came)
				continue
			}
			burst := int(burstPPS(rate))
			came, lost := e.packets(t, out, time.Second, time.Duration(burst)*time.Second/time.Duration(rate))
			t.Logf("%+v, out %t: %d, without a processor for %s", s, out, came, lost)
			most := float64(rate)*1.01 + float64(burst) + 1
			least := float64(rate)*0.9*(1-lost.Seconds()) - float64(burst)
			assert.Check(t, float64(came) <= most && float64(came) >= least, "%+v, out %t: %d, want %.0f to %.0f", s, out, came, least, most)
		}
	}
	// A rate of bits that is less than the packets that may pass.
	assert.NilError(t, e.l.Set(ep, Settings{EgressPPS: 100_000, Egress: 8e5}))
	came, _ := e.packets(t, true, time.Second, time.Second)
	assert.Check(t, came > 100 && came < 5000, "%d", came) // 1,562 frames of 64 bytes a second, and a full queue

	assert.NilError(t, e.l.Set(ep, Settings{}))
	assert.Equal(t, e.state(t), before)
}

func TestOneDirectionAlone(t *testing.T) {
	e := newTestEnd(t, "ep1")
	ep := Endpoint{ID: "ep1"}
	for _, s := range []Settings{{Egress: 8e6}, {Ingress: 8e6}} {
		assert.NilError(t, e.l.Set(ep, s))
		limited, free := e.stream(t, s.Egress != 0, time.Second), e.stream(t, s.Egress == 0, time.Second)
		assert.Check(t, limited < 9e6, "%+v: %.0f", s, limited)
		assert.Check(t, free > 80e6, "%+v: %.0f", s, free)
	}
}

var (
	ep1 = Endpoint{ID: "ep1", Addrs: []netip.Addr{netip.MustParseAddr(ctrAddr), netip.MustParseAddr("fd00::2")}}
	all = Settings{Egress: 8e6, Ingress: 16e6, EgressPPS: 1000, IngressPPS: 2000, Class: 0x100001}
)

// An endpoint has all it needs, another does not touch it, and what nobody needs
// any more is not there.
func TestTablesHoldWhatIsNeeded(t *testing.T) {
	e := newTestEnd(t, "ep1")
	before := e.state(t)
	ep := ep1
	ep.Ports = []Port{{Proto: unix.IPPROTO_TCP, Port: 8080}, {Addr: netip.MustParseAddr("192.0.2.1"), Proto: unix.IPPROTO_UDP, Port: 53}}

	assert.NilError(t, e.l.Set(ep, all))
	one := e.state(t)
	for _, want := range []string{
		" class4 c0000202 = 01001000 of ep1", " class6 fd000000000000000000000000000002 = 01001000 of ep1",
		" port-class 060000001f900000 = 01001000 of ep1", " port-class4 c00002011100000000350000 = 01001000 of ep1",
		" bridged-class ", " source4 ", " source6 ", " to-ifb ", "hook ep1 {device:veth0123456 fromPPS:1000 sources:true redirect:true toPPS:2000 other:false}",
		` chain postrouting "class4" "class6"`,
	} {
		assert.Check(t, is.Contains(one, want))
	}
	shown, err := e.l.Show(ep)
	assert.NilError(t, err)
	assert.DeepEqual(t, shown, Shown{Interface: "veth0123456", Settings: all})

	other := Endpoint{ID: "ep2", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.3")}}
	err = e.l.Set(other, Settings{Class: 0xfffeffff})
	assert.ErrorContains(t, err, "has no interface")
	assert.NilError(t, e.l.Set(other, Settings{}))
	assert.Equal(t, e.state(t), one)

	prio := Settings{Priorities: map[string]uint32{"lo": 5, `q"\'x`: 0x10002}}
	assert.NilError(t, e.l.Set(ep, prio))
	s := e.state(t)
	assert.Check(t, !strings.Contains(s, "class4"), s)
	assert.Check(t, !strings.Contains(s, "to-ifb"), s)
	assert.Check(t, is.Contains(s, " prio4 c00002026c6f"))
	assert.Check(t, is.Contains(s, " bridged-prio "))
	shown, err = e.l.Show(ep)
	assert.NilError(t, err)
	assert.DeepEqual(t, shown.Settings, prio)

	assert.NilError(t, e.l.Set(ep, Settings{}))
	assert.Equal(t, e.state(t), before)
}

// What another program takes away comes back, and both is told.
func TestWhatGoesComesBack(t *testing.T) {
	e := newTestEnd(t, "ep1")
	changes := make(chan Change, 100)
	assert.NilError(t, e.l.Run(func(list []Change) {
		for _, c := range list {
			changes <- c
		}
	}, func(map[string]bool) {}))
	assert.NilError(t, e.l.Set(ep1, all))
	wanted := e.state(t)
	const marks = "veth0123456 docker endpoint ep1 [docker-endpoint-ep1]"
	assert.Check(t, is.Contains(wanted, marks))
	conn, err := nftables.New(nftables.WithNetNSFd(int(e.host)))
	assert.NilError(t, err)
	ifb := func() netlink.Link {
		l, err := e.nlh.LinkByName(ifbName("ep1"))
		assert.NilError(t, err)
		return l
	}
	root := func(l netlink.Link) netlink.Qdisc {
		return &netlink.Tbf{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Parent: netlink.HANDLE_ROOT, Handle: tbfHandles[0]}}
	}
	for _, tc := range []struct {
		name, lost string
		do         func() error
		quiet      bool // it is seen and mended, and was never out of force
	}{
		{name: "qdisc", lost: "tbf of interface veth0123456 is not there", do: func() error { return e.nlh.QdiscDel(root(e.end)) }},
		{name: "qdisc of the ifb", lost: "is not there", do: func() error { return e.nlh.QdiscDel(root(ifb())) }},
		{name: "another rate", lost: "has a rate of 5", do: func() error {
			return e.nlh.QdiscReplace(&netlink.Tbf{
				QdiscAttrs: netlink.QdiscAttrs{LinkIndex: e.end.Attrs().Index, Parent: netlink.HANDLE_ROOT, Handle: tbfHandles[0]},
				Rate:       500, Limit: 10000, Buffer: netlink.Xmittime(500, 2000),
			})
		}},
		{name: "ifb", lost: "ifb", do: func() error { return e.nlh.LinkDel(ifb()) }},
		{name: "ifb down", lost: "is down", do: func() error { return e.nlh.LinkSetDown(ifb()) }},
		{name: "alias", quiet: true, do: func() error { return e.nlh.LinkSetAlias(e.end, "") }},
		{name: "alternative name", quiet: true, do: func() error { return e.nlh.LinkDelAltName(e.end, altName(endpointAlias+"ep1")) }},
		{name: "ruleset", lost: "has lost", do: func() error { conn.FlushRuleset(); return conn.Flush() }},
		{name: "packets in", lost: "has lost the chain", do: func() error { return delHook(conn, outPrefix) }},
		{name: "element", lost: "has lost an element of class4", do: func() error {
			n := nft{nftConn: &nftConn{conn: conn}, owner: "test"}
			assert.NilError(t, conn.SetDeleteElements(n.set(kindOf("class4")), []nftables.SetElement{{Key: ep1.Addrs[0].AsSlice()}}))
			return conn.Flush()
		}},
		{name: "rules", lost: "has lost", do: func() error {
			conn.FlushTable(&nftables.Table{Name: tablePrefix + "test", Family: nftables.TableFamilyNetdev})
			return conn.Flush()
		}},
		{name: "chain", lost: "has lost the chain", do: func() error { return delHook(conn, hookPrefix) }},
	} {
		assert.NilError(t, tc.do(), tc.name)
		if tc.quiet {
			wait(t, tc.name, func() bool { return strings.Contains(e.state(t), marks) })
			continue
		}
		var lost, back bool
		deadline := time.After(2 * time.Second)
		for !back {
			select {
			case c := <-changes:
				t.Logf("%s: %+v", tc.name, c)
				assert.Equal(t, c.Endpoint, "ep1")
				if c.Err != nil && strings.Contains(c.Err.Error(), tc.lost) {
					lost = true
				}
				back = lost && c.Err == nil
			case <-deadline:
				t.Fatalf("%s: lost %t, back %t\n%s", tc.name, lost, back, e.state(t))
			}
		}
		wait(t, tc.name, func() bool { return len(e.state(t)) == len(wanted) })
	}
}

func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		assert.Assert(t, time.Now().Before(end), what)
	}
}

// A qdisc that another program has put there is in the way of one rate alone, is
// named, and stays.
func TestForeignRootQdisc(t *testing.T) {
	e := newTestEnd(t, "ep1")
	htb := netlink.NewHtb(netlink.QdiscAttrs{LinkIndex: e.end.Attrs().Index, Parent: netlink.HANDLE_ROOT, Handle: netlink.MakeHandle(1, 0)})
	assert.NilError(t, e.nlh.QdiscAdd(htb))
	before := e.state(t)

	var got *Error
	assert.Assert(t, errors.As(e.l.Set(ep1, all), &got))
	assert.Check(t, is.ErrorContains(got.Ingress, "root qdisc of interface veth0123456 is htb 1:"))
	assert.Check(t, got.Egress)
	assert.Check(t, got.Class)
	shown, err := e.l.Show(ep1)
	assert.NilError(t, err)
	assert.DeepEqual(t, shown.Settings, Settings{Egress: all.Egress, EgressPPS: all.EgressPPS, IngressPPS: all.IngressPPS, Class: all.Class})

	assert.NilError(t, e.l.Set(ep1, Settings{}))
	assert.Equal(t, e.state(t), before)
}

// Filters of other programs, before and after ours.
func TestForeignFilters(t *testing.T) {
	e := newTestEnd(t, "ep1")
	clsact := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: e.end.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
	assert.NilError(t, e.nlh.QdiscAdd(clsact))
	filter := &netlink.U32{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: e.end.Attrs().Index, Parent: netlink.HANDLE_MIN_INGRESS, Priority: 7, Protocol: unix.ETH_P_ALL},
		ClassId:     1,
	}
	assert.NilError(t, e.nlh.FilterAdd(filter)) // takes all packets, and ends there
	before := e.state(t)
	assert.NilError(t, e.l.Set(ep1, all))
	assert.Check(t, e.stream(t, true, time.Second) < 40e6) // Without the limit it is hundreds.
	assert.NilError(t, e.l.Set(ep1, Settings{}))
	assert.Equal(t, e.state(t), before)
}

// What is in our tables and not of ours stays there.
func TestForeignRulesInOurTables(t *testing.T) {
	e := newTestEnd(t, "ep1")
	before := e.state(t)
	assert.NilError(t, e.l.Set(ep1, all))
	n := e.l.back.(*nft)
	c := n.chain(chainName{nftables.TableFamilyINet, chainRouted})
	n.conn.InsertRule(&nftables.Rule{Table: c.Table, Chain: c})
	assert.NilError(t, n.conn.Flush())
	e.l.is = nil
	other := Endpoint{ID: "ep2", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.3")}}
	_ = e.l.Set(other, Settings{Class: 7})
	assert.NilError(t, e.l.Set(ep1, all))
	assert.Check(t, is.Contains(e.state(t), ` chain postrouting "class4" "class6" ""`))

	assert.NilError(t, e.l.Set(other, Settings{}))
	assert.NilError(t, e.l.Set(ep1, Settings{}))
	assert.Check(t, is.Contains(e.state(t), ` chain postrouting ""`))
	assert.Check(t, !strings.Contains(e.state(t), "of ep1"), e.state(t))
	n.conn.FlushChain(c)
	assert.NilError(t, n.conn.Flush())
	e.l.is = nil
	assert.NilError(t, e.l.Set(ep1, all))
	assert.NilError(t, e.l.Set(ep1, Settings{}))
	assert.Equal(t, e.state(t), before)
}

func TestBegin(t *testing.T) {
	e := newTestEnd(t, "ep1")
	before := e.state(t)
	assert.NilError(t, e.l.Begin(ep1, all)())
	shown, err := e.l.Show(ep1)
	assert.NilError(t, err)
	assert.DeepEqual(t, shown.Settings, all)
	assert.NilError(t, e.l.Set(ep1, Settings{}))
	assert.Equal(t, e.state(t), before)

	assert.ErrorContains(t, e.l.Begin(Endpoint{ID: "nosuch"}, all)(), "nosuch")
}

// The next one with an address does not get the class of the one before.
func TestClaim(t *testing.T) {
	e := newTestEnd(t, "ep1")
	before := e.state(t)
	assert.NilError(t, e.l.Set(ep1, Settings{Class: 7}))
	assert.NilError(t, e.l.Claim("ep1", ep1.Addrs))
	assert.Check(t, is.Contains(e.state(t), "class6"))
	assert.NilError(t, e.l.Claim("ep2", ep1.Addrs[1:]))
	assert.Equal(t, e.state(t), before)
}

func TestSyncRemovesWhatIsLeftOver(t *testing.T) {
	e := newTestEnd(t, "ep1")
	before := e.state(t)
	s := Settings{Egress: 8e6, Class: 7}
	assert.NilError(t, e.l.Set(ep1, s))
	live := e.state(t)
	gone := Endpoint{ID: "gone", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.3")}}
	assert.Check(t, e.l.Set(gone, Settings{Class: 7}) != nil)
	left, err := e.l.tc.addIfb("gone")
	assert.NilError(t, err)

	// A daemon that was killed knows nothing.
	restart := func() {
		t.Helper()
		e.l.endpoints, e.l.is = map[string]*endpoint{}, nil
	}
	restart()
	assert.Equal(t, len(e.l.Sync([]Limited{{ep1, s}})), 0)
	assert.Equal(t, e.state(t), live)

	// Without a mark, too.
	assert.NilError(t, e.nlh.LinkSetAlias(e.end, "web01"))
	assert.NilError(t, e.nlh.LinkDelAltName(e.end, altName(endpointAlias+"ep1")))
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), e.ctr)
	ctr, err := netlink.NewHandleAt(e.ctr, unix.NETLINK_ROUTE)
	assert.NilError(t, err)
	defer ctr.Close()
	eth, err := ctr.LinkByName("eth0")
	assert.NilError(t, err)
	ep := ep1
	ep.NetNS, ep.MAC = path, eth.Attrs().HardwareAddr.String()
	restart()
	assert.Equal(t, len(e.l.Sync([]Limited{{ep, s}})), 0)
	assert.Equal(t, e.state(t), strings.Replace(live, "docker endpoint ep1", "web01", 1))
	assert.NilError(t, e.nlh.LinkSetAlias(e.end, endpointAlias+"ep1"))

	// One whose limits come from an update that dockerd did not survive.
	restart()
	assert.Equal(t, len(e.l.Sync([]Limited{{ep1, Settings{}}})), 0)
	assert.Equal(t, e.state(t), before)

	// Of another daemon, whose endpoint has an interface.
	other, err := New("other")
	assert.NilError(t, err)
	defer other.Close()
	assert.NilError(t, other.Set(ep, s))
	assert.NilError(t, e.nlh.LinkSetAlias(e.end, ""))
	assert.NilError(t, e.nlh.LinkDelAltName(e.end, altName(endpointAlias+"ep1")))
	restart()
	assert.Equal(t, len(e.l.Sync(nil)), 0)
	shown, err := other.Show(ep)
	assert.NilError(t, err)
	assert.DeepEqual(t, shown.Settings, s)

	assert.NilError(t, e.nlh.LinkDel(e.end))
	other.pass(seen{all: true}, true)
	_ = left
	assert.Check(t, !strings.Contains(e.state(t), "ifb"), e.state(t))
	assert.Check(t, !strings.Contains(e.state(t), "table"), e.state(t))
}

// What a container has not been given as a source does not get through where it
// has a class.
func TestSourcesOfAClass(t *testing.T) {
	e := newTestEnd(t, "ep1")
	ctr, err := netlink.NewHandleAt(e.ctr, unix.NETLINK_ROUTE)
	assert.NilError(t, err)
	defer ctr.Close()
	up(t, ctr, "eth0", "192.0.2.99/24", "fd00::99/64")
	l, err := listenUDP(t, e.host, "[::]:0")
	assert.NilError(t, err)
	defer l.Close()
	port := l.LocalAddr().(*net.UDPAddr).Port
	passes := func(from, to string) error {
		var c *net.UDPConn
		inNS(t, e.ctr, func() (err error) {
			c, err = net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, &net.UDPAddr{IP: net.ParseIP(to), Port: port})
			return err
		})
		defer c.Close()
		_, err := c.Write([]byte(from))
		assert.NilError(t, err)
		// Whichever comes first: the packet, or the refusal.
		end := time.Now().Add(5 * time.Second)
		assert.NilError(t, l.SetReadDeadline(end))
		assert.NilError(t, c.SetReadDeadline(end))
		got := make(chan error, 2)
		go func() {
			buf := make([]byte, 100)
			n, _, err := l.ReadFrom(buf)
			if err == nil && string(buf[:n]) != from {
				err = fmt.Errorf("got %q", buf[:n])
			}
			got <- err
		}()
		go func() {
			_, err := c.Read(make([]byte, 100))
			got <- err
		}()
		err = <-got
		_ = l.SetReadDeadline(time.Now())
		_ = c.SetReadDeadline(time.Now())
		<-got
		return err
	}
	assert.NilError(t, passes("192.0.2.99", hostAddr))
	assert.NilError(t, e.l.Set(ep1, Settings{Egress: 80e6}))
	assert.NilError(t, passes("192.0.2.99", hostAddr), "a rate alone")
	assert.NilError(t, e.l.Set(ep1, all))
	assert.NilError(t, passes(ctrAddr, hostAddr))
	assert.NilError(t, passes("fd00::2", "fd00::1"))
	assert.ErrorIs(t, passes("192.0.2.99", hostAddr), unix.EHOSTUNREACH)
	assert.ErrorIs(t, passes("fd00::99", "fd00::1"), unix.EACCES)
}

func listenUDP(t *testing.T, ns netns.NsHandle, addr string) (c net.PacketConn, err error) {
	t.Helper()
	inNS(t, ns, func() error { c, err = net.ListenPacket("udp", addr); return nil })
	return c, err
}

// The kernel tells of the new name of a link alone.
func TestRenamedInterfaceIsMissing(t *testing.T) {
	e := newTestEnd(t, "ep1")
	add := func(name string) netlink.Link {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		assert.NilError(t, e.nlh.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
		l, err := e.nlh.LinkByName(name)
		assert.NilError(t, err)
		return l
	}
	before := add("up0")
	assert.NilError(t, e.l.Run(func([]Change) {}, func(map[string]bool) {}))
	after := add("up1")
	assert.NilError(t, e.l.Set(ep1, Settings{Priorities: map[string]uint32{"up0": 7, "up1": 8}}))
	assert.NilError(t, e.l.Lost("ep1"))
	for _, l := range []netlink.Link{before, after} {
		name := l.Attrs().Name
		assert.NilError(t, e.nlh.LinkSetName(l, "was0"))
		wait(t, name+" is missing", func() bool {
			err := e.l.Lost("ep1")
			return err != nil && strings.Contains(err.Error(), "no interface "+name)
		})
		assert.NilError(t, e.nlh.LinkSetName(l, name))
		wait(t, name+" is back", func() bool { return e.l.Lost("ep1") == nil })
	}
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
