// SPDX-License-Identifier: Apache-2.0

package netlimit

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/log"
	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// fullPass is how often everything is looked at though the kernel has told
// nothing: its messages can get lost.
const fullPass = time.Minute

// askEvery is how often tables are looked at that the kernel tells nothing of.
const askEvery = time.Second

// gather is how long more messages are waited for after the first.
const gather = 30 * time.Millisecond

// watcher hears what the kernel says of links, qdiscs and tables.
type watcher struct {
	// Of the sockets whose changes are our own.
	tcPort  func() (uint32, error)
	nftPort atomic.Uint32
	filters bool // are of interest as well

	mu     sync.Mutex
	seen   seen
	called map[int]string // what each link is called, by index
	woken  chan struct{}
	closed chan struct{}
	done   sync.WaitGroup
	conns  []*mdnetlink.Conn
}

// seen is what has changed since it was last taken.
type seen struct {
	links  map[int]bool    // by index: the link, or a qdisc of it
	names  map[string]bool // links that have come or gone, or that have changed
	tables bool            // ours, by somebody else
	all    bool            // messages were lost
}

func (s seen) any() bool { return len(s.links) != 0 || len(s.names) != 0 || s.tables || s.all }

// notePort is a socket option: it remembers the address of the socket, which the
// kernel's messages about its changes have.
func (w *watcher) notePort(c *mdnetlink.Conn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var port uint32
	var portErr error
	err = raw.Control(func(fd uintptr) {
		addr, err := unix.Getsockname(int(fd))
		if nl, ok := addr.(*unix.SockaddrNetlink); ok && err == nil {
			port = nl.Pid
		} else {
			portErr = errors.Join(err, errors.New("not a netlink socket"))
		}
	})
	w.nftPort.Store(port)
	return errors.Join(err, portErr)
}

// isRead tells whether a message about a qdisc is the kernel's answer to what this
// package asked: it goes to all. (A port is of one family, so another program may have
// the number of our socket of nftables here.)
func (w *watcher) isRead(m mdnetlink.Message) bool {
	port, err := w.tcPort()
	return err == nil && port == m.Header.PID
}

// isOurs tells the same of a change of tables.
func (w *watcher) isOurs(m mdnetlink.Message) bool { return m.Header.PID == w.nftPort.Load() }

// wake has the loop look again when the next attempt is due.
func (w *watcher) wake() {
	if w.woken == nil {
		return
	}
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

func (w *watcher) add(f func(*seen)) {
	w.mu.Lock()
	if w.seen.links == nil {
		w.seen.links, w.seen.names = map[int]bool{}, map[string]bool{}
	}
	f(&w.seen)
	w.mu.Unlock()
	w.wake()
}

func (w *watcher) take() seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.seen
	w.seen = seen{}
	return s
}

// subscribe calls each with every message of some groups, and again after an
// error, which loses messages.
func (w *watcher) subscribe(family int, ns int, groups []uint32, each func(mdnetlink.Message)) error {
	open := func() (*mdnetlink.Conn, error) {
		c, err := dialNetlink(family, ns)
		if err != nil {
			return nil, err
		}
		_ = c.SetReadBuffer(4 << 20)
		for _, g := range groups {
			if err := c.JoinGroup(g); err != nil {
				c.Close()
				return nil, err
			}
		}
		return c, nil
	}
	c, err := open()
	if err != nil {
		return err
	}
	i := len(w.conns)
	w.conns = append(w.conns, c)
	w.done.Add(1)
	go func() {
		defer w.done.Done()
		for {
			msgs, err := c.Receive()
			if err == nil {
				for _, m := range msgs {
					each(m)
				}
				continue
			}
			select {
			case <-w.closed:
				return
			default:
			}
			w.add(func(s *seen) { s.all = true })
			if errors.Is(err, unix.ENOBUFS) {
				continue
			}
			log.G(context.TODO()).WithError(err).Warn("the kernel's messages about networks cannot be read; trying again")
			c.Close()
			for {
				select {
				case <-w.closed:
					return
				case <-time.After(time.Second):
				}
				if c, err = open(); err == nil {
					break
				}
			}
			w.mu.Lock()
			w.conns[i] = c
			w.mu.Unlock()
			w.add(func(s *seen) { s.all = true })
		}
	}()
	return nil
}

