// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// ownMountsEnv says that ownMounts has been here.
const ownMountsEnv = "GPU_CGROUP_TEST_OWN_MOUNTS"

// ownMounts gives the tests and all that they start a mount namespace; for main, on its
// thread. A hierarchy of cgroups that a test mounts would be every runtime's on the
// machine, and a container that starts elsewhere when it goes again is refused.
func ownMounts() {
	if os.Geteuid() != 0 || os.Getenv(ownMountsEnv) != "" {
		return
	}
	err := unix.Unshare(unix.CLONE_NEWNS)
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	if err == nil {
		err = ownCgroupFolders("/sys/fs/cgroup")
	}
	if err == nil {
		// The namespace is this thread's alone, until it executes something.
		err = unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), ownMountsEnv+"=1"))
	}
	fmt.Fprintln(os.Stderr, "a mount namespace for the tests:", err)
	os.Exit(1)
}

// ownCgroupFolders replaces the tmpfs in which the hierarchies of cgroup v1 are mounted
// by another one with the same: to a shim elsewhere an empty folder in it is a hierarchy
// that it cannot find.
func ownCgroupFolders(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil || fs.Type != unix.TMPFS_MAGIC {
		return err
	}
	own, err := os.MkdirTemp("", "cgroup-")
	if err != nil {
		return err
	}
	if err := unix.Mount("cgroup", own, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		old, now := filepath.Join(dir, e.Name()), filepath.Join(own, e.Name())
		if e.Type()&os.ModeSymlink != 0 {
			target, err := os.Readlink(old)
			if err != nil {
				return err
			}
			if err := os.Symlink(target, now); err != nil {
				return err
			}
			continue
		}
		if err := unix.Statfs(old, &fs); err != nil {
			return err
		}
		if !e.IsDir() || fs.Type == unix.TMPFS_MAGIC { // left over by who mounted something here
			continue
		}
		if err := os.Mkdir(now, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(old, now, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		return err
	}
	if err := unix.Mount(own, dir, "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	return os.Remove(own)
}

func TestWhatIsMountedHereIsSeenByNobodyElse(t *testing.T) {
	require.Daemon(t)
	mine, err := os.Readlink("/proc/self/ns/mnt")
	assert.NilError(t, err)
	others, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", os.Getppid()))
	assert.NilError(t, err)
	assert.Assert(t, mine != others, "%s is that of the parent process", mine)

	if require.Has("v1") { // nor a folder for a hierarchy
		dir, err := os.MkdirTemp("/sys/fs/cgroup", "own-")
		assert.NilError(t, err)
		defer os.Remove(dir)
		_, err = os.Stat(fmt.Sprintf("/proc/%d/root%s", os.Getppid(), dir))
		assert.Assert(t, os.IsNotExist(err), "%v", err)
	}
}

// unmounted takes a cgroup v1 hierarchy away until the test ends, or sees to it
// that what the test mounts goes.
func unmounted(t *testing.T, hierarchy string) {
	t.Helper()
	dir := "/sys/fs/cgroup/" + hierarchy
	switch _, err := os.Stat(dir + "/cgroup.procs"); {
	case err == nil:
		assert.NilError(t, unix.Unmount(dir, 0))
		t.Cleanup(func() {
			if _, err := os.Stat(dir + "/cgroup.procs"); err != nil {
				assert.NilError(t, unix.Mount("cgroup", dir, "cgroup", 0, hierarchy))
			}
		})
	case os.IsNotExist(err):
		_, err := os.Stat(dir)
		wasThere := err == nil
		t.Cleanup(func() {
			_ = unix.Unmount(dir, 0)
			if !wasThere {
				_ = os.Remove(dir)
			}
		})
	default:
		t.Fatal(err)
	}
}

// A refusal says how to mount a hierarchy. Who does so must not have to start
// dockerd anew, even if it has looked for cgroups before.
func TestNetHierarchyMountedLaterIsUsed(t *testing.T) {
	place.InVM(t) // where a hierarchy is in use that it has not mounted, containerd has no statistics
	require.NetRate(t)
	require.CgroupV1(t)
	unmounted(t, "net_cls")
	d := setup(t)
	d.Must(t, "run", "-d", "--name=before", "--network=host", "--blkio-read-limit=100m", "busybox", "sleep", "inf")
	d.Must(t, "inspect", "before") // It shows the limits of disks, from the container's cgroup.

	const limit = "--net-classid=10:1"
	r := d.Docker(t, "create", "--network=host", limit, "busybox")
	assert.Assert(t, r.Code != 0, "it was taken")
	said := regexp.MustCompile(`mount it by "([^"]+)"`).FindStringSubmatch(r.Stderr)
	assert.Assert(t, len(said) == 2, "%s", r.Stderr)
	out, err := exec.Command("sh", "-c", said[1]).CombinedOutput()
	assert.NilError(t, err, "%s: %s", said[1], out)
	t.Cleanup(func() { d.RemoveAll(t) }) // before it is unmounted

	d.Must(t, "run", "-d", "--name=after", "--network=host", limit, "busybox", "sleep", "inf")
	assert.Equal(t, readFile(t, d.Cgroup(t, "after"), "net_cls", "net_cls.classid"), "1048577")
	d.Must(t, "update", "--net-classid=10:2", "after")
	assert.Equal(t, readFile(t, d.Cgroup(t, "after"), "net_cls", "net_cls.classid"), "1048578")

	// A container that runs already is in none of its groups.
	r = d.Docker(t, "update", limit, "before")
	assert.Assert(t, r.Code != 0, "it was taken")
	wantWords(t, r.Stderr, limit, "start it again")
	assert.Assert(t, !strings.Contains(d.Must(t, "inspect", "before"), `"NetClassID"`), "the refused class stays")
	root, err := os.ReadFile("/sys/fs/cgroup/net_cls/net_cls.classid")
	assert.NilError(t, err)
	assert.Equal(t, strings.TrimSpace(string(root)), "0", "the class of all that is in no container")
	d.Must(t, "restart", "-t0", "before")
	d.Must(t, "update", limit, "before")
	assert.Equal(t, readFile(t, d.Cgroup(t, "before"), "net_cls", "net_cls.classid"), "1048577")
}
