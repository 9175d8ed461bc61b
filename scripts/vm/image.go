// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// imageFormat is part of the image's name: raise it when this file makes
// another image of the same inputs.
const imageFormat = "1"

// freeMiB is what the guest can write: images, containers, logs. The file is
// sparse, so it costs nothing until it is used.
const freeMiB = 1536

// programs of this repository that run in the guest, compiled without cgo.
var programs = []struct {
	pkg, guest string
	test       bool
}{
	{"./scripts/vm/guest", "init", false},
	{"./integration/cmd/gem", "usr/local/bin/gem", false},
	{"./integration/cmd/gpuload", "usr/local/bin/gpuload", false},
	{"./integration", "usr/local/bin/integration.test", true},
}

// hostTools are copied with the libraries they load. Debian's packages are
// named because a missing tool is an error: a machine without it would only
// fail later and less clearly.
var hostTools = []struct{ name, pkg string }{
	{"mkfs.ext4", "e2fsprogs"},
	{"xtables-nft-multi", "iptables"},
	{"xtables-legacy-multi", "iptables"},
	{"ip", "iproute2"},
	{"tc", "iproute2"},
	{"nft", "nftables"},
	{"lvm", "lvm2"},
}

// entry is one thing in the image: a folder, a link, or a file given by its
// path on the host or by its text.
type entry struct {
	mode fs.FileMode
	host string
	text string // of a small file, or the target of a link
}

type tree map[string]entry

func (t tree) dir(path string, perm fs.FileMode) { t[path] = entry{mode: fs.ModeDir | perm} }
func (t tree) link(path, target string)          { t[path] = entry{mode: fs.ModeSymlink | 0o777, text: target} }
func (t tree) write(path, text string)           { t[path] = entry{mode: 0o644, text: text} }
func (t tree) program(path, host string)         { t[path] = entry{mode: 0o755, host: host} }

// buildImage returns a disk made of exactly today's inputs. It is open, and
// locked against its removal, until the caller closes it: two runs at once (the
// two cgroup versions of make test) make their disks in one folder.
func buildImage(ctx context.Context, o options) (*os.File, error) {
	lock, err := lockFile(filepath.Join(o.work(), ".image.lock"), syscall.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	// In the lock too: it compiles the guest's programs into one folder.
	t, err := contents(ctx, o)
	if err != nil {
		return nil, err
	}
	return t.image(ctx, o.work())
}

// image makes the disk, or takes the one that is there. Its name is the hash of
// every path, mode and byte in it, so an old one is never taken for a new one,
// and a half-written one never has a name. It removes the disks that no run
// uses any more; the caller holds the folder's lock.
func (t tree) image(ctx context.Context, dir string) (*os.File, error) {
	sum, size, err := t.digest()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "root-"+sum[:32]+".img")
	if !fileExists(path) {
		if err := t.format(ctx, dir, path, size); err != nil {
			return nil, err
		}
	}
	image, err := lockFile(path, syscall.LOCK_SH)
	if err != nil {
		return nil, err
	}
	old, _ := filepath.Glob(filepath.Join(dir, "root-*.img"))
	for _, other := range old {
		// Not even our own is free: we hold it.
		if unused, err := lockFile(other, syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			_ = os.Remove(other)
			unused.Close()
		}
	}
	return image, nil
}

func (t tree) format(ctx context.Context, dir, path string, size int64) error {
	stage, err := os.MkdirTemp(dir, "stage-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage)
	root := filepath.Join(stage, "root")
	if err := t.writeTo(root); err != nil {
		return err
	}
	draft := filepath.Join(stage, "root.img")
	if err := mke2fs(ctx, root, draft, size/(1<<20)+freeMiB); err != nil {
		return err
	}
	return os.Rename(draft, path)
}

// lockFile opens a file, which it makes if need be, and locks it until it is
// closed.
func lockFile(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), how); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

