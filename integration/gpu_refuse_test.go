// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/drm"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// nvidiaNode is what NVIDIA's driver has for its first GPU. No driver is needed to
// have the node, and its number alone decides: the driver may be loaded later.
const nvidiaNode = "/dev/nvidia0"

func makeNode(t *testing.T, path string, major, minor uint32) {
	t.Helper()
	assert.NilError(t, unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(major, minor))))
	t.Cleanup(func() { _ = os.Remove(path) })
}

// wantRefused checks a refusal, and that nothing is left of it.
func wantRefused(t *testing.T, d *daemon.Daemon, args []string, words ...string) {
	t.Helper()
	r := d.Docker(t, args...)
	if r.Code == 0 {
		t.Errorf("%q was taken", args)
	}
	wantWords(t, r.Stderr, words...)
	assert.DeepEqual(t, d.Names(t), []string{})
}

// nvidiaForms are all the ways to a GPU of NVIDIA's that a request shows.
var nvidiaForms = []struct {
	flags  []string
	device string // how the refusal names it
}{
	{[]string{"--device=" + nvidiaNode}, "NVIDIA GPU 0 (" + nvidiaNode + ")"},
	{[]string{"--device=" + nvidiaNode + ":/dev/other"}, "NVIDIA GPU 0 (" + nvidiaNode + ")"},
	{[]string{"--device=" + nvidiaNode + ":/dev/other:r"}, "NVIDIA GPU 0 (" + nvidiaNode + ")"},
	{[]string{"--device=nvidia.com/gpu=0"}, "--device nvidia.com/gpu=0"},
	{[]string{"--gpus", "driver=nvidia,device=0"}, "NVIDIA GPUs (--gpus)"},
	{[]string{"--device-cgroup-rule=c 195:* rmw"}, "any NVIDIA GPU"},
	{[]string{"--device-cgroup-rule=c 195:0 rmw"}, "NVIDIA GPU 0"},
	{[]string{"--device-cgroup-rule=c *:* rmw"}, "any NVIDIA GPU"},
	{[]string{"--privileged"}, "any NVIDIA GPU (--privileged)"},
}

func wantNVIDIARefused(t *testing.T, d *daemon.Daemon, kept string) {
	t.Helper()
	for _, form := range nvidiaForms {
		for flag, words := range map[string][]string{
			"--gpu-memory=1073741824": {"--gpu-memory=1073741824 cannot be enforced", form.device, "does not charge to the gpu controller", "leave out"},
			"--gpu-priority=50":       {"--gpu-priority=50 cannot be enforced", form.device, "takes no priority from a cgroup", "leave out", "MPS"},
		} {
			wantRefused(t, d, append(append([]string{"create", flag}, form.flags...), "busybox"), words...)
		}
		// Not because of the device, and not because of the limit.
		d.Must(t, append(append([]string{"create", "--name=control"}, form.flags...), "busybox")...)
		d.Must(t, "rm", "control")
	}
	d.Must(t, "create", "--name=control", "--device="+kept, "--gpu-memory=1073741824", "--gpu-priority=50", "busybox")
	wantRefusedUpdate(t, d, "control")
	d.Must(t, "rm", "control")
}

// wantRefusedUpdate has NVIDIA containers refuse what name, the control, takes.
func wantRefusedUpdate(t *testing.T, d *daemon.Daemon, name string) {
	t.Helper()
	d.Must(t, "create", "--name=nvidia", "--device="+nvidiaNode, "busybox")
	for body, words := range map[string][]string{
		`{"GPUMemory":4096}`: {"--gpu-memory=4096 cannot be enforced", "NVIDIA GPU 0 (" + nvidiaNode + ")", "leave out"},
		`{"GPUPriority":-7}`: {"--gpu-priority=-7 cannot be enforced", "NVIDIA GPU 0 (" + nvidiaNode + ")", "leave out"},
	} {
		r := d.API(t, http.MethodPost, "/containers/nvidia/update", body)
		assert.Equal(t, r.Status, http.StatusBadRequest, "%s", r.Body)
		wantWords(t, r.Message(), words...)
		r = d.API(t, http.MethodPost, "/containers/"+name+"/update", body)
		assert.Equal(t, r.Status, http.StatusOK, "%s", r.Body)
	}
	d.WantHostConfig(t, "nvidia", nil, nil)
	d.WantHostConfig(t, name, ptr(-7), ptr(4096))
	d.Must(t, "rm", "nvidia")
}