// route takes messages about links and qdiscs. Both have the index at the same
// place.
func (w *watcher) route(m mdnetlink.Message) {
	if len(m.Data) < unix.SizeofIfInfomsg {
		return
	}
	i := int(int32(binary.NativeEndian.Uint32(m.Data[4:8])))
	switch m.Header.Type {
	case unix.RTM_NEWTFILTER, unix.RTM_DELTFILTER:
		if w.filters {
			w.add(func(s *seen) { s.links[i] = true })
		}
	case unix.RTM_NEWQDISC, unix.RTM_DELQDISC:
		if !w.isRead(m) {
			w.add(func(s *seen) { s.links[i] = true })
		}
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		name := ""
		ad, err := mdnetlink.NewAttributeDecoder(m.Data[unix.SizeofIfInfomsg:])
		for err == nil && ad.Next() {
			if ad.Type() == unix.IFLA_IFNAME {
				name = ad.String()
				break
			}
		}
		w.add(func(s *seen) {
			s.links[i] = true
			s.names[name] = true
			if before, ok := w.called[i]; ok {
				s.names[before] = true // it may have lost this name
			}
			if w.called == nil {
				w.called = map[int]string{}
			}
			// A port that leaves its bridge is told of as one that is deleted there.
			if w.called[i] = name; m.Header.Type == unix.RTM_DELLINK && m.Data[0] == unix.AF_UNSPEC {
				delete(w.called, i)
			}
		})
	}
}

// know is told of links that were there before the first message.
func (w *watcher) know(links []netlink.Link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.called == nil {
		w.called = map[int]string{}
	}
	for _, l := range links {
		if _, ok := w.called[l.Attrs().Index]; !ok {
			w.called[l.Attrs().Index] = l.Attrs().Name
		}
	}
}

// nftables returns what takes messages about tables, for ours.
func (w *watcher) nftables(owner string) func(mdnetlink.Message) {
	const tableAttr = 1 // in messages about all kinds of objects
	return func(m mdnetlink.Message) {
		if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.Data) < 4 || w.isOurs(m) {
			return
		}
		ad, err := mdnetlink.NewAttributeDecoder(m.Data[4:])
		if err != nil || !ad.Next() || ad.Type() != tableAttr {
			return
		}
		if ad.String() == tablePrefix+owner {
			w.add(func(s *seen) { s.tables = true })
		}
	}
}

func (w *watcher) close() {
	close(w.closed)
	w.mu.Lock()
	for _, c := range w.conns {
		c.Close()
	}
	w.mu.Unlock()
	w.done.Wait()
}

// Run keeps the limits in force until [Limiter.Close]. told is called with what
// changes, linkSeen with the name of each link that comes, changes or goes; neither
// with a lock held.
func (l *Limiter) Run(told func([]Change), linkSeen func(names map[string]bool)) error {
	w := l.watch
	l.mu.Lock()
	l.told = told
	w.woken, w.closed = make(chan struct{}, 1), make(chan struct{})
	l.unlock()
	err := w.subscribe(unix.NETLINK_ROUTE, int(l.netns), []uint32{unix.RTNLGRP_LINK, unix.RTNLGRP_TC}, w.route)
	var ask <-chan time.Time
	if l.filters != nil {
		ticker := time.NewTicker(askEvery)
		defer func() {
			if err != nil {
				ticker.Stop()
			}
		}()
		ask = ticker.C
	} else if err == nil {
		err = w.subscribe(unix.NETLINK_NETFILTER, int(l.netns), []uint32{unix.NFNLGRP_NFTABLES}, w.nftables(l.owner))
	}
	var links []netlink.Link
	if err == nil {
		links, err = dump(l.tc.LinkList)
	}
	if err != nil {
		w.close()
		return err
	}
	w.know(links)
	w.done.Add(1)
	go func() {
		defer w.done.Done()
		full := time.NewTicker(fullPass)
		defer full.Stop()
		timer := time.NewTimer(0) // what has changed since Sync
		for {
			all := false
			select {
			case <-w.closed:
				return
			case <-full.C:
				all = true
			case <-timer.C:
			case <-ask:
				if !l.isStale() {
					continue
				}
			case <-w.woken:
				select {
				case <-w.closed:
					return
				case <-time.After(gather):
				}
			}
			s := w.take()
			if len(s.names) != 0 {
				delete(s.names, "")
				linkSeen(s.names)
			}
			next := l.pass(s, all)
			timer.Reset(next)
		}
	}()
	return nil
}

