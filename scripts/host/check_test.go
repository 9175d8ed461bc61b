// SPDX-License-Identifier: Apache-2.0

// Package host tests the scripts that check a host and install on it.
package host

import (
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

// fakeHost is a folder that stands for / and the programs in PATH.
type fakeHost struct{ root, bin string }

const (
	withGPU = "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t1\t1\t1\ngpu\t0\t1\t1\nblkio\t2\t1\t1\n"
	noGPU   = "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t1\t1\t1\nblkio\t2\t1\t1\n"
	v1      = "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\ncgroup /sys/fs/cgroup/blkio cgroup rw,blkio 0 0\n"
	v1gpu   = v1 + "gpu /sys/fs/cgroup/gpu cgroup rw,gpu 0 0\n"
	v2      = "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n"
	kconfig = "CONFIG_CGROUP_GPU=y\nCONFIG_DRM=m\nCONFIG_DRM_SCHED=m\nCONFIG_MEMCG=y\nCONFIG_BLK_CGROUP=y\nCONFIG_BLK_DEV_THROTTLING=y\n" +
		"CONFIG_NET_SCHED=y\nCONFIG_NET_SCH_TBF=m\nCONFIG_IFB=m\nCONFIG_NF_TABLES=m\nCONFIG_NF_TABLES_NETDEV=y\nCONFIG_NFT_FWD_NETDEV=m\n"
	cards = "226:0 amdgpu pci:0000:03:00.0 memory priority\n226:128 amdgpu pci:0000:03:00.0 memory priority\n"
	// With the names of functions that a Go program has in it.
	ourDockerd = "echo Docker version 28.5.2+gpu\nexit\ngithub.com/docker/docker/daemon/graphdriver/btrfs.Init\ngithub.com/docker/docker/daemon/graphdriver/overlay2.Init"
	ourRunc    = `echo '{"annotations": {"io.github.gpu-cgroup.unified-v1": "gpu.memory.max,gpu.priority"}}'`
)

func newHost(t *testing.T, files map[string]string, programs map[string]string) *fakeHost {
	h := &fakeHost{root: t.TempDir(), bin: t.TempDir()}
	all := map[string]string{
		"proc/sys/kernel/osrelease": "6.1.0-test\n",
		"proc/cgroups":              withGPU,
		"proc/cmdline":              "quiet\n",
		"proc/mounts":               v2,
		"boot/config-6.1.0-test":    kconfig,
		"dev/dri/renderD128":        "",
	}
	if strings.HasPrefix(files["proc/mounts"], v1) {
		all["sys/fs/cgroup/gpu/gpu.usage_in_bytes"] = "0\n"
		all["sys/fs/cgroup/gpu/gpu.devices"] = cards
	} else {
		all["sys/fs/cgroup/cgroup.controllers"] = "io memory gpu\n"
		all["sys/fs/cgroup/gpu.devices"] = cards
	}
	for name, text := range files {
		all[name] = text
	}
	for name, text := range all {
		if text == "-" {
			continue
		}
		full := filepath.Join(h.root, name)
		assert.NilError(t, os.MkdirAll(filepath.Dir(full), 0o755))
		assert.NilError(t, os.WriteFile(full, []byte(text), 0o644))
	}
	progs := map[string]string{
		"dockerd": "echo Docker version 28.5.2+gpu", "docker": "echo Docker version 28.5.2+gpu",
		"runc": ourRunc, "containerd": "echo",
	}
	for name, text := range programs {
		progs[name] = text
	}
	for name, text := range progs {
		if text != "-" {
			assert.NilError(t, os.WriteFile(filepath.Join(h.bin, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755))
		}
	}
	return h
}

func (h *fakeHost) check(t *testing.T, args ...string) (string, int) {
	t.Helper()
	// Nothing of this host's Docker may be found, only tools like awk.
	for _, tool := range []string{"awk", "basename", "cat", "grep", "gzip", "head", "readlink", "sed", "sh", "tr", "uname"} {
		real, err := exec.LookPath(tool)
		assert.NilError(t, err)
		if err := os.Symlink(real, filepath.Join(h.bin, tool)); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
	script, err := filepath.Abs("check-host.sh")
	assert.NilError(t, err)
	cmd := exec.Command("/bin/sh", append([]string{script}, args...)...)
	cmd.Env = []string{"ROOT=" + h.root, "PATH=" + h.bin}
	out, err := cmd.CombinedOutput()
	var ee *exec.ExitError
	if err != nil && !errors.As(err, &ee) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func TestCheckHost(t *testing.T) {
	cases := []struct {
		name     string
		files    map[string]string
		programs map[string]string
		code     int
		want     []string
	}{
		{name: "v2", want: []string{"cgroup v2 at", "gpu is in /sys/fs/cgroup/cgroup.controllers", "yes    --gpu-memory", "yes    --memory", "yes    --blkio-read-limit, --device-read-bps", "yes    --net-egress-rate", "no     --net-classid, --net-prio on bridge networks: CONFIG_NF_TABLES_INET", "no     --net-classid, --net-prio with --network=host: CONFIG_BPF_SYSCALL", "ok     /dev/dri/card0: amdgpu keeps --gpu-memory and --gpu-priority", "ok     /dev/dri/renderD128: amdgpu keeps"}},
		{name: "v1", files: map[string]string{"proc/mounts": v1gpu}, want: []string{"ok     cgroup v1", "v1 gpu hierarchy at /sys/fs/cgroup/gpu", "/dev/dri/renderD128: amdgpu keeps --gpu-memory and --gpu-priority", "GPU limits will work"}},
		{name: "hybrid", files: map[string]string{"proc/mounts": v1gpu + "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"}, want: []string{"(hybrid)"}},
		{name: "data-root of a driver that is there", files: map[string]string{"var/lib/docker/btrfs/subvolumes/x": "", "var/lib/docker/zfs": "-"}, programs: map[string]string{"dockerd": ourDockerd},
			want: []string{"ok     dockerd has the storage driver btrfs, with which /var/lib/docker was made"}},
		{name: "data-root of a driver that is not there", files: map[string]string{"srv/docker/devicemapper/metadata/x": "", "etc/docker/daemon.json": "{\n  \"data-root\": \"/srv/docker\"\n}\n"}, programs: map[string]string{"dockerd": ourDockerd}, code: 1,
			want: []string{"LACKS  dockerd has no storage driver devicemapper, with which /srv/docker was made: it will not start", "docker save"}},
		{name: "driver that daemon.json asks for", files: map[string]string{"etc/docker/daemon.json": `{"storage-driver": "zfs", "log-driver":"journald"}`}, programs: map[string]string{"dockerd": ourDockerd}, code: 1,
			want: []string{"LACKS  dockerd has no storage driver zfs", "note   log driver journald: this dockerd is a static program", "journalctl CONTAINER_NAME=NAME"}},
		{name: "not mounted", files: map[string]string{"proc/mounts": v1}, code: 1, want: []string{"LACKS  the v1 gpu hierarchy is not mounted", "gpu-cgroup-v1.service"}},
		{name: "named gpu", files: map[string]string{"proc/mounts": v1gpu, "sys/fs/cgroup/gpu/gpu.usage_in_bytes": "-"}, code: 1, want: []string{"is not the kernel's gpu controller"}},
		{name: "mounted elsewhere", files: map[string]string{"proc/mounts": v1 + "gpu /gpu cgroup rw,gpu 0 0\n", "gpu/gpu.usage_in_bytes": "0", "gpu/gpu.devices": cards}, want: []string{"note   gpu is mounted at /gpu", "/dev/dri/card0: amdgpu keeps"}},
		{name: "kept from v1", files: map[string]string{"proc/mounts": v1, "proc/cmdline": "quiet cgroup_no_v1=all\n"}, code: 1, want: []string{"boot without cgroup_no_v1="}},
		{name: "stock kernel", files: map[string]string{"proc/cgroups": noGPU, "boot/config-6.1.0-test": "CONFIG_DRM=m\n"}, code: 1,
			want: []string{"LACKS  the kernel has no gpu controller", "make deb-kernel", "no     --gpu-memory", "no     --memory: CONFIG_MEMCG", "no     --blkio-read-limit, --device-read-bps and the like: CONFIG_BLK_CGROUP"}},
		{name: "config of another kernel", files: map[string]string{"proc/cgroups": noGPU}, code: 1, want: []string{"boot the kernel that the config belongs to"}},
		{name: "switched off", files: map[string]string{"proc/cgroups": strings.Replace(withGPU, "gpu\t0\t1\t1", "gpu\t0\t1\t0", 1)}, code: 1, want: []string{"LACKS  the gpu controller is switched off", "cgroup_disable=gpu"}},
		{name: "held by v1", files: map[string]string{"proc/mounts": v2 + "gpu /mnt cgroup rw,gpu 0 0\n"}, code: 1, want: []string{"LACKS  gpu is held by a v1 hierarchy at /mnt"}},
		{name: "not delegated", files: map[string]string{"sys/fs/cgroup/cgroup.controllers": "io memory\n"}, code: 1, want: []string{"LACKS  gpu is not in"}},
		{name: "no cgroups", files: map[string]string{"proc/mounts": "proc /proc proc rw 0 0\n"}, code: 1, want: []string{"no cgroup hierarchy is mounted"}},
		{name: "no card", files: map[string]string{"sys/fs/cgroup/gpu.devices": ""}, want: []string{"note   no /dev/dri", "GPU limits will work"}},
		{name: "drivers that keep less", files: map[string]string{"sys/fs/cgroup/gpu.devices": "226:0 ast pci:0000:02:00.0 memory\n226:1 nvidia-drm pci:0000:01:00.0 out-of-tree\n" +
			"226:2 amdgpu pci:0000:03:00.0 out-of-tree\n226:3 via pci:0000:04:00.0\n226:130 amdgpu pci:0000:03:00.0 out-of-tree\n234:0 kfd - memory\n"},
			want: []string{"ok     /dev/dri/card0: ast keeps --gpu-memory; --gpu-priority is refused", "note   /dev/dri/card1: nvidia-drm is not in the kernel's tree",
				"note   /dev/dri/card2: amdgpu is a module from outside the kernel's tree: it keeps no limit", "note   /dev/dri/card3: via keeps no limit", "note   /dev/dri/renderD130: amdgpu is a module", "ok     /dev/kfd: kfd keeps --gpu-memory;"}},
		{name: "word of a later kernel", files: map[string]string{"sys/fs/cgroup/gpu.devices": "226:0 xe pci:0000:03:00.0 memory reclaim priority\n"}, want: []string{"ok     /dev/dri/card0: xe keeps --gpu-memory and --gpu-priority"}},
		{name: "kernel that does not say", files: map[string]string{"sys/fs/cgroup/gpu.devices": "-"}, want: []string{"note   the kernel does not say which GPUs keep a limit", "note   /dev/dri/renderD128: unknown; a kernel", "GPU limits will work"}},
		{name: "kernel that does not say, v1", files: map[string]string{"proc/mounts": v1gpu, "sys/fs/cgroup/gpu/gpu.devices": "-"}, want: []string{"note   the kernel does not say which GPUs keep a limit (no /sys/fs/cgroup/gpu/gpu.devices)"}},
		{name: "NVIDIA without DRM", files: map[string]string{"dev/nvidiactl": ""}, want: []string{"note   /dev/nvidia*: NVIDIA's own driver is a module from outside", "/dev/dri/card0: amdgpu keeps"}},
		{name: "no drm", files: map[string]string{"boot/config-6.1.0-test": strings.Replace(kconfig, "CONFIG_DRM=m", "# CONFIG_DRM is not set", 1)}, code: 1, want: []string{"LACKS  the kernel has no DRM"}},
		{name: "no config", files: map[string]string{"boot/config-6.1.0-test": "-"}, want: []string{"no kernel config found", "GPU limits will work"}},
		{name: "no scheduler", files: map[string]string{"boot/config-6.1.0-test": strings.Replace(kconfig, "CONFIG_DRM_SCHED=m\n", "", 1)}, want: []string{"note   CONFIG_DRM_SCHED is not set"}},
		{name: "stock daemon", programs: map[string]string{"dockerd": "echo Docker version 28.5.2"}, code: 1, want: []string{"dockerd is not ours"}},
		{name: "no daemon", programs: map[string]string{"dockerd": "-", "containerd": "-"}, code: 1, want: []string{"LACKS  no dockerd", "LACKS  no containerd"}},
		{name: "stock runc on v2", programs: map[string]string{"runc": "echo {}"}, want: []string{"stock runc: enough on cgroup v2"}},
		{name: "stock runc on v1", files: map[string]string{"proc/mounts": v1gpu}, programs: map[string]string{"runc": "echo {}"}, code: 1, want: []string{"takes no GPU limits on cgroup v1"}},
		{name: "stock client", programs: map[string]string{"docker": "echo Docker version 28.5.2"}, want: []string{"has no --gpu-memory", "GPU limits will work"}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			out, code := newHost(t, tc.files, tc.programs).check(t)
			assert.Equal(t, code, tc.code, out)
			for _, text := range tc.want {
				assert.Assert(t, strings.Contains(out, text), "no %q in:\n%s", text, out)
			}
			assert.Equal(t, strings.Contains(out, "LACKS  "), tc.code == 1, out)
		})
	}
}

// Without the controller there is only the driver's name, and the taint of its
// module.
func TestCheckHostNamesTheDriversOfAStockKernel(t *testing.T) {
	h := newHost(t, map[string]string{
		"proc/cgroups": noGPU, "boot/config-6.1.0-test": "CONFIG_DRM=m\n",
		"dev/dri/card0": "", "dev/dri/card1": "", "dev/dri/card2": "", "dev/dri/renderD128": "-",
		"sys/module/i915/taint": "\n", "sys/module/amdgpu/taint": "OE\n", "sys/module/nvidia/taint": "POE\n",
	}, nil)
	link := func(name, target string) {
		t.Helper()
		full := filepath.Join(h.root, name)
		assert.NilError(t, os.MkdirAll(filepath.Dir(full), 0o755))
		assert.NilError(t, os.Symlink(target, full))
	}
	for card, driver := range map[string]string{"card0": "i915", "card1": "amdgpu", "card2": "nvidia"} {
		dir := "sys/bus/pci/drivers/" + driver
		link(dir+"/module", "../../../../module/"+driver)
		link("sys/class/drm/"+card+"/device/driver", filepath.Join(h.root, dir))
	}
	out, code := h.check(t)
	assert.Equal(t, code, 1, out)
	for _, text := range []string{
		"note   /dev/dri/card0: i915; a kernel that has gpu.devices says what it keeps",
		"note   /dev/dri/card1: amdgpu is a module from outside the kernel's tree: it would not be limited",
		"note   /dev/dri/card2: nvidia is not in the kernel's tree: its memory is not charged, nouveau's is",
	} {
		assert.Assert(t, strings.Contains(out, text), "no %q in:\n%s", text, out)
	}
}

func TestCheckHostConfigs(t *testing.T) {
	h := newHost(t, map[string]string{"boot/config-6.1.0-test": "CONFIG_X=y\n"}, nil)
	_, code := h.check(t)
	assert.Equal(t, code, 1, "CONFIG_DRM missing must count")

	// /proc/config.gz is the running kernel's and comes first.
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write([]byte(kconfig))
	assert.NilError(t, errors.Join(err, z.Close()))
	assert.NilError(t, os.WriteFile(filepath.Join(h.root, "proc/config.gz"), b.Bytes(), 0o644))
	out, code := h.check(t)
	assert.Equal(t, code, 0, out)

	named := filepath.Join(t.TempDir(), "config")
	assert.NilError(t, os.WriteFile(named, []byte("CONFIG_X=y\n"), 0o644))
	_, code = h.check(t, named)
	assert.Equal(t, code, 1)

	for _, args := range [][]string{{"--what"}, {"a", "b"}, {"/nonexistent"}} {
		_, code = h.check(t, args...)
		assert.Equal(t, code, 2, "%q", args)
	}
}

// A hint must not be a stale name: what the check tells to run has to exist.
func TestCheckHostHintsExist(t *testing.T) {
	make, err := os.ReadFile("../../Makefile")
	assert.NilError(t, err)
	script, err := os.ReadFile("check-host.sh")
	assert.NilError(t, err)
	for _, target := range []string{"deb-kernel", "install", "dist"} {
		assert.Assert(t, strings.Contains(string(script), "make "+target))
		assert.Assert(t, strings.Contains(string(make), "\n"+target+":"), "make %s", target)
	}
}
