// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/cgroupfs"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/drm"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// What a container gets of GPUs comes in many ways, and some of them show only when
// it is there. Each of these tests has a kernel that keeps limits, and runs the same
// container once more with a GPU that keeps them, which has to be taken.

// nodesHook makes in a container what the file beside it names. A runtime's hook
// stands in the host's root, and the container's is mounted in the namespace.
const nodesHook = `#!/bin/sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin
state=$(cat)
pid=$(echo "$state" | sed 's/.*"pid": *\([0-9]*\).*/\1/')
bundle=$(echo "$state" | sed 's/.*"bundle": *"\([^"]*\)".*/\1/')
root=$(sed 's/.*"root":{"path":"\([^"]*\)".*/\1/' "$bundle/config.json")
while read -r name major minor; do
	nsenter -t "$pid" -m mkdir -p "$root${name%%/*}"
	nsenter -t "$pid" -m mknod "$root$name" c "$major" "$minor" || exit 1
done <%q
`

// hookedRuntime is a runtime that adds a hook to what it is given. Of two "hooks" in
// an object Go's parser takes both.
const hookedRuntime = `#!/bin/sh
for arg; do
	[ "$previous" = --bundle ] && bundle=$arg
	previous=$arg
	[ "$arg" = create ] && create=1
done
[ -n "$create" ] && sed -i 's#^{#{"hooks":{"createRuntime":[{"path":"%s"}]},#' "$bundle/config.json"
exec %s "$@"
`

// gpuRig is a daemon with every way to a GPU that there is.
type gpuRig struct {
	*daemon.Daemon
	dir    string
	nvidia string // a node of NVIDIA's first GPU, not in /dev
}

// sharedRig is for all tests with one; main removes it.
var sharedRig gpuRig

const hooked = "hooked" // the runtime's name

func newGPURig(t *testing.T) gpuRig {
	t.Helper()
	require.GPU(t)
	require.DRM(t)
	if sharedRig.dir == "" {
		dir, err := os.MkdirTemp("", "gpurig-")
		assert.NilError(t, err)
		sharedRig.dir = dir
	}
	// Each start of dockerd looks for NVIDIA's hook there.
	t.Setenv("PATH", sharedRig.dir+":"+os.Getenv("PATH"))
	if sharedRig.Daemon == nil {
		sharedRig = startGPURig(t, sharedRig.dir)
	}
	rig := sharedRig
	rig.hookMakes(t, "/dev/nvidia0 195 0")
	t.Cleanup(func() { rig.RemoveAll(t) })
	return rig
}

func startGPURig(t *testing.T, dir string) gpuRig {
	t.Helper()
	rig := gpuRig{dir: dir}
	rig.nvidia = filepath.Join(rig.dir, "nvidia0")
	assert.NilError(t, unix.Mknod(rig.nvidia, unix.S_IFCHR|0o666, int(unix.Mkdev(195, 0))))
	rig.program(t, "nvidia-container-runtime-hook", fmt.Sprintf(nodesHook, filepath.Join(rig.dir, "nodes")))
	runtime := fmt.Sprintf(hookedRuntime, filepath.Join(rig.dir, "nvidia-container-runtime-hook"), filepath.Join(require.Bin(), "runc"))
	rig.program(t, hooked, runtime)
	rig.program(t, "nvidia-container-runtime", runtime)
	for vendor, node := range map[string]string{"example.com": rig.nvidia, "kept.example.com": engine} {
		spec := fmt.Sprintf(`{"cdiVersion":"0.5.0","kind":"%s/gpu","devices":[{"name":"0","containerEdits":{"deviceNodes":[{"path":"/dev/gpu0","hostPath":%q}]}}]}`, vendor, node)
		assert.NilError(t, os.WriteFile(filepath.Join(rig.dir, vendor+".json"), []byte(spec), 0o600))
	}
	d, err := daemon.Start(
		"--live-restore", "--cdi-spec-dir", rig.dir,
		"--add-runtime", hooked+"="+filepath.Join(rig.dir, hooked),
		"--add-runtime", "nvidia="+filepath.Join(rig.dir, "nvidia-container-runtime"),
	)
	assert.NilError(t, err)
	rig.Daemon = d
	return rig
}

func (rig gpuRig) program(t *testing.T, name, text string) {
	t.Helper()
	assert.NilError(t, os.WriteFile(filepath.Join(rig.dir, name), []byte(text), 0o755))
}

// hookMakes sets which nodes a hook makes, each PATH MAJOR MINOR.
func (rig gpuRig) hookMakes(t *testing.T, nodes ...string) {
	t.Helper()
	assert.NilError(t, os.WriteFile(filepath.Join(rig.dir, "nodes"), []byte(strings.Join(nodes, "\n")+"\n"), 0o600))
}

