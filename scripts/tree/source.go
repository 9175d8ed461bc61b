// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
)

// source is an unpatched upstream. Paths are relative, with slashes.
type source interface {
	// read returns one file; the error of a missing one is fs.ErrNotExist.
	read(name string) ([]byte, error)
	exists(name string) bool
	// fetch makes sure that read works for these files, those that exist.
	// It is worth calling once with all names: for the kernel it may unpack.
	fetch(names []string) error
	// unpack writes all files but the dropped ones to an empty folder, and
	// fails if they are not what the pin says.
	unpack(dir string, drop func(string) bool) error
}

// upstreams finds the sources of the rows of patches/trees.
type upstreams struct {
	p      *project
	once   sync.Once
	mods   map[string]string // module → version
	sums   map[string]string // module@version → h1
	modErr error
	got    map[string]goModule
	gotErr error
	dl     sync.Once
}

func (u *upstreams) load() error {
	u.once.Do(func() {
		u.mods, u.sums = map[string]string{}, map[string]string{}
		name := filepath.Join(u.p.root, "go.mod")
		data, err := os.ReadFile(name)
		if err != nil {
			u.modErr = err
			return
		}
		f, err := modfile.Parse(name, data, nil)
		if err != nil {
			u.modErr = err
			return
		}
		for _, r := range f.Require {
			u.mods[r.Mod.Path] = r.Mod.Version
		}
		if data, u.modErr = os.ReadFile(filepath.Join(u.p.root, "go.sum")); u.modErr != nil {
			return
		}
		for line := range strings.SplitSeq(string(data), "\n") {
			if f := strings.Fields(line); len(f) == 3 && !strings.HasSuffix(f[1], "/go.mod") {
				u.sums[f[0]+"@"+f[1]] = f[2]
			}
		}
	})
	return u.modErr
}

// A row whose module has other versions in other trains has version and hash itself:
// go.mod can hold only one.
func (u *upstreams) module(r row) (mod module.Version, h1 string, err error) {
	switch f := strings.Fields(r.source); len(f) {
	case 3:
		return module.Version{Path: f[0], Version: f[1]}, f[2], nil
	case 1:
	default:
		return mod, "", fmt.Errorf("patches/trees: source %q: want MODULE, or MODULE VERSION H1", r.source)
	}
	if err := u.load(); err != nil {
		return mod, "", err
	}
	mod = module.Version{Path: r.source, Version: u.mods[r.source]}
	if mod.Version == "" {
		return mod, "", fmt.Errorf("go.mod does not require %s; add its version there and an import in scripts/pins", r.source)
	}
	if h1 = u.sums[mod.String()]; h1 == "" {
		return mod, "", fmt.Errorf("go.sum has no h1 of %s; run go mod tidy and check the new line", mod)
	}
	return mod, h1, nil
}

func (u *upstreams) pin(r row) (string, error) {
	if strings.HasPrefix(r.source, "deb:") {
		d, err := parseDeb(r.source)
		if err != nil {
			return "", err
		}
		return d.pkg + " " + d.version + " " + d.tarSum, nil
	}
	if dir := u.p.folderOf(r); dir != "" {
		sum, err := folderSum(dir)
		return folderPin + " " + sum, err
	}
	mod, h1, err := u.module(r)
	return mod.String() + " " + h1, err
}

func (u *upstreams) resolve(r row) (source, error) {
	if strings.HasPrefix(r.source, "deb:") {
		d, err := parseDeb(r.source)
		if err != nil {
			return nil, err
		}
		d.pristine = filepath.Join(u.p.pristine, r.name)
		d.log = u.p.log
		if d.cache, err = os.UserCacheDir(); err != nil {
			return nil, err
		}
		d.cache = filepath.Join(d.cache, "gpu-cgroup")
		return d, nil
	}
	if dir := u.p.folderOf(r); dir != "" {
		return &dirSource{dir: dir, verify: func() error { return nil }, skip: inFolder}, nil
	}
	mod, h1, err := u.module(r)
	if err != nil {
		return nil, err
	}
	if err := u.download(); err != nil {
		return nil, err
	}
	m := u.got[mod.String()]
	if m.Error != "" {
		return nil, fmt.Errorf("%s: %s", mod, m.Error)
	}
	return &dirSource{dir: m.Dir, verify: func() error {
		got, err := dirhash.HashDir(m.Dir, mod.String(), dirhash.Hash1)
		if err == nil && got != h1 {
			err = fmt.Errorf("%s: the files in %s hash to %s, but go.sum says %s; delete that folder (go clean -modcache) and try again", mod, m.Dir, got, h1)
		}
		return err
	}}, nil
}

type goModule struct{ Path, Version, Dir, Sum, Error string }

