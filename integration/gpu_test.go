// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/cgroupfs"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

const mib = 1 << 20

// soon is how long the kernel and dockerd may take under emulation.
const soon = 30 * time.Second

func ptr(n int64) *int64 { return &n }

// wantLimits checks both sides: the kernel's files and inspect.
func wantLimits(t *testing.T, d *daemon.Daemon, name string, priority, memory int64) {
	t.Helper()
	wantKernel(t, d, name, priority, memory)
	d.WantHostConfig(t, name, &priority, &memory)
}

// wantKernel checks the kernel's files alone; memory -1 is no limit.
func wantKernel(t *testing.T, d *daemon.Daemon, name string, priority, memory int64) {
	t.Helper()
	g := d.Cgroup(t, name)
	g.Want(t, "gpu.priority", strconv.FormatInt(priority, 10))
	limit := cgroupfs.Max
	if memory != -1 {
		limit = strconv.FormatInt(memory, 10)
	}
	g.Want(t, "gpu.memory.max", limit)
}

func TestRunSetsBothLimits(t *testing.T) {
	require.GPU(t)
	require.DRM(t)
	d := setup(t)
	d.Must(t, "run", "-d", "--name=box", "--device=/dev/dri/renderD128", "--gpu-priority=50", "--gpu-memory=10240", "busybox", "sleep", "600")
	wantLimits(t, d, "box", 50, 10240)
	d.Must(t, "exec", "box", "test", "-c", "/dev/dri/renderD128")
}

func TestALimitNotAskedForIsNotSet(t *testing.T) {
	place.OneVM(t)
	require.GPU(t)
	d := setup(t)
	for _, tc := range []struct {
		name             string
		flags            []string
		priority, memory *int64
	}{
		{"none", nil, nil, nil},
		{"priority-only", []string{"--gpu-priority=-1024"}, ptr(-1024), nil},
		{"memory-only", []string{"--gpu-memory=3g"}, nil, ptr(3 << 30)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := append([]string{"run", "-d", "--name", tc.name}, tc.flags...)
			d.Must(t, append(args, "busybox", "sleep", "600")...)
			d.WantHostConfig(t, tc.name, tc.priority, tc.memory)
			priority, memory := int64(0), int64(-1)
			if tc.priority != nil {
				priority = *tc.priority
			}
			if tc.memory != nil {
				memory = *tc.memory
			}
			wantKernel(t, d, tc.name, priority, memory)
		})
	}
}

func TestLimitsLast(t *testing.T) {
	place.OneVM(t)
	require.GPU(t)
	d := setup(t)
	d.Must(t, "create", "--name=box", "--restart=always", "--gpu-priority=-7", "--gpu-memory=64m", "busybox", "sleep", "600")
	d.WantHostConfig(t, "box", ptr(-7), ptr(64*mib))
	check := func(t *testing.T) { t.Helper(); wantLimits(t, d, "box", -7, 64*mib) }

	t.Run("create and start", func(t *testing.T) {
		d.Must(t, "start", "box")
		check(t)
	})
	t.Run("stop and start", func(t *testing.T) {
		d.Must(t, "stop", "box")
		d.WantHostConfig(t, "box", ptr(-7), ptr(64*mib))
		d.Must(t, "start", "box")
		check(t)
	})
	t.Run("restart", func(t *testing.T) {
		d.Must(t, "restart", "box")
		check(t)
	})
	t.Run("pause and unpause", func(t *testing.T) {
		d.Must(t, "pause", "box")
		check(t)
		d.Must(t, "unpause", "box")
		check(t)
	})
	t.Run("restart policy", func(t *testing.T) {
		old := d.Inspect(t, "box").State.Pid
		assert.NilError(t, unix.Kill(old, unix.SIGKILL))
		d.WaitRunning(t, "box", old)
		check(t)
	})
	t.Run("restart of dockerd", func(t *testing.T) {
		old := d.Inspect(t, "box").State.Pid
		d.Restart(t)
		d.WaitRunning(t, "box", old)
		check(t)
	})
	t.Run("crash of dockerd with live-restore", func(t *testing.T) {
		d.LiveRestore(t)
		old := d.Inspect(t, "box").State.Pid
		d.Kill(t)
		d.StartAgain(t)
		assert.Equal(t, d.Inspect(t, "box").State.Pid, old, "the container was restarted")
		check(t)
	})
}