// isStale tells whether somebody else has changed tables that the kernel tells nothing
// of.
func (l *Limiter) isStale() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.is != nil && l.back.stale(l.is) {
		l.watch.add(func(s *seen) { s.tables = true })
		return true
	}
	return false
}

// pass looks at what may have changed, puts back what has gone, and tries again
// what is due. It returns how long nothing more will be due.
func (l *Limiter) pass(s seen, all bool) time.Duration {
	l.mu.Lock()
	defer l.unlock()
	if all || s.all || s.tables {
		l.is = nil
	}
	if all {
		links, err := dump(l.tc.LinkList)
		if err == nil {
			err = l.sweepStrays(links)
		}
		if err != nil {
			log.G(context.TODO()).WithError(err).Debug("interfaces that were left over could not be looked for")
		}
	}
	now := time.Now()
	next := fullPass
	for id, e := range l.endpoints {
		if e.starting {
			continue
		}
		for name := range e.Priorities {
			if s.names[name] {
				s.links[e.end.index] = true
			}
		}
		touched := s.links[e.end.index] || s.links[e.ifb] && e.ifb != 0 || s.tables || s.all || all
		due := e.lost != nil && !now.Before(e.retry)
		if !touched && !due {
			if e.lost != nil {
				next = min(next, e.retry.Sub(now))
			}
			continue
		}
		if touched {
			e.delay = 0
		}
		if gone := l.look(e); gone {
			l.changes = append(l.changes, Change{Endpoint: id, Gone: true})
			if err := l.forget(id); err != nil {
				log.G(context.TODO()).WithError(err).Warn("network limits of a container that has ended are left over; trying again")
				l.note(e, about(e.Settings, err), false)
			}
			continue
		}
		if e.lost != nil {
			next = min(next, e.delay)
		}
	}
	if !l.unswept.IsZero() {
		if s.tables || !now.Before(l.unswept) {
			l.unswept = time.Time{}
			links, err := dump(l.tc.LinkList)
			if err == nil {
				err = l.sweep(links)
			}
			if err != nil {
				l.unswept = now.Add(sweepDelay)
			}
		}
		if !l.unswept.IsZero() {
			next = min(next, l.unswept.Sub(now))
		}
	}
	return max(next, time.Millisecond)
}

// look checks one endpoint and puts back what has gone of it.
func (l *Limiter) look(e *endpoint) (gone bool) {
	end, err := l.tc.end(e.Endpoint, e.end)
	if err == nil && end == nil {
		return true
	}
	var lost *Error
	if err != nil {
		lost = about(e.Settings, err)
	} else {
		lost = l.check(e, end)
	}
	if lost == nil && hasAMark(end, endpointAlias+e.ID) {
		l.note(e, nil, true)
		return false
	}
	if lost != nil {
		l.note(e, lost, true)
	}
	l.note(e, l.apply(e), true)
	return false
}

func hasAMark(link netlink.Link, alias string) bool {
	return link.Attrs().Alias == alias || slices.Contains(link.Attrs().AltNames, altName(alias))
}

// Close ends Run, and removes what is left of endpoints that have gone.
func (l *Limiter) Close() {
	if l.watch.woken != nil {
		l.watch.close()
	}
	l.pass(seen{all: true}, true)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tc.Close()
	for _, s := range l.tc.sockets {
		s.Close()
	}
	l.back.close()
	_ = l.netns.Close()
}
