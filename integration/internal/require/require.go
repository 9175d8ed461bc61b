// SPDX-License-Identifier: Apache-2.0

// Package require skips a test on a machine that lacks what the test is about.
//
// A skip is only for a machine that cannot: each place of `make test` is supposed
// to have the features that mustOf lists, and those that the environment variable
// MUST adds (MUST=gpu,drm,v2), and there a missing one fails the test. A feature
// that could not be looked at fails the test anywhere.
package require

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/drm"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"golang.org/x/sys/unix"
)

// missing is the only reason to skip.
type missing struct{ why string }

func (m missing) Error() string { return m.why }

func missingf(format string, a ...any) error { return missing{fmt.Sprintf(format, a...)} }

// features are the words that MUST understands.
var features = map[string]func() error{
	"root":           root,
	"binaries":       binaries,
	"stock":          stock,
	"previous":       previous,
	"v1":             v1,
	"v2":             v2,
	"gpu":            gpu,
	"no-gpu":         noGPU,
	"drm":            gpus,
	"engine":         engine,
	"kunit":          kunit,
	"btrfs":          btrfs,
	"debian":         debian,
	"net-rate":       netRate,
	"loop":           func() error { return node("/dev/loop-control") },
	"dm":             func() error { return node("/dev/mapper/control") },
	"lvm":            lvm,
	"nfs":            nfs,
	"fuse":           func() error { return node("/dev/fuse") },
	"md":             func() error { return node(NewMD) },
	"bfq":            bfq,
	"net-cgroups":    netCgroups,
	"firewalld":      firewalld,
	"immutable":      immutable,
	"kernel":         kernel,
	"no-net-cgroups": noNetCgroups,
	"nft-firewall":   nftFirewall,
	"dist":           dist,
}

// mustOf are the features of each place of `make test`, see package place, with the
// default train of Docker: the other one has no nft-firewall.
var mustOf = map[string]string{
	"":         "", // a developer's own run
	place.Host: "root,binaries,stock,previous,net-rate,loop,btrfs,immutable,kernel,nft-firewall",
	place.VMV1: inVMs + ",v1,net-cgroups",
	place.VMV2: inVMs + ",v2",
}

const inVMs = "root,binaries,stock,gpu,drm,engine,kunit,loop,dm,lvm,md,nfs,bfq,net-rate"

func init() {
	if os.Getenv("TRAIN") == "28" {
		mustOf[place.Host] = strings.TrimSuffix(mustOf[place.Host], ",nft-firewall")
	}
}

// NftFirewall: a dockerd that can make its own rules in nftables, and nft to look at them.
func NftFirewall(t testing.TB) { t.Helper(); need(t, "nft-firewall") }

func nftFirewall() error {
	if _, err := exec.LookPath("nft"); err != nil {
		return missingf("no nft: install nftables")
	}
	help, err := exec.Command(filepath.Join(Bin(), "dockerd"), "--help").Output()
	if err == nil && !strings.Contains(string(help), "--firewall-backend") {
		return missingf("this dockerd has no --firewall-backend")
	}
	return err
}

// Daemon: root rights and the binaries of Bin, to start a private dockerd.
func Daemon(t testing.TB) { t.Helper(); need(t, "root", "binaries") }

// Stock: upstream's dockerd and docker, which "make stock" builds.
func Stock(t testing.TB) { t.Helper(); need(t, "root", "binaries", "stock") }

// Previous: our dockerd, docker and runc of an earlier commit, which "make previous"
// builds.
func Previous(t testing.TB) { t.Helper(); need(t, "root", "binaries", "previous") }

// CgroupV1 : one hierarchy per controller under /sys/fs/cgroup.
func CgroupV1(t testing.TB) { t.Helper(); need(t, "v1") }

// CgroupV2 : cgroup2 alone on /sys/fs/cgroup.
func CgroupV2(t testing.TB) { t.Helper(); need(t, "v2") }

// GPU: a mounted gpu controller.
func GPU(t testing.TB) { t.Helper(); need(t, "gpu") }

// NoGPU: no gpu controller, for tests of the refusal.
func NoGPU(t testing.TB) { t.Helper(); need(t, "no-gpu") }

// DRM: the GPUs of the test kernel, which drm.Of finds by their drivers: one that
// keeps both limits, as the first render node, one that keeps a memory limit
// alone, and one with a display alone.
func DRM(t testing.TB) { t.Helper(); need(t, "drm") }

// Loop: loop devices can be made.
func Loop(t testing.TB) { t.Helper(); need(t, "loop") }

// Btrfs: a file system of that type can be made and mounted.
func Btrfs(t testing.TB) { t.Helper(); need(t, "btrfs") }

// DM: device-mapper devices can be made.
func DM(t testing.TB) { t.Helper(); need(t, "dm") }

