// SPDX-License-Identifier: Apache-2.0

package netlimit

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	endpointAlias = "docker endpoint " // + endpoint ID: the host's end of its veth pair
	ifbAlias      = "docker egress "   // + endpoint ID: the ifb that its packets pass
)

// ifbGroup is the link group of our ifbs.
const ifbGroup = 0xd0c

// The handles of our qdiscs, one of them at a time. The numbers only have to
// differ from what an administrator would choose, whose qdisc is then not taken
// for ours.
var tbfHandles = [...]uint32{netlink.MakeHandle(0xd0c, 0), netlink.MakeHandle(0xd0d, 0)}

var ingressHandle = netlink.MakeHandle(0xffff, 0)

// filterPriority of the redirection: room before it for an administrator.
const filterPriority = 100

// Tag marks link, the host's end of a veth pair, as belonging to an endpoint.
func Tag(nlh *netlink.Handle, link netlink.Link, endpointID string) error {
	return nlh.LinkSetAlias(link, endpointAlias+endpointID)
}

// world is what the kernel has now.
type world struct {
	ends   map[string]netlink.Link // by endpoint ID
	ifbs   map[string]netlink.Link // by endpoint ID
	qdiscs map[int][]netlink.Qdisc // by link
}

func look(nlh *netlink.Handle) (*world, error) {
	links, err := dump(nlh.LinkList)
	if err != nil {
		return nil, fmt.Errorf("listing links: %w", err)
	}
	qdiscs, err := dump(func() ([]netlink.Qdisc, error) { return nlh.QdiscList(nil) })
	if err != nil {
		return nil, fmt.Errorf("listing qdiscs: %w", err)
	}
	w := &world{ends: map[string]netlink.Link{}, ifbs: map[string]netlink.Link{}, qdiscs: map[int][]netlink.Qdisc{}}
	for _, l := range links {
		if id, ok := strings.CutPrefix(l.Attrs().Alias, endpointAlias); ok && l.Type() == "veth" {
			w.ends[id] = l
		}
		if l.Type() == "ifb" && l.Attrs().Group == ifbGroup {
			// One without an alias is left over from a crash.
			w.ifbs[strings.TrimPrefix(l.Attrs().Alias, ifbAlias)] = l
		}
	}
	for _, q := range qdiscs {
		i := q.Attrs().LinkIndex
		w.qdiscs[i] = append(w.qdiscs[i], q)
	}
	return w, nil
}

// dump repeats a dump that a change of what is listed interrupted.
func dump[T any](list func() (T, error)) (res T, err error) {
	for range 10 {
		if res, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return res, err
}

func (w *world) tbf(link netlink.Link) *netlink.Tbf {
	for _, q := range w.qdiscs[link.Attrs().Index] {
		if t, ok := q.(*netlink.Tbf); ok && t.Attrs().Parent == netlink.HANDLE_ROOT && slices.Contains(tbfHandles[:], t.Attrs().Handle) {
			return t
		}
	}
	return nil
}

func (w *world) ingress(link netlink.Link) netlink.Qdisc {
	for _, q := range w.qdiscs[link.Attrs().Index] {
		if q.Type() == "ingress" {
			return q
		}
	}
	return nil
}

// setRates brings the qdiscs of an endpoint to what s says. What is right
// already is not touched, so that its queue and its tokens stay.
func setRates(nlh *netlink.Handle, w *world, id string, s Settings) (ingress, egress error) {
	end, ok := w.ends[id]
	if !ok {
		missing := fmt.Errorf("no interface on the host is marked as that of endpoint %.12s: it was connected by another version of dockerd; connect the container to its network again", id)
		if s.Ingress != 0 {
			ingress = missing
		}
		if s.Egress != 0 {
			return ingress, missing
		}
		return ingress, delIfb(nlh, w, id)
	}
	if err := setTbf(nlh, w, end, s.Ingress, end.Attrs().MTU); err != nil {
		ingress = fmt.Errorf("limiting what comes in: %w", err)
	}
	if s.Egress == 0 {
		egress = clearEgress(nlh, w, id, end)
	} else {
		egress = setEgress(nlh, w, id, end, s.Egress)
	}
	if egress != nil {
		egress = fmt.Errorf("limiting what goes out: %w", egress)
	}
	return ingress, egress
}

// setTbf makes bits/s the rate of link's root qdisc, 0 removes it.
func setTbf(nlh *netlink.Handle, w *world, link netlink.Link, bits int64, mtu int) error {
	now := w.tbf(link)
	if bits == 0 {
		if now == nil {
			return nil
		}
		return ignoreGone(nlh.QdiscDel(now))
	}
	sh, err := shapeFor(bits, mtu)
	if err != nil {
		return err
	}
	want := &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: tbfHandles[0], Parent: netlink.HANDLE_ROOT},
		Rate:       sh.rate,
		Limit:      sh.limit,
		Buffer:     netlink.Xmittime(sh.rate, sh.burst),
	}
	if now != nil {
		if sameTbf(now, want) {
			return nil
		}
		// A packet that waits and does not fit into a smaller bucket would
		// wait for ever, and all others behind it. So a smaller bucket is a
		// new qdisc, which takes the old one's place without a moment between.
		smaller := netlink.Xmitsize(now.Rate, now.Buffer) > sh.burst
		if smaller == (now.Handle == tbfHandles[0]) {
			want.Handle = tbfHandles[1]
		}
	}
	if err := nlh.QdiscReplace(want); err != nil {
		return fmt.Errorf("tbf on %s: %w", link.Attrs().Name, err)
	}
	return nil
}

