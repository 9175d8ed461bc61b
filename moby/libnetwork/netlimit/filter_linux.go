// SPDX-License-Identifier: Apache-2.0

package netlimit

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Without nf_tables two filters of tc, at the ingress of the host's end of an endpoint,
// do what its netdev and bridge families do elsewhere:
//
//	first   a BPF program drops what has a source that is not the endpoint's, and gives
//	        the rest its class, which holds for what is bridged (routing sets it anew);
//	        all goes on to the next filter
//	last    what nobody else has taken goes to the endpoint's ifb
//
// Most filters end what they match. So one of somebody else before the first, or before
// the last, is in the way of what that one is for, which is said; it stays.
const (
	guardPriority    = 1
	redirectPriority = 0xffff
	guardHandle      = 1
	oldPriority      = 100 // see removeOldRedirect
	// The class of the last filter says whether we have made the qdisc that it is in,
	// which the first one's name ends in a sign for.
	redirectMark     = 0xd0c<<16 | 1
	redirectMarkMade = 0xd0c<<16 | 2
	guardNameMade    = " +"
)

// filters of one owner.
type filters struct{ owner string }

// endFilters is what one endpoint should have.
type endFilters struct {
	id    string
	guard bool
	addrs []netip.Addr // that may be a source
	class uint32
	ifb   int // 0: none
	ports map[string]bool
}

func wantFilters(e *endpoint) endFilters {
	f := endFilters{id: e.ID, ifb: e.ifb, ports: map[string]bool{}}
	if !e.classifies() {
		return f
	}
	f.guard, f.class = true, e.Class
	for _, a := range e.Addrs {
		f.addrs = append(f.addrs, a.Unmap())
	}
	slices.SortFunc(f.addrs, netip.Addr.Compare)
	for name := range e.Priorities {
		f.ports[name] = true
	}
	return f
}

// name of the filter, which nothing else can have: what is in it is not to be read back.
func (fs *filters) name(f endFilters) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "1 %x %v", f.class, f.addrs))
	return fmt.Sprintf("%s%s %s %x", tablePrefix, fs.owner, f.id, sum[:8])
}

// endState is what there is at the ingress of an interface.
type endState struct {
	guard     *netlink.BpfFilter
	redirects []*netlink.U32
	made      bool // we have made the qdisc
	// Others, by the first of ours that they come before.
	beforeGuard, beforeRedirect string
}

// mirred is where a filter sends packets to, 0 if nowhere.
func mirred(u *netlink.U32) int {
	for _, a := range u.Actions {
		if m, ok := a.(*netlink.MirredAction); ok {
			return m.Ifindex
		}
	}
	return 0
}

func (t *tc) endState(end netlink.Link, ifb int) (s endState, _ error) {
	list, err := dump(func() ([]netlink.Filter, error) { return t.FilterList(end, netlink.HANDLE_MIN_INGRESS) })
	if isGone(err) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("filters of interface %s: %w", end.Attrs().Name, err)
	}
	for _, f := range list {
		a := f.Attrs()
		if a.Chain != nil && *a.Chain != 0 {
			continue
		}
		switch f := f.(type) {
		case *netlink.BpfFilter:
			if a.Priority == guardPriority && strings.HasPrefix(f.Name, tablePrefix) {
				s.guard = f
				s.made = s.made || strings.HasSuffix(f.Name, guardNameMade)
				continue
			}
		case *netlink.U32:
			if a.Priority == oldPriority && ifb != 0 && mirred(f) == ifb {
				s.made = true // so had the build that made it
				continue
			}
			if a.Priority == redirectPriority && (f.ClassId == redirectMark || f.ClassId == redirectMarkMade) {
				s.redirects = append(s.redirects, f)
				s.made = s.made || f.ClassId == redirectMarkMade
				continue
			}
		}
		what := fmt.Sprintf("a filter of another program (%s, preference %d) is at the ingress of interface %s, before ours", f.Type(), a.Priority, end.Attrs().Name)
		if a.Priority <= guardPriority && s.guard == nil {
			s.beforeGuard = cmp.Or(s.beforeGuard, what)
		}
		if len(s.redirects) == 0 {
			s.beforeRedirect = cmp.Or(s.beforeRedirect, what)
		}
	}
	return s, nil
}