// made is what the hook is to make for a node of the host.
func made(t *testing.T, node string) string {
	t.Helper()
	var st unix.Stat_t
	assert.NilError(t, unix.Stat(node, &st))
	return fmt.Sprintf("/dev/%s %d %d", filepath.Base(node), unix.Major(st.Rdev), unix.Minor(st.Rdev))
}

// wantTaken wants the limits in the kernel.
func (rig gpuRig) wantTaken(t *testing.T, flags ...string) {
	t.Helper()
	r := rig.Docker(t, append(append([]string{"run", "-d", "--name=kept"}, flags...), "busybox", "sleep", "600")...)
	if r.Code != 0 {
		t.Errorf("%q was refused: %s", flags, r.Stderr)
	} else {
		for _, f := range flags {
			switch name, value, _ := strings.Cut(f, "="); name {
			case "--gpu-memory":
				rig.Cgroup(t, "kept").Want(t, "gpu.memory.max", value)
			case "--gpu-priority":
				rig.Cgroup(t, "kept").Want(t, "gpu.priority", value)
			}
		}
	}
	rig.RemoveAll(t)
}

const (
	memory8M   = "--gpu-memory=8388608"
	priority50 = "--gpu-priority=50"
	cannot     = " cannot be enforced: "
)

// Images of CUDA ask for the GPUs themselves, and NVIDIA's hook is there or not.
func TestGPULimitOnNVIDIAThatTheImageAsksForIsRefused(t *testing.T) {
	place.EachVersion(t)
	rig := newGPURig(t)
	rig.Must(t, "create", "--name=cuda", "busybox")
	rig.Must(t, "commit", "--change=ENV NVIDIA_VISIBLE_DEVICES=all", "cuda", "cuda")
	rig.RemoveAll(t)
	for flag, word := range map[string]string{memory8M: "leave out", priority50: "MPS"} {
		r := rig.Docker(t, "create", "--runtime=nvidia", flag, "cuda", "true")
		assert.Assert(t, r.Code != 0, "%s was taken", flag)
		wantWords(t, r.Stderr, flag+cannot, "NVIDIA GPUs (NVIDIA_VISIBLE_DEVICES=all)", word)
		wantRefused(t, rig.Daemon, []string{"create", "--gpus=all", flag, "busybox"}, flag+cannot, "NVIDIA GPUs (--gpus)", word)
	}
	assert.DeepEqual(t, rig.Names(t), []string{})

	rig.hookMakes(t, made(t, engine))
	rig.wantTaken(t, "--runtime=nvidia", "-e", "NVIDIA_VISIBLE_DEVICES=void", memory8M, priority50)
	rig.wantTaken(t, "--device=kept.example.com/gpu=0", memory8M, priority50)
	rig.hookMakes(t, "/dev/nvidia0 195 0")
	rig.wantTaken(t, "--gpus=all")
}

// What only the container itself shows is found before its program runs.
func TestGPULimitOnNVIDIAThatAHookBringsIsRefusedAtStart(t *testing.T) {
	place.OneVM(t)
	rig := newGPURig(t)
	out := t.TempDir()
	for _, tc := range []struct {
		name  string
		flags []string
		makes string // the hook
		limit string
		words []string
	}{
		{"CDI of a stranger", []string{"--device=example.com/gpu=0"}, "", memory8M, []string{"NVIDIA GPU 0 (/dev/gpu0)", "leave out"}},
		{"hook", []string{"--runtime=" + hooked}, "/dev/nvidia3 195 3", memory8M, []string{"NVIDIA GPU 3 (/dev/nvidia3)", "leave out"}},
		{"hook, priority", []string{"--runtime=" + hooked}, "/dev/nvidia3 195 3", priority50, []string{"NVIDIA GPU 3 (/dev/nvidia3)", "MPS"}},
		{"hook brings what has no scheduler", []string{"--runtime=" + hooked}, made(t, drm.Of(t, drm.MemoryOnly).Render), priority50, []string{drm.MemoryOnly, "leave out"}},
		{"hook brings another one", []string{"--runtime=" + hooked, "--device=" + engine}, "/dev/nvidia0 195 0", memory8M, []string{"NVIDIA GPU 0"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			defer rig.RemoveAll(t)
			rig.hookMakes(t, tc.makes)
			args := append([]string{"run", "-d", "--name=box", "-v", out + ":/out", tc.limit}, tc.flags...)
			r := rig.Docker(t, append(args, "busybox", "touch", "/out/ran")...)
			assert.Assert(t, r.Code != 0, "it was started")
			wantWords(t, r.Stderr, append(tc.words, tc.limit+cannot)...)
			assert.Assert(t, !rig.Inspect(t, "box").State.Running)
			_, err := os.Stat(filepath.Join(out, "ran"))
			assert.Assert(t, os.IsNotExist(err), "its program ran: %v", err)

			// And the daemon forgot the task: the container can be started as soon as
			// the hook makes what is kept.
			if tc.name == "hook" {
				rig.hookMakes(t, made(t, engine))
				rig.Must(t, "start", "-a", "box")
				_, err := os.Stat(filepath.Join(out, "ran"))
				assert.NilError(t, err)
				assert.NilError(t, os.Remove(filepath.Join(out, "ran")))
			}
		})
	}
}

