// SPDX-License-Identifier: Apache-2.0

package cgroupdir

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/cgroups/v3"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
	"gotest.tools/v3/skip"
)

const someContainer = "4f1b0c5d8a9e4f1b0c5d8a9e4f1b0c5d8a9e4f1b0c5d8a9e4f1b0c5d8a9e4f1b"

func TestCgroupPathOfContainer(t *testing.T) {
	in := func(path string) string { return strings.ReplaceAll(path, "ID", someContainer) }
	for _, tc := range []struct {
		doc        string
		v1         map[string]string
		unified    string
		controller string
		want       string
		isV1       bool
		err        string
	}{
		{doc: "v1", v1: map[string]string{"gpu": "/docker/ID", "memory": "/other"}, controller: "gpu", want: "/docker/ID", isV1: true},
		{doc: "v1, systemd", v1: map[string]string{"gpu": "/system.slice/docker-ID.scope"}, controller: "gpu", want: "/system.slice/docker-ID.scope", isV1: true},
		{doc: "v2", unified: "/docker/ID", controller: "gpu", want: "/docker/ID"},
		{doc: "hybrid, controller of v2", v1: map[string]string{"memory": "/docker/ID"}, unified: "/docker/ID", controller: "", want: "/docker/ID"},
		{doc: "init in a child cgroup", unified: "/docker/ID/init.scope", controller: "gpu", want: "/docker/ID"},
		{doc: "systemd in a scope", v1: map[string]string{"blkio": "/s/docker-ID.scope/init.scope"}, controller: "blkio", want: "/s/docker-ID.scope", isV1: true},
		{doc: "the number is somebody else's, v1", v1: map[string]string{"gpu": "/user.slice", "memory": "/user.slice"}, controller: "gpu", err: "container ID has ended"},
		{doc: "the number is somebody else's, v2", unified: "/system.slice/ssh.service", controller: "", err: "container ID has ended"},
		{doc: "the number is another container's", unified: "/docker/" + strings.Repeat("0", 64), controller: "", err: "container ID has ended"},
		{doc: "mounted later", v1: map[string]string{"net_cls": "/", "memory": "/docker/ID"}, controller: "net_cls", err: "container ID has no cgroup of its own in the net_cls hierarchy, which was mounted after it had started: start it again"},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			v1 := map[string]string{}
			for controller, path := range tc.v1 {
				v1[controller] = in(path)
			}
			path, isV1, err := pathOf(someContainer, v1, in(tc.unified), tc.controller)
			if tc.err != "" {
				assert.Check(t, is.Error(err, in(tc.err)))
				return
			}
			assert.NilError(t, err)
			assert.Check(t, is.Equal(path, in(tc.want)))
			assert.Check(t, is.Equal(isV1, tc.isV1))
		})
	}
}

// A cgroup is found from a process, here this test's own: the directory must be
// one that lists it.
func TestCgroupDirOfContainer(t *testing.T) {
	v1, _, err := cgroups.ParseCgroupFileUnified("/proc/self/cgroup")
	assert.NilError(t, err)
	for controller, path := range v1 {
		if path == "/" {
			continue // It has no name.
		}
		dir, v2, err := Of(filepath.Base(path), os.Getpid(), controller)
		assert.NilError(t, err, "%s: %s", controller, path)
		assert.Check(t, !v2)
		procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		assert.NilError(t, err)
		assert.Check(t, len(procs) > 0, "%s (%s) lists no process", dir, controller)
	}

	// The process of a container that has ended, and one that took its number.
	gone := exec.Command("true")
	assert.NilError(t, gone.Run())
	for _, pid := range []int{gone.Process.Pid, os.Getpid()} {
		_, _, err = Of(someContainer, pid, "memory")
		assert.Check(t, is.Error(err, "container "+someContainer+" has ended"))
	}
}

func TestCgroupMountTableIsReadOnce(t *testing.T) {
	table := mountTable{fsTypes: []string{"proc"}}
	first, err := table.get()
	assert.NilError(t, err)
	assert.Assert(t, len(first) > 0, "no proc among the mounts")
	// Another program may mount something between two of these, but not each time.
	for range 100 {
		_, err = table.get()
		assert.NilError(t, err)
	}
	assert.Check(t, table.reads < 50, "read %d times", table.reads)
}

// What is mounted while dockerd runs is seen, and so is what goes. The list is of
// another file system than cgroup, as that would be the whole machine's.
func TestCgroupMountTableIsFresh(t *testing.T) {
	skip.If(t, os.Getuid() != 0, "mounts something")
	table := mountTable{fsTypes: []string{"ramfs"}}
	dir := t.TempDir()
	seen := func() bool {
		mounts, err := table.get()
		assert.NilError(t, err)
		return slices.ContainsFunc(mounts, func(m *mountinfo.Info) bool { return m.Mountpoint == dir })
	}
	for range 3 {
		assert.Check(t, !seen())
		assert.NilError(t, unix.Mount("ramfs", dir, "ramfs", 0, ""))
		assert.Check(t, seen())
		assert.Check(t, seen(), "the second time")
		assert.NilError(t, unix.Unmount(dir, 0))
	}
	assert.Check(t, !seen())
}
