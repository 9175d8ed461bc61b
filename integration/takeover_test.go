// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/netns"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// setupPrevious is a daemon of the previous build with a network, which goes on as
// the build under test when takeOver is called.
func setupPrevious(t *testing.T) (h netHost, d *daemon.Daemon, takeOver func()) {
	t.Helper()
	require.Previous(t)
	require.NetRate(t)
	h = newNetHost(t, netns.New(t), netns.New(t))
	h.Must(t, "sysctl", "-qw", "net.ipv4.ip_forward=1") // see setupHands
	d, err := daemon.StartWith(daemon.Previous, h.NS, "--live-restore")
	assert.NilError(t, err)
	daemon.Until(t, d)
	t.Cleanup(func() { d.RemoveAll(t) })
	return h, d, func() {
		t.Helper()
		d.Kill(t)
		d.Use(t, nil)
		d.StartAgain(t)
	}
}

func TestTakeoverOfRunningContainers(t *testing.T) {
	place.OnHost(t)
	h, d, takeOver := setupPrevious(t)
	clean := h.leftovers(t)
	d.Must(t, "run", "-d", "--name=c1", "--restart=always", "--pids-limit=100", "--memory=64m", "--memory-swap=64m",
		"--blkio-read-limit=40m", "--blkio-write-iops-limit=100", "--net-classid=10:1", rateFlag(t, "egress", 8), rateFlag(t, "ingress", 16),
		"busybox", "sleep", "600")
	disk := rootDisk(t, d)
	rates := map[string]diskRates{disk: {40 * mib, 0, 0, 100}}
	wantRates(t, d, "c1", rates)
	before := hostConfig(t, d, "c1")
	pid := d.Inspect(t, "c1").State.Pid

	takeOver()
	held := func() {
		t.Helper()
		wantRates(t, d, "c1", rates)
		assert.Equal(t, h.classOf(t, d, "c1", outside4), "10:1")
		assert.Equal(t, d.Must(t, "inspect", "-f", "{{json .LimitsNotInForce}}", "c1"), "null")
	}
	held()
	assert.Equal(t, d.Inspect(t, "c1").State.Pid, pid)
	assert.Check(t, is.Len(differing(before, hostConfig(t, d, "c1")), 0))
	serve(t, d, "c1")
	h.wantRate(t, addrOf(t, d, "c1", "bridge"), true, 8)
	h.wantRate(t, addrOf(t, d, "c1", "bridge"), false, 16)

	// Of something else, of each kind, and by a restart.
	d.Must(t, "update", "--cpu-shares=300", "c1")
	held()
	d.Must(t, "modresources", "--pids-limit=133", "--blkio-read-limit=20m", rateFlag(t, "egress", 24), "c1")
	rates[disk] = diskRates{20 * mib, 0, 0, 100}
	held()
	d.Cgroup(t, "c1").Want(t, "pids.max", "133")
	h.wantRate(t, addrOf(t, d, "c1", "bridge"), true, 24)
	d.Must(t, "restart", "-t", "0", "c1")
	held()
	d.Must(t, "rm", "-f", "c1")
	assert.Equal(t, h.leftovers(t), clean)
}

func TestTakeoverOfAnInterruptedUpdate(t *testing.T) {
	place.OnHost(t)
	_, d, takeOver := setupPrevious(t)
	d.Must(t, "run", "-d", "--name=box", "--pids-limit=100", "--memory=64m", "--memory-swap=64m", "busybox", "sleep", "600")
	old := settings{pids: 100, memory: 64 * mib}
	assert.Equal(t, agree(t, d, "box", false, ""), old)
	pending := filepath.Join(filepath.Dir(d.HostConfigFile(d.Inspect(t, "box").ID)), "update.pending.json")

	letGo := holdRuntime(t, d, "box")
	go func() {
		// dockerd dies before it answers.
		_, _ = d.TryAPI(http.MethodPost, "/containers/box/update", settings{pids: 133, memory: 128 * mib}.body(false, false))
	}()
	waitForRuntime(t, d)
	until(t, func() error {
		_, err := os.Stat(pending)
		return err
	})
	d.Kill(t)
	letGo()
	takeOver()
	assert.Equal(t, agree(t, d, "box", false, ""), old)
	_, err := os.Stat(pending)
	assert.ErrorIs(t, err, os.ErrNotExist)
	d.Must(t, "update", "--pids-limit=144", "box")
	d.Cgroup(t, "box").Want(t, "pids.max", "144")
}
