// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/cgroupfs"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// raise tries to lift the limits from inside a container in every way that its
// capabilities may allow: the files as they are mounted, the mount made
// writable, and a hierarchy mounted anew. What was written is judged outside.
const raise = `
try() { [ -e "$1" ] && echo "$2" > "$1"; } # a builtin: programs are slow in the VM
all() {
	for d in "$1" "$1/gpu" "$1/memory"; do
		try $d/gpu.memory.max max; try $d/gpu.max_mem_in_bytes -1; try $d/gpu.priority 1024
		try $d/memory.max max; try $d/memory.memsw.limit_in_bytes -1; try $d/memory.limit_in_bytes -1
	done
}
exec 2>/dev/null
all /sys/fs/cgroup
for d in /sys/fs/cgroup /sys/fs/cgroup/gpu /sys/fs/cgroup/memory; do mount -o remount,rw $d; mount -o remount,bind,rw $d; done
all /sys/fs/cgroup
mkdir -p /tmp/a /tmp/b /tmp/c
mount -t cgroup2 none /tmp/a && all /tmp/a
for c in gpu memory; do
	mount -t cgroup -o $c none /tmp/b && { all /tmp/b; own=$(sed -n "s/^[0-9]*:$c://p" /proc/self/cgroup); all "/tmp/b$own"; umount /tmp/b; }
done
true`

// A container with every capability but none to mount changes nothing. With
// CAP_SYS_ADMIN cgroup v2 keeps its promise, thanks to nsdelegate; on v1 such a
// container can lift the limits of upstream too, and ours are no worse.
func TestACapableContainerCannotRaiseItsLimit(t *testing.T) {
	require.GPU(t)
	d := setup(t)
	run := func(name string, flags ...string) (held, memoryHeld bool) {
		t.Helper()
		args := append([]string{"run", "-d", "--name", name, "--gpu-memory=8m", "--gpu-priority=3", "--memory=64m"}, flags...)
		d.Must(t, append(args, "busybox", "sleep", "600")...)
		d.Docker(t, "exec", name, "sh", "-c", raise)
		g := d.Cgroup(t, name)
		memory, err := g.Read("gpu.memory.max")
		assert.NilError(t, err)
		priority, err := g.Read("gpu.priority")
		assert.NilError(t, err)
		file := "memory.max"
		if require.Has("v1") {
			file = "memory.limit_in_bytes"
		}
		dir, err := g.Dir("memory")
		assert.NilError(t, err)
		ram, err := os.ReadFile(filepath.Join(dir, file))
		assert.NilError(t, err)
		return memory == "8388608" && priority == "3", strings.TrimSpace(string(ram)) == "67108864"
	}
	held, _ := run("plain")
	assert.Assert(t, held, "an ordinary container raised its limit")
	held, _ = run("no-admin", "--cap-add=ALL", "--cap-drop=SYS_ADMIN")
	assert.Assert(t, held, "a container without CAP_SYS_ADMIN raised its limit")
	held, memoryHeld := run("all", "--cap-add=ALL")
	if require.Has("v2") {
		assert.Assert(t, held, "a container in a namespace of its own raised its limit on cgroup v2")
	} else if !held {
		t.Log("v1 with CAP_SYS_ADMIN and no security module: the limit was lifted")
		assert.Assert(t, !memoryHeld, "the gpu limit was lifted where --memory held")
	}
}

// A process that is root in a user namespace of its own gains nothing by that.
func TestAUserNamespaceCannotRaiseALimit(t *testing.T) {
	place.OneVM(t)
	require.GPU(t)
	d := setup(t)
	// Upstream's seccomp profile keeps ordinary containers from unshare; off, so
	// that it is the cgroup files that are tested.
	d.Must(t, "run", "-d", "--name=box", "--user=1000", "--security-opt=seccomp=unconfined", "--gpu-memory=8m", "--gpu-priority=3", "busybox", "sleep", "600")
	d.Docker(t, "exec", "box", "unshare", "-U", "-r", "-m", "sh", "-c", raise)
	wantLimits(t, d, "box", 3, 8*mib)
}

// Limits change the resources in the OCI spec, and nothing else.
func TestALimitChangesNothingElseOfTheSpec(t *testing.T) {
	place.OneVM(t)
	require.GPU(t)
	d := setup(t)
	spec := func(flags ...string) map[string]any {
		t.Helper()
		args := append([]string{"run", "-d", "--name=box", "--hostname=box"}, flags...)
		id := strings.TrimSpace(d.Must(t, append(args, "busybox", "sleep", "600")...))
		data, err := os.ReadFile(filepath.Join(d.Bundle(id), "config.json"))
		assert.NilError(t, err)
		d.RemoveAll(t)
		s := map[string]any{}
		assert.NilError(t, json.Unmarshal([]byte(strings.ReplaceAll(string(data), id, "ID")), &s))
		return s
	}
	without, with := spec(), spec("--gpu-memory=8m", "--gpu-priority=3")
	linux := with["linux"].(map[string]any)
	assert.Assert(t, linux["seccomp"] != nil, "no seccomp profile: the comparison says nothing")
	resources := linux["resources"].(map[string]any)
	assert.DeepEqual(t, resources["unified"], map[string]any{"gpu.memory.max": "8388608", "gpu.priority": "3"})
	delete(resources, "unified")
	for _, s := range []map[string]any{with, without} {
		if root, ok := s["root"].(map[string]any); ok {
			delete(root, "path") // the layer's number
		}
	}
	for key := range without {
		assert.Assert(t, reflect.DeepEqual(with[key], without[key]), "%s: %v\nwithout the limits: %v", key, with[key], without[key])
	}
	assert.Equal(t, len(with), len(without))
}

