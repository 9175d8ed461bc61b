// SPDX-License-Identifier: Apache-2.0

package netlimit

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/log"
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	mdnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// What a packet comes from decides what happens to it. All that differs from
// endpoint to endpoint is an element of a map or set, so that a packet costs
// the same however many there are:
//
//	inet    what the host routes, by source address, at the end of postrouting
//	        (forwarding sets a packet's priority anew, from its TOS);
//	        what a proxy on the host sends, by source port, in output
//	bridge  what a bridge passes on to another port of it, by interface;
//	        what it hands to the host, see deliveredRules
//	netdev  at the ingress of the host's end of an endpoint: packets above the rate
//	        in packets/s are dropped; those with a source that is not the
//	        endpoint's, which would have another class, are refused; then all go to
//	        the endpoint's ifb. At its egress: packets above the rate are dropped
//
// The last one comes after clsact and the ingress qdisc, so that the filters of
// other programs there see everything, and what they accept comes here all the
// same.
//
// A table is named after the dockerd that it belongs to. It, and each map, chain
// and rule in it, exists only while an endpoint needs it.

// tablePrefix is followed by the owner, hookPrefix and outPrefix by the endpoint. All
// names can be written in nft's language: a name that begins with a digit cannot, nor
// `redirect`.
const (
	tablePrefix = "docker-limits-"
	hookPrefix  = "ep-" // at the ingress of an end
	outPrefix   = "to-" // at its egress, the way to the container
)

// kind is what an element is keyed by and gives.
type kind struct {
	name   string
	family nftables.TableFamily
	key    nftables.SetDatatype
	value  nftables.SetDatatype // zero: a set
	chain  string               // whose rule looks it up
	// load puts the key into registers from 1 on.
	load []expr.Any
}

const (
	chainRouted  = "postrouting"
	chainLocal   = "output"
	chainBridged = "forward"
	chainToHost  = "input"
	chainSources = "sources" // not a hook: endpoints' chains jump to it
	chainToIfb   = "to-ifb"  // the same
)

// Registers of 4 bytes, where a key's parts follow each other. Register 1 is the
// first 16 bytes of all.
const reg32 = unix.NFT_REG32_00

func isNFProto(proto byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg32},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg32, Data: []byte{proto}},
	}
}

// isEther is isNFProto outside of the inet family.
func isEther(proto uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: reg32},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg32, Data: binaryutil.BigEndian.PutUint16(proto)},
	}
}

func source4(reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}
}

func source6(reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: 8, Len: 16}
}

func outName(reg uint32) expr.Any { return &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg} }

func inIndex(reg uint32) expr.Any { return &expr.Meta{Key: expr.MetaKeyIIF, Register: reg} }

// protoAndPort fills two registers.
func protoAndPort(reg uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		&expr.Payload{DestRegister: reg + 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2},
	}
}

// prohibited4 and prohibited6 are the errors that a refused packet is answered with.
var (
	prohibited4 = concat(isEther(unix.ETH_P_IP), isICMP(unix.IPPROTO_ICMP, 3, 13))
	prohibited6 = concat(isEther(unix.ETH_P_IPV6), isICMP(unix.IPPROTO_ICMPV6, 1, 1))
)

func isICMP(proto, kind, code byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg32},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg32, Data: []byte{proto}},
		&expr.Payload{DestRegister: reg32, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg32, Data: []byte{kind, code}},
	}
}

func concat(parts ...[]expr.Any) []expr.Any { return slices.Concat(parts...) }

func one(e ...expr.Any) []expr.Any { return e }

var (
	v4    = isNFProto(unix.NFPROTO_IPV4)
	v6    = isNFProto(unix.NFPROTO_IPV6)
	class = nftables.TypeClassID

	typePort  = nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)
	typePort4 = nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService)
	typePort6 = nftables.MustConcatSetType(nftables.TypeIP6Addr, nftables.TypeInetProto, nftables.TypeInetService)
	typeOut4  = nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeIFName)
	typeOut6  = nftables.MustConcatSetType(nftables.TypeIP6Addr, nftables.TypeIFName)
	typeInOut = nftables.MustConcatSetType(nftables.TypeIFIndex, nftables.TypeIFName)

	typeOutPort  = nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService, nftables.TypeIFName)
	typeOutPort4 = nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService, nftables.TypeIFName)
	typeOutPort6 = nftables.MustConcatSetType(nftables.TypeIP6Addr, nftables.TypeInetProto, nftables.TypeInetService, nftables.TypeIFName)

	typeSource4 = nftables.MustConcatSetType(nftables.TypeIFIndex, nftables.TypeIPAddr)
	typeSource6 = nftables.MustConcatSetType(nftables.TypeIFIndex, nftables.TypeIP6Addr)
)