func TestGPULimitIsRefusedForNVIDIA(t *testing.T) {
	place.EachVersion(t)
	require.GPU(t)
	require.DRM(t)
	makeNode(t, nvidiaNode, 195, 0)
	wantNVIDIARefused(t, setup(t), engine)
}

// Without a controller every GPU limit is refused for that, so dockerd is made to
// believe in one: a hierarchy of that name with the controller's files over it. It
// can be asked, and not start anything.
const believing = `#!/bin/sh
exec unshare -m sh -ec '
mount --make-rprivate /
mount -t tmpfs none /mnt
mkdir /mnt/gpu
mount -t cgroup -o none,name=gpu gpu /mnt/gpu
mount -t tmpfs none /mnt/gpu
echo 0 >/mnt/gpu/gpu.usage_in_bytes
echo "226:170 cgroup_test platform:cgroup_test memory priority" >/mnt/gpu/gpu.devices
exec "$0" "$@"
' %s "$@"
`

func TestGPULimitIsRefusedForNVIDIAWhereAControllerIsBelievedIn(t *testing.T) {
	require.NoGPU(t)
	require.CgroupV1(t)
	require.Daemon(t)
	makeNode(t, nvidiaNode, 195, 0)
	kept := filepath.Join(t.TempDir(), "renderD170")
	makeNode(t, kept, 226, 170)
	script := filepath.Join(t.TempDir(), "dockerd")
	assert.NilError(t, os.WriteFile(script, fmt.Appendf(nil, believing, filepath.Join(require.Bin(), "dockerd")), 0o755))
	d, err := daemon.StartWith(map[string]string{"dockerd": script}, nil)
	assert.NilError(t, err)
	daemon.Until(t, d)
	wantNVIDIARefused(t, d, kept)
}

// bringer is a runtime that does what NVIDIA's two do behind dockerd's back: it
// changes the spec (PATH.spec exists), makes the node when the container is there
// (PATH.node), or on cgroup v1 lets it open what it makes itself (PATH.rule).
const bringer = `#!/bin/sh
for arg; do
	case $previous in
	--bundle) bundle=$arg ;;
	--pid-file) pid=$arg ;;
	esac
	previous=$arg
	[ "$arg" = create ] && create=1
done
if [ -n "$create" ] && [ -e "$0.spec" ]; then
	sed -i 's|"linux":{|"linux":{"devices":[{"path":"%[2]s","type":"c","major":195,"minor":0}],|' "$bundle/config.json"
fi
[ -n "$create" ] || exec %[1]s "$@"
%[1]s "$@" || exit
pid=$(cat "$pid")
if [ -e "$0.node" ]; then
	mknod "/proc/$pid/root%[2]s" c 195 0
fi
if [ -e "$0.rule" ]; then
	echo "c 195:* rw" >"/sys/fs/cgroup/devices$(sed -n 's/^[0-9]*:devices://p' "/proc/$pid/cgroup")/devices.allow"
fi
`

func TestGPULimitIsRefusedForNVIDIABroughtByARuntime(t *testing.T) {
	require.GPU(t)
	require.DRM(t)
	d := setup(t)
	path := filepath.Join(t.TempDir(), "bringer")
	assert.NilError(t, os.WriteFile(path, fmt.Appendf(nil, bringer, d.Binary("runc"), nvidiaNode), 0o755))
	d.AddRuntime(t, "bringer", path)
	box := func(name string, more ...string) []string {
		return append(append([]string{"run", "-d", "--name=" + name, "--runtime=bringer"}, more...), "busybox", "sleep", "600")
	}
	for _, way := range []string{".spec", ".node", ".rule"} {
		t.Run(strings.TrimPrefix(way, "."), func(t *testing.T) {
			device, before := "NVIDIA GPU 0 ("+nvidiaNode+")", "true"
			if way == ".rule" {
				require.CgroupV1(t)
				device, before = "any NVIDIA GPU (device cgroup rule \"c 195:* rw\")", "mknod "+nvidiaNode+" c 195 0"
			}
			d.Must(t, box("control", "--gpu-memory=8m", "--gpu-priority=5", "--device="+engine)...)
			wantLimits(t, d, "control", 5, 8*mib)

			assert.NilError(t, os.WriteFile(path+way, nil, 0o600))
			r := d.Docker(t, box("lost", "--gpu-memory=8m")...)
			assert.Assert(t, r.Code != 0, "it was started")
			wantWords(t, r.Stderr, "--gpu-memory=8388608 cannot be enforced", device, "leave out")
			assert.Assert(t, !d.Inspect(t, "lost").State.Running)

			// What it got is known without its help, and after it took it away.
			d.Must(t, box("free")...)
			d.Must(t, "exec", "free", "sh", "-ec", before+"; rm "+nvidiaNode)
			assert.NilError(t, os.Remove(path+way))
			refused := d.API(t, http.MethodPost, "/containers/free/update", `{"GPUMemory":4096}`)
			assert.Equal(t, refused.Status, http.StatusBadRequest, "%s", refused.Body)
			wantWords(t, refused.Message(), "--gpu-memory=4096 cannot be enforced", device, "leave out")
			d.WantHostConfig(t, "free", nil, nil)
			u := d.API(t, http.MethodPost, "/containers/control/update", `{"GPUMemory":4096}`)
			assert.Equal(t, u.Status, http.StatusOK, "%s", u.Body)
			wantLimits(t, d, "control", 5, 4096)
			d.RemoveAll(t)
		})
	}
}

