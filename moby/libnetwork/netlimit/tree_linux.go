// SPDX-License-Identifier: Apache-2.0

package netlimit

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Without maps a class is found by a tree of chains: each splits what it is asked for
// by the next four bits in which addresses (or ports) differ at all, so that no chain
// has more than fanOut rules for them and a packet goes through at most a chain for each
// four bits, however many endpoints there are. It leaves the tree by the last chain
// (--goto), not through those on the way.
const (
	fanOut   = 16
	fanBits  = 4
	portBits = 16
)

// chainRule is one of a chain of ours: it sends what it matches to another chain, or
// gives it a class. Its zero fields match all.
type chainRule struct {
	src         netip.Prefix
	proto       uint8
	first, last uint16 // of source ports
	hasPorts    bool
	out         string
	to          string // the other chain
	class       uint32
	endpoint    string // the comment
}

func (r chainRule) matches(p chainRule) bool {
	return (!r.src.IsValid() || p.src.IsValid() && r.src.Contains(p.src.Addr())) &&
		(r.proto == 0 || r.proto == p.proto) &&
		(!r.hasPorts || p.hasPorts && r.first <= p.first && p.first <= r.last) &&
		(r.out == "" || r.out == p.out)
}

// key is what a rule that gives a class stands for: the most general packet it matches.
func (r chainRule) key() chainRule {
	r.to, r.class, r.endpoint = "", 0, ""
	return r
}

// find returns the rules that give a packet classes, the last of which holds. What
// others have put into the chains does not count.
func find(chains map[string]*chainOf, root string, p chainRule) (found []chainRule) {
	for range 100 { // the kernel takes no loops
		c := chains[root]
		root = ""
		if c == nil {
			break
		}
		for _, r := range c.ours {
			if !r.matches(p) {
				continue
			}
			if r.to != "" {
				root = r.to
				break
			}
			found = append(found, r)
		}
	}
	return found
}

// chainOf is a chain as it is.
type chainOf struct {
	ours    []chainRule
	foreign []string // rules of others in it, as iptables writes them
	hidden  bool     // some of ours are behind those
}

const chainPrefix = "DOCKER-L-"

// maxOwner leaves room in a chain's name, which has 28 characters.
const maxOwner = 8

// treeBuilder makes the chains of one family of one owner.
type treeBuilder struct {
	prefix string
	chains map[string][]chainRule
	named  map[string]string // what a name stands for
}

// routedChain and localChain are the roots, which POSTROUTING and OUTPUT jump to.
func routedChain(owner string) string { return chainPrefix + owner + "-routed" }
func localChain(owner string) string  { return chainPrefix + owner + "-local" }

// name is always the same for the same place in the tree, so that a change leaves
// other chains alone.
func (b *treeBuilder) name(place string) string {
	for salt := 0; ; salt++ {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", place, salt))
		name := b.prefix + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:10])
		if at, ok := b.named[name]; !ok || at == place {
			b.named[name] = place
			return name
		}
	}
}

// treeOf returns the chains that give a family's packets the classes of elements.
func treeOf(owner string, v6 bool, elements map[string]map[string]element) map[string][]chainRule {
	b := &treeBuilder{prefix: chainPrefix + owner + "-", chains: map[string][]chainRule{}, named: map[string]string{}}
	v, addrLen := "4", 4
	if v6 {
		v, addrLen = "6", 16
	}
	var routed, local []chainRule
	for _, kind := range []struct {
		name              string
		addr, port, named bool
	}{
		{"class" + v, true, false, false}, {"prio" + v, true, false, true},
		{"port-class", false, true, false}, {"port-class" + v, true, true, false},
		{"port-prio", false, true, true}, {"port-prio" + v, true, true, true},
	} {
		for key, e := range elements[kind.name] {
			r := chainRule{class: binary.NativeEndian.Uint32([]byte(e.value)), endpoint: e.endpoint}
			rest := []byte(key)
			if kind.addr {
				addr, _ := netip.AddrFromSlice(rest[:addrLen])
				r.src = netip.PrefixFrom(addr, addr.BitLen())
				rest = rest[addrLen:]
			}
			if kind.port {
				r.proto, r.hasPorts = rest[0], true
				r.first = binary.BigEndian.Uint16(rest[4:])
				r.last = r.first
				rest = rest[8:]
			}
			if kind.named {
				r.out = string(bytes.TrimRight(rest, "\x00"))
			}
			if kind.port {
				local = append(local, r)
			} else {
				routed = append(routed, r)
			}
		}
	}
	if len(routed) != 0 {
		b.addrs(routedChain(owner), "routed", routed)
	}
	if len(local) != 0 {
		b.protos(localChain(owner), local)
	}
	return b.chains
}