// download asks go for all modules at once, because a start of go costs more
// than the look into its cache. go itself refuses a zip that go.sum does not
// know; the unpacked folder it trusts, which is why unpack hashes it again.
func (u *upstreams) download() error {
	u.dl.Do(func() {
		u.got = map[string]goModule{}
		// Those with a pin of their own are asked for where no go.sum could change.
		apart, err := os.MkdirTemp("", "tree-pins-")
		if err != nil {
			u.gotErr = err
			return
		}
		defer os.RemoveAll(apart)
		mods, sums := map[string][]string{}, map[string]string{}
		for _, r := range u.p.rows {
			if strings.HasPrefix(r.source, "deb:") || u.p.folderOf(r) != "" {
				continue
			}
			mod, h1, err := u.module(r)
			if err != nil {
				u.gotErr = err
				return
			}
			at := u.p.root
			if r.source != mod.Path {
				at, sums[mod.String()] = apart, h1
			}
			if !slices.Contains(mods[at], mod.String()) {
				mods[at] = append(mods[at], mod.String())
			}
		}
		for _, at := range sortedKeys(mods) {
			u.gotErr = errors.Join(u.gotErr, u.ask(at, mods[at]))
		}
		for _, mod := range sortedKeys(sums) {
			if m := u.got[mod]; u.gotErr == nil && m.Sum != sums[mod] {
				u.gotErr = fmt.Errorf("%s: its hash is %s, but patches/trees says %s", mod, m.Sum, sums[mod])
			}
		}
	})
	return u.gotErr
}

func (u *upstreams) ask(at string, mods []string) error {
	cmd := exec.Command("go", append([]string{"mod", "download", "-json"}, mods...)...)
	cmd.Dir = at
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var errs []error
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var m goModule
		if e := dec.Decode(&m); e != nil {
			break
		}
		u.got[m.Path+"@"+m.Version] = m
		if m.Error != "" {
			errs = append(errs, fmt.Errorf("%s@%s: %s", m.Path, m.Version, m.Error))
		}
	}
	if err != nil && len(errs) == 0 {
		errs = append(errs, fmt.Errorf("go mod download: %w\n%s", err, stderr.String()))
	}
	return errors.Join(errs...)
}

// folderPin stands in a stamp for a tree from a checkout of upstream's in a folder.
const folderPin = "folder"

// folderOf returns the checkout that MOBY=DIR or CLI=DIR names for a tree of the default
// train, or "". The API and the client are folders of moby's.
func (p *project) folderOf(r row) string {
	if r.hooks == "" {
		return ""
	}
	switch r.name {
	case "moby":
		return p.folders["MOBY"]
	case "api", "client":
		if dir := p.folders["MOBY"]; dir != "" {
			return filepath.Join(dir, r.name)
		}
	case "cli":
		return p.folders["CLI"]
	}
	return ""
}

// inFolder tells what of a checkout is no source.
func inFolder(rel string) bool { return rel == ".git" || rel == "vendor" }