// LVM: its tools, on a machine where they can make volumes.
func LVM(t testing.TB) { t.Helper(); need(t, "dm", "lvm") }

func lvm() error {
	if _, err := exec.LookPath("lvm"); err != nil {
		return missingf("no lvm: install lvm2")
	}
	return nil
}

// MD: software RAIDs can be made, by writing a name to NewMD.
func MD(t testing.TB) { t.Helper(); need(t, "md") }

// Immutable: the file system of temporary files can protect a file even from root.
func Immutable(t testing.TB) { t.Helper(); need(t, "immutable") }

func immutable() error {
	f, err := os.CreateTemp("", "immutable")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	_, err = unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) {
		return missingf("%s has no immutable files: %v", os.TempDir(), err)
	}
	return err
}

// Fuse: file systems that a program serves.
func Fuse(t testing.TB) { t.Helper(); need(t, "fuse") }

// NFS: the kernel can mount it.
func NFS(t testing.TB) { t.Helper(); need(t, "nfs") }

func nfs() error {
	data, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return err
	}
	if !strings.Contains(string(data), "\tnfs\n") {
		return missing{"the kernel has no nfs"}
	}
	return nil
}

// BFQ: the I/O scheduler that knows weights of devices.
func BFQ(t testing.TB) { t.Helper(); need(t, "bfq") }

func bfq() error {
	files, _ := filepath.Glob("/sys/block/*/queue/scheduler")
	for _, file := range files {
		if names, err := os.ReadFile(file); err == nil && strings.Contains(string(names), "bfq") {
			return nil
		}
	}
	return missing{"no disk can have the scheduler bfq"}
}

// NewMD is the kernel's file that makes one.
const NewMD = "/sys/module/md_mod/parameters/new_array"

// Has tells whether the machine has a feature, for a test that does more with
// it but is worth running without.
func Has(name string) bool { return features[name]() == nil }

// Engine: the software GPU of the test kernel, as the first render node.
func Engine(t testing.TB) { t.Helper(); need(t, "engine") }

// KUnit: a kernel that ran the unit tests of the scheduler at boot.
func KUnit(t testing.TB) { t.Helper(); need(t, "kunit") }

// Kernel: the kernel of make kernel, with its selftest, and what boots it.
func Kernel(t testing.TB) { t.Helper(); need(t, "kernel") }

// KernelDir is where make kernel puts it.
func KernelDir() string { return filepath.Join(Repository(), ".build", "kernel") }

func kernel() error {
	for _, file := range []string{"bzImage", "test_gpu"} {
		if _, err := os.Stat(filepath.Join(KernelDir(), file)); err != nil {
			return missingf("%v: run make kernel", err)
		}
	}
	return programs("qemu-system-x86_64", "busybox")
}

// Debian: root rights, the binaries of Bin, and the Debian of make debian-root
// to install them in.
func Debian(t testing.TB) { t.Helper(); need(t, "root", "binaries", "debian") }

// DebianRoot is where make debian-root puts a small Debian.
func DebianRoot() string { return filepath.Join(filepath.Dir(Bin()), "debian") }

func debian() error {
	if _, err := os.Stat(filepath.Join(DebianRoot(), "usr", "bin", "systemctl")); err != nil {
		return missingf("no Debian in %s: run make debian-root", DebianRoot())
	}
	return nil
}

// Dist: the packages of make dist, and what Debian wants.
func Dist(t testing.TB) { t.Helper(); need(t, "root", "debian", "dist") }

// DistDir is where make dist puts the packages.
func DistDir() string { return filepath.Join(filepath.Dir(Bin()), "dist") }

func dist() error {
	if _, err := os.Stat(filepath.Join(DistDir(), "SHA256SUMS")); err != nil {
		return missingf("no packages in %s: run make dist", DistDir())
	}
	return nil
}

