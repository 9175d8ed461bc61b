// SPDX-License-Identifier: Apache-2.0

package netlimit

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/log"
	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Limiter keeps the limits of the endpoints of one dockerd. All its methods may
// be called at the same time; changes wait for each other.
type Limiter struct {
	tc      tc
	back    backend
	filters *filters // nil where the back end does without them
	owner   string
	netns   netns.NsHandle
	watch   *watcher

	mu        sync.Mutex
	endpoints map[string]*endpoint // those that have limits, or may have any after an error
	is        *tables              // nil: has to be read
	unswept   time.Time            // when to look again for what is left of endpoints that have gone; zero: never
	read      bool                 // it could be, once
	strays    map[int]bool         // ifbs of ours without a mark, of the last pass
	told      func([]Change)
	changes   []Change // to be told when mu is free
}

// Change is what happened to the limits of an endpoint without a call of [Set].
type Change struct {
	Endpoint string
	Settings       // that it should have
	Err      error // nil: all are in force again; an [Error] says which are not
	Gone     bool  // the endpoint has no interface any more
}

type endpoint struct {
	Limited
	end      seenEnd
	ifb      int  // its index, 0 if there is none
	starting bool // nobody is told of what its start is waiting for

	lost  *Error // as it was told
	delay time.Duration
	retry time.Time
}

// Limits that cannot be put in force are tried again after a second, then after
// twice as long each time, and whenever something changes on the way.
const (
	firstDelay = time.Second
	lastDelay  = 5 * time.Minute
	sweepDelay = 5 * time.Second
)

// New returns a Limiter for the network namespace that the caller is in. owner
// tells the dockerds of one network namespace apart: a few letters and digits,
// always the same for the same dockerd.
func New(owner string) (*Limiter, error) {
	ns, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	l := &Limiter{netns: ns, owner: owner, endpoints: map[string]*endpoint{}, told: func([]Change) {}}
	if l.tc, err = openTC(ns); err != nil {
		ns.Close()
		return nil, err
	}
	l.watch = &watcher{}
	if l.back, err = openBackend(ns, owner, l.watch); err != nil {
		l.tc.Close()
		ns.Close()
		return nil, err
	}
	if _, ok := l.back.(*iptables); ok {
		l.filters, l.watch.filters = &filters{owner}, true
	}
	l.watch.tcPort = l.tc.sockets[unix.NETLINK_ROUTE].Socket.GetPid
	return l, nil
}

// Backend is what classes are looked up in.
func (l *Limiter) Backend() string {
	if l.filters != nil {
		return withoutNft
	}
	return "nftables"
}

const withoutNft = "iptables and tc, as the kernel has no nf_tables"

func openTC(ns netns.NsHandle) (tc, error) {
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return tc{}, fmt.Errorf("netlink: %w", err)
	}
	s, err := nl.GetNetlinkSocketAt(ns, netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		h.Close()
		return tc{}, fmt.Errorf("netlink: %w", err)
	}
	return tc{Handle: h, sockets: map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}}, nil
}

// Set makes s what the endpoint is limited to, whatever it was before, and
// reads it back from the kernel. A priority for an interface that is not there is
// no error: see [Limiter.Lost]. After an error something in between may be in
// force: call it again with what was in force before. What can be set is set
// all the same, and kept.
func (l *Limiter) Set(ep Endpoint, s Settings) error {
	l.mu.Lock()
	defer l.unlock()
	return l.set(ep, s)
}

func (l *Limiter) set(ep Endpoint, s Settings) error {
	e := l.endpoints[ep.ID]
	if e == nil {
		e = &endpoint{}
		l.endpoints[ep.ID] = e
	}
	e.Limited = Limited{ep, s.clone()}
	e.starting = false
	lost := l.apply(e)
	l.note(e, lost, false)
	if lost == nil && s.IsZero() {
		delete(l.endpoints, ep.ID)
	}
	return lost.refusal()
}

// Lost says which limits of an endpoint are not in force now.
func (l *Limiter) Lost(endpointID string) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.unlock()
	if e := l.endpoints[endpointID]; e != nil {
		return e.lost.err()
	}
	return nil
}

