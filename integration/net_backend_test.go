// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/netns"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"gotest.tools/v3/assert"
)

// Limits stand beside whichever iptables dockerd's own rules are made with.
func TestNetLimitsBesideBothKindsOfIptables(t *testing.T) {
	place.OnHost(t)
	require.NetRate(t)
	for _, kind := range []string{"nft", "legacy"} {
		t.Run(kind, func(t *testing.T) {
			bin := t.TempDir()
			for _, name := range []string{"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"} {
				family, rest, _ := strings.Cut(name, "tables")
				path, err := exec.LookPath(family + "tables-" + kind + rest)
				assert.NilError(t, err)
				assert.NilError(t, os.Symlink(path, filepath.Join(bin, name)))
			}
			t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
			limitsHold(t, func(h netHost) {
				rules := h.Must(t, filepath.Join(bin, "iptables"), "-t", "nat", "-S")
				assert.Assert(t, strings.Contains(rules, "-N DOCKER"), "dockerd uses another iptables: %s", rules)
			})
		})
	}
}

// Docker 29 can make its own rules in tables of nftables: ours stand beside them.
func TestNetLimitsBesideTheNftablesOfDocker(t *testing.T) {
	place.OnHost(t)
	require.NetRate(t)
	require.NftFirewall(t)
	limitsHold(t, func(h netHost) {
		wantWords(t, h.Must(t, "nft", "list", "tables"), "table ip docker-bridges\n")
		rules := h.Must(t, "iptables", "-t", "nat", "-S")
		assert.Assert(t, !strings.Contains(rules, "DOCKER"), rules)
	}, "--firewall-backend=nftables")
}

// limitsHold runs a container with limits beside the rules that dockerd makes with args,
// which check looks at.
func limitsHold(t *testing.T, check func(netHost), args ...string) {
	t.Helper()
	h := newNetHost(t, netns.New(t), netns.New(t))
	h.Must(t, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding") // with nftables dockerd leaves it to the administrator
	d, err := daemon.StartIn(h.NS, append(slices.Clone(netArgs), args...)...)
	assert.NilError(t, err)
	daemon.Until(t, d)
	t.Cleanup(func() { d.RemoveAll(t) })
	clean := h.leftovers(t)
	check(h)

	d.Must(t, "run", "-d", "--name=c1", "--net-classid=10:1", rateFlag(t, "egress", 8), rateFlag(t, "ingress", 16), "busybox", "sleep", "600")
	serve(t, d, "c1")
	addr := addrOf(t, d, "c1", "bridge")
	h.wantRate(t, addr, true, 8)
	h.wantRate(t, addr, false, 16)
	assert.Equal(t, h.classOf(t, d, "c1", outside4), "10:1")
	d.Must(t, "update", "--net-classid=10:3", "c1")
	assert.Equal(t, h.classOf(t, d, "c1", outside4), "10:3")
	d.Kill(t)
	d.StartAgain(t)
	assert.Equal(t, h.classOf(t, d, "c1", outside4), "10:3")
	d.Must(t, "rm", "-f", "c1")
	assert.Equal(t, h.leftovers(t), clean)
}
