// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/netns"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// A kernel without nf_tables, for one dockerd: it runs below a program that may not
// open the sockets that lead there, and the kernel says what one built without says.

// withoutNftEnv has this test binary run a program in that way, in place of tests.
const withoutNftEnv = "GPU_CGROUP_TEST_WITHOUT_NFTABLES"

// runWithoutNft is for main, on its thread: whose filter a program keeps that it runs.
func runWithoutNft() {
	program := os.Getenv(withoutNftEnv)
	if program == "" {
		return
	}
	_ = os.Unsetenv(withoutNftEnv)
	runtime.LockOSThread()
	if err := refuseNetfilterSockets(); err != nil {
		fmt.Fprintln(os.Stderr, "seccomp:", err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stderr, syscall.Exec(program, os.Args, os.Environ()))
	os.Exit(1)
}

// refuseNetfilterSockets is seccomp's filter: socket(AF_NETLINK, …, NETLINK_NETFILTER)
// is answered with EPROTONOSUPPORT.
func refuseNetfilterSockets() error {
	const number, family, protocol = 0, 16, 16 + 2*8 // in struct seccomp_data
	low := uint32(0)
	if one := [2]byte{0, 1}; *(*uint16)(unsafe.Pointer(&one)) == 1 {
		low = 4 // big endian
	}
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	unless := func(value uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: skip, K: value}
	}
	filter := []unix.SockFilter{
		load(number), unless(unix.SYS_SOCKET, 5),
		load(family + low), unless(unix.AF_NETLINK, 3),
		load(protocol + low), unless(unix.NETLINK_NETFILTER, 1),
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPROTONOSUPPORT)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	return nil
}

// withoutNft are the programs of a daemon without nf_tables, whose iptables is the
// legacy one from now on.
func withoutNft(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"} {
		family, rest, _ := strings.Cut(name, "tables")
		path, err := exec.LookPath(family + "tables-legacy" + rest)
		assert.NilError(t, err)
		assert.NilError(t, os.Symlink(path, filepath.Join(dir, name)))
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	self, err := os.Executable()
	assert.NilError(t, err)
	wrapper := filepath.Join(dir, "dockerd")
	script := fmt.Sprintf("#!/bin/sh\n%s=%q exec %q \"$@\"\n", withoutNftEnv, filepath.Join(require.Bin(), "dockerd"), self)
	assert.NilError(t, os.WriteFile(wrapper, []byte(script), 0o755))
	return map[string]string{"dockerd": wrapper}
}