// SetPorts changes the ports of an endpoint that has limits.
func (l *Limiter) SetPorts(endpointID string, ports []Port) error {
	l.mu.Lock()
	defer l.unlock()
	e := l.endpoints[endpointID]
	if e == nil || slices.Equal(e.Ports, ports) {
		return nil
	}
	e.Ports = ports
	if !e.classifies() || e.starting {
		return nil
	}
	lost := l.apply(e)
	l.note(e, lost, true)
	return lost.refusal()
}

// Begin does what [Limiter.Set] does for a new endpoint, while its caller goes on to
// connect it. What it returns waits for the end. (It waits itself while another
// endpoint is being changed.)
func (l *Limiter) Begin(ep Endpoint, s Settings) (wait func() error) {
	l.mu.Lock()
	e := &endpoint{Limited: Limited{ep, s.clone()}, starting: true}
	l.endpoints[ep.ID] = e
	l.unlock()
	done := make(chan error, 1)
	go func() {
		l.mu.Lock()
		defer l.unlock()
		if l.endpoints[ep.ID] != e {
			done <- errors.New("the endpoint was deleted")
			return
		}
		ep.Ports = e.Ports
		done <- l.set(ep, s)
	}()
	return func() error { return <-done }
}

// Claim is called for each new endpoint, limited or not, before its container
// runs: the class of one that had its address before goes now, if it has not yet.
func (l *Limiter) Claim(endpointID string, addrs []netip.Addr) error {
	l.mu.Lock()
	defer l.unlock()
	if err := l.readTables(); err != nil {
		if !l.read {
			return nil // a kernel without tables has no class
		}
		return err
	}
	gone := map[string]bool{}
	for _, name := range []string{"class4", "class6", "prio4", "prio6"} {
		for key, e := range l.is.elements[name] {
			for _, addr := range addrs {
				if e.endpoint != endpointID && bytes.HasPrefix([]byte(key), addr.Unmap().AsSlice()) {
					gone[e.endpoint] = true
				}
			}
		}
	}
	for id := range gone {
		if id == "" {
			continue // somebody else's element
		}
		if err := l.forget(id); err != nil {
			return err
		}
	}
	return nil
}

// unlock frees mu and tells what was noted under it.
func (l *Limiter) unlock() {
	changes, told := l.changes, l.told
	l.changes = nil
	l.mu.Unlock()
	if len(changes) != 0 {
		told(changes)
	}
}

// note remembers what came of an attempt. Callers that return it themselves do not
// have it told.
func (l *Limiter) note(e *endpoint, lost *Error, tell bool) {
	before := e.lost
	e.lost = lost
	if lost == nil {
		e.delay, e.retry = 0, time.Time{}
	} else {
		last := lastDelay
		if errors.Is(lost, unix.EPERM) {
			// Another program owns the table. No message tells when it lets go.
			last = firstDelay
		}
		e.delay = min(max(2*e.delay, firstDelay), last)
		e.retry = time.Now().Add(e.delay)
		l.watch.wake()
	}
	if !tell || before == nil && lost == nil {
		return
	}
	if before != nil && lost != nil && before.Error() == lost.Error() {
		return
	}
	l.changes = append(l.changes, Change{Endpoint: e.ID, Settings: e.Settings, Err: lost.err()})
}

func (l *Limiter) readTables() (err error) {
	if l.is != nil && l.back.stale(l.is) {
		l.is = nil
		l.watch.add(func(s *seen) { s.tables = true })
	}
	if l.is == nil {
		l.is, err = l.back.read()
		l.read = l.read || err == nil
	}
	return err
}

// changeTables brings what the kernel has of these endpoints to what they should
// have. What others have stays as it is, so that an obstacle of one stands in the
// way of no other. An ID without an endpoint is one to be forgotten.
func (l *Limiter) changeTables(ids map[string]bool) (err error) {
	for range 3 {
		if err = l.readTables(); err != nil {
			return err
		}
		should := newTables()
		for kind, elements := range l.is.elements {
			for key, e := range elements {
				if !ids[e.endpoint] {
					should.add(kind, []byte(key), []byte(e.value), e.endpoint)
				}
			}
		}
		for id, h := range l.is.hooks {
			if !ids[id] {
				should.hooks[id] = h
			}
		}
		for id := range ids {
			if e := l.endpoints[id]; e != nil {
				should.addEndpoint(e.Limited, e.end.name, e.end.index, e.ifb)
			}
		}
		var now *tables
		if now, err = l.back.change(l.is, should); err == nil {
			l.is = now
			return nil
		}
		l.is = nil // somebody else has changed it meanwhile
	}
	return fmt.Errorf("%s: %w", l.back, err)
}

