// SPDX-License-Identifier: Apache-2.0

package gpudevice

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

const procDevices = `Character devices:
  1 mem
195 nvidia-frontend
226 drm
234 kfd
235 nvidia-uvm
236 nvidia-caps

Block devices:
  8 sd
`

// host is one whose kernel has the file, with these lines.
func host(t *testing.T, lines string) Host {
	t.Helper()
	h := oldHost(t)
	h.Kernel = filepath.Join(t.TempDir(), "gpu.devices")
	assert.NilError(t, os.WriteFile(h.Kernel, []byte(lines), 0o600))
	return h
}

// oldHost is one whose kernel does not say.
func oldHost(t *testing.T) Host {
	t.Helper()
	dir := t.TempDir()
	h := Host{Dev: filepath.Join(dir, "dev"), Sys: filepath.Join(dir, "sys"), Proc: filepath.Join(dir, "proc"), Kernel: filepath.Join(dir, "no-such-file")}
	for _, d := range []string{h.Dev, h.Sys, h.Proc} {
		assert.NilError(t, os.MkdirAll(d, 0o700))
	}
	write(t, filepath.Join(h.Proc, "devices"), strings.NewReplacer("195 nvidia-frontend\n", "").Replace(procDevices))
	return h
}

func write(t *testing.T, path, text string) {
	t.Helper()
	assert.NilError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	assert.NilError(t, os.WriteFile(path, []byte(text), 0o600))
}

func node(major, minor uint32, path string) Node { return Node{Number{major, minor}, path} }

const (
	amd = "226:0 ast pci:0000:02:00.0 memory\n" +
		"226:1 amdgpu pci:0000:03:00.0 memory priority\n" +
		"226:128 amdgpu pci:0000:03:00.0 memory priority\n" +
		"234:0 kfd - memory\n"
	vm = "226:0 cgroup_test platform:cgroup_test memory priority tree\n" +
		"226:1 vgem platform:vgem memory\n" +
		"226:2 vkms platform:vkms memory\n" +
		"226:128 cgroup_test platform:cgroup_test memory priority tree\n" +
		"226:129 vgem platform:vgem memory\n"
)

var both = Wants{Memory: "--gpu-memory=10240", Priority: "--gpu-priority=50"}