// kinds is in the order in which a chain has the rules.
var kinds = []*kind{
	{"class4", nftables.TableFamilyINet, nftables.TypeIPAddr, class, chainRouted, concat(v4, one(source4(reg32)))},
	{"class6", nftables.TableFamilyINet, nftables.TypeIP6Addr, class, chainRouted, concat(v6, one(source6(reg32)))},
	{"prio4", nftables.TableFamilyINet, typeOut4, class, chainRouted, concat(v4, one(source4(reg32), outName(reg32+1)))},
	{"prio6", nftables.TableFamilyINet, typeOut6, class, chainRouted, concat(v6, one(source6(reg32), outName(reg32+4)))},

	{"port-class", nftables.TableFamilyINet, typePort, class, chainLocal, protoAndPort(reg32)},
	{"port-class4", nftables.TableFamilyINet, typePort4, class, chainLocal, concat(v4, one(source4(reg32)), protoAndPort(reg32+1))},
	{"port-class6", nftables.TableFamilyINet, typePort6, class, chainLocal, concat(v6, one(source6(reg32)), protoAndPort(reg32+4))},
	{"port-prio", nftables.TableFamilyINet, typeOutPort, class, chainLocal, concat(protoAndPort(reg32), one(outName(reg32+2)))},
	{"port-prio4", nftables.TableFamilyINet, typeOutPort4, class, chainLocal, concat(v4, one(source4(reg32)), protoAndPort(reg32+1), one(outName(reg32+3)))},
	{"port-prio6", nftables.TableFamilyINet, typeOutPort6, class, chainLocal, concat(v6, one(source6(reg32)), protoAndPort(reg32+4), one(outName(reg32+6)))},

	{"bridged-class", nftables.TableFamilyBridge, nftables.TypeIFIndex, class, chainBridged, one(inIndex(reg32))},
	{"bridged-prio", nftables.TableFamilyBridge, typeInOut, class, chainBridged, one(inIndex(reg32), outName(reg32+1))},
	{"own4", nftables.TableFamilyBridge, typeSource4, nftables.SetDatatype{}, chainToHost, concat(prohibited4, one(inIndex(reg32), source4(reg32+1)))},
	{"own6", nftables.TableFamilyBridge, typeSource6, nftables.SetDatatype{}, chainToHost, concat(prohibited6, one(inIndex(reg32), source6(reg32+1)))},
	{"refused", nftables.TableFamilyBridge, nftables.TypeIFIndex, nftables.SetDatatype{}, chainToHost, nil},

	{"source4", nftables.TableFamilyNetdev, typeSource4, nftables.SetDatatype{}, chainSources, concat(isEther(unix.ETH_P_IP), one(inIndex(reg32), source4(reg32+1)))},
	{"source6", nftables.TableFamilyNetdev, typeSource6, nftables.SetDatatype{}, chainSources, concat(isEther(unix.ETH_P_IPV6), one(inIndex(reg32), source6(reg32+1)))},
	{"to-ifb", nftables.TableFamilyNetdev, nftables.TypeIFIndex, nftables.TypeIFIndex, chainToIfb, one(inIndex(reg32))},
}

func kindOf(name string) *kind {
	for _, k := range kinds {
		if k.name == name {
			return k
		}
	}
	return nil
}

// rule of a chain, by a text that names it and all that it says.
type rule struct {
	name  string
	exprs []expr.Any
}

func (k *kind) rule() rule {
	switch {
	case k.name == "refused":
		return rule{k.name, nil} // see deliveredRules
	case k.chain == chainSources, k.chain == chainToHost:
		return rule{k.name, concat(k.load, one(
			&expr.Lookup{SourceRegister: reg32, SetName: k.name},
			&expr.Verdict{Kind: expr.VerdictReturn},
		))}
	case k.chain == chainToIfb:
		return rule{k.name, nil} // see prepare
	}
	return rule{k.name, concat(k.load, one(
		&expr.Lookup{SourceRegister: reg32, SetName: k.name, DestRegister: reg32, IsDestRegSet: true},
		&expr.Meta{Key: expr.MetaKeyPRIORITY, SourceRegister: true, Register: reg32},
	))}
}

// sourceRules frame those of the sets: what has no address yet, and what is never
// routed, may pass; all that is not the endpoint's is refused, so that a
// container that passes on what others send gets to know.
func sourceRules(sets []rule) []rule {
	zero4 := concat(isEther(unix.ETH_P_IP), one(source4(reg32), &expr.Cmp{Op: expr.CmpOpEq, Register: reg32, Data: make([]byte, 4)}, &expr.Verdict{Kind: expr.VerdictReturn}))
	zero6 := concat(isEther(unix.ETH_P_IPV6), one(source6(reg32), &expr.Cmp{Op: expr.CmpOpEq, Register: reg32, Data: make([]byte, 16)}, &expr.Verdict{Kind: expr.VerdictReturn}))
	local6 := concat(isEther(unix.ETH_P_IPV6), one(
		&expr.Payload{DestRegister: reg32, Base: expr.PayloadBaseNetworkHeader, Offset: 8, Len: 2},
		&expr.Bitwise{SourceRegister: reg32, DestRegister: reg32, Len: 2, Mask: []byte{0xff, 0xc0}, Xor: []byte{0, 0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg32, Data: []byte{0xfe, 0x80}},
		&expr.Verdict{Kind: expr.VerdictReturn},
	))
	// A neighbour is asked for from the address that wants to send to it. While such a
	// question was refused, packets from the endpoint's own addresses would wait for
	// the same neighbour.
	toLocal6 := concat(isEther(unix.ETH_P_IPV6), one(
		&expr.Payload{DestRegister: reg32, Base: expr.PayloadBaseNetworkHeader, Offset: 24, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg32, Data: []byte{0xff, 0x02}},
		&expr.Verdict{Kind: expr.VerdictReturn},
	))
	refuse := one(&expr.Counter{}, &expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED})
	rules := []rule{{"unspecified4", zero4}, {"unspecified6", zero6}, {"link-local6", local6}, {"to-link-local6", toLocal6}}
	rules = append(rules, sets...)
	rules = append(rules,
		rule{"prohibited4", concat(prohibited4, one(&expr.Verdict{Kind: expr.VerdictReturn}))},
		rule{"prohibited6", concat(prohibited6, one(&expr.Verdict{Kind: expr.VerdictReturn}))},
	)
	return append(rules,
		rule{"refuse4", concat(isEther(unix.ETH_P_IP), refuse)},
		rule{"refuse6", concat(isEther(unix.ETH_P_IPV6), refuse)},
	)
}

