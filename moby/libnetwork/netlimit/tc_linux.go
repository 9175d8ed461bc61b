// SPDX-License-Identifier: Apache-2.0

package netlimit

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	endpointAlias = "docker endpoint " // + endpoint ID: the host's end of its veth pair
	ifbAlias      = "docker egress "   // + endpoint ID: the ifb that its packets pass
)

// altName is a second mark: programs that name interfaces for people set the alias.
// It has to be longer than a name, or the kernel takes it for one.
func altName(alias string) string { return strings.ReplaceAll(alias, " ", "-") }

// ifbGroup is the link group of our ifbs.
const ifbGroup = 0xd0c

// The handles of our qdiscs, one of them at a time. The numbers only have to
// differ from what an administrator would choose, whose qdisc is then not taken
// for ours.
var tbfHandles = [...]uint32{netlink.MakeHandle(0xd0c, 0), netlink.MakeHandle(0xd0d, 0)}

// Tag marks link, the host's end of a veth pair, as belonging to an endpoint. A
// kernel before 5.5 has no alternative names; there the alias is the only mark.
func Tag(nlh *netlink.Handle, link netlink.Link, endpointID string) error {
	return mark(nlh, link, endpointAlias+endpointID)
}

func mark(nlh *netlink.Handle, link netlink.Link, alias string) error {
	if err := nlh.LinkSetAlias(link, alias); err != nil {
		return fmt.Errorf("alias of interface %s: %w", link.Attrs().Name, err)
	}
	err := nlh.LinkAddAltName(link, altName(alias))
	if err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("alternative name of interface %s: %w", link.Attrs().Name, err)
	}
	return nil
}

// isMarked tells whether both marks are there.
func isMarked(link netlink.Link, alias string) bool {
	return link.Attrs().Alias == alias && slices.Contains(link.Attrs().AltNames, altName(alias))
}

// markOf returns the endpoint that a mark of a kind names.
func markOf(link netlink.Link, kind string) (endpointID string, ok bool) {
	if id, ok := strings.CutPrefix(link.Attrs().Alias, kind); ok {
		return id, true
	}
	for _, name := range link.Attrs().AltNames {
		if id, ok := strings.CutPrefix(name, altName(kind)); ok {
			return id, true
		}
	}
	return "", false
}

func isMarkedAs(link netlink.Link, kind string) bool {
	_, ok := markOf(link, kind)
	return ok
}

// seenEnd is where the host's end of an endpoint was last seen.
type seenEnd struct {
	index     int // 0: nowhere
	name, mac string
}

func seenAs(link netlink.Link) seenEnd {
	a := link.Attrs()
	return seenEnd{a.Index, a.Name, a.HardwareAddr.String()}
}

// tc is what there is of links and qdiscs in one network namespace.
type tc struct {
	*netlink.Handle
	sockets map[int]*nl.SocketHandle
}

// end finds the host's end of an endpoint: by its marks or as it was last seen, else
// from the other end, which has a number that a container cannot choose. It sets the
// marks anew. It returns nil if the endpoint has no interface any more.
func (t *tc) end(ep Endpoint, last seenEnd) (netlink.Link, error) {
	alias := endpointAlias + ep.ID
	var link netlink.Link
	if last.index != 0 {
		l, err := t.LinkByIndex(last.index)
		if err != nil && !isGone(err) {
			return nil, fmt.Errorf("interface %d: %w", last.index, err)
		}
		// The index of a link that has gone may be another's by now.
		if err == nil && (hasAMark(l, alias) || l.Attrs().HardwareAddr.String() == last.mac) {
			link = l
		}
	}
	if link == nil {
		l, err := t.LinkByName(altName(alias))
		if err == nil {
			link = l
		}
	}
	if link == nil {
		l, err := t.peerOf(ep)
		if err != nil {
			return nil, err
		}
		link = l
	}
	if link == nil {
		return nil, nil
	}
	if link.Type() != "veth" {
		return nil, fmt.Errorf("interface %s has the mark of endpoint %.12s and is no veth", link.Attrs().Name, ep.ID)
	}
	if !isMarked(link, alias) {
		// A program that wants the alias may have it: one mark is enough.
		if link.Attrs().Alias == "" {
			return link, Tag(t.Handle, link, ep.ID)
		}
		if !slices.Contains(link.Attrs().AltNames, altName(alias)) {
			_ = t.LinkAddAltName(link, altName(alias))
		}
	}
	return link, nil
}