func TestMemoryIsEnforced(t *testing.T) {
	require.GPU(t)
	require.DRM(t)
	d := setup(t)
	d.Must(t, "run", "-d", "--name=box", "--device="+engine, "--gpu-memory=8m", "busybox", "sleep", "600")
	g := d.Cgroup(t, "box")
	g.Want(t, "gpu.memory.current", "0")

	t.Run("up to the limit", func(t *testing.T) {
		wantAlloc(t, d, "box", 8, 8)
		g.WantSoon(t, "gpu.memory.current", "0", soon)
	})
	t.Run("not above it", func(t *testing.T) {
		wantAlloc(t, d, "box", 9, 8)
		g.WantSoon(t, "gpu.memory.current", "0", soon)
	})
	t.Run("over all processes together", func(t *testing.T) {
		d.Must(t, "exec", "-d", "box", "gem", "alloc", "--count=5", "--hold")
		g.WantSoon(t, "gpu.memory.current", strconv.Itoa(5*mib), soon)
		wantAlloc(t, d, "box", 4, 3)
		g.WantSoon(t, "gpu.memory.current", strconv.Itoa(5*mib), soon)
	})
	t.Run("given back by SIGKILL", func(t *testing.T) {
		pid, err := g.Find("gpu", "gem")
		assert.NilError(t, err)
		assert.NilError(t, unix.Kill(pid, unix.SIGKILL))
		g.WantSoon(t, "gpu.memory.current", "0", soon)
	})
}

// wantAlloc lets a new process in the container create objects of 1 MiB and
// checks how many it got; the one too many must be refused with ENOMEM.
func wantAlloc(t *testing.T, d *daemon.Daemon, name string, count, want int) {
	t.Helper()
	r := d.Docker(t, "exec", name, "gem", "alloc", "--size=1m", fmt.Sprintf("--count=%d", count))
	line, code := fmt.Sprintf("allocated %d of %d", want, count), 0
	if want < count {
		line, code = line+": ENOMEM", 1
	}
	if got := strings.TrimSpace(r.Stdout); got != line || r.Code != code {
		t.Errorf("gem alloc --count=%d: exit code %d, %q %q; want exit code %d, %q", count, r.Code, got, r.Stderr, code, line)
	}
}

func TestAContainerSeesButCannotChangeItsLimits(t *testing.T) {
	require.GPU(t)
	d := setup(t)
	d.Must(t, "run", "-d", "--name=box", "--gpu-priority=3", "--gpu-memory=8m", "busybox", "sleep", "600")
	// Names inside: the container's own cgroup is the root of what it sees.
	script := `cd /sys/fs/cgroup; [ -d gpu ] && cd gpu
for f in gpu.priority gpu.memory.max gpu.max_mem_in_bytes; do
	[ -e $f ] || continue
	echo $f $(cat $f)
	echo 5 > $f && echo $f was written
done 2>/dev/null; true`
	got := strings.Split(d.Must(t, "exec", "box", "sh", "-c", script), "\n")
	g := d.Cgroup(t, "box")
	path, err := g.Path("gpu.memory.max")
	assert.NilError(t, err)
	assert.DeepEqual(t, got, []string{"gpu.priority 3", path[strings.LastIndex(path, "/")+1:] + " 8388608"})
	wantLimits(t, d, "box", 3, 8*mib)
}

func TestUpdateChangesARunningContainer(t *testing.T) {
	require.GPU(t)
	d := setup(t)
	d.Must(t, "run", "-d", "--name=box", "--gpu-priority=50", "--gpu-memory=10240", "busybox", "sleep", "600")
	pid := d.Inspect(t, "box").State.Pid
	for _, step := range []struct {
		name, body       string
		priority, memory int64
	}{
		{"one limit keeps the other", `{"GPUMemory":20480}`, 50, 20480},
		{"both", `{"GPUPriority":-1024,"GPUMemory":1}`, -1024, 1},
		{"another resource keeps both", `{"PidsLimit":100}`, -1024, 1},
		{"null keeps both", `{"GPUPriority":null,"GPUMemory":null,"PidsLimit":101}`, -1024, 1},
		{"-1 removes the memory limit", `{"GPUMemory":-1}`, -1024, -1},
		{"0 is the default priority", `{"GPUPriority":0}`, 0, -1},
		{"a removed limit can be set again", `{"GPUPriority":1024,"GPUMemory":9223372036854775807}`, 1024, 1<<63 - 1},
	} {
		t.Run(step.name, func(t *testing.T) {
			r := d.API(t, http.MethodPost, "/containers/box/update", step.body)
			assert.Equal(t, r.Status, http.StatusOK, "%s", r.Body)
			wantLimits(t, d, "box", step.priority, step.memory)
		})
	}
	assert.Equal(t, d.Inspect(t, "box").State.Pid, pid, "the container was restarted")

	t.Run("lasts over a restart", func(t *testing.T) {
		r := d.API(t, http.MethodPost, "/containers/box/update", `{"GPUPriority":9,"GPUMemory":4096}`)
		assert.Equal(t, r.Status, http.StatusOK, "%s", r.Body)
		r = d.API(t, http.MethodPost, "/containers/box/restart", "")
		assert.Equal(t, r.Status, http.StatusNoContent, "%s", r.Body)
		wantLimits(t, d, "box", 9, 4096)
	})
}

