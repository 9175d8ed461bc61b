// SPDX-License-Identifier: Apache-2.0

package netlimit

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/docker/docker/libnetwork/iptables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Abilities says what this host can enforce: nil, or why not.
type Abilities struct {
	Rates error // Egress and Ingress
	Class error // Class and Priorities
}

var probed struct {
	sync.Mutex
	at        time.Time
	abilities Abilities
}

// errTryAgain: a kernel module may be installed at any time, and asking for it
// again and again costs.
const errTryAgain = 30 * time.Second

// Probe tries it out, in a network namespace made for that. A yes is kept, a no
// is looked into again after a while.
func Probe() Abilities {
	probed.Lock()
	defer probed.Unlock()
	a := probed.abilities
	if probed.at.IsZero() || (a.Rates != nil || a.Class != nil) && time.Since(probed.at) > errTryAgain {
		probed.abilities, probed.at = probe(), time.Now()
	}
	return probed.abilities
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
			res <- Abilities{err, err}
			return
		}
		defer ns.Close()
		res <- Abilities{Rates: probeRates(), Class: probeClass()}
	}()
	return <-res
}

func probeRates() error {
	nlh, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer nlh.Close()
	// Any link will do as the container's.
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "veth"
	if err := nlh.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth"}); err != nil {
		return fmt.Errorf("the kernel makes no veth pair: %w", err)
	}
	end, err := nlh.LinkByName(attrs.Name)
	if err != nil {
		return err
	}
	const id, bits = "probe", 8e6
	if err := Tag(nlh, end, id); err != nil {
		return err
	}
	w, err := look(nlh)
	if err != nil {
		return err
	}
	s := Settings{Egress: bits, Ingress: bits}
	if err := errors.Join(setRates(nlh, w, id, s)); err != nil {
		return fmt.Errorf("%w (the kernel needs sch_tbf, sch_ingress, cls_u32, act_mirred and ifb)", err)
	}
	if w, err = look(nlh); err != nil {
		return err
	}
	return errors.Join(verifyIngress(w, id, s.Ingress), verifyEgress(nlh, w, id, s.Egress))
}

func probeClass() error {
	r := classRule{endpoint: "probe", src: netip.MustParseAddr("192.0.2.1"), class: 1}
	return restore(iptables.IPv4, []string{"-N " + classChain, "-A " + r.spec()})
}