// apply puts all limits of an endpoint in force, and returns which are not.
func (l *Limiter) apply(e *endpoint) *Error {
	end, err := l.tc.end(e.Endpoint, e.end)
	if err != nil {
		return about(e.Settings, err)
	}
	var lost Error
	if end == nil {
		e.end = seenEnd{}
		if !e.IsZero() {
			gone := fmt.Errorf("endpoint %.12s has no interface on the host", e.ID)
			return about(e.Settings, gone)
		}
	} else {
		e.end = seenAs(end)
		if err := l.tc.setTbf(end, e.Ingress, end.Attrs().MTU); err != nil {
			lost.Ingress = fmt.Errorf("limiting what comes in: %w", err)
		}
	}
	ifb, err := l.tc.ifb(e.ID, e.ifb)
	if err == nil && e.Egress != 0 {
		ifb, err = l.setIfb(e, end, ifb)
	}
	if err != nil {
		lost.Egress = fmt.Errorf("limiting what goes out: %w", err)
	}
	e.ifb = 0
	if ifb != nil && e.Egress != 0 {
		e.ifb = ifb.Attrs().Index
	}
	tablesErr := l.changeTables(map[string]bool{e.ID: true})
	if end != nil && l.filters != nil {
		class, egress := l.filters.set(&l.tc, end, wantFilters(e))
		lost.Class, lost.Egress = class, errOr(lost.Egress, egress)
	}
	if tablesErr != nil {
		if e.IsZero() {
			// What should be gone is not: all of it may be in force.
			return &Error{Egress: tablesErr, EgressPPS: tablesErr, IngressPPS: tablesErr, Class: tablesErr}
		}
	} else if end != nil {
		if err := l.removeOldFilters(end, ifb); err != nil && lost.Egress == nil && e.Egress != 0 {
			lost.Egress = err
		}
		if ifb != nil && e.Egress == 0 {
			if err := ignoreGone(l.tc.LinkDel(ifb)); err != nil {
				log.G(context.TODO()).WithError(err).WithField("endpoint", e.ID).Warn("the ifb of an endpoint could not be removed")
			}
		}
	}
	seen := l.check(e, end)
	if tablesErr != nil {
		// Of several tables one may be in the way. The others have what they had.
		egress, class := l.differs(e)
		if lost.Egress == nil && (egress || seen != nil && seen.Egress != nil) {
			lost.Egress = fmt.Errorf("limiting what goes out: %w", tablesErr)
		}
		if class || seen != nil && seen.Class != nil {
			lost.Class = fmt.Errorf("classifying what goes out: %w", tablesErr)
		}
		var have hook
		if l.is != nil {
			have = l.is.hooks[e.ID]
		}
		if have.fromPPS != e.EgressPPS {
			lost.EgressPPS = fmt.Errorf("limiting the packets that go out: %w", tablesErr)
		}
		if have.toPPS != e.IngressPPS {
			lost.IngressPPS = fmt.Errorf("limiting the packets that come in: %w", tablesErr)
		}
	}
	if seen != nil {
		lost.Ingress = errOr(lost.Ingress, seen.Ingress)
		lost.Egress = errOr(lost.Egress, seen.Egress)
		lost.IngressPPS = errOr(lost.IngressPPS, seen.IngressPPS)
		lost.EgressPPS = errOr(lost.EgressPPS, seen.EgressPPS)
		lost.Class = errOr(lost.Class, seen.Class)
	}
	if lost.err() == nil {
		return nil
	}
	return &lost
}

// differs tells whether the tables have something of an endpoint that it should not
// have.
func (l *Limiter) differs(e *endpoint) (egress, class bool) {
	if l.is == nil {
		return l.filters == nil, true
	}
	should := newTables()
	should.addEndpoint(e.Limited, e.end.name, e.end.index, e.ifb)
	for kind, elements := range l.is.elements {
		for key, have := range elements {
			if have.endpoint == e.ID && should.elements[kind][key] != have {
				egress = egress || kind == "to-ifb"
				class = class || kind != "to-ifb"
			}
		}
	}
	return egress, class
}