// set makes the filters of an endpoint those that it should have.
func (fs *filters) set(t *tc, end netlink.Link, want endFilters) (class, egress error) {
	both := func(err error) (error, error) { return err, err }
	s, err := t.endState(end, want.ifb)
	if err != nil {
		return both(err)
	}
	qdisc := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: end.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
	if (want.guard || want.ifb != 0) && s.guard == nil && len(s.redirects) == 0 {
		switch err := t.QdiscAdd(qdisc); {
		case err == nil:
			s.made = true
		case !errors.Is(err, unix.EEXIST):
			return both(fmt.Errorf("clsact of interface %s: %w", end.Attrs().Name, err))
		}
	}
	class = fs.setGuard(t, end, &s, want)
	egress = fs.setRedirect(t, end, &s, want)
	if err := t.dropQdisc(end, s); err != nil {
		return cmp.Or(class, err), cmp.Or(egress, err)
	}
	return class, egress
}

func (fs *filters) setGuard(t *tc, end netlink.Link, s *endState, want endFilters) error {
	if !want.guard {
		if s.guard == nil {
			return nil
		}
		if err := ignoreGone(t.FilterDel(s.guard)); err != nil {
			return fmt.Errorf("filter of interface %s: %w", end.Attrs().Name, err)
		}
		s.guard = nil
		return nil
	}
	name := fs.name(want)
	if s.made {
		name += guardNameMade
	}
	if s.guard != nil && s.guard.Name == name {
		return nil
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "docker_sources", Type: ebpf.SchedCLS, License: "Apache-2.0", Instructions: guardProgram(want)})
	if err != nil {
		return fmt.Errorf("loading the BPF program for the sources of a class: %w", err)
	}
	defer prog.Close()
	filter := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: end.Attrs().Index, Parent: netlink.HANDLE_MIN_INGRESS, Handle: guardHandle, Priority: guardPriority, Protocol: unix.ETH_P_ALL},
		Fd:          prog.FD(), Name: name, DirectAction: true,
	}
	put := t.FilterAdd // fails if somebody else has such a one
	if s.guard != nil {
		filter.Handle = s.guard.Handle
		put = t.FilterReplace
	}
	if err := put(filter); err != nil {
		if s.beforeGuard != "" {
			err = fmt.Errorf("%w: %s", err, s.beforeGuard)
		}
		return fmt.Errorf("filter of interface %s: %w", end.Attrs().Name, err)
	}
	s.guard = filter
	return nil
}

func (fs *filters) setRedirect(t *tc, end netlink.Link, s *endState, want endFilters) error {
	mark := uint32(redirectMark)
	if s.made {
		mark = redirectMarkMade
	}
	var there *netlink.U32
	for _, u := range s.redirects {
		if want.ifb != 0 && mirred(u) == want.ifb && u.ClassId == mark {
			there = u
		}
	}
	if want.ifb != 0 && there == nil {
		there = &netlink.U32{
			FilterAttrs: netlink.FilterAttrs{LinkIndex: end.Attrs().Index, Parent: netlink.HANDLE_MIN_INGRESS, Priority: redirectPriority, Protocol: unix.ETH_P_ALL},
			ClassId:     mark, Actions: []netlink.Action{netlink.NewMirredAction(want.ifb)},
		}
		if err := t.FilterAdd(there); err != nil {
			return fmt.Errorf("filter of interface %s: %w", end.Attrs().Name, err)
		}
	}
	// Only now, so that no packet goes without.
	for _, u := range s.redirects {
		if u == there {
			continue
		}
		if err := ignoreGone(t.FilterDel(u)); err != nil {
			return fmt.Errorf("filter of interface %s: %w", end.Attrs().Name, err)
		}
	}
	s.redirects = nil
	if there != nil {
		s.redirects = []*netlink.U32{there}
	}
	return nil
}

