// SPDX-License-Identifier: Apache-2.0

package netlimit

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"gotest.tools/v3/assert"
)

// An endpoint that has gone leaves nothing, also where its chains went with its
// interface, as up to Linux 6.15.
func TestGoneEndpointLeavesNothing(t *testing.T) {
	for _, s := range []Settings{{EgressPPS: 500}, {IngressPPS: 500}, {EgressPPS: 500, IngressPPS: 500}, {Egress: 8e6}, {Class: 7}, all} {
		e := newTestEnd(t, "ep1")
		assert.NilError(t, e.l.Run(func([]Change) {}, func(map[string]bool) {}))
		assert.NilError(t, e.l.Set(ep1, s))
		conn, err := nftables.New(nftables.WithNetNSFd(int(e.host)))
		assert.NilError(t, err)
		there := func() bool {
			for _, family := range families {
				all, err := conn.ListTablesOfFamily(family)
				assert.NilError(t, err)
				if slices.ContainsFunc(all, func(table *nftables.Table) bool { return strings.HasPrefix(table.Name, tablePrefix) }) {
					return true
				}
			}
			return false
		}
		// Another one that goes first: its chains are all that there is of it.
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "vethother"
		assert.NilError(t, e.nlh.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth1", PeerNamespace: netlink.NsFd(e.ctr)}))
		other, err := e.nlh.LinkByName(attrs.Name)
		assert.NilError(t, err)
		assert.NilError(t, Tag(e.nlh, other, "ep2"))
		assert.NilError(t, e.l.Set(Endpoint{ID: "ep2"}, Settings{EgressPPS: 5}))
		assert.NilError(t, e.nlh.LinkDel(other))
		wait(t, "the end of the other", func() bool {
			e.l.mu.Lock()
			defer e.l.mu.Unlock()
			return e.l.endpoints["ep2"] == nil
		})
		wait(t, fmt.Sprintf("the table of %+v", s), func() bool { return there() })
		assert.NilError(t, e.nlh.LinkDel(e.end))
		wait(t, fmt.Sprintf("the end of the table of %+v", s), func() bool { return !there() })
	}
}