func TestUpdateOfAStoppedContainerCountsFromItsStart(t *testing.T) {
	place.OneVM(t)
	require.GPU(t)
	d := setup(t)
	d.Must(t, "create", "--name=box", "--gpu-memory=10240", "busybox", "sleep", "600")
	r := d.API(t, http.MethodPost, "/containers/box/update", `{"GPUPriority":5}`)
	assert.Equal(t, r.Status, http.StatusOK, "%s", r.Body)
	d.WantHostConfig(t, "box", ptr(5), ptr(10240))
	d.Must(t, "start", "box")
	wantLimits(t, d, "box", 5, 10240)
}

func TestAChangedMemoryLimitIsEnforcedAtOnce(t *testing.T) {
	place.OneVM(t)
	require.GPU(t)
	require.DRM(t)
	d := setup(t)
	d.Must(t, "run", "-d", "--name=box", "--device="+engine, "--gpu-memory=8m", "busybox", "gem", "alloc", "--count=5", "--hold")
	g := d.Cgroup(t, "box")
	g.WantSoon(t, "gpu.memory.current", strconv.Itoa(5*mib), soon)
	for _, step := range []struct {
		limit string
		free  int // objects of 1 MiB beside the five
	}{
		{"10485760", 5},
		{"4194304", 0}, // below the use: what is there stays, nothing new
		{"-1", 20},
	} {
		r := d.API(t, http.MethodPost, "/containers/box/update", `{"GPUMemory":`+step.limit+`}`)
		assert.Equal(t, r.Status, http.StatusOK, "%s", r.Body)
		count := step.free + 1
		if step.limit == "-1" {
			count = step.free
		}
		wantAlloc(t, d, "box", count, step.free)
		g.WantSoon(t, "gpu.memory.current", strconv.Itoa(5*mib), soon)
	}
}

func TestARefusedUpdateChangesNothing(t *testing.T) {
	require.GPU(t)
	d := setup(t)
	d.Must(t, "run", "-d", "--name=box", "--gpu-priority=50", "--gpu-memory=10240", "busybox", "sleep", "600")
	for _, body := range []struct{ text, field string }{
		{`{"GPUPriority":1025,"GPUMemory":20480}`, "GPUPriority"},
		{`{"GPUPriority":-1025}`, "GPUPriority"},
		{`{"GPUPriority":60,"GPUMemory":0}`, "GPUMemory"},
		{`{"GPUMemory":-2}`, "GPUMemory"},
		{`{"GPUMemory":"1g"}`, "GPUMemory"},
		{`{"GPUPriority":1.5}`, "GPUPriority"},
	} {
		r := d.API(t, http.MethodPost, "/containers/box/update", body.text)
		assert.Equal(t, r.Status, http.StatusBadRequest, "%s: %s", body.text, r.Body)
		assert.Assert(t, strings.Contains(r.Message(), body.field), "%s: %s", body.text, r.Message())
		wantLimits(t, d, "box", 50, 10240)
	}
}

// The daemon takes this update, the kernel refuses a part of it: the CPU quota
// is above the parent's, which v1 does not allow.
func TestAnUpdateRefusedByTheKernelIsTakenBack(t *testing.T) {
	require.GPU(t)
	require.CgroupV1(t)
	d := setup(t)
	d.Must(t, "run", "-d", "--name=box", "--cpus=0.2", "--gpu-priority=50", "--gpu-memory=10240", "busybox", "sleep", "600")
	cpu, err := d.Cgroup(t, "box").Dir("cpu")
	assert.NilError(t, err)
	quota := filepath.Join(filepath.Dir(cpu), "cpu.cfs_quota_us")
	assert.NilError(t, os.WriteFile(quota, []byte("50000"), 0o644))
	t.Cleanup(func() { assert.NilError(t, os.WriteFile(quota, []byte("-1"), 0o644)) })

	r := d.API(t, http.MethodPost, "/containers/box/update", `{"GPUPriority":60,"GPUMemory":20480,"NanoCpus":1000000000}`)
	assert.Assert(t, r.Status >= 400, "%d %s", r.Status, r.Body)
	wantLimits(t, d, "box", 50, 10240)

	// Nothing of it comes back with the next update.
	r = d.API(t, http.MethodPost, "/containers/box/update", `{"PidsLimit":77}`)
	assert.Equal(t, r.Status, http.StatusOK, "%s", r.Body)
	wantLimits(t, d, "box", 50, 10240)
}