// dropQdisc removes the qdisc if we have made it and nobody has a filter there.
func (t *tc) dropQdisc(end netlink.Link, s endState) error {
	if !s.made || s.guard != nil || len(s.redirects) != 0 {
		return nil
	}
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		list, err := dump(func() ([]netlink.Filter, error) { return t.FilterList(end, parent) })
		if err != nil || len(list) != 0 {
			return ignoreGone(err)
		}
	}
	return ignoreGone(t.QdiscDel(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: end.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}))
}

// removeFilters is for a kernel that has got nf_tables meanwhile, and RemoveAll.
func (t *tc) removeFilters(end netlink.Link) error {
	class, egress := (&filters{}).set(t, end, endFilters{})
	return cmp.Or(class, egress)
}

// check says what an endpoint has not, or should not have.
func (fs *filters) check(t *tc, end netlink.Link, want endFilters) (class, egress error) {
	s, err := t.endState(end, 0)
	if err != nil {
		return err, err
	}
	name := end.Attrs().Name
	switch {
	case want.guard != (s.guard != nil):
		class = fmt.Errorf("the filter for sources of interface %s is there: %t, want %t", name, s.guard != nil, want.guard)
	case want.guard && strings.TrimSuffix(s.guard.Name, guardNameMade) != fs.name(want):
		class = fmt.Errorf("the filter for sources of interface %s is another one", name)
	case want.guard && s.beforeGuard != "":
		class = errors.New(s.beforeGuard)
	case want.guard:
		class = t.bridgedTo(end, want.ports)
	}
	var to []int
	for _, u := range s.redirects {
		to = append(to, mirred(u))
	}
	switch {
	case want.ifb == 0 && len(to) != 0:
		egress = fmt.Errorf("interface %s still sends what it gets to an ifb", name)
	case want.ifb != 0 && !slices.Equal(to, []int{want.ifb}):
		egress = fmt.Errorf("the filter of interface %s that sends what it gets to the ifb is not there", name)
	case want.ifb != 0 && s.beforeRedirect != "":
		egress = errors.New(s.beforeRedirect)
	}
	return class, egress
}

// bridgedTo refuses priorities for an interface that is a port of the endpoint's own
// bridge: where a packet leaves the bridge is not known when it comes in.
func (t *tc) bridgedTo(end netlink.Link, ports map[string]bool) error {
	for name := range ports {
		link, err := t.LinkByName(name)
		if err == nil && end.Attrs().MasterIndex != 0 && link.Attrs().MasterIndex == end.Attrs().MasterIndex {
			return fmt.Errorf("interface %s is a port of the container's own bridge, and a kernel without nf_tables cannot give what is bridged there a priority of its own; use --net-classid", name)
		}
	}
	return nil
}

// redirectsTo is where packets from an interface go, 0 if nowhere.
func (t *tc) redirectsTo(end netlink.Link) int {
	s, err := t.endState(end, 0)
	if err != nil || s.beforeRedirect != "" || len(s.redirects) != 1 {
		return 0
	}
	return mirred(s.redirects[0])
}

// guarded returns the endpoints that filters at the interfaces name.
func (t *tc) guarded(links []netlink.Link) map[string]bool {
	ids := map[string]bool{}
	for _, link := range links {
		if link.Type() != "veth" {
			continue
		}
		if s, err := t.endState(link, 0); err == nil && s.guard != nil {
			if words := strings.Fields(s.guard.Name); len(words) > 1 {
				ids[words[1]] = true
			}
		}
	}
	return ids
}

// Offsets of struct __sk_buff, and verdicts of linux/pkt_cls.h.
const (
	skbProtocol = 16
	tcNext      = -1
	tcDrop      = 2
	etherLen    = 14
)

