// SPDX-License-Identifier: Apache-2.0

package netlimit

import (
	"net/netip"
	"strings"
	"testing"
)

// What iptables prints is not all ours; a rule of ours is read as it was made.
func FuzzClassTable(f *testing.F) {
	for _, s := range []string{
		"-P POSTROUTING ACCEPT\n-N DOCKER-NETCLASS\n-A POSTROUTING -j DOCKER-NETCLASS\n",
		`-A DOCKER-NETCLASS -s 172.17.0.2/32 -o eth0 -m comment --comment abc -j CLASSIFY --set-class 0010:0001`,
		"-A DOCKER-NETCLASS -s", "-A DOCKER-NETCLASS -s x -j y", "-A DOCKER-NETCLASS --set-class : -s ::/0", `-A DOCKER-NETCLASS --comment "a b" -j CLASSIFY`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, list string) {
		table, err := parseClassTable(list)
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an error without words")
			}
			return
		}
		for _, r := range table.rules {
			if !r.src.IsValid() || r.src.Zone() != "" || strings.ContainsAny(r.endpoint+r.out, " \t\"\\") || r.endpoint == "" || r.out == "" {
				continue // not one that we make, or one that iptables shows in another way
			}
			args := "-A " + r.spec()
			again, err := parseClassTable(args)
			if err != nil || len(again.rules) != 1 || again.rules[0] != r {
				t.Fatalf("%+v is written as %q and read as %+v, %v", r, args, again.rules, err)
			}
		}
	})
}

// The least rate is the least that works, and no configuration overflows.
func FuzzShape(f *testing.F) {
	for _, bits := range []int64{0, 7, 8, 1000, 20e6, 1 << 40, 1<<63 - 1} {
		f.Add(bits, 1500)
		f.Add(bits, 65536)
	}
	f.Fuzz(func(t *testing.T, bits int64, mtu int) {
		if mtu < 68 || mtu > 65536 || bits < 0 {
			return
		}
		s, err := shapeFor(bits, mtu)
		if (err == nil) != (bits >= MinRate(mtu)) {
			t.Fatalf("%d bit/s at MTU %d: %v, the least is %d", bits, mtu, err, MinRate(mtu))
		}
		if err == nil && (s.rate != uint64(bits)/8 || uint64(s.burst) < uint64(mtu) || s.limit < s.burst) {
			t.Fatalf("%d bit/s at MTU %d: %+v", bits, mtu, s)
		}
	})
}

func TestClassRuleReadsBack(t *testing.T) {
	r := classRule{endpoint: "abc", src: netip.MustParseAddr("172.17.0.2"), out: "eth0", class: 1<<16 | 1}
	again, err := parseClassTable("-A " + r.spec())
	if err != nil || len(again.rules) != 1 || again.rules[0] != r {
		t.Fatalf("%+v, %v", again, err)
	}
}