// peerOf looks at the container's interface with the address that it was given.
func (t *tc) peerOf(ep Endpoint) (netlink.Link, error) {
	if ep.NetNS == "" || ep.MAC == "" {
		return t.byAlias(endpointAlias + ep.ID)
	}
	ns, err := netns.GetFromPath(ep.NetNS)
	if err != nil {
		return nil, nil // it has ended
	}
	defer ns.Close()
	inside, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("network namespace %s: %w", ep.NetNS, err)
	}
	defer inside.Close()
	links, err := dump(inside.LinkList)
	if err != nil {
		return nil, fmt.Errorf("interfaces of network namespace %s: %w", ep.NetNS, err)
	}
	for _, l := range links {
		// One whose other end is in the container as well has no ID of another
		// namespace.
		if l.Type() != "veth" || l.Attrs().NetNsID < 0 || l.Attrs().HardwareAddr.String() != ep.MAC {
			continue
		}
		end, err := t.LinkByIndex(l.Attrs().ParentIndex)
		if err != nil || end.Type() != "veth" {
			continue
		}
		if ep.Bridge != "" {
			bridge, err := t.LinkByName(ep.Bridge)
			if err != nil || end.Attrs().MasterIndex != bridge.Attrs().Index {
				continue
			}
		}
		return end, nil
	}
	return t.byAlias(endpointAlias + ep.ID)
}

// byAlias costs a dump of all links.
func (t *tc) byAlias(alias string) (netlink.Link, error) {
	links, err := dump(t.LinkList)
	if err != nil {
		return nil, fmt.Errorf("listing interfaces: %w", err)
	}
	for _, l := range links {
		if l.Attrs().Alias == alias {
			return l, nil
		}
	}
	return nil, nil
}

// missing says which interfaces priorities are for that are not there.
func (t *tc) missing(priorities map[string]uint32) error {
	var missing []string
	for name := range priorities {
		if _, err := t.LinkByName(name); errors.As(err, &netlink.LinkNotFoundError{}) {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return &MissingError{missing}
}

// ifb finds the ifb of an endpoint, nil if there is none.
func (t *tc) ifb(endpointID string, lastIndex int) (netlink.Link, error) {
	alias := ifbAlias + endpointID
	isOurs := func(l netlink.Link) bool {
		return l.Type() == "ifb" && (hasAMark(l, alias) || l.Attrs().Group == ifbGroup && l.Attrs().Name == ifbName(endpointID))
	}
	if lastIndex != 0 {
		if l, err := t.LinkByIndex(lastIndex); err == nil && isOurs(l) {
			return l, nil
		}
	}
	for _, name := range []string{altName(alias), ifbName(endpointID)} {
		if l, err := t.LinkByName(name); err == nil && isOurs(l) {
			return l, nil
		}
	}
	return nil, nil
}

func ifbName(endpointID string) string { return fmt.Sprintf("ifb%.11s", endpointID) }

func (t *tc) addIfb(endpointID string) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = ifbName(endpointID)
	// The kernel takes no alias when it makes a link, so for a moment the
	// group is all that tells whose it is.
	attrs.Group = ifbGroup
	if err := t.LinkAdd(&netlink.Ifb{LinkAttrs: attrs}); err != nil {
		return nil, fmt.Errorf("adding interface %s of type ifb: %w", attrs.Name, err)
	}
	ifb, err := t.LinkByName(attrs.Name)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", attrs.Name, err)
	}
	if err := mark(t.Handle, ifb, ifbAlias+endpointID); err != nil {
		return nil, errors.Join(err, t.LinkDel(ifb))
	}
	// It is a place to queue, not an interface to talk IPv6 on. A kernel
	// without IPv6 does not know the attribute.
	_ = t.LinkSetIP6AddrGenMode(ifb, addrGenModeNone)
	return ifb, nil
}

// addrGenModeNone is IN6_ADDR_GEN_MODE_NONE of linux/if_link.h.
const addrGenModeNone = 1