// folderSum is the hash of all files of a checkout, as a module's is made.
func folderSum(dir string) (string, error) {
	var names []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if inFolder(rel) && d.IsDir() {
			return fs.SkipDir
		}
		if d.Type().IsRegular() && !inFolder(rel) {
			names = append(names, rel)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return dirhash.Hash1(names, func(name string) (io.ReadCloser, error) {
		return os.Open(filepath.Join(dir, filepath.FromSlash(name)))
	})
}

// dirSource is an upstream that lies unpacked in a folder.
type dirSource struct {
	dir    string
	verify func() error          // checks the whole folder against the pin
	skip   func(rel string) bool // for a checkout: what of it is no source
}

func (s *dirSource) path(name string) string { return filepath.Join(s.dir, filepath.FromSlash(name)) }

func (s *dirSource) read(name string) ([]byte, error) { return os.ReadFile(s.path(name)) }

func (s *dirSource) exists(name string) bool {
	_, err := os.Lstat(s.path(name))
	return err == nil
}

func (s *dirSource) fetch([]string) error { return nil }

func (s *dirSource) unpack(dir string, drop func(string) bool) error {
	verified := make(chan error, 1)
	go func() { verified <- s.verify() }()
	err := s.copy(dir, drop)
	return errors.Join(<-verified, err)
}

func (s *dirSource) copy(dir string, drop func(string) bool) error {
	return filepath.WalkDir(s.dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(s.dir, name)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, rel)
		switch {
		case rel != "." && (drop(filepath.ToSlash(rel)) || s.skip != nil && s.skip(filepath.ToSlash(rel))):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			return os.MkdirAll(to, 0o755)
		case !d.Type().IsRegular() && s.skip != nil:
			return nil // upstream's modules have no links either
		case !d.Type().IsRegular():
			return fmt.Errorf("%s: neither a file nor a folder", name)
		}
		return copyFile(name, to)
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	// The module cache is read-only; the tree is there to be edited.
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, info.Mode().Perm()|0o200)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// debSource is a tarball inside a Debian source package, as linux-source-6.1
// ships the kernel: 1.3 GB unpacked, so single files are kept aside.
type debSource struct {
	pkg, version   string
	debSum, tarSum string // sha256
	cache          string // for the .deb and its tarball, shared by all checkouts
	pristine       string // for the files that were read, and the list of all names
	tree           string // a folder where clean names hold pristine contents, or ""
	clean          func(name string) bool
	names          map[string]bool
	log            func(string, ...any)
}

func parseDeb(source string) (*debSource, error) {
	f := strings.Fields(strings.TrimPrefix(source, "deb:"))
	if len(f) != 4 || len(f[2]) != 64 || len(f[3]) != 64 {
		return nil, fmt.Errorf("patches/trees: source %q: want deb:PACKAGE VERSION SHA256-OF-DEB SHA256-OF-TARBALL", source)
	}
	return &debSource{pkg: f[0], version: f[1], debSum: f[2], tarSum: f[3]}, nil
}

func fileSum(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return fmt.Sprintf("%x", h.Sum(nil)), err
}

// tarball returns the path of the tarball, its hash checked.
func (s *debSource) tarball() (string, error) {
	repin := fmt.Sprintf("to pin another version, set VERSION and both hashes of %s in patches/trees (apt-cache policy %s; sha256sum of the .deb and of ./usr/src/%s.tar.xz in it)", s.pkg, s.pkg, s.pkg)
	name := filepath.Join(s.cache, s.pkg+"_"+s.version+".tar.xz")
	sum, err := fileSum(name)
	if err == nil && sum == s.tarSum {
		return name, nil
	}
	if err == nil {
		return "", fmt.Errorf("%s: sha256 is %s, but patches/trees says %s; delete the file, or %s", name, sum, s.tarSum, repin)
	}
	if err := os.MkdirAll(s.cache, 0o755); err != nil {
		return "", err
	}
	deb, err := s.deb(repin)
	if err != nil {
		return "", err
	}
	s.log("%s: taking the tarball out of %s", s.pkg, filepath.Base(deb))
	tmp, err := os.CreateTemp(s.cache, "tarball-")
	if err != nil {
		return "", err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	h := sha256.New()
	if err := debMember(deb, "./usr/src/"+s.pkg+".tar.xz", io.MultiWriter(tmp, h)); err != nil {
		return "", err
	}
	if sum := fmt.Sprintf("%x", h.Sum(nil)); sum != s.tarSum {
		return "", fmt.Errorf("%s: the tarball in it has sha256 %s, but patches/trees says %s; %s", deb, sum, s.tarSum, repin)
	}
	return name, os.Rename(tmp.Name(), name)
}

func (s *debSource) deb(repin string) (string, error) {
	// apt writes an epoch's colon as %3a; our packages have none.
	name := filepath.Join(s.cache, s.pkg+"_"+s.version+"_all.deb")
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
		s.log("%s: downloading %s", s.pkg, s.version)
		cmd := exec.Command("apt-get", "download", "-q", s.pkg+"="+s.version)
		cmd.Dir = s.cache
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("apt-get download %s=%s: %w\n%s\nIf the archive no longer has this version, put its .deb into %s (snapshot archives keep it); %s",
				s.pkg, s.version, err, indent(string(out)), s.cache, repin)
		}
	}
	sum, err := fileSum(name)
	if err != nil {
		return "", err
	}
	if sum != s.debSum {
		return "", fmt.Errorf("%s: sha256 is %s, but patches/trees says %s; delete the file, or %s", name, sum, s.debSum, repin)
	}
	return name, nil
}

// debMember writes one file of a .deb to w.
func debMember(deb, member string, w io.Writer) error {
	cmd := exec.Command("dpkg-deb", "--fsys-tarfile", deb)
	return untar(cmd, func(h *tar.Header, r io.Reader) (bool, error) {
		if h.Name != member {
			return true, nil
		}
		_, err := io.Copy(w, r)
		return false, err
	}, member)
}

// untar calls each for the entries of the tar stream that cmd writes, until it
// returns false. If want is given, the stream must not end before that.
func untar(cmd *exec.Cmd, each func(*tar.Header, io.Reader) (bool, error), want string) error {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	tr := tar.NewReader(out)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			if _, err = io.Copy(io.Discard, out); err == nil {
				err = cmd.Wait()
			}
			if err == nil && want != "" {
				err = fmt.Errorf("no %s in it", want)
			}
			if err != nil {
				return fmt.Errorf("%s: %w %s", strings.Join(cmd.Args, " "), err, stderr.String())
			}
			return nil
		}
		more := false
		if err == nil {
			more, err = each(h, tr)
		}
		if err != nil || !more {
			cmd.Process.Kill()
			cmd.Wait()
			return err
		}
	}
}

