// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/netns"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"gotest.tools/v3/assert"
)

// A bus that lets anybody do anything, and no other rule of a real one.
const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=%s</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow receive_sender="*" eavesdrop="true"/>
  </policy>
</busconfig>
`

// startFirewalld runs a firewalld in ns, on a system bus of its own.
func startFirewalld(t *testing.T, ns *netns.NS) {
	t.Helper()
	dir := t.TempDir()
	bus := filepath.Join(dir, "bus")
	config := filepath.Join(dir, "bus.conf")
	assert.NilError(t, os.WriteFile(config, fmt.Appendf(nil, busConfig, bus), 0o600))
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+bus)
	var log bytes.Buffer
	start := func(args ...string) {
		t.Helper()
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdout, cmd.Stderr = &log, &log
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		assert.NilError(t, ns.Do(cmd.Start))
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			if t.Failed() {
				t.Logf("%s: %s", args[0], log.String())
			}
		})
	}
	start("dbus-daemon", "--config-file="+config, "--nofork", "--nopidfile", "--nosyslog")
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(bus); err == nil {
			break
		}
		assert.Assert(t, time.Now().Before(end), "no bus")
	}
	start("firewalld", "--nofork", "--nopid", "--system-config="+filepath.Join(dir, "firewalld"))
	for end := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		out, err := ns.Run("firewall-cmd", "--state")
		if err == nil {
			return
		}
		assert.Assert(t, time.Now().Before(end), "firewall-cmd --state: %v %s", err, out)
	}
}

// A reload throws away the rules of iptables. Limits need none of those, nor that
// dockerd may make any.
func TestNetLimitsHoldAfterAReloadOfFirewalld(t *testing.T) {
	place.OnDemand(t, "make integration RUN=TestNetLimitsHoldAfterAReloadOfFirewalld")
	require.NetRate(t)
	require.Firewalld(t)
	h := newNetHost(t, netns.New(t), netns.New(t))
	startFirewalld(t, h.NS)
	h.Must(t, "firewall-cmd", "--zone=trusted", "--add-interface="+uplink, "--permanent")
	d := daemon.NewIn(t, h.NS, "--ip6tables=false")
	d.Must(t, "network", "create", "--ipv6", "n6")
	boxes := []*box{
		runBox(t, h, d, "c1", "--net-classid=10:1", rateFlag(t, "egress", 8), rateFlag(t, "ingress", 16)),
		runBox(t, h, d, "c2", "--network=n6", "--net-classid=10:3", rateFlag(t, "egress", 8)),
	}
	before := h.leftovers(t)
	for _, lose := range []string{"", "iptables -t mangle -F", "nft flush ruleset"} {
		if lose != "" { // what a reload loses depends on the back end
			h.Must(t, strings.Fields(lose)...)
		}
		flushed := lose == "nft flush ruleset" // firewalld itself does not come over it
		if !flushed {
			h.Must(t, "firewall-cmd", "--reload")
		}
		for i, b := range boxes {
			b.wantHeld(t, "after a reload, "+lose)
			// dockerd makes its own rules anew meanwhile.
			if flushed {
				within(t, noticed(), "traffic", b.reachesHost)
				continue
			}
			within(t, 10*time.Second, "traffic", b.reaches)
			assert.Equal(t, b.class(t), []string{"10:1", "10:3"}[i])
		}
		if !flushed { // it takes what is left of earlier chains
			assert.Equal(t, h.leftovers(t), before)
		}
	}
	h.wantRate(t, boxes[0].addr, true, 8)
	h.wantRate(t, boxes[0].addr, false, 16)
}