func TestGPUDeviceJudge(t *testing.T) {
	amdSet := Set{Nodes: []Node{node(234, 0, "/dev/kfd"), node(226, 0, "/dev/dri/card0"), node(226, 1, "/dev/dri/card1"), node(226, 128, "/dev/dri/renderD128")}}
	all := Set{Rules: []Rule{{Any, Any, "--privileged"}}}
	nvidia0 := Set{Nodes: []Node{node(195, 0, "/dev/nvidia0"), node(195, 255, "/dev/nvidiactl"), node(235, 0, "/dev/nvidia-uvm")}}
	memory, priority := Wants{Memory: both.Memory}, Wants{Priority: both.Priority}
	for _, tc := range []struct {
		doc, lines string
		set        Set
		wants      Wants
		err        []string // has all of these
		warn       []string // one each
	}{
		{doc: "kept", lines: vm, set: Set{Nodes: []Node{node(226, 128, "/dev/dri/renderD128")}}, wants: both},
		{doc: "memory alone is kept", lines: vm, set: Set{Nodes: []Node{node(226, 129, "/dev/dri/renderD129")}}, wants: memory},
		{doc: "no scheduler", lines: vm, set: Set{Nodes: []Node{node(226, 129, "/dev/dri/renderD129")}}, wants: both,
			err: []string{"--gpu-priority=50 cannot be enforced", "/dev/dri/renderD129", "vgem", "without a scheduler", "leave out"}},
		{doc: "one of two", lines: vm, set: Set{Nodes: []Node{node(226, 128, "/dev/dri/renderD128"), node(226, 129, "/dev/dri/renderD129")}}, wants: priority,
			err: []string{"--gpu-priority=50 cannot be enforced", "/dev/dri/renderD129"}},
		{doc: "no limit asks nothing", lines: vm, set: nvidia0},
		{doc: "no GPU", lines: vm, set: Set{Nodes: []Node{node(1, 3, "/dev/null")}}, wants: both, warn: []string{"--gpu-priority=50 --gpu-memory=10240 limits nothing yet: the container has no GPU"}},
		{doc: "NVIDIA's control nodes alone", lines: vm, set: Set{Nodes: nvidia0.Nodes[1:]}, wants: memory, warn: []string{"no GPU"}},
		{doc: "NVIDIA", lines: vm, set: nvidia0, wants: both,
			err: []string{"--gpu-memory=10240 cannot be enforced: the container gets NVIDIA GPU 0 (/dev/nvidia0)", "leave out", "--gpu-priority=50 cannot be enforced: the container gets NVIDIA GPU 0", "MPS"}},
		{doc: "NVIDIA asked for", lines: vm, set: Set{Requests: []Request{{NVIDIA, "--gpus"}}}, wants: memory, err: []string{"--gpu-memory=10240", "NVIDIA GPUs (--gpus)"}},
		{doc: "NVIDIA beside one that is kept", lines: vm, set: Set{Nodes: append(slices.Clone(nvidia0.Nodes), node(226, 128, "/dev/dri/renderD128"))}, wants: memory, err: []string{"/dev/nvidia0"}},
		{doc: "NVIDIA's rule", lines: vm, set: Set{Rules: []Rule{{195, Any, "--device-cgroup-rule"}}}, wants: memory, err: []string{"may open any NVIDIA GPU (--device-cgroup-rule)"}},
		{doc: "NVIDIA's DRM node", lines: "226:1 nvidia-drm pci:0000:01:00.0 out-of-tree\n", set: Set{Nodes: []Node{node(226, 1, "/dev/dri/card1")}}, wants: memory, err: []string{"/dev/dri/card1", "NVIDIA"}},
		{doc: "out of tree", lines: "226:128 amdgpu pci:0000:03:00.0 out-of-tree\n", set: Set{Nodes: []Node{node(226, 128, "/dev/dri/renderD128")}}, wants: both,
			err: []string{"--gpu-priority=50 --gpu-memory=10240 cannot be enforced", "/dev/dri/renderD128", "outside the kernel's tree", "the kernel's own amdgpu"}},
		{doc: "not listed", lines: vm, set: Set{Nodes: []Node{node(226, 140, "/dev/dri/renderD140")}}, wants: memory, err: []string{"/dev/dri/renderD140", "no driver"}},
		{doc: "AMD with a BMC", lines: amd, set: amdSet, wants: memory},
		{doc: "AMD's compute node takes no priority", lines: amd, set: amdSet, wants: priority, err: []string{"/dev/kfd", "--gpu-priority=50"}},
		{doc: "AMD with a BMC, --privileged", lines: amd, set: all, wants: memory},
		{doc: "AMD without compute", lines: strings.ReplaceAll(amd, "234:0 kfd - memory\n", ""), set: all, wants: both, warn: []string{"--gpu-priority=50 does not limit"}},
		{doc: "AMD with a BMC whose memory is not charged", lines: strings.Replace(amd, "02:00.0 memory", "02:00.0", 1), set: amdSet, wants: memory, warn: []string{"--gpu-memory=10240 does not limit /dev/dri/card0 (driver ast, pci:0000:02:00.0), a display without a GPU."}},
		{doc: "display alone", lines: vm, set: Set{Nodes: []Node{node(226, 2, "/dev/dri/card2")}}, wants: both, warn: []string{"--gpu-priority=50 does not limit", "no GPU"}},
		{doc: "--privileged", lines: vm, set: all, wants: memory},
		{doc: "--privileged, priority", lines: vm, set: all, wants: priority, err: []string{"vgem", "--privileged"}},
		{doc: "all of DRM", lines: vm, set: Set{Rules: []Rule{{226, Any, "c 226:* rwm"}}}, wants: priority, err: []string{"vgem", "c 226:* rwm"}},
		{doc: "one of DRM by rule", lines: vm, set: Set{Rules: []Rule{{226, 128, "c 226:128 rwm"}}}, wants: both},
		{doc: "owner of its cgroup", lines: vm, set: Set{Nodes: []Node{node(226, 128, "/dev/dri/renderD128")}}, wants: Wants{Memory: both.Memory, Priority: both.Priority, Owner: "--userns-remap"}},
		{doc: "owner of its cgroup, flat shares", lines: amd, set: Set{Nodes: []Node{node(226, 128, "/dev/dri/renderD128")}}, wants: Wants{Memory: both.Memory, Priority: both.Priority, Owner: "--userns-remap"},
			err: []string{"--gpu-priority=50 cannot be enforced", "/dev/dri/renderD128", "--userns-remap", "tree"}},
		{doc: "owner of its cgroup, flat shares, memory alone", lines: amd, set: Set{Nodes: []Node{node(226, 128, "/dev/dri/renderD128")}}, wants: Wants{Memory: both.Memory, Owner: "--userns-remap"}},
		{doc: "owner of its cgroup, one node flat", lines: strings.Replace(vm, "priority tree", "priority", 1), set: Set{Nodes: []Node{node(226, 128, "/dev/dri/renderD128")}}, wants: Wants{Priority: both.Priority, Owner: "X"}, err: []string{"with X"}},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			warnings, err := host(t, tc.lines).Judge(tc.set, tc.wants)
			if len(tc.err) == 0 {
				assert.NilError(t, err)
			}
			for _, want := range tc.err {
				assert.Check(t, is.ErrorContains(err, want))
			}
			assert.Assert(t, is.Len(warnings, len(tc.warn)), "%q", warnings)
			for i, want := range tc.warn {
				assert.Check(t, is.Contains(warnings[i], want))
			}
		})
	}
}