func (s *debSource) keep(name string) string {
	return filepath.Join(s.pristine, s.tarSum[:16], filepath.FromSlash(name))
}

func (s *debSource) namesFile() string { return filepath.Join(s.pristine, s.tarSum[:16]+".names") }

func (s *debSource) read(name string) ([]byte, error) {
	if err := s.fetch([]string{name}); err != nil {
		return nil, err
	}
	return os.ReadFile(s.keep(name))
}

func (s *debSource) exists(name string) bool {
	return s.loadNames() == nil && s.names[name]
}

func (s *debSource) loadNames() error {
	if s.names != nil {
		return nil
	}
	data, err := os.ReadFile(s.namesFile())
	if err != nil {
		return err
	}
	s.names = map[string]bool{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(data), "\n"), "\n") {
		s.names[name] = true
	}
	return nil
}

func (s *debSource) fetch(names []string) error {
	var missing []string
	err := s.loadNames()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range names {
		if _, err := os.Lstat(s.keep(name)); err == nil || s.names != nil && !s.names[name] {
			continue
		}
		if s.tree != "" && s.clean(name) {
			if err := s.put(name, filepath.Join(s.tree, filepath.FromSlash(name))); err != nil {
				return err
			}
			continue
		}
		missing = append(missing, name)
	}
	if len(missing) == 0 && s.names != nil {
		return nil
	}
	return s.extract(missing)
}

func (s *debSource) put(name, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return writeFile(s.keep(name), data)
}

// extract reads the tarball once, for single files and for all names.
func (s *debSource) extract(names []string) error {
	tarball, err := s.tarball()
	if err != nil {
		return err
	}
	s.log("%s: reading %d pristine files and the list of names from the tarball", s.pkg, len(names))
	var list []string
	err = untar(exec.Command("xz", "-dc", tarball), func(h *tar.Header, r io.Reader) (bool, error) {
		_, name, _ := strings.Cut(h.Name, "/")
		if h.Typeflag == tar.TypeDir || name == "" {
			return true, nil
		}
		list = append(list, name)
		if !slices.Contains(names, name) {
			return true, nil
		}
		if h.Typeflag != tar.TypeReg {
			return false, fmt.Errorf("%s: not a regular file", name)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return false, err
		}
		return true, writeFile(s.keep(name), data)
	}, "")
	if err != nil {
		return err
	}
	return s.saveNames(list)
}

func (s *debSource) saveNames(list []string) error {
	slices.Sort(list)
	s.names = nil
	return writeFile(s.namesFile(), []byte(strings.Join(list, "\n")+"\n"))
}

func (s *debSource) unpack(dir string, drop func(string) bool) error {
	tarball, err := s.tarball()
	if err != nil {
		return err
	}
	s.log("%s: unpacking, about a minute", s.pkg)
	cmd := exec.Command("tar", "-xJf", tarball, "-C", dir, "--strip-components=1", "--no-same-owner")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("tar %s: %w\n%s", tarball, err, indent(string(out)))
	}
	var list []string
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		list = append(list, filepath.ToSlash(rel))
		return err
	})
	if err != nil {
		return err
	}
	return s.saveNames(list)
}

// writeFile replaces a file in one step.
func writeFile(name string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(name), ".tmp-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), name)
}

// resolveLazy is resolve for callers that rarely read from the source: it
// starts no program until they do.
func (p *project) resolveLazy(r row) (source, error) {
	if r.isKernel() {
		return p.resolve(r)
	}
	return &lazySource{find: func() (source, error) { return p.resolve(r) }}, nil
}

type lazySource struct {
	find func() (source, error)
	src  source
}

func (s *lazySource) get() (source, error) {
	var err error
	if s.src == nil {
		s.src, err = s.find()
	}
	return s.src, err
}

func (s *lazySource) read(name string) ([]byte, error) {
	src, err := s.get()
	if err != nil {
		return nil, err
	}
	return src.read(name)
}

func (s *lazySource) exists(name string) bool {
	src, err := s.get()
	return err == nil && src.exists(name)
}

func (s *lazySource) fetch(names []string) error {
	if len(names) == 0 {
		return nil
	}
	src, err := s.get()
	if err != nil {
		return err
	}
	return src.fetch(names)
}

func (s *lazySource) unpack(dir string, drop func(string) bool) error {
	src, err := s.get()
	if err != nil {
		return err
	}
	return src.unpack(dir, drop)
}