// deliveredRules are for what an endpoint with a class was answered with when it
// passed on a packet of another: it passes the answer on as well, with the address
// of whom the other wanted. That goes to all on the bridge, in the endpoint's class,
// and not to the host, which would route it without one.
func deliveredRules(sets []rule) (rules []rule) {
	for _, r := range sets {
		if r.name != "refused" {
			rules = append(rules, r)
		}
	}
	drop := one(inIndex(reg32), &expr.Lookup{SourceRegister: reg32, SetName: "refused"}, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop})
	return append(rules, rule{"refuse4", concat(prohibited4, drop)}, rule{"refuse6", concat(prohibited6, drop)})
}

// element of a map or a set.
type element struct {
	value    string
	endpoint string // the comment
}

// hook is the chains at an endpoint's end.
type hook struct {
	device   string
	fromPPS  int64 // packets/s, 0: no limit
	sources  bool  // only those of the endpoint
	redirect bool  // to its ifb
	toPPS    int64
	other    bool // something is not as one of ours
}

// The first words of the names of rules that drop what is above a rate.
const (
	fromPPS = "from"
	toPPS   = "to"
)

// in are the rules at the ingress. Their names say what the kernel does not tell of a
// chain: its device.
func (h hook) in() (rules []rule) {
	if h.fromPPS != 0 {
		rules = append(rules, dropAbove(fromPPS, h.fromPPS, h.device))
	}
	jump := func(chain string) {
		rules = append(rules, rule{chain + " " + h.device, one(&expr.Verdict{Kind: expr.VerdictJump, Chain: chain})})
	}
	if h.sources {
		jump(chainSources)
	}
	if h.redirect {
		jump(chainToIfb)
	}
	return rules
}

// out are the rules at the egress.
func (h hook) out() (rules []rule) {
	if h.toPPS != 0 {
		rules = append(rules, dropAbove(toPPS, h.toPPS, h.device))
	}
	return rules
}

func dropAbove(way string, rate int64, device string) rule {
	return rule{fmt.Sprintf("%s %s %d", way, device, rate), one(
		&expr.Limit{Type: expr.LimitTypePkts, Rate: uint64(rate), Unit: expr.LimitTimeSecond, Burst: burstPPS(rate), Over: true},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictDrop},
	)}
}

// tables is all of one owner: what it should be, or is.
type tables struct {
	elements map[string]map[string]element // by kind and key
	hooks    map[string]hook               // by endpoint

	// Of what is, besides:
	exists  map[nftables.TableFamily]bool
	chains  map[chainName][]rulePlace
	foreign map[nftables.TableFamily]bool // somebody else has put something in

	// Or of what is without nf_tables, by whether it is of IPv6.
	mangle map[bool]*mangleTable
}

type chainName struct {
	family nftables.TableFamily
	name   string
}

type rulePlace struct {
	name   string // "": somebody else's
	handle uint64
}

func newTables() *tables {
	return &tables{
		elements: map[string]map[string]element{},
		hooks:    map[string]hook{},
		exists:   map[nftables.TableFamily]bool{},
		chains:   map[chainName][]rulePlace{},
		foreign:  map[nftables.TableFamily]bool{},
		mangle:   map[bool]*mangleTable{},
	}
}

func (t *tables) add(kind string, key, value []byte, endpoint string) {
	if t.elements[kind] == nil {
		t.elements[kind] = map[string]element{}
	}
	t.elements[kind][string(key)] = element{string(value), endpoint}
}

// ifname is padded as the kernel has it.
func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

func index(i int) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(i)) }

func priority(p uint32) []byte { return binary.NativeEndian.AppendUint32(nil, p) }

// addEndpoint adds what one endpoint needs. end is the index of the host's end
// of it, 0 if it is not known, and ifb that of its ifb, 0 if it has none.
func (t *tables) addEndpoint(l Limited, endName string, end, ifb int) {
	h := hook{device: endName, fromPPS: l.EgressPPS, toPPS: l.IngressPPS}
	for _, addr := range l.Addrs {
		addr = addr.Unmap()
		if !l.classifies() {
			break
		}
		v := map[bool]string{true: "4", false: "6"}[addr.Is4()]
		if l.Class != 0 {
			t.add("class"+v, addr.AsSlice(), priority(l.Class), l.ID)
		}
		for out, p := range l.Priorities {
			t.add("prio"+v, slices.Concat(addr.AsSlice(), ifname(out)), priority(p), l.ID)
		}
		if end != 0 {
			t.add("source"+v, slices.Concat(index(end), addr.AsSlice()), nil, l.ID)
			t.add("own"+v, slices.Concat(index(end), addr.AsSlice()), nil, l.ID)
		}
	}
	for _, p := range l.Ports {
		key := []byte{p.Proto, 0, 0, 0, byte(p.Port >> 8), byte(p.Port), 0, 0}
		v := ""
		if addr := p.Addr.Unmap(); addr.IsValid() && !addr.IsUnspecified() {
			v = map[bool]string{true: "4", false: "6"}[addr.Is4()]
			key = slices.Concat(addr.AsSlice(), key)
		}
		if l.Class != 0 {
			t.add("port-class"+v, key, priority(l.Class), l.ID)
		}
		for out, prio := range l.Priorities {
			t.add("port-prio"+v, slices.Concat(key, ifname(out)), priority(prio), l.ID)
		}
	}
	if end == 0 {
		return
	}
	if l.Class != 0 {
		t.add("bridged-class", index(end), priority(l.Class), l.ID)
	}
	for out, p := range l.Priorities {
		t.add("bridged-prio", slices.Concat(index(end), ifname(out)), priority(p), l.ID)
	}
	if h.sources = l.classifies(); h.sources {
		t.add("refused", index(end), nil, l.ID)
	}
	if ifb != 0 {
		t.add("to-ifb", index(end), index(ifb), l.ID)
		h.redirect = true
	}
	if h.sources || h.redirect || h.fromPPS != 0 || h.toPPS != 0 {
		t.hooks[l.ID] = h
	}
}