// dump repeats a dump that a change of what is listed interrupted.
func dump[T any](list func() (T, error)) (res T, err error) {
	for range 10 {
		if res, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return res, err
}

// root is the root qdisc of one interface. A dump would list those of all.
type root struct {
	kind   string
	handle uint32
	tbf    *netlink.Tbf // if it is one
}

// isOurs tells whether it is one that this package made.
func (r root) isOurs() bool { return r.tbf != nil && slices.Contains(tbfHandles[:], r.handle) }

// isDefault tells whether it is what the kernel gives an interface by itself.
func (r root) isDefault() bool { return r.handle == 0 }

func (r root) String() string {
	return fmt.Sprintf("%s %x:", r.kind, r.handle>>16)
}

func (t *tc) root(link netlink.Link) (r root, _ error) {
	// The kernel answers with what it tells everybody, and only if an echo is asked
	// for; of a default qdisc it tells nothing, so there has to be an ACK.
	req := nl.NewNetlinkRequest(unix.RTM_GETQDISC, unix.NLM_F_ACK|unix.NLM_F_ECHO)
	req.Sockets = t.sockets
	req.AddData(&nl.TcMsg{Family: nl.FAMILY_ALL, Ifindex: int32(link.Attrs().Index), Parent: netlink.HANDLE_ROOT})
	msgs, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWQDISC)
	if errors.Is(err, unix.ENOENT) {
		return root{kind: "noqueue"}, nil
	}
	if err != nil {
		return r, fmt.Errorf("root qdisc of %s: %w", link.Attrs().Name, err)
	}
	r.kind = "noqueue"
	for _, m := range msgs {
		msg := nl.DeserializeTcMsg(m)
		attrs, err := nl.ParseRouteAttr(m[msg.Len():])
		if err != nil {
			return r, err
		}
		r.handle = msg.Handle
		var options []byte
		for _, a := range attrs {
			switch a.Attr.Type {
			case nl.TCA_KIND:
				r.kind = string(a.Value[:len(a.Value)-1])
			case nl.TCA_OPTIONS:
				options = a.Value
			}
		}
		if r.kind == "tbf" {
			if r.tbf, err = parseTbf(options); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

func parseTbf(options []byte) (*netlink.Tbf, error) {
	attrs, err := nl.ParseRouteAttr(options)
	if err != nil {
		return nil, err
	}
	tbf := &netlink.Tbf{}
	var rate64 uint64
	for _, a := range attrs {
		switch a.Attr.Type {
		case nl.TCA_TBF_PARMS:
			opt := nl.DeserializeTcTbfQopt(a.Value)
			tbf.Rate, tbf.Peakrate, tbf.Limit, tbf.Buffer = uint64(opt.Rate.Rate), uint64(opt.Peakrate.Rate), opt.Limit, opt.Buffer
		case nl.TCA_TBF_RATE64:
			rate64 = nl.NativeEndian().Uint64(a.Value)
		}
	}
	if rate64 != 0 {
		tbf.Rate = rate64
	}
	return tbf, nil
}

func wantTbf(link netlink.Link, bits int64, mtu int) (*netlink.Tbf, shape, error) {
	sh, err := shapeFor(bits, mtu)
	return &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: tbfHandles[0], Parent: netlink.HANDLE_ROOT},
		Rate:       sh.rate,
		Limit:      sh.limit,
		Buffer:     netlink.Xmittime(max(sh.rate, 1), sh.burst),
	}, sh, err
}

// errForeign says that somebody else's qdisc is where ours would have to be.
func errForeign(link netlink.Link, r root) error {
	return fmt.Errorf("the root qdisc of interface %s is %s, which another program has put there; remove it (tc qdisc del dev %[1]s root), or limit the rate in it", link.Attrs().Name, r)
}

// setTbf makes bits/s the rate of link's root qdisc, 0 removes it. What is right
// already is not touched, so that its queue and its tokens stay.
func (t *tc) setTbf(link netlink.Link, bits int64, mtu int) error {
	now, err := t.root(link)
	if err != nil {
		return err
	}
	if bits == 0 {
		if !now.isOurs() {
			return nil
		}
		return ignoreGone(t.QdiscDel(&netlink.Tbf{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: now.handle, Parent: netlink.HANDLE_ROOT}}))
	}
	want, sh, err := wantTbf(link, bits, mtu)
	switch {
	case err != nil:
		return err
	case !now.isOurs() && !now.isDefault() && link.Type() != "ifb":
		return errForeign(link, now)
	case now.isOurs() && sameTbf(now.tbf, want):
		return nil
	case now.isOurs():
		// A packet that waits and does not fit into a smaller bucket would
		// wait for ever, and all others behind it. So a smaller bucket is a
		// new qdisc, which takes the old one's place without a moment between.
		smaller := netlink.Xmitsize(now.tbf.Rate, now.tbf.Buffer) > sh.burst
		if smaller == (now.handle == tbfHandles[0]) {
			want.Handle = tbfHandles[1]
		}
	}
	set := t.QdiscReplace
	if now.isDefault() {
		set = t.QdiscAdd // fails if another program has put one there meanwhile
	}
	if err := set(want); err != nil {
		return fmt.Errorf("tbf on %s: %w", link.Attrs().Name, err)
	}
	return nil
}

