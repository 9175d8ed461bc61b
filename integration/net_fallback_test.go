// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/netns"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
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
	d.Must(t, "update", "--net-classid=0", "--net-egress-rate=-1", "--net-ingress-rate=-1", "c1")
	d.Must(t, "update", "--net-prio=", "c2")
	want(classOther, classOther)
	h.wantFree(t, addr, true)
	h.wantFree(t, addr, false)
	d.RemoveAll(t)
	assert.Equal(t, h.leftovers(t), clean)
}