func need(t testing.TB, names ...string) {
	t.Helper()
	ofPlace, ok := mustOf[os.Getenv("PLACE")]
	if !ok {
		t.Fatalf("PLACE=%s: no place of tests is called that", os.Getenv("PLACE"))
	}
	must, err := parseMust(ofPlace + "," + os.Getenv("MUST"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		decide(t, name, features[name](), slices.Contains(must, name))
	}
}

func decide(t testing.TB, name string, err error, must bool) {
	t.Helper()
	switch {
	case err == nil:
	case !errors.As(err, new(missing)):
		t.Fatalf("looking for %s: %v", name, err)
	case must:
		t.Fatalf("%s: %v, and MUST says this machine has it", name, err)
	default:
		t.Skipf("needs %s: %v", name, err)
	}
}

// parseMust refuses unknown words: a misspelt one would allow a skip.
func parseMust(list string) ([]string, error) {
	var words []string
	for _, w := range strings.Split(list, ",") {
		w = strings.TrimSpace(w)
		if w == "" {
			continue
		}
		if features[w] == nil {
			return nil, fmt.Errorf("MUST=%s: no feature is called %q", list, w)
		}
		words = append(words, w)
	}
	return words, nil
}

// Bin is the folder of the binaries under test: GPU_CGROUP_BIN, else .build/bin
// of the repository around the working directory.
func Bin() string {
	if dir := os.Getenv("GPU_CGROUP_BIN"); dir != "" {
		return dir
	}
	if dir := Repository(); dir != "" {
		return filepath.Join(dir, ".build", "bin")
	}
	return ""
}

// Repository is the one around the working directory, "" if there is none.
func Repository() string {
	dir, _ := os.Getwd()
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	return ""
}

func binaries() error {
	return inBin("dockerd", "docker", "containerd", "containerd-shim-runc-v2", "runc", "runc-stock")
}

func stock() error { return inBin("dockerd-stock", "docker-stock") }

func previous() error { return inBin("dockerd-previous", "docker-previous", "runc-previous") }

func inBin(names ...string) error {
	for _, name := range names {
		_, err := os.Stat(filepath.Join(Bin(), name))
		if errors.Is(err, os.ErrNotExist) {
			return missingf("no %s in %q (set GPU_CGROUP_BIN)", name, Bin())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func root() error {
	if os.Geteuid() != 0 {
		return missingf("not running as root")
	}
	return nil
}

func node(path string) error {
	_, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return missingf("no %s", path)
	}
	return err
}

const cgroups = "/sys/fs/cgroup"

func unified() (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(cgroups, &st); err != nil {
		return false, fmt.Errorf("%s: %w", cgroups, err)
	}
	return st.Type == unix.CGROUP2_SUPER_MAGIC, nil
}

func v1() error {
	u, err := unified()
	if err == nil && u {
		err = missingf("%s is cgroup2", cgroups)
	}
	return err
}

func v2() error {
	u, err := unified()
	if err == nil && !u {
		err = missingf("%s is not cgroup2", cgroups)
	}
	return err
}

func gpu() error {
	u, err := unified()
	if err != nil {
		return err
	}
	if u {
		raw, err := os.ReadFile(cgroups + "/cgroup.controllers")
		if err != nil {
			return err
		}
		if !slices.Contains(strings.Fields(string(raw)), "gpu") {
			return missingf("no gpu in cgroup.controllers")
		}
		return nil
	}
	// gpu.usage_in_bytes is the only file of the controller on the root.
	if _, err := os.Stat(cgroups + "/gpu/gpu.usage_in_bytes"); errors.Is(err, os.ErrNotExist) {
		return missingf("no gpu hierarchy on %s/gpu", cgroups)
	} else {
		return err
	}
}

func noGPU() error {
	err := gpu()
	switch {
	case err == nil:
		return missingf("there is a gpu controller")
	case errors.As(err, new(missing)):
		return nil
	default:
		return err
	}
}

// FirstRender is where the software GPU of the test kernel is.
const FirstRender = "/dev/dri/renderD128"

func gpus() error {
	if err := engine(); err != nil {
		return err
	}
	all, err := drm.Cards()
	if err != nil {
		return err
	}
	for _, driver := range []string{drm.MemoryOnly, drm.DisplayOnly} {
		i := slices.IndexFunc(all, func(c drm.Card) bool { return c.Driver == driver })
		if i < 0 {
			return missingf("no GPU of driver %s", driver)
		}
		if hasRender := all[i].Render != ""; hasRender != (driver == drm.MemoryOnly) {
			return fmt.Errorf("%s is not what the tests are made for: %+v", driver, all[i])
		}
	}
	return nil
}

func engine() error {
	found, err := filepath.Glob("/sys/devices/platform/" + drm.Both + "/drm/" + filepath.Base(FirstRender))
	if err == nil && len(found) == 0 {
		err = missingf("no %s of CONFIG_DRM_CGROUP_TEST", FirstRender)
	}
	return err
}

// KUnitResults is where the kernel shows what came out.
const KUnitResults = "/sys/kernel/debug/kunit/drm_sched_cgroup/results"

func kunit() error {
	_, err := os.Stat(KUnitResults)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return missingf("%v", err)
	}
	return err
}

func btrfs() error {
	if _, err := exec.LookPath("mkfs.btrfs"); err != nil {
		return missingf("%v: install btrfs-progs", err)
	}
	_ = exec.Command("modprobe", "-q", "btrfs").Run() // it may be built in
	known, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return err
	}
	if !strings.Contains(string(known), "\tbtrfs\n") {
		return missingf("this kernel has no btrfs")
	}
	return nil
}
