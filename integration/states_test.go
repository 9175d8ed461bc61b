// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// change makes one update of a container, of the GPU limits too where there
// are any, and wantChange looks for what the n-th change did.
func change(t *testing.T, d *daemon.Daemon, name string, n int64) {
	t.Helper()
	args := []string{"modresources", "-q", "--pids-limit=" + strconv.FormatInt(100+n, 10)}
	if require.Has("gpu") {
		args = append(args, "--gpu-memory="+strconv.FormatInt(10240*n, 10), "--gpu-priority="+strconv.FormatInt(n, 10))
	}
	assert.Equal(t, d.Must(t, append(args, name)...), name)
}

func wantStored(t *testing.T, d *daemon.Daemon, name string, n int64) {
	t.Helper()
	pids := d.Inspect(t, name).HostConfig.PidsLimit
	assert.Assert(t, pids != nil && *pids == 100+n, "PidsLimit of %s: %v, want %d", name, pids, 100+n)
	if require.Has("gpu") {
		d.WantHostConfig(t, name, &n, ptr(10240*n))
	}
}

func wantChange(t *testing.T, d *daemon.Daemon, name string, n int64) {
	t.Helper()
	wantStored(t, d, name, n)
	d.Cgroup(t, name).Want(t, "pids.max", strconv.FormatInt(100+n, 10))
	if require.Has("gpu") {
		wantKernel(t, d, name, n, 10240*n)
	}
}

func TestUpdateOfAPausedContainer(t *testing.T) {
	place.OnHost(t)
	d := setup(t)
	d.Must(t, "run", "-d", "--name=box", "busybox", "sleep", "600")
	d.Must(t, "pause", "box")
	change(t, d, "box", 1)
	wantChange(t, d, "box", 1)
	assert.Assert(t, d.Inspect(t, "box").State.Paused, "the update woke it up")
	d.Must(t, "unpause", "box")
	wantChange(t, d, "box", 1)
	change(t, d, "box", 2)
	wantChange(t, d, "box", 2)
}

func TestUpdateOfAStoppedContainerIsKept(t *testing.T) {
	place.OneVM(t)
	d := setup(t)
	d.Must(t, "run", "-d", "--name=box", "busybox", "sleep", "600")
	change(t, d, "box", 1)
	d.Must(t, "stop", "box")
	change(t, d, "box", 2)
	wantStored(t, d, "box", 2)
	d.Must(t, "start", "box")
	wantChange(t, d, "box", 2)
}

// A container that waits for its next restart has no cgroup: the limits are
// stored, and in force from the restart on.
func TestUpdateOfARestartingContainer(t *testing.T) {
	place.OnHost(t)
	d := setup(t)
	dir := t.TempDir()
	t.Cleanup(func() { d.RemoveAll(t) }) // before the folder goes
	d.Must(t, "run", "-d", "--name=box", "--restart=always", "-v", dir+":/test", "busybox", "sh", "-c", "[ -e /test/go ] && exec sleep 600; exit 1")
	wait := func(what string, done func(daemon.Container) bool) {
		t.Helper()
		for end := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
			c := d.Inspect(t, "box")
			if done(c) {
				return
			}
			assert.Assert(t, time.Now().Before(end), "%s: %+v", what, c)
		}
	}
	body := `{"PidsLimit":101}`
	if require.Has("gpu") {
		body = `{"PidsLimit":101,"GPUMemory":10240,"GPUPriority":1}`
	}
	// dockerd waits twice as long after each failure: nearly a second after the
	// fourth. A busy machine may be late all the same, and find the container in
	// the middle of its next failure.
	for tries, taken := 3, false; !taken; tries++ {
		wait("it never waited for a restart", func(c daemon.Container) bool { return c.State.Restarting && c.RestartCount >= tries })
		r := d.API(t, http.MethodPost, "/containers/box/update", body)
		if taken = r.Status == http.StatusOK; !taken {
			wantWords(t, r.Message(), "not running")
			assert.Assert(t, !strings.Contains(r.Message(), "could not be put back"), r.Message())
			assert.Assert(t, tries < 6, r.Message())
			assert.Assert(t, d.Inspect(t, "box").HostConfig.PidsLimit == nil, "a refused update is stored")
		}
	}
	wantStored(t, d, "box", 1)
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "go"), nil, 0o600))
	wait("it did not come back", func(c daemon.Container) bool { return c.State.Running && !c.State.Restarting })
	wantChange(t, d, "box", 1)
	change(t, d, "box", 2)
	wantChange(t, d, "box", 2)
}

// immutable is FS_IMMUTABLE_FL of the kernel's linux/fs.h.
const immutable = 0x10

// setImmutable protects a file even from root, or lets go of it.
func setImmutable(t *testing.T, path string, on bool) {
	t.Helper()
	f, err := os.Open(path)
	assert.NilError(t, err)
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	assert.NilError(t, err)
	flags &^= immutable
	if on {
		flags |= immutable
	}
	assert.NilError(t, unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags))
}

// A container whose removal did not get to the end is dead: nothing can be
// changed any more, and nothing is.
func TestUpdateOfAContainerBeingRemoved(t *testing.T) {
	place.OnHost(t)
	require.Immutable(t)
	d := setup(t)
	d.Must(t, "run", "-d", "--name=box", "busybox", "sleep", "600")
	change(t, d, "box", 1)
	d.Must(t, "stop", "box")
	id := d.Inspect(t, "box").ID
	root := d.Must(t, "info", "--format", "{{.DockerRootDir}}")
	file := filepath.Join(root, "containers", id, "hold")
	assert.NilError(t, os.WriteFile(file, nil, 0o600))
	setImmutable(t, file, true)
	t.Cleanup(func() { setImmutable(t, file, false) })

	r := d.Docker(t, "rm", "-f", "box")
	assert.Assert(t, r.Code != 0, "it was removed")
	assert.Assert(t, d.Inspect(t, id).State.Dead)
	r = d.Docker(t, "modresources", "--pids-limit=133", id)
	assert.Assert(t, r.Code != 0, "it was changed")
	wantWords(t, r.Stderr, "marked for removal")
	wantStored(t, d, id, 1)
	u := d.API(t, http.MethodPost, "/containers/"+id+"/update?replace=1", `{"PidsLimit":133}`)
	assert.Assert(t, u.Status >= 400, "%s", u.Body)
	wantStored(t, d, id, 1)
}

// With live-restore the containers go on while dockerd is away.
func TestLimitsOverALiveRestore(t *testing.T) {
	place.OnHost(t)
	d := setup(t)
	d.LiveRestore(t)
	for _, name := range []string{"running", "paused"} {
		d.Must(t, "run", "-d", "--name", name, "busybox", "sleep", "600")
		change(t, d, name, 1)
	}
	d.Must(t, "pause", "paused")
	change(t, d, "paused", 2)
	pid := d.Inspect(t, "running").State.Pid
	d.Restart(t)
	assert.Equal(t, d.Inspect(t, "running").State.Pid, pid, "the container was restarted")
	assert.Assert(t, d.Inspect(t, "paused").State.Paused)
	wantChange(t, d, "running", 1)
	wantChange(t, d, "paused", 2)
	for _, name := range []string{"running", "paused"} {
		change(t, d, name, 3)
		wantChange(t, d, name, 3)
	}
}