// The build before this one started it, and recorded nothing.
func TestGPUUpdateIsRefusedForNVIDIAWithoutARecord(t *testing.T) {
	place.EachVersion(t)
	require.GPU(t)
	require.DRM(t)
	makeNode(t, nvidiaNode, 195, 0)
	d := setup(t)
	for name, device := range map[string]string{"nvidia": nvidiaNode, "control": engine} {
		d.Must(t, "run", "-d", "--name", name, "--device="+device+":/dev/card", "busybox", "sleep", "600")
		assert.NilError(t, os.Remove(filepath.Join(filepath.Dir(d.HostConfigFile(d.Inspect(t, name).ID)), "gpu.devices.json")))
		d.Must(t, "exec", name, "rm", "/dev/card")
	}
	assert.NilError(t, os.Remove(nvidiaNode)) // neither is there on the host
	r := d.API(t, http.MethodPost, "/containers/nvidia/update", `{"GPUMemory":4096}`)
	assert.Equal(t, r.Status, http.StatusBadRequest, "%s", r.Body)
	wantWords(t, r.Message(), "--gpu-memory=4096 cannot be enforced", "NVIDIA GPU 0 (/dev/card)", "leave out")
	r = d.API(t, http.MethodPost, "/containers/control/update", `{"GPUMemory":4096}`)
	assert.Equal(t, r.Status, http.StatusOK, "%s", r.Body)
	wantKernel(t, d, "control", 0, 4096)
	d.WantHostConfig(t, "control", nil, ptr(4096))
}