func errOr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// setIfb makes the ifb of an endpoint complete, before anything goes there.
func (l *Limiter) setIfb(e *endpoint, end, ifb netlink.Link) (_ netlink.Link, err error) {
	if ifb == nil {
		if ifb, err = l.tc.addIfb(e.ID); err != nil {
			return nil, err
		}
	}
	if err := l.tc.setTbf(ifb, e.Egress, end.Attrs().MTU); err != nil {
		return ifb, err
	}
	// Only now: a qdisc for an interface that is up waits for all processors.
	if ifb.Attrs().RawFlags&unix.IFF_UP == 0 {
		if err := l.tc.LinkSetUp(ifb); err != nil {
			return ifb, fmt.Errorf("interface %s: %w", ifb.Attrs().Name, err)
		}
	}
	return ifb, nil
}

// check says which limits of an endpoint the kernel does not have. end is its
// interface on the host.
func (l *Limiter) check(e *endpoint, end netlink.Link) *Error {
	if end == nil {
		return about(e.Settings, fmt.Errorf("endpoint %.12s has no interface on the host", e.ID))
	}
	var lost Error
	lost.Ingress = l.tc.checkTbf(end, e.Ingress, end.Attrs().MTU)

	should := newTables()
	should.addEndpoint(e.Limited, end.Attrs().Name, end.Attrs().Index, e.ifb)
	tables := l.readTables()
	var missing func(kind string) error
	if tables == nil {
		missing = l.back.missing(l.is, should, e)
	}
	if e.Egress != 0 {
		ifb, err := l.tc.ifb(e.ID, e.ifb)
		switch {
		case err != nil:
			lost.Egress = err
		case ifb == nil:
			lost.Egress = errors.New("the ifb of the endpoint is not there")
		case ifb.Attrs().RawFlags&unix.IFF_UP == 0:
			lost.Egress = fmt.Errorf("interface %s is down", ifb.Attrs().Name)
		default:
			lost.Egress = l.tc.checkTbf(ifb, e.Egress, end.Attrs().MTU)
		}
		if lost.Egress == nil && l.filters == nil {
			if lost.Egress = tables; lost.Egress == nil {
				lost.Egress = missing("to-ifb")
			}
		}
	}
	pps := func(way string) error {
		if tables != nil {
			return tables
		}
		return missing(way)
	}
	if e.EgressPPS != 0 {
		lost.EgressPPS = pps(fromPPS)
	}
	if e.IngressPPS != 0 {
		lost.IngressPPS = pps(toPPS)
	}
	if e.classifies() {
		lost.Class = tables
		for _, k := range kinds {
			if lost.Class == nil && k.name != "to-ifb" {
				lost.Class = missing(k.name)
			}
		}
		if lost.Class == nil {
			lost.Class = l.tc.missing(e.Priorities)
		}
	}
	if l.filters != nil {
		class, egress := l.filters.check(&l.tc, end, wantFilters(e))
		lost.Class, lost.Egress = errOr(lost.Class, class), errOr(lost.Egress, egress)
	}
	if lost.err() == nil {
		return nil
	}
	return &lost
}

// forget removes all that is left of an endpoint whose interface has gone.
func (l *Limiter) forget(id string) error {
	e := l.endpoints[id]
	delete(l.endpoints, id)
	last := 0
	if e != nil {
		last = e.ifb
	}
	err := l.changeTables(map[string]bool{id: true})
	if ifb, ifbErr := l.tc.ifb(id, last); ifbErr != nil {
		err = errors.Join(err, ifbErr)
	} else if ifb != nil {
		err = errors.Join(err, ignoreGone(l.tc.LinkDel(ifb)))
	}
	if err != nil {
		if e != nil {
			l.endpoints[id] = e // to be tried again
		} else {
			l.sweepLater()
		}
		return fmt.Errorf("removing the limits of endpoint %.12s: %w", id, err)
	}
	return nil
}

