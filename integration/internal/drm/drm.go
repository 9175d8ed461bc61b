// SPDX-License-Identifier: Apache-2.0

// Package drm finds the GPUs of a machine by their driver. Which number a card
// or a render node has depends on which driver came first.
package drm

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Drivers of the test kernel.
const (
	// Both is a GPU in software that keeps both limits: it has buffers, and an
	// engine that shares its time by gpu.priority.
	Both = "cgroup_test"
	// MemoryOnly is a render node that keeps --gpu-memory and knows no priority.
	MemoryOnly = "vgem"
	// DisplayOnly is a card without a render node, as a server's BMC has it. It
	// keeps --gpu-memory.
	DisplayOnly = "vkms"
)

// Card is a GPU: what one driver runs.
type Card struct {
	Driver  string
	Primary string // such as /dev/dri/card0
	Render  string // such as /dev/dri/renderD128; empty if it has none
}

// Nodes are the device nodes of the card.
func (c Card) Nodes() []string {
	if c.Render == "" {
		return []string{c.Primary}
	}
	return []string{c.Primary, c.Render}
}

// Cards are all GPUs of the machine, by number of the card.
func Cards() ([]Card, error) { return cards("/sys/class/drm", "/dev/dri", driver) }

func cards(class, dev string, driver func(node string) (string, error)) ([]Card, error) {
	found, err := filepath.Glob(filepath.Join(class, "card*", "dev"))
	if err != nil {
		return nil, err
	}
	var all []Card
	for _, file := range found {
		dir := filepath.Dir(file)
		c := Card{Primary: filepath.Join(dev, filepath.Base(dir))}
		if c.Driver, err = driver(c.Primary); err != nil {
			return nil, err
		}
		// The device's own folder has all of its nodes.
		renders, err := filepath.Glob(filepath.Join(dir, "device", "drm", "renderD*"))
		if err != nil {
			return nil, err
		}
		if len(renders) > 0 {
			c.Render = filepath.Join(dev, filepath.Base(renders[0]))
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b Card) int { return cmp.Compare(number(a.Primary), number(b.Primary)) })
	return all, nil
}

func number(node string) int {
	n, _ := strconv.Atoi(strings.TrimLeft(filepath.Base(node), "card"))
	return n
}

// TB is what Of needs of a test. This package is in programs for containers too.
type TB interface {
	Helper()
	Cleanup(func())
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// Of is the first GPU of a driver; without one the test fails. A test that is
// for such a machine only says so with require.DRM.
func Of(t TB, driver string) Card {
	t.Helper()
	all, err := Cards()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if c.Driver == driver {
			return c
		}
	}
	t.Fatalf("no GPU of driver %s, but %v", driver, all)
	return Card{}
}

// version is struct drm_version of include/uapi/drm/drm.h.
type version struct {
	major, minor, patch int32
	nameLen             uint64
	name                *byte
	dateLen             uint64
	date                *byte
	descLen             uint64
	desc                *byte
}

// ioctlVersion is DRM_IOWR(0x00, struct drm_version).
const ioctlVersion = 3<<30 | unsafe.Sizeof(version{})<<16 | 'd'<<8

// driver asks a node for the name of its driver.
func driver(node string) (string, error) {
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return Driver(int(f.Fd()), node)
}

// Driver is the name of the driver of an opened node.
func Driver(fd int, node string) (string, error) {
	name := make([]byte, 64)
	v := version{nameLen: uint64(len(name)), name: &name[0]}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), ioctlVersion, uintptr(unsafe.Pointer(&v))); errno != 0 {
		return "", fmt.Errorf("version of %s: %w", node, errno)
	}
	return string(name[:min(v.nameLen, uint64(len(name)))]), nil
}

// Says are the words that the kernel's gpu.devices has for a node ("memory",
// "priority", "out-of-tree"), and whether it has the node at all.
func Says(file, node string) (words []string, listed bool, err error) {
	var st unix.Stat_t
	if err := unix.Stat(node, &st); err != nil {
		return nil, false, &os.PathError{Op: "stat", Path: node, Err: err}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, false, err
	}
	want := fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) >= 3 && f[0] == want {
			return f[3:], true, nil
		}
	}
	return nil, false, nil
}

// KernelFile is the kernel's gpu.devices, on either version of cgroups.
func KernelFile() string {
	if v2 := "/sys/fs/cgroup/gpu.devices"; exists(v2) {
		return v2
	}
	return "/sys/fs/cgroup/gpu/gpu.devices"
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

const (
	// OutOfTree is the driver of the module that LoadOutOfTree loads.
	OutOfTree = Both + "_oot"

	module = "/usr/local/lib/" + OutOfTree + ".ko"
	bus    = "/sys/bus/platform/drivers/" + OutOfTree + "/"
)

// LoadOutOfTree gives the test a GPU whose driver is a module from outside the
// kernel's tree. It is there until the test ends; the module stays.
func LoadOutOfTree(t TB) Card {
	t.Helper()
	f, err := os.Open(module)
	if err != nil {
		t.Fatalf("%v; in the VM it lies beside the kernel: make kernel", err)
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), "", 0)
	if errors.Is(err, unix.EEXIST) { // an earlier test's
		err = os.WriteFile(bus+"bind", []byte(OutOfTree), 0)
	}
	if err != nil {
		t.Fatalf("%s: %v", module, err)
	}
	t.Cleanup(func() { _ = UnbindOutOfTree() })
	return Of(t, OutOfTree)
}

// UnbindOutOfTree takes the GPU of LoadOutOfTree away, as pulling a card does.
func UnbindOutOfTree() error { return os.WriteFile(bus+"unbind", []byte(OutOfTree), 0) }
