// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/netns"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"gotest.tools/v3/assert"
)

// What uninstall does to a host whose dockerd was stopped: the containers run on,
// without limits of networks, and what is an administrator's stays.
func TestNetUninstallLeavesNothing(t *testing.T) {
	place.OnHost(t)
	require.NetRate(t)
	h := newNetHost(t, netns.New(t), netns.New(t))
	d, err := daemon.StartIn(h.NS, netArgs...)
	assert.NilError(t, err)
	daemon.Until(t, d)
	t.Cleanup(func() { d.RemoveAll(t) })
	script, err := filepath.Abs("../scripts/host/limits.sh")
	assert.NilError(t, err)
	clean := h.leftovers(t)
	h.Must(t, "ip", "link", "add", "ifbother", "type", "ifb")
	defer func() { _, _ = h.Run("ip", "link", "del", "ifbother") }()
	d.Must(t, "run", "-d", "--name=plain", "busybox", "sleep", "inf")
	before := h.leftovers(t)
	d.Must(t, "run", "-d", "--name=c1", "--net-classid=10:1", rateFlag(t, "egress", 8), rateFlag(t, "ingress", 16), "busybox", "sleep", "inf")
	serve(t, d, "c1")
	addr := addrOf(t, d, "c1", "bridge")
	h.wantRate(t, addr, true, 8)
	id := d.Inspect(t, "c1").ID
	root := filepath.Dir(filepath.Dir(filepath.Dir(d.HostConfigFile(id))))

	d.Kill(t)
	list := h.Must(t, "env", "DATA_ROOT="+root, script, "list")
	assert.Assert(t, strings.Contains(list, "c1 ("+id[:12]+"): ") && strings.Contains(list, "NetClassID:1048577"), list)
	assert.Assert(t, !strings.Contains(list, "plain"), list)
	clear := []string{"env", "DOCKERD=" + filepath.Join(require.Bin(), "dockerd"), script, "clear"}
	h.Must(t, clear...)
	h.wantFree(t, addr, true)
	h.wantFree(t, addr, false)
	for _, cmd := range []string{"ip -o link show group 3340", "nft list tables", "tc qdisc"} {
		out := h.Must(t, strings.Fields(cmd)...)
		for _, trace := range []string{"ifb", "docker-limits", "tbf"} {
			assert.Assert(t, !strings.Contains(strings.ReplaceAll(out, "ifbother", ""), trace), "%s: %s", cmd, out)
		}
	}
	h.Must(t, clear...)

	// These programs again: the limits come back.
	d.StartAgain(t)
	h.wantRate(t, addr, true, 8)
	assert.Equal(t, h.classOf(t, d, "c1", outside4), "10:1")
	d.Must(t, "rm", "-f", "c1")
	assert.Equal(t, h.leftovers(t), before)
	d.Must(t, "rm", "-f", "plain")
	h.Must(t, "ip", "link", "del", "ifbother")
	assert.Equal(t, h.leftovers(t), clean)
}