// wantedChains are the rules of each chain that is not of a single endpoint.
func (t *tables) wantedChains() map[chainName][]rule {
	chains := map[chainName][]rule{}
	for _, k := range kinds {
		if len(t.elements[k.name]) != 0 {
			name := chainName{k.family, k.chain}
			chains[name] = append(chains[name], k.rule())
		}
	}
	sources := chainName{nftables.TableFamilyNetdev, chainSources}
	if rules, ok := chains[sources]; ok {
		chains[sources] = sourceRules(rules)
	}
	toHost := chainName{nftables.TableFamilyBridge, chainToHost}
	if rules, ok := chains[toHost]; ok {
		chains[toHost] = deliveredRules(rules)
	}
	// An endpoint without an address has a class all the same.
	for _, h := range t.hooks {
		if _, ok := chains[sources]; h.sources && !ok {
			chains[sources] = sourceRules(nil)
		}
	}
	return chains
}

// families that we have a table in, in the order in which they are changed.
var families = []nftables.TableFamily{nftables.TableFamilyINet, nftables.TableFamilyBridge, nftables.TableFamilyNetdev}

func (t *tables) uses(family nftables.TableFamily) bool {
	if family == nftables.TableFamilyNetdev && len(t.hooks) != 0 {
		return true
	}
	for _, k := range kinds {
		if k.family == family && len(t.elements[k.name]) != 0 {
			return true
		}
	}
	return false
}

// nft changes the tables of one owner.
type nft struct {
	*nftConn
	owner string
}

type nftConn struct {
	conn   *nftables.Conn
	netns  int
	option nftables.SockOption // of its sockets
}

func (n *nftConn) open() error {
	return inNetNS(n.netns, func() error {
		conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(n.option, largeBuffers))
		if err != nil {
			return fmt.Errorf("nftables: %w", err)
		}
		n.conn = conn
		return nil
	})
}

func (n *nftConn) close() { _ = n.conn.CloseLasting() }

func (n *nft) String() string { return "nftables table " + tablePrefix + n.owner }

func (n *nft) of(owner string) backend { return &nft{n.nftConn, owner} }

func (n *nft) stale(*tables) bool { return false } // it is told: see watcher.nftables

// missing says what an endpoint should have and has not.
func (n *nft) missing(is, should *tables, e *endpoint) func(string) error {
	chains := is.wantedChains()
	return func(kind string) error {
		have, want := is.hooks[e.ID], should.hooks[e.ID]
		lost := func() error { return fmt.Errorf("%s has lost the chain of interface %s", n, e.end.name) }
		switch kind {
		case fromPPS:
			if have.other || have.device != want.device || have.fromPPS != want.fromPPS {
				return lost()
			}
			return nil
		case toPPS:
			if have.other || have.device != want.device || have.toPPS != want.toPPS {
				return lost()
			}
			return nil
		}
		k := kindOf(kind)
		for key, want := range should.elements[kind] {
			if have := is.elements[kind][key]; have != want {
				return fmt.Errorf("%s has lost an element of %s", n, kind)
			}
			name := chainName{k.family, k.chain}
			if !ours(is.chains[name], chains[name]) {
				return fmt.Errorf("%s has lost rules of chain %s", n, k.chain)
			}
		}
		if k.family == nftables.TableFamilyNetdev && len(should.elements[kind]) != 0 &&
			(have.device != want.device || have.sources != want.sources || have.redirect != want.redirect || have.other) {
			return lost()
		}
		return nil
	}
}

func (n *nft) redirectsTo(ifb int) (bool, error) {
	elements, err := n.conn.GetSetElements(n.set(kindOf("to-ifb")))
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(elements, func(e nftables.SetElement) bool { return bytes.Equal(e.Val, index(ifb)) }), nil
}

// reopen is for after an error: the answers that the library did not wait for would
// be taken for those of what is asked next.
func (n *nftConn) reopen() {
	_ = n.conn.CloseLasting()
	if err := n.open(); err != nil {
		// The old one opens a socket for each thing that is asked.
		log.G(context.TODO()).WithError(err).Warn("trying again")
	}
}

// largeBuffers are for a transaction with the tables of all containers, and the
// kernel's answer to each part of it.
func largeBuffers(c *mdnetlink.Conn) error {
	const size = 16 << 20
	return errors.Join(c.SetReadBuffer(size), c.SetWriteBuffer(size))
}