// group returns rules by a part of what they match, in order. Rules of one part that
// hold for all interfaces come first, so that those for one hold in the end.
func group[K cmp.Ordered](rules []chainRule, part func(chainRule) K) (keys []K, groups map[K][]chainRule) {
	groups = map[K][]chainRule{}
	for _, r := range rules {
		groups[part(r)] = append(groups[part(r)], r)
	}
	for _, g := range groups {
		slices.SortFunc(g, func(a, b chainRule) int {
			return cmp.Or(strings.Compare(a.out, b.out), a.src.Addr().Compare(b.src.Addr()), cmp.Compare(a.class, b.class), strings.Compare(a.endpoint, b.endpoint))
		})
	}
	return slices.Sorted(maps.Keys(groups)), groups
}

func (b *treeBuilder) add(chain string, rules ...chainRule) {
	b.chains[chain] = append(b.chains[chain], rules...)
}

// leaf adds to a chain what one address, or port, has: a rule, or a chain of them.
func (b *treeBuilder) leaf(chain, place string, match chainRule, rules []chainRule) {
	if len(rules) == 1 {
		b.add(chain, rules[0])
		return
	}
	match.to = b.name(place)
	b.add(chain, match)
	b.add(match.to, rules...)
}

// addrs adds to a chain the tree of rules with a source.
func (b *treeBuilder) addrs(chain, place string, rules []chainRule) {
	keys, groups := group(rules, func(r chainRule) string { return string(r.src.Addr().AsSlice()) })
	match := chainRule{proto: rules[0].proto, first: rules[0].first, last: rules[0].last, hasPorts: rules[0].hasPorts}
	if len(keys) <= fanOut {
		for _, key := range keys {
			match.src = groups[key][0].src
			b.leaf(chain, fmt.Sprintf("%s of %s", place, match.src), match, groups[key])
		}
		return
	}
	first, last := keys[0], keys[len(keys)-1]
	common := 0
	for bitOf([]byte(first), common) == bitOf([]byte(last), common) {
		common++
	}
	bits := common - common%fanBits + fanBits
	nodes, below := group(rules, func(r chainRule) string {
		p, _ := r.src.Addr().Prefix(bits)
		return string(p.Addr().AsSlice())
	})
	for _, node := range nodes {
		inside := below[node]
		if same := inside[0].src; !slices.ContainsFunc(inside, func(r chainRule) bool { return r.src != same }) {
			match.src = same
			b.leaf(chain, fmt.Sprintf("%s of %s", place, same), match, inside)
			continue
		}
		match.src, _ = inside[0].src.Addr().Prefix(bits)
		match.to = b.name(fmt.Sprintf("%s in %s", place, match.src))
		b.add(chain, match)
		b.addrs(match.to, place, inside)
		match.to = ""
	}
}

func bitOf(b []byte, i int) byte { return b[i/8] >> (7 - i%8) & 1 }

// protos adds to a chain the tree of rules with a protocol and a source port.
func (b *treeBuilder) protos(chain string, rules []chainRule) {
	keys, groups := group(rules, func(r chainRule) int { return int(r.proto) })
	for _, proto := range keys {
		to := b.name("protocol " + strconv.Itoa(proto))
		b.add(chain, chainRule{proto: uint8(proto), to: to})
		b.ports(to, 0, groups[proto])
	}
}

// ports goes on with rules of one protocol, the first bits of whose ports are the same.
func (b *treeBuilder) ports(chain string, bits int, rules []chainRule) {
	keys, groups := group(rules, func(r chainRule) uint16 { return r.first })
	proto := rules[0].proto
	if len(keys) <= fanOut {
		for _, port := range keys {
			b.port(chain, groups[port])
		}
		return
	}
	for (keys[0]^keys[len(keys)-1])>>(portBits-bits-fanBits) == 0 {
		bits += fanBits
	}
	bits += fanBits
	shift := portBits - bits
	nodes, below := group(rules, func(r chainRule) uint16 { return r.first >> shift })
	for _, node := range nodes {
		inside := below[node]
		if _, ports := group(inside, func(r chainRule) uint16 { return r.first }); len(ports) == 1 {
			b.port(chain, inside)
			continue
		}
		r := chainRule{proto: proto, hasPorts: true, first: node << shift, last: node<<shift | (1<<shift - 1)}
		r.to = b.name(fmt.Sprintf("protocol %d, ports %d to %d", proto, r.first, r.last))
		b.add(chain, r)
		b.ports(r.to, bits, inside)
	}
}