// What a container holds is what it made: not less for being cut into small
// objects or made by several users, and not more for what others share with it.
func TestGPUMemoryIsChargedToWhoMadeIt(t *testing.T) {
	place.OneVM(t)
	require.GPU(t)
	require.DRM(t)
	d := setup(t)
	shared := t.TempDir()
	t.Cleanup(func() { d.RemoveAll(t) }) // before the folder goes
	for name, limit := range map[string]string{"maker": "8m", "user": "1m"} {
		d.Must(t, "run", "-d", "--name", name, "--device="+engine, "--gpu-memory="+limit, "-v", shared+":/shared", "busybox", "sleep", "600")
	}
	maker, user := d.Cgroup(t, "maker"), d.Cgroup(t, "user")
	want := func(line string, args ...string) {
		t.Helper()
		r := d.Docker(t, append([]string{"exec"}, args...)...)
		assert.Equal(t, strings.TrimSpace(r.Stdout), line, "%v: exit code %d, %s", args, r.Code, r.Stderr)
	}
	end := func(g cgroupfs.Group) {
		t.Helper()
		pid, err := g.Find("gpu", "gem")
		assert.NilError(t, err)
		assert.NilError(t, unix.Kill(pid, unix.SIGKILL))
	}

	// Many small objects, of two users in one container.
	want("allocated 256 of 257: ENOMEM", "user", "gem", "alloc", "--size=4k", "--count=257")
	d.Must(t, "exec", "user", "chmod", "666", engine)
	d.Must(t, "exec", "-d", "--user=1000", "user", "gem", "alloc", "--size=4k", "--count=200", "--hold")
	user.WantSoon(t, "gpu.memory.current", strconv.Itoa(200*4096), soon)
	want("allocated 56 of 100: ENOMEM", "user", "gem", "alloc", "--size=4k", "--count=100")
	end(user)
	user.WantSoon(t, "gpu.memory.current", "0", soon)

	// What another container made, and shares.
	d.Must(t, "exec", "-d", "maker", "gem", "alloc", "--count=5", "--share=/shared/s", "--hold")
	maker.WantSoon(t, "gpu.memory.current", strconv.Itoa(5*mib), soon)
	until(t, func() error {
		_, err := os.Stat(filepath.Join(shared, "s"))
		return err
	})
	d.Must(t, "exec", "-d", "user", "sh", "-c", "gem import --hold /shared/s > /shared/log")
	until(t, func() error {
		log, err := os.ReadFile(filepath.Join(shared, "log"))
		if err == nil && string(log) != "imported 5\n" {
			err = fmt.Errorf("gem does not import: %q", log)
		}
		return err
	})
	user.Want(t, "gpu.memory.current", "0")
	want("allocated 1 of 2: ENOMEM", "user", "gem", "alloc", "--count=2")
	// It stays with its maker, who gets nothing back by ending.
	end(maker)
	want("allocated 3 of 4: ENOMEM", "maker", "gem", "alloc", "--count=4")
	maker.Want(t, "gpu.memory.current", strconv.Itoa(5*mib))
	end(user)
	maker.WantSoon(t, "gpu.memory.current", "0", soon)
}

// A container that owns its cgroup may divide what it has among cgroups of its own; its
// priority it cannot change where the kernel keeps it from writing to the root of a
// namespace. On v1 nothing does, so there the two are refused together.
func TestGPUPriorityWithWritableCgroups(t *testing.T) {
	require.GPU(t)
	require.DRM(t)
	d := setup(t)
	args := []string{"run", "-d", "--name=box", "--device=" + require.FirstRender, "--gpu-priority=-200", "--security-opt=writable-cgroups=true", "busybox", "sleep", "600"}
	if require.Has("v1") {
		r := d.Docker(t, args...)
		assert.Assert(t, r.Code != 0)
		for _, want := range []string{"--gpu-priority=-200", "writable-cgroups", "cgroup v2"} {
			assert.Assert(t, strings.Contains(r.Stderr, want), r.Stderr)
		}
		d.Must(t, "run", "-d", "--name=box", "--security-opt=writable-cgroups=true", "--device="+require.FirstRender, "busybox", "sleep", "600")
		r = d.Docker(t, "update", "--gpu-priority=5", "box")
		assert.Assert(t, r.Code != 0 && strings.Contains(r.Stderr, "writable-cgroups"), r.Stderr)
		return
	}
	d.Must(t, args...)
	d.Must(t, "exec", "box", "mkdir", "/sys/fs/cgroup/child")
	d.Docker(t, "exec", "box", "sh", "-c", raise)
	got, err := d.Cgroup(t, "box").Read("gpu.priority")
	assert.NilError(t, err)
	assert.Equal(t, got, "-200")
}