func contents(ctx context.Context, o options) (tree, error) {
	t := tree{}
	for _, dir := range []string{"proc", "sys", "dev", "run", "mnt", "etc", "usr/local/bin", "usr/sbin", "usr/bin", "var/lib", "var/log"} {
		t.dir(dir, 0o755)
	}
	t.dir("root", 0o700)
	t.dir("tmp", fs.ModeSticky|0o777)
	t.dir("var/tmp", fs.ModeSticky|0o777)
	t.link("bin", "usr/bin")
	t.link("sbin", "usr/sbin")
	t.link("lib", "usr/lib")
	t.link("lib64", "usr/lib64")
	t.link("var/run", "/run")
	t.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
	t.write("etc/group", "root:x:0:\ntty:x:5:\ndocker:x:999:\nnogroup:x:65534:\n")
	t.write("etc/hosts", "127.0.0.1 localhost vm\n")
	t.write("etc/resolv.conf", "")
	t.write("etc/os-release", "ID=gpu-cgroup-vm\nPRETTY_NAME=\"gpu-cgroup test machine\"\n")
	t.write("etc/protocols", "tcp 6 TCP\nudp 17 UDP\nicmp 1 ICMP\n")

	if err := t.addBusybox(ctx); err != nil {
		return nil, err
	}
	for _, tool := range hostTools {
		path, err := lookTool(tool.name, tool.pkg)
		if err != nil {
			return nil, err
		}
		if err := t.addDynamic("usr/sbin/"+tool.name, path); err != nil {
			return nil, err
		}
	}
	// The extensions of iptables are opened by name at run time: ldd does not
	// see them, and their path is compiled in.
	extensions, err := filepath.Glob("/usr/lib/*/xtables/*.so")
	if err != nil {
		return nil, err
	}
	for _, so := range extensions {
		t.program(strings.TrimPrefix(so, "/"), so)
	}
	if err := t.addBinaries(o.bin); err != nil {
		return nil, err
	}
	if err := t.addPrograms(ctx, o); err != nil {
		return nil, err
	}
	// The kernel's selftest and test module lie beside the kernel they were built
	// with. Another kernel, named with --kernel, may come without.
	if selftest := filepath.Join(filepath.Dir(o.kernel), "test_gpu"); fileExists(selftest) {
		t.program("usr/local/bin/test_gpu", selftest)
	}
	if module := filepath.Join(filepath.Dir(o.kernel), "cgroup_test_oot.ko"); fileExists(module) {
		t.program("usr/local/lib/cgroup_test_oot.ko", module)
	}
	t.program("usr/local/bin/demo", filepath.Join(o.root, "scripts", "demo", "demo.sh"))
	for _, f := range o.files {
		host, guest, ok := strings.Cut(f, ":")
		if !ok || !strings.HasPrefix(guest, "/") {
			return nil, fmt.Errorf("--file %q: want HOST:/GUEST", f)
		}
		t.program(strings.TrimPrefix(guest, "/"), host)
	}
	return t, nil
}

// addBusybox adds the shell and its applets. It must be static: the test images
// are made of it as well.
func (t tree) addBusybox(ctx context.Context) error {
	path, err := lookTool("busybox", "busybox-static")
	if err != nil {
		return err
	}
	if static, err := isStatic(path); err != nil || !static {
		return errors.Join(fmt.Errorf("%s is not static; install busybox-static", path), err)
	}
	out, err := exec.CommandContext(ctx, path, "--list").Output()
	if err != nil {
		return fmt.Errorf("%s --list: %w", path, err)
	}
	t.program("usr/bin/busybox", path)
	for _, applet := range strings.Fields(string(out)) {
		// The real ones of iproute2 come from the host.
		if !slices.Contains([]string{"busybox", "ip", "tc", "init", "linuxrc"}, applet) {
			t.link("usr/bin/"+applet, "busybox")
		}
	}
	return nil
}

// binaries are the programs under test. The folder may hold others, which the
// machine does not need.
var binaries = []struct {
	name     string
	optional bool
}{
	{"dockerd", false},
	{"docker", false},
	{"containerd", false},
	{"containerd-shim-runc-v2", false},
	{"runc", false},
	{"runc-stock", false},
	{"docker-init", true},
	{"docker-proxy", true},
	{"dockerd-stock", true},
	{"docker-stock", true},
}

func (t tree) addBinaries(dir string) error {
	for _, b := range binaries {
		path, guest := filepath.Join(dir, b.name), "usr/local/bin/"+b.name
		static, err := isStatic(path)
		switch {
		case errors.Is(err, os.ErrNotExist) && b.optional:
			continue
		case errors.Is(err, os.ErrNotExist):
			return fmt.Errorf("%s is missing in %s; build it first, or name another folder with --bin", b.name, dir)
		case err != nil:
			return fmt.Errorf("%s: %w", path, err)
		case static:
			t.program(guest, path)
		default:
			if err := t.addDynamic(guest, path); err != nil {
				return err
			}
		}
	}
	return nil
}