// owners are those of all tables of this kind in the network namespace.
func (n *nft) owners() (owners []string, _ error) {
	for _, family := range families {
		all, err := n.conn.ListTablesOfFamily(family)
		if err != nil {
			return nil, fmt.Errorf("nftables tables: %w", err)
		}
		for _, table := range all {
			if owner, ok := strings.CutPrefix(table.Name, tablePrefix); ok && !slices.Contains(owners, owner) {
				owners = append(owners, owner)
			}
		}
	}
	return owners, nil
}

func (n *nft) table(family nftables.TableFamily) *nftables.Table {
	return &nftables.Table{Name: tablePrefix + n.owner, Family: family}
}

func (n *nft) set(k *kind) *nftables.Set {
	s := &nftables.Set{Table: n.table(k.family), Name: k.name, KeyType: k.key, Concatenation: strings.Contains(k.key.Name, " . ")}
	if k.value.Bytes != 0 {
		s.IsMap, s.DataType = true, k.value
	}
	return s
}

func setElement(key string, e element) nftables.SetElement {
	s := nftables.SetElement{Key: []byte(key), Comment: e.endpoint}
	if e.value != "" {
		s.Val = []byte(e.value)
	}
	return s
}

func (n *nft) chain(name chainName) *nftables.Chain {
	c := &nftables.Chain{Name: name.name, Table: n.table(name.family)}
	base := func(h *nftables.ChainHook, p *nftables.ChainPriority) {
		accept := nftables.ChainPolicyAccept
		c.Type, c.Hooknum, c.Policy, c.Priority = nftables.ChainTypeFilter, h, &accept, p
	}
	switch name.name {
	case chainRouted:
		base(nftables.ChainHookPostrouting, nftables.ChainPriorityMangle) // before NAT changes the source
	case chainLocal:
		base(nftables.ChainHookOutput, nftables.ChainPriorityMangle)
	case chainBridged:
		base(nftables.ChainHookForward, nftables.ChainPriorityFilter)
	case chainToHost:
		base(nftables.ChainHookInput, nftables.ChainPriorityFilter)
	}
	return c
}

// hookPriority leaves room for chains of others, before ours: what they accept
// comes to us.
const hookPriority = 100

func (n *nft) hookChain(name string, at *nftables.ChainHook, device string) *nftables.Chain {
	accept := nftables.ChainPolicyAccept
	return &nftables.Chain{
		Name: name, Table: n.table(nftables.TableFamilyNetdev), Type: nftables.ChainTypeFilter,
		Hooknum: at, Priority: nftables.ChainPriorityRef(hookPriority), Policy: &accept, Device: device,
	}
}

func (n *nft) addRules(c *nftables.Chain, rules []rule, atHead bool) {
	add := n.conn.AddRule
	if atHead {
		rules = slices.Clone(rules)
		slices.Reverse(rules)
		add = n.conn.InsertRule
	}
	for _, r := range rules {
		add(&nftables.Rule{Table: c.Table, Chain: c, Exprs: r.exprs, UserData: userdata.AppendString(nil, userdata.TypeComment, r.name)})
	}
}

// change brings the tables from what is to what should be and returns what is then.
// Each family is a transaction of its own: a table that another program owns stands in
// the way of no other. Where is turns out not to be so, it fails, and nothing is changed
// in that family.
func (n *nft) change(is, should *tables) (*tables, error) {
	wanted := should.wantedChains()
	var errs []error
	for _, family := range families {
		now, err := n.changeFamily(family, is, should, wanted)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		is = now
	}
	return is, errors.Join(errs...)
}