// port adds to a chain the rules of one port: of all addresses, then of single ones.
func (b *treeBuilder) port(chain string, rules []chainRule) {
	if len(rules) == 1 {
		b.add(chain, rules[0])
		return
	}
	match := rules[0].key()
	match.src, match.out = netip.Prefix{}, ""
	place := fmt.Sprintf("protocol %d, port %d", match.proto, match.first)
	match.to = b.name(place)
	b.add(chain, match)
	_, groups := group(rules, func(r chainRule) string {
		if r.src.IsValid() {
			return "single"
		}
		return "all"
	})
	b.add(match.to, groups["all"]...)
	if single := groups["single"]; len(single) != 0 {
		b.addrs(match.to, place, single)
	}
}

var protoNames = map[uint8]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_SCTP: "sctp"}

// String is the rule as iptables-restore reads it.
func (r chainRule) String() string {
	var s strings.Builder
	if r.src.IsValid() {
		fmt.Fprintf(&s, "-s %s ", r.src)
	}
	if r.out != "" {
		fmt.Fprintf(&s, "-o %s ", quoted(r.out))
	}
	if r.proto != 0 {
		name := protoNames[r.proto]
		if name == "" {
			name = strconv.Itoa(int(r.proto))
		}
		fmt.Fprintf(&s, "-p %s ", name)
		if r.hasPorts {
			fmt.Fprintf(&s, "-m %s --sport %d", name, r.first)
			if r.last != r.first {
				fmt.Fprintf(&s, ":%d", r.last)
			}
			s.WriteString(" ")
		}
	}
	if r.endpoint != "" {
		fmt.Fprintf(&s, "-m comment --comment %s ", quoted(r.endpoint))
	}
	if r.to != "" {
		fmt.Fprintf(&s, "-g %s", r.to)
	} else {
		fmt.Fprintf(&s, "-j CLASSIFY --set-class %x:%x", r.class>>16, r.class&0xffff)
	}
	return s.String()
}

func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// parseRule reads a rule as iptables-save writes it. It does not know what is not of
// ours.
func parseRule(text string, v6 bool) (r chainRule, ok bool) {
	words := splitRule(text)
	targets := 0
	for i := 0; i < len(words); i += 2 {
		if i+1 == len(words) {
			return r, false
		}
		value := words[i+1]
		var err error
		switch words[i] {
		case "-s":
			r.src, err = netip.ParsePrefix(value)
			if err == nil && (r.src.Addr().Is6() != v6 || r.src.Masked() != r.src) {
				return r, false
			}
		case "-o":
			r.out = value
			if strings.HasSuffix(value, "+") {
				return r, false // all that begin so
			}
		case "-p":
			for p, name := range protoNames {
				if value == name || value == strconv.Itoa(int(p)) {
					r.proto = p
				}
			}
			if r.proto == 0 {
				return r, false
			}
		case "-m":
			if value != "comment" && value != protoNames[r.proto] {
				return r, false
			}
		case "--sport":
			r.hasPorts = true
			first, last, isRange := strings.Cut(value, ":")
			if !isRange {
				last = first
			}
			var n [2]uint64
			for i, s := range []string{first, last} {
				if n[i], err = strconv.ParseUint(s, 10, 16); err != nil {
					return r, false
				}
			}
			r.first, r.last = uint16(n[0]), uint16(n[1])
		case "--comment":
			r.endpoint = value
		case "-g":
			r.to = value
			targets++
		case "-j":
			targets++
			if value != "CLASSIFY" {
				return r, false
			}
		case "--set-class":
			major, minor, _ := strings.Cut(value, ":")
			var n [2]uint64
			for i, s := range []string{major, minor} {
				if n[i], err = strconv.ParseUint(s, 16, 16); err != nil {
					return r, false
				}
			}
			r.class = uint32(n[0]<<16 | n[1])
		default:
			return r, false
		}
		if err != nil {
			return r, false
		}
	}
	return r, targets == 1
}

// splitRule splits at spaces. Texts are quoted where they have to be, but names of
// interfaces, which have no space, are not.
func splitRule(text string) (words []string) {
	for text != "" {
		isName := len(words) != 0 && words[len(words)-1] == "-o"
		if !isName && text[0] == '"' {
			var word strings.Builder
			i := 1
			for ; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' && i+1 < len(text) {
					i++
				}
				word.WriteByte(text[i])
			}
			words = append(words, word.String())
			text = strings.TrimPrefix(text[min(i+1, len(text)):], " ")
			continue
		}
		word, rest, _ := strings.Cut(text, " ")
		words = append(words, word)
		text = rest
	}
	return words
}