// Sync is for a daemon that starts: it gives the endpoints of its running
// containers what limits they should have, which may be none, touching only what
// differs, and removes what is left of endpoints of its own that have no
// interface any more. It returns the errors of the endpoints in live, by ID.
func (l *Limiter) Sync(live []Limited) map[string]error {
	l.mu.Lock()
	defer l.unlock()
	errs := map[string]error{}
	links, err := dump(l.tc.LinkList)
	if err == nil {
		err = l.readTables()
	}
	if err != nil {
		for _, e := range live {
			if !e.IsZero() {
				l.endpoints[e.ID] = &endpoint{Limited: Limited{e.Endpoint, e.Settings.clone()}}
				l.note(l.endpoints[e.ID], about(e.Settings, err), false)
				errs[e.ID] = about(e.Settings, err)
			}
		}
		return errs
	}
	ends, ifbs := marked(links)
	all := map[string]bool{}
	for _, e := range live {
		ep := &endpoint{Limited: Limited{e.Endpoint, e.Settings.clone()}}
		if ends[e.ID] == nil && !e.IsZero() {
			// Nothing of it may go because another program took the marks off.
			if end, err := l.tc.end(e.Endpoint, seenEnd{}); err == nil && end != nil {
				ends[e.ID] = end
			}
		}
		if end := ends[e.ID]; end != nil {
			ep.end = seenAs(end)
		}
		if ifb := ifbs[e.ID]; ifb != nil && e.Egress != 0 {
			ep.ifb = ifb.Attrs().Index
		}
		l.endpoints[e.ID] = ep
		all[e.ID] = true
	}
	// One transaction for the tables of all of them. Where it fails, each is
	// tried for itself.
	if err := l.changeTables(all); err != nil {
		log.G(context.TODO()).WithError(err).Warn("network classes cannot be set for all containers at once")
	}
	for _, e := range live {
		ep := l.endpoints[e.ID]
		has := !ep.IsZero() || ifbs[e.ID] != nil
		if end := ends[e.ID]; end != nil && !has {
			// A rate that a crash in the middle of an update left.
			r, err := l.tc.root(end)
			has = err != nil || r.isOurs()
		}
		if end := ends[e.ID]; end != nil && !has && l.filters != nil {
			class, egress := l.filters.check(&l.tc, end, wantFilters(ep))
			has = class != nil || egress != nil
		}
		if has {
			lost := l.check(ep, ends[e.ID])
			if lost != nil || ep.IsZero() || ends[e.ID] == nil || !isMarked(ends[e.ID], endpointAlias+e.ID) || l.hasOldFilters(ends[e.ID]) {
				lost = l.apply(ep)
			}
			l.note(ep, lost, false)
			if lost != nil {
				errs[e.ID] = lost
			}
		}
		if ep.IsZero() && errs[e.ID] == nil {
			delete(l.endpoints, e.ID)
		}
	}
	if err := l.sweep(links); err != nil {
		log.G(context.TODO()).WithError(err).Warn("could not remove all network limits that were left over; trying again")
		l.sweepLater()
	}
	if len(errs) == 0 {
		removeOldChains()
		if l.filters == nil {
			removeTree(l.netns, l.owner)
		}
	}
	return errs
}

// hasOldFilters tells whether an earlier build, or one that did without nf_tables, may
// have a filter there.
func (l *Limiter) hasOldFilters(end netlink.Link) bool {
	if l.filters != nil {
		return false
	}
	list, err := l.tc.FilterList(end, netlink.HANDLE_MIN_INGRESS)
	return err == nil && len(list) != 0
}

// removeOldFilters takes them away.
func (l *Limiter) removeOldFilters(end, ifb netlink.Link) error {
	if l.filters != nil {
		return l.tc.removeOldRedirect(end, ifb)
	}
	if !l.hasOldFilters(end) {
		return nil
	}
	return errors.Join(l.tc.removeOldRedirect(end, ifb), l.tc.removeFilters(end))
}

// marked returns the hosts' ends and the ifbs among links, by endpoint.
func marked(links []netlink.Link) (ends, ifbs map[string]netlink.Link) {
	ends, ifbs = map[string]netlink.Link{}, map[string]netlink.Link{}
	for _, l := range links {
		switch l.Type() {
		case "veth":
			if id, ok := markOf(l, endpointAlias); ok {
				ends[id] = l
			}
		case "ifb":
			if id, ok := markOf(l, ifbAlias); ok && l.Attrs().Group == ifbGroup {
				ifbs[id] = l
			}
		}
	}
	return ends, ifbs
}