func (n *nft) changeFamily(family nftables.TableFamily, is, should *tables, wanted map[chainName][]rule) (_ *tables, err error) {
	before := is
	if is, err = n.prepare(family, is, should, wanted); err != nil {
		return nil, err
	}
	var errs []error
	changed := is != before
	do := func(e error) { changed, errs = true, append(errs, e) }

	if should.uses(family) && !is.exists[family] {
		n.conn.AddTable(n.table(family))
		do(nil)
	}
	for _, k := range kinds {
		if k.family != family {
			continue
		}
		before, after := is.elements[k.name], should.elements[k.name]
		var gone, come []nftables.SetElement
		for key, e := range before {
			if after[key] != e || !has(after, key) {
				gone = append(gone, setElement(key, e))
			}
		}
		for key, e := range after {
			if before[key] != e || !has(before, key) {
				come = append(come, setElement(key, e))
			}
		}
		s := n.set(k)
		// What goes comes first: an element with another value is another one. In
		// parts, as an attribute holds 64 KiB.
		for part := range slices.Chunk(gone, 200) {
			do(n.conn.SetDeleteElements(s, part))
		}
		for part := range slices.Chunk(come, 200) {
			do(n.conn.SetAddElements(s, part))
		}
	}
	delOurs := func(c *nftables.Chain, rules []rulePlace) {
		for _, r := range rules {
			if r.name != "" {
				do(n.conn.DelRule(&nftables.Rule{Table: c.Table, Chain: c, Handle: r.handle}))
			}
		}
	}
	var read []chainName
	for _, name := range slices.SortedFunc(maps.Keys(wanted), chainOrder) {
		have, ok := is.chains[name]
		if name.family != family || name.name == chainToIfb || ours(have, wanted[name]) {
			continue
		}
		c := n.chain(name)
		if !ok {
			n.conn.AddChain(c)
		}
		delOurs(c, have)
		n.addRules(c, wanted[name], true)
		do(nil)
		read = append(read, name)
	}
	if family == nftables.TableFamilyNetdev {
		changed = n.changeHooks(is.hooks, should.hooks) || changed
	}

	// What nobody needs any more goes.
	drop := is.exists[family] && !should.uses(family) && !is.foreign[family]
	if drop {
		n.conn.DelTable(n.table(family))
		do(nil)
	}
	for _, name := range slices.SortedFunc(maps.Keys(is.chains), chainOrder) {
		if name.family != family || wanted[name] != nil || drop {
			continue
		}
		c := n.chain(name)
		delOurs(c, is.chains[name])
		if !slices.ContainsFunc(is.chains[name], func(r rulePlace) bool { return r.name == "" }) {
			n.conn.DelChain(c)
			do(nil)
		} else {
			read = append(read, name)
		}
	}
	for _, k := range kinds {
		if k.family == family && is.elements[k.name] != nil && len(should.elements[k.name]) == 0 && !drop {
			n.conn.DelSet(n.set(k))
			do(nil)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if !changed && family != nftables.TableFamilyNetdev {
		return is, nil
	}
	if !changed { // Chains may have gone with their interfaces: they are not there all the same.
		now := *is
		now.hooks = should.hooks
		return &now, nil
	}
	if err := n.conn.Flush(); err != nil {
		n.reopen()
		return nil, err
	}
	now := *is
	now.elements, now.chains, now.exists = maps.Clone(is.elements), maps.Clone(is.chains), maps.Clone(is.exists)
	for _, k := range kinds {
		if k.family == family {
			delete(now.elements, k.name)
			if elements, ok := should.elements[k.name]; ok {
				now.elements[k.name] = elements
			}
		}
	}
	if family == nftables.TableFamilyNetdev {
		now.hooks = should.hooks
	}
	now.exists[family] = (is.exists[family] || should.uses(family)) && !drop
	for name := range is.chains {
		if name.family == family && wanted[name] == nil {
			delete(now.chains, name)
		}
	}
	for _, name := range read {
		if now.chains[name], err = n.rulesOf(n.chain(name)); err != nil {
			return nil, err
		}
	}
	return &now, nil
}

// changeHooks adds to the transaction what the chains of single endpoints need. A chain
// that is right is not touched: a rate's bucket would be full again.
func (n *nft) changeHooks(is, should map[string]hook) (changed bool) {
	for _, way := range []struct {
		prefix string
		at     *nftables.ChainHook
		rules  func(hook) []rule
	}{{hookPrefix, nftables.ChainHookIngress, hook.in}, {outPrefix, nftables.ChainHookEgress, hook.out}} {
		same := func(id string) bool {
			a, b := way.rules(is[id]), way.rules(should[id])
			return !is[id].other && slices.EqualFunc(a, b, func(a, b rule) bool { return a.name == b.name })
		}
		for id := range is {
			if same(id) {
				continue
			}
			c := &nftables.Chain{Name: way.prefix + id, Table: n.table(nftables.TableFamilyNetdev)}
			// Up to Linux 6.15 it went with its device.
			if _, err := n.conn.ListChain(c.Table, c.Name); err == nil {
				n.conn.DelChain(c)
				changed = true
			}
		}
		for id, h := range should {
			rules := way.rules(h)
			if len(rules) == 0 || same(id) {
				continue
			}
			c := n.hookChain(way.prefix+id, way.at, h.device)
			n.conn.AddChain(c)
			n.addRules(c, rules, false)
			changed = true
		}
	}
	return changed
}

// prepare makes what the library cannot: sets that tell nft in which order their
// bytes are, without which it shows other classes and interfaces than there are, and
// would load these again; and the rule `fwd to` that sends packets to the ifb that a
// map has for the interface by which they came in. That is a transaction of its own,
// before the one that uses it.
func (n *nft) prepare(family nftables.TableFamily, is, should *tables, wanted map[chainName][]rule) (*tables, error) {
	var b batch
	now := *is
	now.exists, now.chains, now.elements = maps.Clone(is.exists), maps.Clone(is.chains), maps.Clone(is.elements)
	for _, k := range kinds {
		if k.family != family || len(should.elements[k.name]) == 0 || is.elements[k.name] != nil {
			continue
		}
		if !now.exists[k.family] {
			b.add(unix.NFT_MSG_NEWTABLE, mdnetlink.Create, k.family, func(enc *mdnetlink.AttributeEncoder) {
				enc.String(unix.NFTA_TABLE_NAME, n.table(k.family).Name)
			})
			now.exists[k.family] = true
		}
		b.add(unix.NFT_MSG_NEWSET, mdnetlink.Create, k.family, n.newSet(k, len(b.msgs)+1))
		now.elements[k.name] = map[string]element{}
	}
	name := chainName{nftables.TableFamilyNetdev, chainToIfb}
	rules := wanted[name]
	redirect := name.family == family && rules != nil && !ours(is.chains[name], rules)
	if redirect {
		table := n.table(name.family).Name
		if _, ok := is.chains[name]; !ok {
			b.add(unix.NFT_MSG_NEWCHAIN, mdnetlink.Create, name.family, func(enc *mdnetlink.AttributeEncoder) {
				enc.String(unix.NFTA_CHAIN_TABLE, table)
				enc.String(unix.NFTA_CHAIN_NAME, name.name)
			})
		}
		for _, old := range is.chains[name] {
			if old.name != "" {
				b.add(unix.NFT_MSG_DELRULE, 0, name.family, func(enc *mdnetlink.AttributeEncoder) {
					enc.String(unix.NFTA_RULE_TABLE, table)
					enc.String(unix.NFTA_RULE_CHAIN, name.name)
					enc.Uint64(unix.NFTA_RULE_HANDLE, old.handle)
				})
			}
		}
		k := kindOf("to-ifb")
		load := append(slices.Clone(k.load), &expr.Lookup{SourceRegister: reg32, SetName: k.name, DestRegister: reg32, IsDestRegSet: true})
		b.add(unix.NFT_MSG_NEWRULE, mdnetlink.Create, name.family, newFwd(table, name, load, rules[0].name))
	}
	if len(b.msgs) == 0 {
		return is, nil
	}
	if err := b.send(n.netns); err != nil {
		return nil, err
	}
	if redirect {
		var err error
		if now.chains[name], err = n.rulesOf(n.chain(name)); err != nil {
			return nil, err
		}
	}
	return &now, nil
}

// hostOrder is what NFTNL_UDATA_SET_*BYTEORDER calls the order of this machine.
const hostOrder = 1

// newSet is what makes a set or map.
func (n *nft) newSet(k *kind, id int) func(*mdnetlink.AttributeEncoder) {
	s := n.set(k)
	var flags uint32
	var userData []byte
	if k.key == nftables.TypeIFIndex {
		userData = userdata.AppendUint32(userData, userdata.NFTNL_UDATA_SET_KEYBYTEORDER, hostOrder)
	}
	if s.IsMap { // of classes or interfaces
		flags |= unix.NFT_SET_MAP
		userData = userdata.AppendUint32(userData, userdata.NFTNL_UDATA_SET_DATABYTEORDER, hostOrder)
	}
	if s.Concatenation {
		flags |= nftables.NFT_SET_CONCAT
	}
	return func(enc *mdnetlink.AttributeEncoder) {
		enc.String(unix.NFTA_SET_TABLE, s.Table.Name)
		enc.String(unix.NFTA_SET_NAME, s.Name)
		enc.Uint32(unix.NFTA_SET_FLAGS, flags)
		enc.Uint32(unix.NFTA_SET_KEY_TYPE, s.KeyType.GetNFTMagic())
		enc.Uint32(unix.NFTA_SET_KEY_LEN, s.KeyType.Bytes)
		if s.IsMap {
			enc.Uint32(unix.NFTA_SET_DATA_TYPE, s.DataType.GetNFTMagic())
			enc.Uint32(unix.NFTA_SET_DATA_LEN, s.DataType.Bytes)
		}
		enc.Uint32(unix.NFTA_SET_ID, uint32(id))
		if s.Concatenation {
			enc.Nested(unix.NFTA_SET_DESC, func(enc *mdnetlink.AttributeEncoder) error {
				enc.Nested(nftables.NFTA_SET_DESC_CONCAT, func(enc *mdnetlink.AttributeEncoder) error {
					for _, t := range nftables.ConcatSetTypeElements(s.KeyType) {
						enc.Nested(unix.NFTA_LIST_ELEM, func(enc *mdnetlink.AttributeEncoder) error {
							enc.Uint32(setFieldLen, t.Bytes)
							return nil
						})
					}
					return nil
				})
				return nil
			})
		}
		if len(userData) != 0 {
			enc.Bytes(unix.NFTA_SET_USERDATA, userData)
		}
	}
}

const setFieldLen = 1 // NFTA_SET_FIELD_LEN

// newFwd is what inserts a rule that ends in `fwd to` the interface in the first
// register.
func newFwd(table string, chain chainName, load []expr.Any, comment string) func(*mdnetlink.AttributeEncoder) {
	return func(enc *mdnetlink.AttributeEncoder) {
		enc.String(unix.NFTA_RULE_TABLE, table)
		enc.String(unix.NFTA_RULE_CHAIN, chain.name)
		enc.Nested(unix.NFTA_RULE_EXPRESSIONS, func(enc *mdnetlink.AttributeEncoder) error {
			for _, e := range load {
				b, err := expr.Marshal(byte(chain.family), e)
				if err != nil {
					return err
				}
				enc.Bytes(unix.NLA_F_NESTED|unix.NFTA_LIST_ELEM, b)
			}
			enc.Nested(unix.NFTA_LIST_ELEM, func(enc *mdnetlink.AttributeEncoder) error {
				enc.String(unix.NFTA_EXPR_NAME, "fwd")
				enc.Nested(unix.NFTA_EXPR_DATA, func(enc *mdnetlink.AttributeEncoder) error {
					enc.Uint32(unix.NFTA_FWD_SREG_DEV, reg32)
					return nil
				})
				return nil
			})
			return nil
		})
		enc.Bytes(unix.NFTA_RULE_USERDATA, userdata.AppendString(nil, userdata.TypeComment, comment))
	}
}

// batch is a transaction of messages that the library does not make.
type batch struct {
	msgs []mdnetlink.Message
	errs []error
}

func (b *batch) add(kind int, flags mdnetlink.HeaderFlags, family nftables.TableFamily, attrs func(*mdnetlink.AttributeEncoder)) {
	enc := mdnetlink.NewAttributeEncoder()
	enc.ByteOrder = binary.BigEndian
	attrs(enc)
	data, err := enc.Encode()
	b.errs = append(b.errs, err)
	b.msgs = append(b.msgs, mdnetlink.Message{
		Header: mdnetlink.Header{Type: mdnetlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: mdnetlink.Request | mdnetlink.Acknowledge | flags},
		Data:   append([]byte{byte(family), 0, 0, 0}, data...),
	})
}

func (b *batch) send(ns int) error {
	if err := errors.Join(b.errs...); err != nil {
		return err
	}
	conn, err := dialNetlink(unix.NETLINK_NETFILTER, ns)
	if err != nil {
		return err
	}
	defer conn.Close()
	frame := func(kind int) mdnetlink.Message {
		return mdnetlink.Message{
			Header: mdnetlink.Header{Type: mdnetlink.HeaderType(kind), Flags: mdnetlink.Request},
			Data:   binary.BigEndian.AppendUint16([]byte{0, 0}, unix.NFNL_SUBSYS_NFTABLES),
		}
	}
	if _, err := conn.SendMessages(slices.Concat(
		[]mdnetlink.Message{frame(unix.NFNL_MSG_BATCH_BEGIN)}, b.msgs, []mdnetlink.Message{frame(unix.NFNL_MSG_BATCH_END)},
	)); err != nil {
		return err
	}
	for acks := 0; acks < len(b.msgs); {
		replies, err := conn.Receive()
		if err != nil {
			return err
		}
		acks += len(replies)
	}
	return nil
}

// read returns what the kernel has of the owner's tables. It begins again when a
// change of them interrupts it.
func (n *nft) read() (is *tables, err error) {
	for range 10 {
		if is, err = n.readOnce(); err == nil {
			return is, nil
		}
		n.reopen()
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	return is, err
}

func (n *nft) readOnce() (*tables, error) {
	is := newTables()
	for _, family := range families {
		table := n.table(family)
		if _, err := n.conn.ListTableOfFamily(table.Name, family); errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("nftables table %s: %w", table.Name, err)
		}
		is.exists[family] = true
		chains, err := n.conn.ListChainsOfTableFamily(family)
		if err != nil {
			return nil, fmt.Errorf("nftables chains: %w", err)
		}
		for _, c := range chains {
			if c.Table.Name != table.Name {
				continue
			}
			name := chainName{family, c.Name}
			id, isHook := strings.CutPrefix(c.Name, hookPrefix)
			if !isHook {
				id, isHook = strings.CutPrefix(c.Name, outPrefix)
			}
			isHook = isHook && family == nftables.TableFamilyNetdev && c.Hooknum != nil
			if !isHook && !slices.ContainsFunc(kinds, func(k *kind) bool { return k.family == family && k.chain == c.Name }) {
				is.foreign[family] = true
				continue
			}
			rules, err := n.rulesOf(c)
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if !isHook {
				is.chains[name] = rules
				is.foreign[family] = is.foreign[family] || slices.ContainsFunc(rules, func(r rulePlace) bool { return r.name == "" })
				continue
			}
			h := is.hooks[id]
			h.read(rules, strings.HasPrefix(c.Name, outPrefix))
			is.hooks[id] = h
		}
		sets, err := n.conn.GetSets(table)
		if err != nil {
			return nil, fmt.Errorf("nftables sets of table %s: %w", table.Name, err)
		}
		for _, s := range sets {
			k := kindOf(s.Name)
			if k == nil || k.family != family {
				is.foreign[family] = true
				continue
			}
			elements, err := n.conn.GetSetElements(n.set(k))
			if err != nil {
				return nil, fmt.Errorf("nftables set %s: %w", k.name, err)
			}
			is.elements[k.name] = map[string]element{}
			for _, e := range elements {
				is.elements[k.name][string(e.Key)] = element{string(e.Val), e.Comment}
			}
		}
	}
	return is, nil
}

// read adds what the rules of one chain say. What they do not say makes it another one.
func (h *hook) read(rules []rulePlace, out bool) {
	for _, r := range rules {
		words := strings.Split(r.name, " ")
		if len(words) < 2 {
			continue // somebody else's, behind ours
		}
		h.device = words[1]
		var rate int64
		if len(words) == 3 {
			rate, _ = strconv.ParseInt(words[2], 10, 64)
		}
		switch words[0] {
		case fromPPS:
			h.fromPPS = rate
		case toPPS:
			h.toPPS = rate
		case chainSources:
			h.sources = true
		case chainToIfb:
			h.redirect = true
		}
	}
	want := h.in()
	if out {
		want = h.out()
	}
	h.other = h.other || len(want) == 0 || !ours(rules, want)
}

func (n *nft) rulesOf(c *nftables.Chain) ([]rulePlace, error) {
	rules, err := n.conn.GetRules(c.Table, c)
	if err != nil {
		return nil, fmt.Errorf("nftables chain %s of table %s: %w", c.Name, c.Table.Name, err)
	}
	places := []rulePlace{}
	for _, r := range rules {
		name, _ := userdata.GetString(r.UserData, userdata.TypeComment)
		places = append(places, rulePlace{name, r.Handle})
	}
	return places, nil
}

func has[K comparable, V any](m map[K]V, key K) bool { _, ok := m[key]; return ok }

func chainOrder(a, b chainName) int {
	return cmp.Or(cmp.Compare(a.family, b.family), cmp.Compare(a.name, b.name))
}

// ours tells whether a chain begins with just these rules. What others have put
// behind them does not matter.
func ours(have []rulePlace, want []rule) bool {
	if len(have) < len(want) {
		return false
	}
	for i, r := range have {
		if i < len(want) && r.name != want[i].name || i >= len(want) && r.name != "" {
			return false
		}
	}
	return true
}