func sameTbf(a, b *netlink.Tbf) bool {
	return a.Rate == b.Rate && a.Limit == b.Limit && a.Buffer == b.Buffer && a.Peakrate == b.Peakrate
}

// checkTbf says in what link's root qdisc differs from what setTbf makes of bits.
func (t *tc) checkTbf(link netlink.Link, bits int64, mtu int) error {
	now, err := t.root(link)
	if err != nil {
		return err
	}
	if bits == 0 {
		if now.isOurs() {
			return fmt.Errorf("interface %s still has a rate of %d byte/s", link.Attrs().Name, now.tbf.Rate)
		}
		return nil
	}
	want, _, err := wantTbf(link, bits, mtu)
	switch {
	case err != nil:
		return err
	case now.isOurs() && sameTbf(now.tbf, want):
		return nil
	case now.isOurs():
		return fmt.Errorf("the tbf of interface %s has a rate of %d byte/s, a bucket of %d bytes and room for %d, want %d, %d and %d", link.Attrs().Name,
			now.tbf.Rate, netlink.Xmitsize(now.tbf.Rate, now.tbf.Buffer), now.tbf.Limit, want.Rate, netlink.Xmitsize(want.Rate, want.Buffer), want.Limit)
	case now.isDefault():
		return fmt.Errorf("the tbf of interface %s is not there", link.Attrs().Name)
	}
	return errForeign(link, now)
}

// removeOldRedirect takes away how builds up to 28.5.2-gpu of November 2026 sent
// packets to an ifb: a filter of the ingress qdisc, which goes with it if it was
// the only one.
func (t *tc) removeOldRedirect(end, ifb netlink.Link) error {
	const priority = 100
	parent := netlink.MakeHandle(0xffff, 0)
	filters, err := dump(func() ([]netlink.Filter, error) { return t.FilterList(end, parent) })
	if err != nil {
		return ignoreGone(err)
	}
	others := false
	for _, f := range filters {
		u, ok := f.(*netlink.U32)
		if ok && u.Attrs().Priority == priority && len(u.Actions) == 0 {
			continue // the hash table of ours
		}
		if !ok || u.Attrs().Priority != priority || len(u.Actions) != 1 {
			others = true
			continue
		}
		m, ok := u.Actions[0].(*netlink.MirredAction)
		if !ok || ifb == nil || m.Ifindex != ifb.Attrs().Index {
			others = true
			continue
		}
		if err := ignoreGone(t.FilterDel(u)); err != nil {
			return fmt.Errorf("filter of the ingress qdisc of %s: %w", end.Attrs().Name, err)
		}
	}
	if others || len(filters) == 0 {
		return nil
	}
	return ignoreGone(t.QdiscDel(&netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: end.Attrs().Index, Handle: parent, Parent: netlink.HANDLE_INGRESS}}))
}

func isGone(err error) bool {
	return errors.Is(err, syscall.ENODEV) || errors.As(err, &netlink.LinkNotFoundError{})
}

// ignoreGone drops the error of removing what is not there any more: a
// container's interface may vanish at any time.
func ignoreGone(err error) error {
	if isGone(err) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}