// An update knows the GPUs from the start of the container, whatever the container
// has made of its /dev since, and over a crash of dockerd.
func TestGPUUpdateOnNVIDIAIsRefusedWhateverTheContainerShows(t *testing.T) {
	place.OneVM(t)
	rig := newGPURig(t)
	for name, run := range map[string][]string{
		"device": {"--device=" + rig.nvidia + ":/dev/nvidia0"},
		"hook":   {"--runtime=" + hooked},
		"gpus":   {"--gpus=all"},
		"CDI":    {"--device=example.com/gpu=0"},
	} {
		rig.Must(t, append(append([]string{"run", "-d", "--name=" + name}, run...), "busybox", "sleep", "600")...)
	}
	rig.hookMakes(t, made(t, engine))
	for name, run := range map[string][]string{
		"kept":        {"--device=" + engine},
		"kept-hooked": {"--runtime=" + hooked},
	} {
		rig.Must(t, append(append([]string{"run", "-d", "--name=" + name}, run...), "busybox", "sleep", "600")...)
	}
	update := func(name, body string) daemon.Response {
		return rig.API(t, http.MethodPost, "/containers/"+name+"/update", body)
	}
	check := func(t *testing.T, others bool) {
		for _, name := range []string{"device", "hook", "gpus", "CDI"} {
			r := update(name, `{"GPUMemory":8388608}`)
			assert.Equal(t, r.Status, http.StatusBadRequest, "%s: %s", name, r.Body)
			wantWords(t, r.Message(), memory8M+cannot, "NVIDIA", "leave out")
			r = update(name, `{"GPUPriority":50,"PidsLimit":50}`)
			assert.Equal(t, r.Status, http.StatusBadRequest, "%s: %s", name, r.Body)
			wantWords(t, r.Message(), priority50+cannot, "NVIDIA", "MPS")
			rig.WantHostConfig(t, name, nil, nil)
			rig.Cgroup(t, name).Want(t, "gpu.memory.max", cgroupfs.Max)
			if others {
				r = update(name, `{"PidsLimit":77}`)
				assert.Equal(t, r.Status, http.StatusOK, "%s: %s", name, r.Body)
			}
		}
		for _, name := range []string{"kept", "kept-hooked"} {
			r := update(name, `{"GPUMemory":8388608,"GPUPriority":50}`)
			assert.Equal(t, r.Status, http.StatusOK, "%s: %s", name, r.Body)
			rig.Cgroup(t, name).Want(t, "gpu.memory.max", "8388608")
			rig.Cgroup(t, name).Want(t, "gpu.priority", "50")
		}
	}
	t.Run("as it was started", func(t *testing.T) { check(t, true) })
	t.Run("after it removed the nodes", func(t *testing.T) {
		for _, name := range []string{"device", "hook", "gpus"} {
			rig.Must(t, "exec", name, "rm", "/dev/nvidia0")
		}
		rig.Must(t, "exec", "CDI", "rm", "/dev/gpu0")
		check(t, false)
	})
	t.Run("after a crash of dockerd", func(t *testing.T) {
		rig.Kill(t)
		rig.StartAgain(t)
		check(t, true)
	})
	t.Run("a stopped container has what it is to get", func(t *testing.T) {
		rig.Must(t, "stop", "device", "gpus", "hook")
		for _, name := range []string{"device", "gpus"} {
			r := update(name, `{"GPUMemory":8388608}`)
			assert.Equal(t, r.Status, http.StatusBadRequest, "%s: %s", name, r.Body)
			wantWords(t, r.Message(), memory8M+cannot, "NVIDIA")
		}
		// The hook now brings one that is kept: what was is no longer.
		r := update("hook", `{"GPUMemory":8388608}`)
		assert.Equal(t, r.Status, http.StatusOK, "%s", r.Body)
		rig.Must(t, "start", "hook")
		rig.Cgroup(t, "hook").Want(t, "gpu.memory.max", "8388608")
	})
}