func sameTbf(a, b *netlink.Tbf) bool {
	return a.Rate == b.Rate && a.Limit == b.Limit && a.Buffer == b.Buffer && a.Peakrate == b.Peakrate
}

// setEgress redirects what comes from the container through an ifb. The ifb
// belongs to this endpoint alone and is complete before anything goes there.
func setEgress(nlh *netlink.Handle, w *world, id string, end netlink.Link, bits int64) error {
	ifb, err := ensureIfb(nlh, w, id, end)
	if err != nil {
		return err
	}
	if err := setTbf(nlh, w, ifb, bits, end.Attrs().MTU); err != nil {
		return err
	}
	// Only now: a qdisc for an interface that is up waits for all processors.
	if ifb.Attrs().RawFlags&unix.IFF_UP == 0 {
		if err := nlh.LinkSetUp(ifb); err != nil {
			return fmt.Errorf("interface %s: %w", ifb.Attrs().Name, err)
		}
	}
	if q := w.ingress(end); q != nil {
		if ok, err := redirects(nlh, end, ifb); err != nil || ok {
			return err
		}
		if err := ignoreGone(nlh.QdiscDel(q)); err != nil {
			return err
		}
	}
	err = nlh.QdiscAdd(&netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: end.Attrs().Index, Handle: ingressHandle, Parent: netlink.HANDLE_INGRESS,
	}})
	if err != nil {
		return fmt.Errorf("ingress qdisc on %s: %w", end.Attrs().Name, err)
	}
	err = nlh.FilterAdd(&netlink.U32{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: end.Attrs().Index, Parent: ingressHandle, Priority: filterPriority, Protocol: unix.ETH_P_ALL},
		Actions:     []netlink.Action{netlink.NewMirredAction(ifb.Attrs().Index)},
	})
	if err != nil {
		return fmt.Errorf("redirection from %s to %s: %w", end.Attrs().Name, ifb.Attrs().Name, err)
	}
	return nil
}

func ensureIfb(nlh *netlink.Handle, w *world, id string, end netlink.Link) (netlink.Link, error) {
	ifb, ok := w.ifbs[id]
	if !ok {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "ifb" + strings.TrimPrefix(end.Attrs().Name, "veth")
		// The kernel takes no alias when it makes a link, so for a moment the
		// group is all that tells whose it is.
		attrs.Group = ifbGroup
		if err := nlh.LinkAdd(&netlink.Ifb{LinkAttrs: attrs}); err != nil {
			return nil, fmt.Errorf("adding interface %s of type ifb: %w", attrs.Name, err)
		}
		var err error
		if ifb, err = nlh.LinkByName(attrs.Name); err != nil {
			return nil, fmt.Errorf("interface %s: %w", attrs.Name, err)
		}
		if err := nlh.LinkSetAlias(ifb, ifbAlias+id); err != nil {
			return nil, errors.Join(fmt.Errorf("interface %s: %w", attrs.Name, err), nlh.LinkDel(ifb))
		}
		// It is a place to queue, not an interface to talk IPv6 on. A kernel
		// without IPv6 does not know the attribute.
		_ = nlh.LinkSetIP6AddrGenMode(ifb, addrGenModeNone)
	}
	return ifb, nil
}