// addPrograms compiles the guest's own programs. Go's build cache makes that
// cheap, and nothing old can be left over from another commit.
func (t tree) addPrograms(ctx context.Context, o options) error {
	dir := filepath.Join(o.work(), "programs")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, p := range programs {
		out := filepath.Join(dir, filepath.Base(p.guest))
		args := []string{"build", "-o", out, p.pkg}
		if p.test {
			args = []string{"test", "-c", "-o", out, p.pkg}
		}
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = o.root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false -trimpath")
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, text)
		}
		t.program(p.guest, out)
	}
	return nil
}

// addDynamic adds a program and the libraries that ldd names, at the paths the
// loader will look for them.
func (t tree) addDynamic(guest, host string) error {
	t.program(guest, host)
	out, err := exec.Command("ldd", host).Output()
	if err != nil {
		return fmt.Errorf("ldd %s: %w", host, err)
	}
	for _, lib := range libraries(string(out)) {
		// /lib and /lib64 are links into /usr in the guest.
		path := strings.TrimPrefix(lib, "/")
		if !strings.HasPrefix(path, "usr/") {
			path = "usr/" + path
		}
		t.program(path, lib)
	}
	return nil
}

// libraries reads the absolute paths out of ldd's answer.
func libraries(text string) []string {
	var found []string
	for line := range strings.Lines(text) {
		for _, f := range strings.Fields(line) {
			if strings.HasPrefix(f, "/") {
				found = append(found, f)
				break
			}
		}
	}
	return found
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func isStatic(path string) (bool, error) {
	f, err := elf.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	return !slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }), nil
}

// lookTool finds a program of the host. Debian keeps some in /usr/sbin, which
// is not in everybody's PATH.
func lookTool(name, pkg string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s not found; on Debian: apt-get install %s", name, pkg)
}

// digest hashes everything that makes the image and adds up its size in bytes.
func (t tree) digest() (string, int64, error) {
	sum := sha256.New()
	fmt.Fprintln(sum, imageFormat, freeMiB)
	var total int64
	for _, path := range t.paths() {
		e := t[path]
		size := int64(len(e.text))
		if e.host != "" {
			info, err := os.Stat(e.host)
			if err != nil {
				return "", 0, err
			}
			size = info.Size()
		}
		fmt.Fprintf(sum, "%q %o %d\n", path, e.mode, size)
		if err := e.copy(sum); err != nil {
			return "", 0, err
		}
		total += size
	}
	return hex.EncodeToString(sum.Sum(nil)), total, nil
}

func (t tree) paths() []string {
	paths := make([]string, 0, len(t))
	for path := range t {
		paths = append(paths, path)
	}
	slices.Sort(paths) // a folder sorts before what is in it
	return paths
}

func (e entry) copy(w io.Writer) error {
	if e.host == "" {
		_, err := io.WriteString(w, e.text)
		return err
	}
	f, err := os.Open(e.host)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

func (t tree) writeTo(root string) error {
	for _, path := range t.paths() {
		e, full := t[path], filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
		var err error
		switch {
		case e.mode.IsDir():
			if err = os.MkdirAll(full, 0o755); err == nil {
				err = os.Chmod(full, e.mode.Perm()|e.mode&fs.ModeSticky)
			}
		case e.mode&fs.ModeSymlink != 0:
			err = os.Symlink(e.text, full)
		default:
			err = e.create(full)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (e entry) create(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, e.mode.Perm())
	if err != nil {
		return err
	}
	if err := e.copy(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// mke2fs fills the file system from a folder: no root rights, no mounts. There
// is no journal, because nothing survives the machine anyway.
func mke2fs(ctx context.Context, root, image string, mib int64) error {
	tool, err := lookTool("mke2fs", "e2fsprogs")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, tool, "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-m", "0",
		"-E", "root_owner=0:0", "-L", "vm", "-d", root, image, fmt.Sprintf("%dM", mib))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mke2fs: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}
