// SPDX-License-Identifier: Apache-2.0

package netlimit

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// asRead is what iptables-save shows of a tree that both hooks jump to.
func asRead(owner string, v6 bool, tree map[string][]chainRule) *mangleTable {
	var s strings.Builder
	for name := range tree {
		fmt.Fprintf(&s, ":%s - [0:0]\n", name)
	}
	for chain, root := range roots(owner) {
		if tree[root] != nil {
			fmt.Fprintf(&s, "-A %s -j %s\n", chain, root)
		}
	}
	for name, rules := range tree {
		for _, r := range rules {
			// It quotes a name of an interface nowhere.
			text := r.String()
			if r.out != "" {
				text = strings.Replace(text, "-o "+quoted(r.out), "-o "+r.out, 1)
			}
			fmt.Fprintf(&s, "-A %s %s\n", name, text)
		}
	}
	return parseMangle(s.String(), v6)
}

// shape is the longest chain and the longest way through chains.
func treeShape(tree map[string][]chainRule, root string) (longest, depth int) {
	longest = len(tree[root])
	for _, r := range tree[root] {
		if r.to != "" {
			l, d := treeShape(tree, r.to)
			longest, depth = max(longest, l), max(depth, d)
		}
	}
	return longest, depth + 1
}

// Each address finds its class and no other does, in chains that do not grow.
func TestTreeOfAddresses(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, v6 := range []bool{false, true} {
		for _, dense := range []bool{false, true} {
			for _, n := range []int{1, 2, 16, 17, 300, 5000} {
				size, v := 4, "4"
				if v6 {
					size, v = 16, "6"
				}
				addr := func(i int) []byte {
					b := make([]byte, size)
					if dense {
						b[0] = 10
						binary.BigEndian.PutUint16(b[size-2:], uint16(i))
						return b
					}
					for j := range b {
						b[j] = byte(random.Uint32())
					}
					return b
				}
				is := newTables()
				classes := map[string]uint32{}
				for i := range n {
					a, class := addr(i), random.Uint32()|1
					classes[string(a)] = class
					if i%5 == 4 {
						is.add("prio"+v, slices.Concat(a, ifname("up0")), priority(class), fmt.Sprint("ep", i))
						is.add("prio"+v, slices.Concat(a, ifname(`q"\'x`)), priority(class+1), fmt.Sprint("ep", i))
					} else {
						is.add("class"+v, a, priority(class), fmt.Sprint("ep", i))
					}
				}
				tree := treeOf("test", v6, is.elements)
				longest, depth := treeShape(tree, routedChain("test"))
				assert.Assert(t, longest <= fanOut, "v%s, dense %t, %d: a chain of %d", v, dense, n, longest)
				assert.Assert(t, depth <= size*8/fanBits+1, "v%s, dense %t, %d: a way through %d chains", v, dense, n, depth)

				m := asRead("test", v6, tree)
				for name := range tree {
					assert.Assert(t, len(name) <= 28, name)
				}
				read := newTables()
				m.elements("test", read)
				for _, kind := range []string{"class" + v, "prio" + v} {
					assert.Assert(t, maps.Equal(read.elements[kind], is.elements[kind]), kind)
				}
				lines, err := m.difference("test", tree)
				assert.NilError(t, err)
				assert.Equal(t, len(lines), 0)
				look := func(a []byte, out string) uint32 {
					ip, _ := netip.AddrFromSlice(a)
					found := find(m.chains, routedChain("test"), chainRule{src: netip.PrefixFrom(ip, ip.BitLen()), out: out})
					if len(found) == 0 {
						return 0
					}
					return found[len(found)-1].class
				}
				for a, class := range classes {
					assert.Equal(t, look([]byte(a), "up0"), class)
				}
				for range 1000 {
					a := addr(random.IntN(60000))
					assert.Equal(t, look(a, "up0"), classes[string(a)], "%v", a)
				}
			}
		}
	}
}

func TestTreeOfPorts(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{1, 16, 17, 300, 5000} {
		is := newTables()
		type port struct {
			proto uint8
			port  uint16
		}
		classes := map[port]uint32{}
		for i := range n {
			p := port{[]uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP}[i%2], uint16(8000 + i)}
			if n < 1000 {
				p.port = uint16(random.Uint32())
			}
			classes[p] = random.Uint32() | 1
			is.add("port-class", []byte{p.proto, 0, 0, 0, byte(p.port >> 8), byte(p.port), 0, 0}, priority(classes[p]), fmt.Sprint("ep", i))
		}
		// One port of many of the host's addresses.
		for i := range n {
			is.add("port-class4", []byte{10, 1, byte(i >> 8), byte(i), unix.IPPROTO_TCP, 0, 0, 0, 0, 53, 0, 0}, priority(uint32(i+1)), "dns")
		}
		tree := treeOf("test", false, is.elements)
		longest, depth := treeShape(tree, localChain("test"))
		assert.Assert(t, longest <= fanOut, "%d: a chain of %d", n, longest)
		assert.Assert(t, depth <= 1+portBits/fanBits+32/fanBits+1, "%d: a way through %d chains", n, depth)
		m := asRead("test", false, tree)
		read := newTables()
		m.elements("test", read)
		for _, kind := range []string{"port-class", "port-class4"} {
			assert.Assert(t, maps.Equal(read.elements[kind], is.elements[kind]), kind)
		}
		for p := range 65536 {
			for _, proto := range []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
				found := find(m.chains, localChain("test"), chainRule{proto: proto, first: uint16(p), last: uint16(p), hasPorts: true})
				var class uint32
				if len(found) != 0 {
					class = found[len(found)-1].class
				}
				assert.Equal(t, class, classes[port{proto, uint16(p)}])
			}
		}
	}
}

// What is behind a rule of somebody else counts as lost, and theirs stays.
func TestForeignRulesInTheTree(t *testing.T) {
	is := newTables()
	is.add("class4", []byte{10, 0, 0, 1}, priority(7), "ep1")
	root := routedChain("test")
	tree := treeOf("test", false, is.elements)
	rule := tree[root][0].String()
	text := fmt.Sprintf(":%[1]s - [0:0]\n-A POSTROUTING -j MARK --set-xmark 0x1/0x1\n-A POSTROUTING -j %[1]s\n", root)
	elements := func(text string) int {
		t := newTables()
		parseMangle(text, false).elements("test", t)
		return len(t.elements["class4"])
	}
	assert.Equal(t, elements(text+"-A "+root+" "+rule+"\n"), 1)
	assert.Equal(t, elements(strings.Replace(text, "MARK --set-xmark 0x1/0x1", "ACCEPT", 1)+"-A "+root+" "+rule+"\n"), 0)
	foreign := text + "-A " + root + " -s 1.2.3.4/32 -j ACCEPT\n-A " + root + " " + rule + "\n"
	assert.Equal(t, elements(foreign), 0)
	lines, err := parseMangle(foreign, false).difference("test", tree)
	assert.NilError(t, err)
	assert.DeepEqual(t, lines, []string{":" + root + " - [0:0]", "-A " + root + " " + rule, "-A " + root + " -s 1.2.3.4/32 -j ACCEPT"})
	lines, err = parseMangle(foreign, false).difference("test", nil)
	assert.NilError(t, err)
	assert.DeepEqual(t, lines, []string{":" + root + " - [0:0]", "-A " + root + " -s 1.2.3.4/32 -j ACCEPT", "-D POSTROUTING -j " + root})
}