// sweep removes what is left of endpoints that have no interface and are not of a
// running container.
func (l *Limiter) sweep(links []netlink.Link) error {
	if err := l.readTables(); err != nil {
		return err
	}
	gone := map[string]bool{}
	for _, elements := range l.is.elements {
		for _, e := range elements {
			if e.endpoint != "" && l.endpoints[e.endpoint] == nil {
				gone[e.endpoint] = true
			}
		}
	}
	for id := range l.is.hooks {
		if l.endpoints[id] == nil {
			gone[id] = true
		}
	}
	var errs []error
	if len(gone) != 0 {
		errs = append(errs, l.changeTables(gone))
	}
	ends, ifbs := marked(links)
	errs = append(errs, l.sweepOthers(ends, links))
	for id, ifb := range ifbs {
		// One whose endpoint has an interface, or that something is sent to, is
		// another daemon's.
		if l.endpoints[id] != nil || ends[id] != nil {
			continue
		}
		if used, err := l.isRedirectedTo(ifb.Attrs().Index, links); err != nil || used {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, ignoreGone(l.tc.LinkDel(ifb)))
	}
	return errors.Join(append(errs, l.sweepStrays(links))...)
}

// sweepOthers removes from the tables of other dockerds, which may never run again,
// what is of endpoints without an interface: their addresses may be somebody's now.
func (l *Limiter) sweepOthers(ends map[string]netlink.Link, links []netlink.Link) error {
	names := map[string]bool{}
	for _, link := range links {
		names[link.Attrs().Name] = true
	}
	owners, err := l.back.owners()
	errs := []error{err}
	var guarded map[string]bool
	for _, owner := range owners {
		if owner == l.owner {
			continue
		}
		if l.filters != nil && guarded == nil {
			guarded = l.tc.guarded(links)
		}
		other := l.back.of(owner)
		is, err := other.read()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		alive := func(id string) bool {
			h, ok := is.hooks[id]
			return id == "" || ends[id] != nil || guarded[id] || ok && names[h.device]
		}
		should := newTables()
		for kind, elements := range is.elements {
			for key, e := range elements {
				if alive(e.endpoint) {
					should.add(kind, []byte(key), []byte(e.value), e.endpoint)
				}
			}
		}
		for id, h := range is.hooks {
			if alive(id) {
				should.hooks[id] = h
			}
		}
		_, err = other.change(is, should)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// sweepStrays removes ifbs of ours that a crash left before they were marked: those
// that still are without a mark in the pass after the one that saw them first, as
// another dockerd may be making one just now.
func (l *Limiter) sweepStrays(links []netlink.Link) error {
	var errs []error
	strays := map[int]bool{}
	for _, link := range links {
		i := link.Attrs().Index
		if link.Type() != "ifb" || link.Attrs().Group != ifbGroup || isMarkedAs(link, ifbAlias) {
			continue
		}
		if used, err := l.isRedirectedTo(i, links); err != nil || used {
			errs = append(errs, err)
			continue
		}
		if l.strays[i] {
			errs = append(errs, ignoreGone(l.tc.LinkDel(link)))
		} else {
			strays[i] = true
		}
	}
	l.strays = strays
	return errors.Join(errs...)
}

func (l *Limiter) sweepLater() {
	l.unswept = time.Now().Add(sweepDelay)
	l.watch.wake()
}

// isRedirectedTo tells whether anything is sent to an ifb, by whatever dockerd.
func (l *Limiter) isRedirectedTo(ifb int, links []netlink.Link) (bool, error) {
	owners, err := l.back.owners()
	if err != nil {
		return false, err
	}
	for _, owner := range owners {
		if used, err := l.back.of(owner).redirectsTo(ifb); used || err != nil {
			return used, err
		}
	}
	for _, link := range links {
		if link.Type() != "veth" {
			continue
		}
		filters, err := l.tc.FilterList(link, netlink.HANDLE_MIN_INGRESS)
		if err != nil {
			continue
		}
		for _, f := range filters {
			if u, ok := f.(*netlink.U32); ok && slices.ContainsFunc(u.Actions, func(a netlink.Action) bool {
				m, ok := a.(*netlink.MirredAction)
				return ok && m.Ifindex == ifb
			}) {
				return true, nil
			}
		}
	}
	return false, nil
}

// Shown is what the kernel has of an endpoint's limits.
type Shown struct {
	Interface string // the host's end
	Settings
}

// Show reads what the kernel has.
func (l *Limiter) Show(ep Endpoint) (s Shown, _ error) {
	l.mu.Lock()
	defer l.unlock()
	e := l.endpoints[ep.ID]
	if e == nil {
		e = &endpoint{Limited: Limited{Endpoint: ep}}
	}
	end, err := l.tc.end(e.Endpoint, e.end)
	if err != nil || end == nil {
		return s, err
	}
	s.Interface = end.Attrs().Name
	r, err := l.tc.root(end)
	if err != nil {
		return s, err
	}
	if r.isOurs() {
		s.Ingress = int64(r.tbf.Rate) * 8
	}
	if err := l.readTables(); err != nil {
		return s, err
	}
	redirected := 0
	if l.filters != nil {
		redirected = l.tc.redirectsTo(end)
	} else if to, ok := l.is.elements["to-ifb"][string(index(end.Attrs().Index))]; ok && l.is.hooks[ep.ID].redirect {
		redirected = int(binary.NativeEndian.Uint32([]byte(to.value)))
	}
	if redirected != 0 {
		ifb, err := l.tc.LinkByIndex(redirected)
		if err == nil && ifb.Attrs().RawFlags&unix.IFF_UP != 0 {
			if r, err = l.tc.root(ifb); err != nil {
				return s, err
			}
			if r.isOurs() {
				s.Egress = int64(r.tbf.Rate) * 8
			}
		}
	}
	if l.filters == nil {
		h := l.is.hooks[ep.ID]
		if h.device == s.Interface && !h.other {
			s.EgressPPS, s.IngressPPS = h.fromPPS, h.toPPS
		}
	}
	value := func(e element) uint32 { return binary.NativeEndian.Uint32([]byte(e.value)) }
	for _, v := range []string{"4", "6"} {
		for _, e := range l.is.elements["class"+v] {
			if e.endpoint == ep.ID {
				s.Class = value(e)
			}
		}
		for key, e := range l.is.elements["prio"+v] {
			if e.endpoint != ep.ID {
				continue
			}
			if s.Priorities == nil {
				s.Priorities = map[string]uint32{}
			}
			name, _, _ := strings.Cut(key[len(key)-unix.IFNAMSIZ:], "\x00")
			s.Priorities[name] = value(e)
		}
	}
	return s, nil
}

// RemoveAll removes what every dockerd of this network namespace has left: tables,
// ifbs, rates. It is for when none will run again.
func RemoveAll() error {
	ns, err := netns.Get()
	if err != nil {
		return err
	}
	defer ns.Close()
	t, err := openTC(ns)
	if err != nil {
		return err
	}
	defer t.Close()
	conn, err := nftables.New() // this process is in the namespace
	if err != nil {
		return err
	}
	var errs []error
	for _, family := range families {
		all, err := conn.ListTablesOfFamily(family)
		if lacksNft(err) {
			break
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("nftables tables: %w", err))
			continue
		}
		for _, table := range all {
			if strings.HasPrefix(table.Name, tablePrefix) {
				conn.DelTable(&nftables.Table{Name: table.Name, Family: family})
				errs = append(errs, conn.Flush())
			}
		}
	}
	errs = append(errs, removeTree(ns, ""))
	links, err := dump(t.LinkList)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	ends, ifbs := marked(links)
	for id, end := range ends {
		errs = append(errs, t.setTbf(end, 0, 0), t.removeOldRedirect(end, ifbs[id]))
	}
	for _, link := range links {
		if link.Type() == "veth" {
			errs = append(errs, t.removeFilters(link))
		}
	}
	for _, ifb := range ifbs {
		errs = append(errs, ignoreGone(t.LinkDel(ifb)))
	}
	removeOldChains()
	return errors.Join(errs...)
}
