// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"github.com/gpu-cgroup/gpu-cgroup/scripts/host/listing"
	"gotest.tools/v3/assert"
)

// With the real programs, run inside a Debian: installed, the units verify and
// the programs run; uninstalled, the whole system is bit by bit as it was.
func TestInstallInDebian(t *testing.T) {
	place.OnDemand(t, "make install-test")
	require.Debian(t)
	bin := require.Bin()
	root := filepath.Join(t.TempDir(), "root")
	out, err := exec.Command("cp", "-a", require.DebianRoot(), root).CombinedOutput()
	assert.NilError(t, err, "%s", out)
	// Something to replace.
	old := filepath.Join(root, "usr/local/bin/runc")
	assert.NilError(t, os.WriteFile(old, []byte("#!/bin/sh\necho the runc before\n"), 0o755))
	chroot := func(words ...string) string {
		t.Helper()
		cmd := exec.Command("chroot", append([]string{root}, words...)...)
		cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "FROM=/mnt/bin", "COMPLETIONS=", "MAN="}
		out, err := cmd.CombinedOutput()
		assert.NilError(t, err, "%q: %s", words, out)
		return string(out)
	}
	for from, to := range map[string]string{filepath.Join(filepath.Dir(bin), "../scripts/host"): "mnt/host", bin: "mnt/bin"} {
		out, err := exec.Command("cp", "-r", from, filepath.Join(root, to)).CombinedOutput()
		assert.NilError(t, err, "%s", out)
	}
	before := lasting(listing.Of(t, root, true))
	chroot("/mnt/host/install.sh", "install")
	for _, unit := range []string{"docker.service", "containerd.service", "gpu-cgroup-v1.service"} {
		out := chroot("systemd-analyze", "verify", "--man=no", "/usr/local/lib/systemd/system/"+unit)
		assert.Assert(t, !strings.Contains(out, unit+":"), out)
	}
	assert.Assert(t, strings.Contains(chroot("systemctl", "is-enabled", "docker.service", "containerd.service"), "enabled\nenabled"))
	for _, p := range []string{"docker", "dockerd", "runc"} {
		assert.Assert(t, strings.Contains(chroot(p, "--version"), "+gpu"), p)
	}
	chroot("containerd", "--version")
	chroot("containerd", "config", "dump")
	chroot("/mnt/host/install.sh", "status")
	chroot("/mnt/host/install.sh", "uninstall")
	assert.Equal(t, lasting(listing.Of(t, root, true)), before)
	assert.Assert(t, strings.Contains(chroot("runc"), "the runc before"))
}

// The packages of make dist go in and out of a Debian, and leave nothing but
// the group that Docker's users are in.
func TestPackagesInDebian(t *testing.T) {
	place.OnDemand(t, "make dist-test")
	require.Dist(t)
	root := filepath.Join(t.TempDir(), "root")
	out, err := exec.Command("cp", "-a", require.DebianRoot(), root).CombinedOutput()
	assert.NilError(t, err, "%s", out)
	chroot := func(words ...string) string {
		t.Helper()
		cmd := exec.Command("chroot", append([]string{root}, words...)...)
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive"}
		out, err := cmd.CombinedOutput()
		assert.NilError(t, err, "%q: %s", words, out)
		return string(out)
	}
	debs, err := filepath.Glob(filepath.Join(require.DistDir(), "*.deb"))
	assert.NilError(t, err)
	assert.Equal(t, len(debs), 2)
	for _, deb := range debs {
		out, err := exec.Command("cp", deb, filepath.Join(root, "mnt")).CombinedOutput()
		assert.NilError(t, err, "%s", out)
	}
	chroot("sh", "-c", "dpkg -i /mnt/*.deb")
	assert.Assert(t, strings.Contains(chroot("systemctl", "is-enabled", "docker.service", "containerd.service"), "enabled\nenabled"))
	for _, p := range []string{"docker", "dockerd", "runc"} {
		assert.Assert(t, strings.Contains(chroot(p, "--version"), "+gpu"), p)
	}
	chroot("dpkg", "--verify", "gpu-cgroup-engine", "gpu-cgroup-cli")
	chroot("dpkg", "--purge", "gpu-cgroup-engine", "gpu-cgroup-cli")
	for _, name := range []string{"usr/bin/dockerd", "usr/bin/docker", "etc/containerd", "etc/systemd/system/multi-user.target.wants/docker.service"} {
		_, err := os.Lstat(filepath.Join(root, name))
		assert.Assert(t, os.IsNotExist(err), "%s is left", name)
	}
}

// lasting leaves out what no boot finds again: systemctl itself notes things in
// /run, and the installer works in /tmp.
func lasting(list string) string {
	var keep []string
	for line := range strings.SplitSeq(list, "\n") {
		if !strings.HasPrefix(line, "run/") && !strings.HasPrefix(line, "tmp/") && !strings.HasPrefix(line, "tmp ") {
			keep = append(keep, line)
		}
	}
	return strings.Join(keep, "\n")
}