// guardProgram lets pass what the endpoint may send: see sourceRules, which say the same
// for nf_tables. Refusals with which others were answered do not pass here.
func guardProgram(f endFilters) asm.Instructions {
	const addrAt = -32 // on the stack: the source, and of IPv6 the destination
	ethertype := func(t uint16) int32 {
		var b [2]byte
		binary.BigEndian.PutUint16(b[:], t)
		return int32(binary.NativeEndian.Uint16(b[:]))
	}
	load := func(offset, size int32) asm.Instructions {
		return asm.Instructions{
			asm.Mov.Reg(asm.R1, asm.R6),
			asm.Mov.Imm(asm.R2, offset),
			asm.Mov.Reg(asm.R3, asm.RFP),
			asm.Add.Imm(asm.R3, addrAt),
			asm.Mov.Imm(asm.R4, size),
			asm.FnSkbLoadBytes.Call(),
			asm.JNE.Imm(asm.R0, 0, "drop"),
		}
	}
	p := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R7, asm.R6, skbProtocol, asm.Word),
		asm.JEq.Imm(asm.R7, ethertype(unix.ETH_P_IPV6), "ipv6"),
		asm.JNE.Imm(asm.R7, ethertype(unix.ETH_P_IP), "pass"),
	}
	p = append(p, load(etherLen+12, 4)...)
	p = append(p, asm.LoadMem(asm.R1, asm.RFP, addrAt, asm.Word), asm.JEq.Imm(asm.R1, 0, "pass"))
	for _, a := range f.addrs {
		if a.Is4() {
			p = append(p, asm.LoadImm(asm.R2, int64(binary.NativeEndian.Uint32(a.AsSlice())), asm.DWord), asm.JEq.Reg(asm.R1, asm.R2, "pass"))
		}
	}
	p = append(p, asm.Ja.Label("drop"))

	ipv6 := load(etherLen+8, 32)
	ipv6[0] = ipv6[0].WithSymbol("ipv6")
	p = append(p, ipv6...)
	p = append(p,
		// To a link-local group: neighbours are asked for there.
		asm.LoadMem(asm.R1, asm.RFP, addrAt+16, asm.Byte),
		asm.JNE.Imm(asm.R1, 0xff, "source"),
		asm.LoadMem(asm.R1, asm.RFP, addrAt+17, asm.Byte),
		asm.JEq.Imm(asm.R1, 0x02, "pass"),
		// From a link-local address.
		asm.LoadMem(asm.R1, asm.RFP, addrAt, asm.Byte).WithSymbol("source"),
		asm.JNE.Imm(asm.R1, 0xfe, "whole"),
		asm.LoadMem(asm.R1, asm.RFP, addrAt+1, asm.Byte),
		asm.And.Imm(asm.R1, 0xc0),
		asm.JEq.Imm(asm.R1, 0x80, "pass"),
		asm.LoadMem(asm.R1, asm.RFP, addrAt, asm.DWord).WithSymbol("whole"),
		asm.LoadMem(asm.R2, asm.RFP, addrAt+8, asm.DWord),
	)
	addrs := [][]byte{make([]byte, 16)} // and one that has no address yet
	for _, a := range f.addrs {
		if a.Is6() {
			addrs = append(addrs, a.AsSlice())
		}
	}
	for i, a := range addrs {
		next := fmt.Sprintf("next%d", i)
		half := func(b []byte) int64 { return int64(binary.NativeEndian.Uint64(b)) }
		p = append(p,
			asm.LoadImm(asm.R3, half(a[:8]), asm.DWord),
			asm.JNE.Reg(asm.R1, asm.R3, next),
			asm.LoadImm(asm.R3, half(a[8:]), asm.DWord),
			asm.JEq.Reg(asm.R2, asm.R3, "pass"),
			asm.Mov.Reg(asm.R1, asm.R1).WithSymbol(next),
		)
	}
	p = append(p,
		asm.Mov.Imm(asm.R0, tcDrop).WithSymbol("drop"),
		asm.Return(),
	)
	var pass asm.Instructions
	if f.class != 0 {
		pass = append(pass, asm.Mov.Imm32(asm.R3, int32(f.class)), asm.StoreMem(asm.R6, skbPriority, asm.R3, asm.Word))
	}
	pass = append(pass, asm.Mov.Imm(asm.R0, tcNext), asm.Return())
	pass[0] = pass[0].WithSymbol("pass")
	return append(p, pass...)
}
