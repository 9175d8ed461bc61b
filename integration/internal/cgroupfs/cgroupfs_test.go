// SPDX-License-Identifier: Apache-2.0

package cgroupfs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

const hybridMounts = `25 24 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
26 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
27 25 0:24 / /sys/fs/cgroup/gpu rw,relatime shared:9 - cgroup cgroup rw,gpu
28 25 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
`

const hybridMembership = `3:gpu:/docker/abc
2:cpu,cpuacct:/docker/a:c
1:name=systemd:/docker/abc
0::/user/x
`

func TestDirOnV1(t *testing.T) {
	g := parse(hybridMounts, hybridMembership)
	for controller, want := range map[string]string{
		"gpu":     "/sys/fs/cgroup/gpu/docker/abc",
		"cpuacct": "/sys/fs/cgroup/cpu,cpuacct/docker/a:c",
		"io":      "/sys/fs/cgroup/unified/user/x", // not on v1, so cgroup2 has it
	} {
		got, err := g.Dir(controller)
		assert.NilError(t, err)
		assert.Equal(t, got, want)
	}
}

func TestDirOnV2(t *testing.T) {
	g := parse("30 1 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n", "0::/docker/abc\n")
	got, err := g.Path("gpu.memory.max")
	assert.NilError(t, err)
	assert.Equal(t, got, "/sys/fs/cgroup/docker/abc/gpu.memory.max")
}

func TestDirInsideAMountedPart(t *testing.T) {
	g := parse("30 1 0:29 /pod /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/pod/abc\n")
	got, err := g.Dir("gpu")
	assert.NilError(t, err)
	assert.Equal(t, got, "/sys/fs/cgroup/abc")
}

func TestAHierarchyThatIsNotMountedIsAnError(t *testing.T) {
	mounts := strings.ReplaceAll(hybridMounts, "/sys/fs/cgroup/gpu rw,relatime shared:9 - cgroup cgroup rw,gpu", "/x rw - tmpfs x rw")
	_, err := parse(mounts, hybridMembership).Dir("gpu")
	assert.ErrorContains(t, err, `"gpu"`)
}

func TestReadTranslatesV1(t *testing.T) {
	dir := t.TempDir()
	mounts := "27 25 0:24 / " + dir + " rw - cgroup cgroup rw,gpu\n"
	g := parse(mounts, "3:gpu:/\n")
	for file, text := range map[string]string{
		"gpu.max_mem_in_bytes": "18446744073709551615\n",
		"gpu.usage_in_bytes":   "4096\n",
		"gpu.priority":         "-5\n",
	} {
		assert.NilError(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600))
	}
	for file, want := range map[string]string{"gpu.memory.max": Max, "gpu.memory.current": "4096", "gpu.priority": "-5"} {
		got, err := g.Read(file)
		assert.NilError(t, err)
		assert.Equal(t, got, want)
	}
}

func TestOfFindsThisProcess(t *testing.T) {
	g, err := Of(os.Getpid())
	assert.NilError(t, err)
	assert.Assert(t, len(g.mounts) > 0, "no cgroup hierarchy is mounted here")
	for _, controller := range []string{"memory", "pids"} {
		dir, err := g.Dir(controller)
		assert.NilError(t, err)
		pids, err := g.Procs(controller)
		assert.NilError(t, err, dir)
		assert.Assert(t, len(pids) > 0)
	}
}