// A volume in /dev may have more in it than dockerd cares to list.
func TestGPULimitWithTooMuchInDev(t *testing.T) {
	place.EachVersion(t)
	rig := newGPURig(t)
	dir := t.TempDir()
	assert.NilError(t, unix.Mount("many", dir, "tmpfs", 0, "nr_inodes=100000"))
	t.Cleanup(func() { assert.NilError(t, unix.Unmount(dir, 0)) })
	for i := range 51_000 {
		assert.NilError(t, unix.Mknod(filepath.Join(dir, fmt.Sprint(i)), unix.S_IFREG|0o600, 0))
	}
	run := []string{"run", "-d", "--name=box", memory8M, "--device=" + engine, "-v", dir + ":/dev/extra", "busybox", "sleep", "600"}
	r := rig.Docker(t, run...)
	assert.Assert(t, r.Code != 0, "it was started")
	wantWords(t, r.Stderr, memory8M+cannot, "/dev has more than")
	rig.RemoveAll(t)

	// Nor can it hide so what a hook brings, to get a limit later that nobody keeps.
	rig.Must(t, "run", "-d", "--name=box", "--runtime="+hooked, "-v", dir+":/dev/extra", "busybox", "sleep", "600")
	u := rig.API(t, http.MethodPost, "/containers/box/update", `{"GPUMemory":8388608}`)
	assert.Equal(t, u.Status, http.StatusBadRequest, "%s", u.Body)
	wantWords(t, u.Message(), memory8M+cannot, "/dev has more than", "start it again")
	for i := range 2_000 {
		assert.NilError(t, os.Remove(filepath.Join(dir, fmt.Sprint(i))))
	}
	rig.RemoveAll(t)
	rig.Must(t, run...)
	rig.Cgroup(t, "box").Want(t, "gpu.memory.max", "8388608")
}

// A dockerd before this one did not ask the GPUs, and anybody may have written to a
// cgroup while none ran. What can be put in force is, and the rest is shown.
func TestGPULimitThatNobodyKeepsIsShownAfterAStart(t *testing.T) {
	place.EachVersion(t)
	rig := newGPURig(t)
	rig.Must(t, "run", "-d", "--name=nvidia", "--device="+rig.nvidia, "busybox", "sleep", "600")
	rig.Must(t, "run", "-d", "--name=box", "--device="+engine, memory8M, priority50, "busybox", "sleep", "600")
	memory, err := rig.Cgroup(t, "box").Path("gpu.memory.max")
	assert.NilError(t, err)
	priority, err := rig.Cgroup(t, "box").Path("gpu.priority")
	assert.NilError(t, err)
	config := rig.HostConfigFile(rig.Inspect(t, "nvidia").ID)

	rig.Kill(t)
	assert.NilError(t, os.WriteFile(memory, []byte("1000000"), 0o600))
	assert.NilError(t, os.WriteFile(priority, []byte("0"), 0o600))
	text, err := os.ReadFile(config)
	assert.NilError(t, err)
	assert.NilError(t, os.WriteFile(config, []byte(strings.Replace(string(text), "{", `{"GPUMemory":8388608,"GPUPriority":50,`, 1)), 0o600))
	rig.StartAgain(t)

	rig.Cgroup(t, "box").WantSoon(t, "gpu.memory.max", "8388608", soon)
	rig.Cgroup(t, "box").WantSoon(t, "gpu.priority", "50", soon)
	until(t, func() error {
		if lost := notInForce(t, rig.Daemon, "nvidia"); len(lost) < 2 {
			return fmt.Errorf("not in force: %q", lost)
		}
		return nil
	})
	got := strings.Join(notInForce(t, rig.Daemon, "nvidia"), "\n")
	wantWords(t, got, "GPUMemory: "+memory8M+cannot, "GPUPriority: "+priority50+cannot, "NVIDIA GPU 0 ("+rig.nvidia+")")
	assert.DeepEqual(t, notInForce(t, rig.Daemon, "box"), []string(nil))
	wantWords(t, rig.Docker(t, "info").Stderr, "limits are not in force; see LimitsNotInForce of docker inspect: nvidia")

	r := rig.API(t, http.MethodPost, "/containers/nvidia/update", `{"GPUMemory":-1,"GPUPriority":0}`)
	assert.Equal(t, r.Status, http.StatusOK, "%s", r.Body)
	assert.DeepEqual(t, notInForce(t, rig.Daemon, "nvidia"), []string(nil))
}