// A wide rule is about NVIDIA only where it is.
func TestGPUDeviceJudgeNVIDIAPrivileged(t *testing.T) {
	all := Set{Rules: []Rule{{Any, Any, "--privileged"}}}
	for doc, put := range map[string]func(Host){
		"driver": func(h Host) { write(t, filepath.Join(h.Proc, "driver/nvidia/version"), "") },
		"major":  func(h Host) { write(t, filepath.Join(h.Proc, "devices"), procDevices) },
		"node":   func(h Host) { write(t, filepath.Join(h.Dev, "nvidia0"), "") },
	} {
		h := host(t, amd)
		_, err := h.Judge(all, Wants{Memory: both.Memory})
		assert.NilError(t, err, doc)
		put(h)
		_, err = h.Judge(all, Wants{Memory: both.Memory})
		assert.Check(t, is.ErrorContains(err, "--gpu-memory=10240 cannot be enforced: the container may open any NVIDIA GPU (--privileged)"), doc)
	}
}

// Without gpu.devices the driver decides, and a module from outside the tree keeps
// nothing, whatever its name.
func TestGPUDeviceWithoutTheKernelsWord(t *testing.T) {
	h := oldHost(t)
	gpu := func(device, driver string, minors ...int) {
		dir := filepath.Join(h.Sys, "devices", device)
		assert.NilError(t, os.MkdirAll(dir, 0o700))
		if driver != "" {
			write(t, filepath.Join(h.Sys, "bus", driver, "x"), "")
			assert.NilError(t, os.Symlink(filepath.Join(h.Sys, "bus", driver), filepath.Join(dir, "driver")))
		}
		for _, m := range minors {
			char := filepath.Join(h.Sys, "dev/char", fmt.Sprintf("226:%d", m))
			assert.NilError(t, os.MkdirAll(char, 0o700))
			assert.NilError(t, os.Symlink(dir, filepath.Join(char, "device")))
		}
	}
	gpu("0000:02:00.0", "ast", 0)
	gpu("0000:03:00.0", "amdgpu", 1, 128)
	gpu("0000:04:00.0", "nouveau", 2, 129)
	gpu("vgem", "", 3, 130)
	gpu("0000:05:00.0", "i915", 4, 131)
	write(t, filepath.Join(h.Sys, "module/i915/taint"), "OE\n")
	got, err := h.Controllers()
	assert.NilError(t, err)
	var words []string
	for _, c := range got {
		words = append(words, fmt.Sprintf("%s%v %t %t %t %t", c.Driver, c.nodes, c.Memory, c.Priority, c.OutOfTree, c.DisplayOnly()))
	}
	slices.Sort(words)
	assert.DeepEqual(t, words, []string{
		"amdgpu[226:1 226:128] true true false false",
		"ast[226:0] true false false true",
		"i915[226:131 226:4] false false true false",
		"kfd[234:0] true false false false",
		"nouveau[226:129 226:2] true false false false",
		"vgem[226:130 226:3] true false false false",
	})
	write(t, filepath.Join(h.Sys, "module/amdgpu/taint"), "O\n")
	_, err = h.Judge(Set{Nodes: []Node{node(234, 0, "/dev/kfd")}}, Wants{Memory: both.Memory})
	assert.Check(t, is.ErrorContains(err, "/dev/kfd"))

	gpu("cgroup_test", "cgroup_test", 5, 132)
	warnings, err := h.Judge(Set{Nodes: []Node{node(226, 132, "/dev/dri/renderD132")}}, both)
	assert.NilError(t, err)
	assert.Check(t, is.Len(warnings, 1))
	assert.Check(t, is.Contains(warnings[0], "has no memory of its own"))
}

