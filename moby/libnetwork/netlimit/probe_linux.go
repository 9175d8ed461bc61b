// SPDX-License-Identifier: Apache-2.0

package netlimit

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Abilities says what this host can enforce: nil, or why not.
type Abilities struct {
	Rates error // Egress and Ingress
	PPS   error // EgressPPS and IngressPPS
	Class error // Class and Priorities
	// Backend is what classes are looked up in, "" if that is not known.
	Backend string
}

// WithoutNft tells whether this is a kernel without nf_tables.
func (a Abilities) WithoutNft() bool { return a.Backend == withoutNft }

// Prober finds out what this host can enforce.
type Prober struct {
	mu        sync.Mutex
	at        time.Time
	abilities Abilities
}

// errTryAgain: a kernel module may be installed at any time, and asking for it
// again and again costs.
const errTryAgain = 30 * time.Second

// Probe tries it out, in a network namespace made for that. A yes is kept, a no
// is looked into again after a while.
func (p *Prober) Probe() Abilities {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.abilities
	if p.at.IsZero() || (a.Rates != nil || a.PPS != nil || a.Class != nil) && time.Since(p.at) > errTryAgain {
		p.abilities, p.at = probe(), time.Now()
	}
	return p.abilities
}

func probe() Abilities {
	res := make(chan Abilities)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and with it the
		// namespace that it alone is in.
		runtime.LockOSThread()
		ns, err := netns.New()
		if err != nil {
			err = fmt.Errorf("cannot make a network namespace: %w", err)
			res <- Abilities{Rates: err, PPS: err, Class: err}
			return
		}
		defer ns.Close()
		res <- tryOut()
	}()
	return <-res
}

func tryOut() (a Abilities) {
	l, err := New("probe")
	if err != nil {
		return Abilities{Rates: err, PPS: err, Class: err}
	}
	defer l.Close()
	// Any link will do as the container's.
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "veth"
	if err := l.tc.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth"}); err != nil {
		err = fmt.Errorf("the kernel makes no veth pair: %w", err)
		return Abilities{Rates: err, PPS: err, Class: err}
	}
	end, err := l.tc.LinkByName(attrs.Name)
	if err != nil {
		return Abilities{Rates: err, PPS: err, Class: err}
	}
	ep := Endpoint{ID: "probe", Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}}
	if err := Tag(l.tc.Handle, end, ep.ID); err != nil {
		return Abilities{Rates: err, PPS: err, Class: err}
	}
	a.Backend = l.Backend()
	rates, class := "sch_tbf, ifb, nf_tables with the netdev family, and nft_fwd_netdev", "nf_tables with the inet, bridge and netdev families, and nft_reject_netdev"
	if a.WithoutNft() {
		rates, class = "sch_tbf, ifb, and without nf_tables sch_ingress, cls_u32 and act_mirred", "nf_tables, or the table mangle of iptables with xt_CLASSIFY and xt_comment, sch_ingress and cls_bpf"
	}
	const bits = 8e6
	err = l.Set(ep, Settings{Egress: bits, Ingress: bits, Class: 1})
	lost := &Error{}
	if err != nil && !errors.As(err, &lost) {
		return Abilities{Rates: err, PPS: err, Class: err}
	}
	if err := errors.Join(lost.Ingress, lost.Egress); err != nil {
		a.Rates = fmt.Errorf("%w (the kernel needs %s)", err, rates)
	}
	if lost.Class != nil {
		a.Class = fmt.Errorf("%w (the kernel needs %s)", lost.Class, class)
	}
	// By itself: one transaction would be in the way of the others.
	if err := l.Set(ep, Settings{EgressPPS: 1, IngressPPS: 1}); err != nil {
		a.PPS = fmt.Errorf("%w (the kernel needs nf_tables with the netdev family, its hook at the egress, CONFIG_NETFILTER_EGRESS of Linux 5.16, and nft_limit)", err)
	}
	return a
}