// Who keeps what is a matter of the driver.
func TestGPULimitIsForGPUsThatKeepIt(t *testing.T) {
	place.EachVersion(t)
	require.GPU(t)
	require.DRM(t)
	d := setup(t)
	vgem, vkms := drm.Of(t, drm.MemoryOnly), drm.Of(t, drm.DisplayOnly)
	box := func(flags ...string) []string {
		return append(append([]string{"create", "--name=box"}, flags...), "busybox")
	}
	taken := func(warning string, flags ...string) {
		t.Helper()
		r := d.Docker(t, box(flags...)...)
		assert.Equal(t, r.Code, 0, "%q: %s", flags, r.Stderr)
		assert.Equal(t, strings.Contains(r.Stderr, " limit"), warning != "", "%q: %s", flags, r.Stderr)
		wantWords(t, r.Stderr, warning)
		d.Must(t, "rm", "box")
	}
	taken("", "--device="+engine, "--gpu-priority=50", "--gpu-memory=10485760")
	taken("", "--device="+vgem.Render, "--gpu-memory=10485760")
	wantRefused(t, d, box("--device="+vgem.Render, "--gpu-priority=50"), "--gpu-priority=50 cannot be enforced", vgem.Render, drm.MemoryOnly, "without a scheduler", "leave out")
	wantRefused(t, d, box("--device="+vgem.Render, "--device="+engine, "--gpu-priority=50", "--gpu-memory=10485760"), "--gpu-priority=50 cannot be enforced", vgem.Render, "leave out")
	taken("--gpu-priority=50 does not limit "+vkms.Primary, "--device="+vkms.Primary, "--device="+engine, "--gpu-priority=50")
	taken("", "--device="+vkms.Primary, "--device="+engine, "--gpu-memory=10485760")
	wantRefused(t, d, box("--device=/dev/dri", "--gpu-priority=50"), "--gpu-priority=50 cannot be enforced", vgem.Render, "leave out")
	taken("", "--device=/dev/dri", "--gpu-memory=10485760")
	wantRefused(t, d, box("--privileged", "--gpu-priority=50"), "--gpu-priority=50 cannot be enforced", drm.MemoryOnly, "--privileged")
	taken("", "--privileged", "--gpu-memory=10485760")
	wantRefused(t, d, box("--device-cgroup-rule=c 226:* rmw", "--gpu-priority=50"), "--gpu-priority=50 cannot be enforced", drm.MemoryOnly)
	taken("limits nothing yet: the container has no GPU", "--gpu-memory=10485760")

	oot := drm.LoadOutOfTree(t)
	wantRefused(t, d, box("--device="+oot.Render, "--gpu-memory=10485760"), "--gpu-memory=10485760 cannot be enforced", oot.Render, "outside the kernel's tree", "leave out")

	t.Run("update", func(t *testing.T) {
		d.Must(t, "run", "-d", "--name=vgem", "--device="+vgem.Render, "busybox", "sleep", "600")
		r := d.API(t, http.MethodPost, "/containers/vgem/update", `{"GPUPriority":50}`)
		assert.Equal(t, r.Status, http.StatusBadRequest, "%s", r.Body)
		wantWords(t, r.Message(), "--gpu-priority=50 cannot be enforced", vgem.Render, "leave out")
		r = d.API(t, http.MethodPost, "/containers/vgem/update", `{"GPUMemory":4096}`)
		assert.Equal(t, r.Status, http.StatusOK, "%s", r.Body)
		wantKernel(t, d, "vgem", 0, 4096)
		d.WantHostConfig(t, "vgem", nil, ptr(4096))

		d.Must(t, "run", "-d", "--name=none", "busybox", "sleep", "600")
		r = d.API(t, http.MethodPost, "/containers/none/update", `{"GPUMemory":4096}`)
		assert.Equal(t, r.Status, http.StatusOK, "%s", r.Body)
		wantWords(t, string(r.Body), "the container has no GPU")
	})
	t.Run("info", func(t *testing.T) {
		info := d.Must(t, "info")
		for _, line := range strings.Split(info, "\n") {
			if strings.HasPrefix(line, "   Devices: ") {
				wantWords(t, line, engine+" ("+drm.Both+")")
				assert.Assert(t, !strings.Contains(line, drm.OutOfTree), line)
			}
		}
		assert.Equal(t, strings.Count(info, "   Devices: "), 2, "%s", info)
		assert.Equal(t, strings.Count(info, vgem.Render+" ("+drm.MemoryOnly+")"), 1, "%s", info)
	})
}

// What stands in a container's /dev was chosen by whoever made it: nothing there is
// followed, opened or waited for.
func TestGPULimitWithAHostileDev(t *testing.T) {
	place.OneVM(t)
	require.GPU(t)
	require.DRM(t)
	makeNode(t, nvidiaNode, 195, 0)
	d := setup(t)
	dir := t.TempDir()
	assert.NilError(t, os.Symlink("/", filepath.Join(dir, "root")))
	assert.NilError(t, os.Symlink(".", filepath.Join(dir, "loop")))
	assert.NilError(t, os.Symlink(nvidiaNode, filepath.Join(dir, "nvidia1")))
	assert.NilError(t, os.MkdirAll(filepath.Join(dir, strings.Repeat("deep/", 200)), 0o755))
	assert.NilError(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o666))
	run := []string{"run", "-d", "--name=box", "--device=" + engine, "--gpu-memory=8m", "-v", dir + ":/dev/evil", "busybox", "sleep", "600"}
	d.Must(t, run...)
	wantKernel(t, d, "box", 0, 8*mib)
	d.RemoveAll(t)

	makeNode(t, filepath.Join(dir, "hidden"), 195, 7)
	r := d.Docker(t, run...)
	assert.Assert(t, r.Code != 0, "it was started")
	wantWords(t, r.Stderr, "--gpu-memory=8388608 cannot be enforced", "NVIDIA GPU 7 (/dev/evil/hidden)")
}