func TestGPUDeviceFileIsNotGuessed(t *testing.T) {
	for _, lines := range []string{"226:0\n", "vgem 226:0 -\n", "\n"} {
		_, err := host(t, lines).Judge(Set{}, both)
		assert.Check(t, is.ErrorContains(err, "it cannot be told which GPUs keep it"), lines)
	}
	got, err := parse([]byte(`226:0 a\040b\134 pci:x memory later-word` + "\n"))
	assert.NilError(t, err)
	assert.Equal(t, got[0].Driver, `a b\`)
	assert.Check(t, got[0].Memory)
}

func TestGPUDeviceRules(t *testing.T) {
	got := ParseDevicesList("c 195:0 rw\na *:* rwm\nc *:* m\nb *:* rwm\nc 226:* r\nc 136:* rwm\n")
	assert.DeepEqual(t, got.Rules, []Rule{
		{195, 0, `device cgroup rule "c 195:0 rw"`}, {Any, Any, `device cgroup rule "a *:* rwm"`},
		{226, Any, `device cgroup rule "c 226:* r"`}, {136, Any, `device cgroup rule "c 136:* rwm"`},
	})
	h := host(t, vm)
	assert.Check(t, is.Len(h.GPUs(got).Rules, 3), "136 are terminals")
}

// The container's /dev is listed without following anything in it.
func TestGPUDeviceInDev(t *testing.T) {
	root := t.TempDir()
	mknod := func(path string, major, minor uint32) {
		t.Helper()
		path = filepath.Join(root, path)
		assert.NilError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(major, minor))); err != nil {
			t.Skipf("mknod: %v", err)
		}
	}
	mknod("dev/nvidia0", 195, 0)
	mknod("dev/dri/by/any/renderD128", 226, 128) // too deep for what anybody makes
	mknod("dev/dri/sub/renderD129", 226, 129)
	mknod("other/renderD130", 226, 130)
	assert.NilError(t, os.Symlink("../other", filepath.Join(root, "dev/out")))
	assert.NilError(t, os.Symlink("/dev/null", filepath.Join(root, "dev/null")))
	assert.NilError(t, unix.Mkfifo(filepath.Join(root, "dev/fifo"), 0o600))
	s, err := inDev(root)
	assert.NilError(t, err)
	slices.SortFunc(s.Nodes, func(a, b Node) int { return strings.Compare(a.Path, b.Path) })
	assert.DeepEqual(t, s.Nodes, []Node{node(226, 129, "/dev/dri/sub/renderD129"), node(195, 0, "/dev/nvidia0")})

	t.Run("/dev is a link", func(t *testing.T) {
		root := t.TempDir()
		assert.NilError(t, os.Symlink("/dev", filepath.Join(root, "dev")))
		_, err := inDev(root)
		assert.Check(t, is.ErrorContains(err, "/dev"))
	})
	t.Run("no /dev", func(t *testing.T) {
		s, err := inDev(t.TempDir())
		assert.NilError(t, err)
		assert.Check(t, s.Empty())
	})
	t.Run("of a process", func(t *testing.T) {
		s, err := InDev(os.Getpid())
		assert.NilError(t, err)
		assert.Check(t, slices.ContainsFunc(s.Nodes, func(n Node) bool { return n == node(1, 3, "/dev/null") }))
	})
	t.Run("too many", func(t *testing.T) {
		entries := maxEntries
		fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY, 0)
		assert.NilError(t, err)
		defer unix.Close(fd)
		assert.Check(t, is.ErrorContains(walk(fd, "dev", "/dev", maxDepth, &entries, &Set{}), "more than"))
	})
	t.Run("hangs", func(t *testing.T) {
		defer func(d time.Duration) { inDevWithin = d }(inDevWithin)
		inDevWithin = time.Millisecond
		_, err := within(func() (Set, error) { select {} })
		assert.Check(t, is.ErrorContains(err, "did not answer"))
	})
}

func TestGPUDeviceOnHost(t *testing.T) {
	has := func(path string, want Node) {
		t.Helper()
		assert.Check(t, slices.Contains(OnHost(path).Nodes, want), "%+v", OnHost(path))
	}
	has("/dev/null", node(1, 3, "/dev/null"))
	has("/dev", node(1, 3, "/dev/null"))
	link := filepath.Join(t.TempDir(), "link")
	assert.NilError(t, os.Symlink("/dev/null", link))
	has(link, node(1, 3, "/dev/null"))
	assert.Check(t, OnHost(filepath.Join(link, "no")).Empty())
}

func TestGPUDeviceSummary(t *testing.T) {
	h := host(t, vm+"226:3 nvidia-drm pci:0000:01:00.0 out-of-tree\n")
	write(t, filepath.Join(h.Sys, "dev/char/226:128/uevent"), "MAJOR=226\nDEVNAME=dri/renderD128\n")
	memory, priority, err := h.Summary()
	assert.NilError(t, err)
	assert.DeepEqual(t, priority, []string{"/dev/dri/renderD128 (cgroup_test)"})
	assert.DeepEqual(t, memory, []string{"/dev/dri/renderD128 (cgroup_test)", "device 226:129 (vgem)", "device 226:2 (vkms)"})
}