// addrGenModeNone is IN6_ADDR_GEN_MODE_NONE of linux/if_link.h.
const addrGenModeNone = 1

// redirects tells whether all that comes from the container, and nothing else,
// goes to ifb.
func redirects(nlh *netlink.Handle, end, ifb netlink.Link) (bool, error) {
	filters, err := dump(func() ([]netlink.Filter, error) { return nlh.FilterList(end, ingressHandle) })
	if err != nil {
		return false, err
	}
	for _, f := range filters {
		u, ok := f.(*netlink.U32)
		if !ok || u.Attrs().Priority != filterPriority || u.Attrs().Protocol != unix.ETH_P_ALL || u.Sel == nil {
			continue
		}
		if len(u.Sel.Keys) != 1 || u.Sel.Keys[0].Mask != 0 || len(u.Actions) != 1 {
			continue
		}
		if m, ok := u.Actions[0].(*netlink.MirredAction); ok && m.MirredAction == netlink.TCA_EGRESS_REDIR && m.Ifindex == ifb.Attrs().Index {
			return true, nil
		}
	}
	return false, nil
}

// clearEgress takes away what setEgress made. An ingress qdisc without an ifb
// of ours is not ours.
func clearEgress(nlh *netlink.Handle, w *world, id string, end netlink.Link) error {
	ifb, ok := w.ifbs[id]
	if !ok {
		return nil
	}
	if q := w.ingress(end); q != nil {
		ours, err := redirects(nlh, end, ifb)
		if err == nil && ours {
			err = ignoreGone(nlh.QdiscDel(q))
		}
		if err != nil {
			return err
		}
	}
	return delIfb(nlh, w, id)
}

func delIfb(nlh *netlink.Handle, w *world, id string) error {
	ifb, ok := w.ifbs[id]
	if !ok {
		return nil
	}
	return ignoreGone(nlh.LinkDel(ifb))
}

// verifyIngress reads back what setRates set of the rate to the container.
func verifyIngress(w *world, id string, bits int64) error {
	end, ok := w.ends[id]
	if !ok {
		return goneIf(bits != 0, id)
	}
	return verifyTbf(w, end, bits)
}

// verifyEgress is the same for the rate from the container.
func verifyEgress(nlh *netlink.Handle, w *world, id string, bits int64) error {
	end, ok := w.ends[id]
	if !ok {
		return goneIf(bits != 0, id)
	}
	ifb, ok := w.ifbs[id]
	switch {
	case ok != (bits != 0):
		return fmt.Errorf("%s: want an egress rate of %d bit/s, but there is an ifb: %t", end.Attrs().Name, bits, ok)
	case !ok:
		return nil
	}
	if err := verifyTbf(w, ifb, bits); err != nil {
		return err
	}
	if ok, err := redirects(nlh, end, ifb); err != nil || !ok || ifb.Attrs().RawFlags&unix.IFF_UP == 0 {
		return fmt.Errorf("%s does not redirect to %s, or that is down: %w", end.Attrs().Name, ifb.Attrs().Name, err)
	}
	return nil
}

func goneIf(limited bool, id string) error {
	if limited {
		return fmt.Errorf("the interface of endpoint %.12s is gone", id)
	}
	return nil
}

func verifyTbf(w *world, link netlink.Link, bits int64) error {
	var rate uint64
	if t := w.tbf(link); t != nil {
		rate = t.Rate
	}
	if rate != uint64(bits)/8 {
		return fmt.Errorf("%s shows a rate of %d byte/s, want %d bit/s", link.Attrs().Name, rate, bits)
	}
	return nil
}

// ignoreGone drops the error of removing what is not there any more: a
// container's interface may vanish at any time.
func ignoreGone(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) || errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	return err
}