// setupFallback is setupHands without nf_tables.
func setupFallback(t *testing.T, args ...string) (netHost, *daemon.Daemon) {
	t.Helper()
	require.NetRate(t)
	programs := withoutNft(t)
	h := newNetHost(t, netns.New(t), netns.New(t))
	h.outside.Must(t, "ip", "route", "add", "172.16.0.0/12", "via", "203.0.113.1")
	h.Must(t, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	d, err := daemon.StartWith(programs, h.NS, append([]string{"--live-restore"}, args...)...)
	assert.NilError(t, err)
	daemon.Until(t, d)
	h.Must(t, "iptables", "-I", "DOCKER-USER", "-j", "ACCEPT")
	return h, d
}

// Rates and class are in force, are changed live, outlive dockerd and leave nothing.
func TestNetFallbackHoldsRatesAndClass(t *testing.T) {
	place.OnHost(t)
	h, d := setupFallback(t)
	assert.Assert(t, strings.Contains(d.Must(t, "info"), "iptables and tc"), d.Must(t, "info"))
	d.Must(t, "network", "create", "--ipv6", "--subnet=172.30.8.0/24", "--subnet=fd79::/64", "n")
	clean := h.leftovers(t)
	d.Must(t, "run", "-d", "--name=c1", "--network=n", "--net-classid=10:1", rateFlag(t, "egress", 8), rateFlag(t, "ingress", 16), "busybox", "sleep", "inf")
	d.Must(t, "run", "-d", "--name=c2", "--network=n", "--net-prio="+uplink+":"+strconv.Itoa(prio3), "busybox", "sleep", "inf")
	d.Must(t, "run", "-d", "--name=free", "--network=n", "busybox", "sleep", "inf")
	serve(t, d, "c1")
	addr := addrOf(t, d, "c1", "n")
	want := func(class1, class2 string) {
		t.Helper()
		for _, to := range []string{outside4, outside6} {
			assert.Equal(t, h.classOf(t, d, "c1", to), class1, to)
			assert.Equal(t, h.classOf(t, d, "c2", to), class2, to)
			assert.Equal(t, h.classOf(t, d, "free", to), classOther, to)
		}
	}
	want("10:1", "10:3")
	h.wantRate(t, addr, true, 8)
	h.wantRate(t, addr, false, 16)
	d.Must(t, "update", "--net-classid=10:3", rateFlag(t, "egress", 24), "c1")
	d.Must(t, "update", "--net-prio="+uplink+":"+strconv.Itoa(prio1), "c2")
	want("10:3", "10:1")
	h.wantRate(t, addr, true, 24)
	h.wantRate(t, addr, false, 16)
	d.Kill(t)
	d.StartAgain(t)
	want("10:3", "10:1")
	h.wantRate(t, addr, true, 24)
	assert.DeepEqual(t, notInForce(t, d, "c1"), []string(nil))
	for _, args := range [][]string{{"create", "--network=n", "--net-egress-pps=100", "busybox"}, {"update", "--net-ingress-pps=100", "c1"}} {
		r := d.Docker(t, args...)
		assert.Check(t, r.Code != 0, args)
		wantWords(t, r.Stderr, "-pps=100", "cannot be enforced", "nf_tables")
	}
	assert.Equal(t, d.Must(t, "inspect", "-f", "{{.HostConfig.NetIngressPPS}}", "c1"), "<nil>")
	d.Must(t, "update", "--net-classid=0", "--net-egress-rate=-1", "--net-ingress-rate=-1", "c1")
	d.Must(t, "update", "--net-prio=", "c2")
	want(classOther, classOther)
	h.wantFree(t, addr, true)
	h.wantFree(t, addr, false)
	d.RemoveAll(t)
	assert.Equal(t, h.leftovers(t), clean)
}

// traces of the fall-back in the kernel: chains, filters, ifbs.
func (h netHost) fallbackTraces(t *testing.T) (found []string) {
	t.Helper()
	for _, cmd := range []string{"iptables-legacy-save -t mangle", "ip6tables-legacy-save -t mangle"} {
		for line := range strings.Lines(h.Must(t, strings.Fields(cmd)...)) {
			if strings.Contains(line, "DOCKER-L-") {
				found = append(found, line)
			}
		}
	}
	for line := range strings.Lines(h.Must(t, "ip", "-o", "link", "show", "type", "veth")) {
		dev, _, _ := strings.Cut(strings.Fields(line)[1], "@")
		if filters := h.Must(t, "tc", "filter", "show", "dev", dev, "ingress"); filters != "" {
			found = append(found, dev+": "+filters)
		}
	}
	return found
}

// A source that is not the container's gets no other class: it is dropped.
func TestNetFallbackDropsForgedAddresses(t *testing.T) {
	place.OnHost(t)
	h, d := setupFallback(t)
	d.Must(t, "network", "create", "--ipv6", "--subnet=172.30.8.0/24", "--subnet=fd79::/64", "n")
	d.Must(t, "run", "-d", "--name=rich", "--network=n", "--ip=172.30.8.10", "--ip6=fd79::10", "--net-classid=10:3", "busybox", "sleep", "inf")
	echoAt(t, h.outside, ":7007")
	ns, v4, v6 := forger(t, d, "n", "--net-classid=10:1", "--ip=172.30.8.9", "--ip6=fd79::9")
	for i, from := range slices.Concat(v4, v6) {
		to := outside4 + ":7007"
		if i >= len(v4) {
			to = "[" + outside6 + "]:7007"
		}
		left := h.leftIn(t, func() { _ = sendFrom(t, ns, from, to) })
		for class, n := range left {
			if class != "10:1" && n > 5000 {
				t.Errorf("from %s: left in class %s: %v", from, class, left)
			}
		}
	}
	for from, to := range map[string]string{"172.30.8.9": outside4 + ":7007", "fd79::9": "[" + outside6 + "]:7007"} {
		h.wantIn(t, "from "+from, uplink, "10:1", func() { assert.Check(t, sendFrom(t, ns, from, to)) })
	}
}

// What another program takes away is put back: rules are looked at each second, of
// filters the kernel tells. Rules of others stay.
func TestNetFallbackPutsBackWhatIsTaken(t *testing.T) {
	place.OnHost(t)
	h, d := setupFallback(t)
	b := runBox(t, h, d, "c1", "--net-classid=10:1", rateFlag(t, "egress", 8))
	h.Must(t, "iptables", "-t", "mangle", "-A", "POSTROUTING", "-s", "198.51.100.1", "-j", "RETURN")
	// But for what the kernel numbers, and the mark of one that was replaced.
	numbers := regexp.MustCompile(` id \d+|flowid \S+|index \d+| \+`)
	state := func() string { return numbers.ReplaceAllString(strings.Join(h.fallbackTraces(t), ""), "") }
	before := state()
	assert.Assert(t, strings.Contains(before, "CLASSIFY"), before)
	for what, hand := range map[string]func(){
		"rules flushed":  func() { h.Must(t, "iptables", "-t", "mangle", "-F") },
		"filters gone":   func() { h.Must(t, "tc", "filter", "del", "dev", b.veth(t), "ingress") },
		"clsact removed": func() { h.Must(t, "tc", "qdisc", "del", "dev", b.veth(t), "clsact") },
	} {
		hand()
		within(t, 5*time.Second, what, func() error {
			if now := state(); now != before {
				return fmt.Errorf("want\n%s\ngot\n%s", before, now)
			}
			return nil
		})
		assert.Equal(t, h.classOf(t, d, "c1", outside4), "10:1", what)
		h.wantRate(t, b.addr, true, 8)
		within(t, 5*time.Second, what, func() error {
			if lost := notInForce(t, d, "c1"); len(lost) != 0 {
				return fmt.Errorf("not in force: %v", lost)
			}
			return nil
		})
	}
}

// The answers of docker-proxy have the class of the container.
func TestNetFallbackClassifiesTheAnswersOfDockerProxy(t *testing.T) {
	place.OnHost(t)
	h, d := setupFallback(t, "--userland-proxy=true", "--userland-proxy-path="+filepath.Join(require.Bin(), "docker-proxy"))
	d.Must(t, "run", "-d", "--name=c1", "--net-classid=10:1", "-p", "8080:9000", "busybox", "sleep", "inf")
	d.Must(t, "run", "-d", "--name=c2", "--net-prio="+uplink+":"+strconv.Itoa(prio3), "-p", "[2001:db8::1]:8082:9000", "busybox", "sleep", "inf")
	d.Must(t, "run", "-d", "--name=free", "-p", "8084:9000", "busybox", "sleep", "inf")
	for _, name := range []string{"c1", "c2", "free"} {
		answerAt(t, nsOf(t, d, name), "tcp", ":9000", 0)
	}
	h.wantAnswerIn(t, "10:1", "tcp", "[2001:db8::1]:8080") // by the proxy: it has no address of IPv6
	h.wantAnswerIn(t, "10:1", "tcp", "203.0.113.1:8080")
	h.wantAnswerIn(t, "10:3", "tcp", "[2001:db8::1]:8082")
	h.wantAnswerIn(t, classOther, "tcp", "[2001:db8::1]:8084")
}

// The next kernel has nf_tables: what was there without is replaced. Uninstall knows
// both.
func TestNetFallbackIsTakenOverAndRemoved(t *testing.T) {
	place.OnHost(t)
	h, d := setupFallback(t)
	script, err := filepath.Abs("../scripts/host/limits.sh")
	assert.NilError(t, err)
	b := runBox(t, h, d, "c1", "--net-classid=10:1", rateFlag(t, "egress", 8), rateFlag(t, "ingress", 16))
	assert.Assert(t, len(h.fallbackTraces(t)) > 2)
	held := func() {
		t.Helper()
		assert.Equal(t, h.classOf(t, d, "c1", outside4), "10:1")
		h.wantRate(t, b.addr, true, 8)
		h.wantRate(t, b.addr, false, 16)
		assert.DeepEqual(t, notInForce(t, d, "c1"), []string(nil))
	}
	held()
	d.Kill(t)
	h.Must(t, "env", "DOCKERD="+filepath.Join(require.Bin(), "dockerd"), script, "clear")
	assert.DeepEqual(t, h.fallbackTraces(t), []string(nil))
	h.wantFree(t, b.addr, true)
	d.StartAgain(t)
	held()

	d.Kill(t)
	d.Use(t, nil)
	d.StartAgain(t)
	held()
	assert.DeepEqual(t, h.fallbackTraces(t), []string(nil))
	assert.Assert(t, strings.Contains(h.Must(t, "nft", "list", "tables"), "docker-limits-"))
}

// Two dockerds of one network have chains of their own.
func TestNetFallbackOfTwoDockerds(t *testing.T) {
	place.OnHost(t)
	h, d1 := setupFallback(t)
	h.Must(t, "ip", "link", "add", "br2", "type", "bridge")
	h.Must(t, "ip", "addr", "add", "172.31.0.1/16", "dev", "br2")
	h.Must(t, "ip", "link", "set", "br2", "up")
	d2, err := daemon.StartWith(withoutNft(t), h.NS, "--live-restore", "--bridge=br2")
	assert.NilError(t, err)
	daemon.Until(t, d2)
	h.Must(t, "iptables", "-I", "DOCKER-USER", "-j", "ACCEPT")
	runBox(t, h, d1, "c1", "--net-classid=10:1")
	runBox(t, h, d2, "c2", "--net-classid=10:3")
	assert.Equal(t, h.classOf(t, d1, "c1", outside4), "10:1")
	assert.Equal(t, h.classOf(t, d2, "c2", outside4), "10:3")
	d2.Must(t, "rm", "-f", "c2")
	assert.Equal(t, h.classOf(t, d1, "c1", outside4), "10:1")
	d1.Kill(t)
	d1.StartAgain(t)
	assert.Equal(t, h.classOf(t, d1, "c1", outside4), "10:1")
}
