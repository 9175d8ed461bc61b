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

// A reload throws away what is in the tables, and its signal makes dockerd put
// it back. Rates are not in tables. Without ip6tables only IPv6 addresses are
// refused.
func TestNetLimitsHoldAfterAReloadOfFirewalld(t *testing.T) {
	require.NetRate(t)
	require.Firewalld(t)
	h := newNetHost(t, netns.New(t), netns.New(t))
	startFirewalld(t, h.NS)
	h.Must(t, "firewall-cmd", "--zone=trusted", "--add-interface="+uplink, "--permanent")
	d := daemon.NewIn(t, h.NS, "--ip6tables=false")
	d.Must(t, "network", "create", "--ipv6", "n6")
	r := d.Docker(t, "run", "--rm", "--network=n6", "--net-classid=10:1", "busybox", "true")
	assert.Assert(t, r.Code != 0, "a class was taken that no rule enforces")
	wantWords(t, r.Stderr, "--net-classid=10:1", "IPv6", "--ip6tables=false")

	d.Must(t, "run", "-d", "--name=c1", "--net-classid=10:1", "--net-egress-rate=8mbit", "--net-ingress-rate=16mbit", "busybox", "sleep", "inf")
	d.Must(t, "run", "-d", "--name=c2", "--network=n6", "--net-egress-rate=8mbit", "busybox", "sleep", "inf")
	assert.Equal(t, h.classOf(t, d, "c1", outside4), "10:1")
	before := h.leftovers(t)
	rules := func() string { return h.Must(t, "iptables", "-t", "mangle", "-S") }
	for _, lose := range []string{"", "-F"} {
		if lose != "" { // what a reload loses depends on the back end
			h.Must(t, "iptables", "-t", "mangle", lose)
			h.Must(t, "iptables", "-t", "mangle", "-X")
			assert.Assert(t, !strings.Contains(rules(), "DOCKER-NETCLASS"), rules())
		}
		h.Must(t, "firewall-cmd", "--reload")
		for end := time.Now().Add(time.Minute); !strings.Contains(rules(), "--set-class 0010:0001"); time.Sleep(100 * time.Millisecond) {
			assert.Assert(t, time.Now().Before(end), rules())
		}
		assert.Equal(t, h.classOf(t, d, "c1", outside4), "10:1")
		assert.Equal(t, h.leftovers(t), before)
	}
	serve(t, d, "c1")
	h.wantRate(t, addrOf(t, d, "c1", "bridge"), true, 8)
	h.wantRate(t, addrOf(t, d, "c1", "bridge"), false, 16)

	// What cannot be put back is shown, and tried again. It is a rule of firewalld's
	// own, or the reload would have flushed it.
	chain := []string{"firewall-cmd", "--permanent", "--direct", "--add-chain", "ipv4", "mangle", "DOCKER-NETCLASS"}
	rule := []string{"firewall-cmd", "--permanent", "--direct", "--add-rule", "ipv4", "mangle", "DOCKER-NETCLASS", "0", "-d", "192.0.2.9", "-j", "RETURN"}
	h.Must(t, chain...)
	h.Must(t, rule...)
	h.Must(t, "firewall-cmd", "--reload")
	for end := time.Now().Add(time.Minute); len(notInForce(t, d, "c1")) == 0; time.Sleep(100 * time.Millisecond) {
		assert.Assert(t, time.Now().Before(end), rules())
	}
	wantWords(t, strings.Join(notInForce(t, d, "c1"), "\n"), "NetClassID on network bridge: ", "unknown option -d")
	assert.Equal(t, len(notInForce(t, d, "c2")), 0)
	chain[3], rule[3] = "--remove-chain", "--remove-rule"
	h.Must(t, rule...)
	h.Must(t, chain...)
	h.Must(t, "firewall-cmd", "--reload")
	for end := time.Now().Add(time.Minute); len(notInForce(t, d, "c1")) != 0; time.Sleep(100 * time.Millisecond) {
		assert.Assert(t, time.Now().Before(end), rules())
	}
	assert.Equal(t, h.classOf(t, d, "c1", outside4), "10:1")
	assert.Equal(t, h.leftovers(t), before)
}
