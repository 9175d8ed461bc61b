// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/dirhash"
	"gotest.tools/v3/assert"
)

// overlay copies the files below from over those below to. A link that is in
// the way is replaced by a file, as sed -i does.
func overlay(t *testing.T, from, to string) {
	t.Helper()
	for name, data := range readAll(t, from) {
		full := filepath.Join(to, name)
		if err := os.Remove(full); err != nil {
			assert.Assert(t, errors.Is(err, fs.ErrNotExist), "%v", err)
		}
		assert.NilError(t, os.MkdirAll(filepath.Dir(full), 0o755))
		assert.NilError(t, os.WriteFile(full, []byte(data), 0o644))
	}
}

// readAll returns the files below dir, none if dir is not there.
func readAll(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && name == dir {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		out[filepath.ToSlash(rel)] = string(data)
		return err
	})
	assert.NilError(t, err)
	return out
}

// fake is a small repository with testdata/upstream as the upstream of all trees.
type fake struct {
	root, upstream, pin string
}

func newFake(t *testing.T, dir string) *fake {
	f := &fake{root: filepath.Join(t.TempDir(), "root"), upstream: filepath.Join(t.TempDir(), "upstream")}
	overlay(t, filepath.Join("testdata", "upstream"), f.upstream)
	overlay(t, filepath.Join("testdata", "base"), f.root)
	if dir != "" {
		overlay(t, filepath.Join(dir, "upstream"), f.upstream)
		overlay(t, filepath.Join(dir, "before"), f.root)
	}
	// Our files are older than any edit of the steps.
	old := time.Now().Add(-time.Hour)
	for name := range readAll(t, f.root) {
		assert.NilError(t, os.Chtimes(filepath.Join(f.root, name), old, old))
	}
	var err error
	f.pin, err = dirhash.HashDir(f.upstream, "fake", dirhash.Hash1)
	assert.NilError(t, err)
	return f
}

func (f *fake) open() (*project, error) {
	p, err := openProject(f.root)
	if err != nil {
		return nil, err
	}
	p.pin = func(row) (string, error) { return "fake " + f.pin, nil }
	p.newer = func(spec string) (source, string, error) {
		dir := f.upstream + "-" + strings.TrimPrefix(spec, "fake@")
		return &dirSource{dir: dir, verify: func() error { return nil }}, dir, nil
	}
	p.setPins = func(pins map[string]string) error {
		f.upstream = pins["fake"]
		var err error
		f.pin, err = dirhash.HashDir(f.upstream, "fake", dirhash.Hash1)
		return err
	}
	p.resolve = func(row) (source, error) {
		return &dirSource{dir: f.upstream, verify: func() error {
			got, err := dirhash.HashDir(f.upstream, "fake", dirhash.Hash1)
			if err == nil && got != f.pin {
				err = fmt.Errorf("the files hash to %s, want %s", got, f.pin)
			}
			return err
		}}, nil
	}
	return p, nil
}

func (f *fake) tree() string { return filepath.Join(f.root, ".build", "src", "t") }

// step runs one line of a case's steps.
func (f *fake) step(t *testing.T, dir, line string) error {
	t.Helper()
	words := strings.Fields(line)
	verb, args := words[0], words[1:]
	switch verb {
	case "pin": // another hash than the upstream's
		f.pin = args[0]
		return nil
	case "tree": // copy a folder of the case over the tree
		overlay(t, filepath.Join(dir, args[0]), f.tree())
		return nil
	case "root": // copy a folder of the case over the repository
		overlay(t, filepath.Join(dir, args[0]), f.root)
		return nil
	case "upstream": // a newer one: the files of a case's folder over the first
		overlay(t, f.upstream, f.upstream+"-"+args[0])
		overlay(t, filepath.Join(dir, args[0]), f.upstream+"-"+args[0])
		return nil
	case "rm-upstream":
		return os.Remove(filepath.Join(f.upstream+"-"+args[0], args[1]))
	case "rm":
		return os.Remove(filepath.Join(f.root, args[0]))
	case "rm-tree":
		return os.Remove(filepath.Join(f.tree(), args[0]))
	case "mkdir-tree":
		return errors.Join(os.MkdirAll(f.tree(), 0o755), os.WriteFile(filepath.Join(f.tree(), "x"), nil, 0o644))
	}
	p, err := f.open()
	if err != nil {
		return err
	}
	flag := len(args) > 0 && strings.HasPrefix(args[0], "--")
	if flag {
		args = args[1:]
	}
	switch verb {
	case "hook":
		rows, err := p.pick([]string{"t"})
		assert.NilError(t, err)
		_, err = p.hook(rows[0], args[0], args[1])
		return err
	case "ledger":
		return p.checkLedger()
	case "export":
		_, err := p.export(p.rows[0], filepath.Join(t.TempDir(), "series"), author{"A <a@b>", time.Unix(0, 0)})
		return err
	case "rebase": // --dry-run? TARGET OLD=NEW*
		moved := map[string]string{}
		for _, m := range args[1:] {
			from, to, _ := strings.Cut(m, "=")
			moved[from] = to
		}
		report, done, err := p.rebase(args[:1], moved, flag)
		if table, e := os.ReadFile(filepath.Join(dir, "table")); e == nil {
			_, report, _ = strings.Cut(report, "\n\n")
			assert.Equal(t, report, string(table))
		}
		if err == nil && !done {
			err = errors.New("not settled")
		}
		return err
	case "noop": // a further make must find nothing to do
		args = []string{"t"}
	}
	rows, err := p.pick(args)
	if err != nil {
		return err
	}
	for _, r := range rows {
		switch verb {
		case "make":
			_, err = p.makeTree(r, flag)
		case "noop":
			var text string
			if text, err = p.makeTree(r, false); err == nil {
				assert.Equal(t, text, r.name+": up to date")
			}
		case "refresh":
			_, err = p.refresh(r, flag)
		case "check":
			scratch := *p
			scratch.src = t.TempDir()
			err = scratch.checkRound(r)
			// The kernel's way, without the whole tree, must say the same.
			err2 := p.checkHooks(r)
			assert.Equal(t, err == nil, err2 == nil, "checkRound: %v\ncheckHooks: %v", err, err2)
		case "saved":
			err = p.checkSaved(r)
		default:
			t.Fatalf("unknown step %q", line)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TestCases runs testdata/cases. Each has its files before, the steps, the
// error of the last step if that is to be refused, and what differs after it:
//
//	before/    over testdata/base   upstream/  over testdata/upstream
//	after/     what our folders hold besides before/; with gone, what went
//	table      what a rebase prints
//	tree/      files the tree must hold    links  all links the tree must hold
//
// What no file names must be as it was: a refusal changes nothing of ours.
func TestCases(t *testing.T) {
	dirs, err := filepath.Glob("testdata/cases/*")
	assert.NilError(t, err)
	assert.Assert(t, len(dirs) > 40)
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			f := newFake(t, dir)
			steps, err := os.ReadFile(filepath.Join(dir, "steps"))
			assert.NilError(t, err)
			want := readAll(t, f.root)
			for name, data := range readAll(t, filepath.Join(dir, "after")) {
				want[name] = data
			}
			for _, name := range lines(t, filepath.Join(dir, "gone")) {
				delete(want, name)
			}

			list := strings.Split(strings.TrimSpace(string(steps)), "\n")
			for i, line := range list {
				err = f.step(t, dir, line)
				if i < len(list)-1 {
					assert.NilError(t, err, line)
				}
			}
			refused := lines(t, filepath.Join(dir, "error"))
			if refused == nil {
				assert.NilError(t, err)
			} else {
				assert.Assert(t, err != nil, "not refused")
			}
			for _, text := range refused {
				assert.ErrorContains(t, err, text)
			}

			got := readAll(t, f.root)
			for name := range got {
				if strings.HasPrefix(name, ".build/") {
					delete(got, name)
				}
			}
			assert.DeepEqual(t, got, want)
			for name, data := range readAll(t, filepath.Join(dir, "tree")) {
				now, err := os.ReadFile(filepath.Join(f.tree(), name))
				assert.NilError(t, err)
				assert.Equal(t, string(now), data, name)
			}
			if links := lines(t, filepath.Join(dir, "links")); links != nil {
				assert.DeepEqual(t, treeLinks(t, f), links)
			}
		})
	}
}

func lines(t *testing.T, name string) []string {
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	assert.NilError(t, err)
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

// treeLinks lists the links of a tree, each of which must be relative and
// reach our file of the same path.
func treeLinks(t *testing.T, f *fake) []string {
	var out []string
	assert.NilError(t, filepath.WalkDir(f.tree(), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink == 0 {
			return err
		}
		rel, err := filepath.Rel(f.tree(), name)
		assert.NilError(t, err)
		target, err := os.Readlink(name)
		assert.NilError(t, err)
		assert.Assert(t, !filepath.IsAbs(target), target)
		assert.Equal(t, filepath.Join(filepath.Dir(name), target), filepath.Join(f.root, "ours", rel))
		out = append(out, filepath.ToSlash(rel))
		return nil
	}))
	slices.Sort(out)
	return out
}

// Builds compare times: a changed patch may touch the files it changes, no other.
func TestMakeKeepsTimes(t *testing.T) {
	f := newFake(t, "")
	assert.NilError(t, f.step(t, "", "make t"))
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	for name := range readAll(t, f.tree()) {
		if !strings.HasPrefix(name, ".tree") {
			assert.NilError(t, os.Chtimes(filepath.Join(f.tree(), name), old, old))
		}
	}
	patch := filepath.Join(f.root, "patches", "t", "0001-alpha-hook.patch")
	data, err := os.ReadFile(patch)
	assert.NilError(t, err)
	text := strings.Replace(string(data), "+hook()\n four", "+other()\n four", 1)
	assert.NilError(t, os.WriteFile(patch, []byte(text), 0o644))
	assert.NilError(t, f.step(t, "", "make t"))
	for name := range readAll(t, f.tree()) {
		info, err := os.Stat(filepath.Join(f.tree(), name))
		assert.NilError(t, err)
		if !strings.HasPrefix(name, ".tree") {
			assert.Equal(t, info.ModTime().Equal(old), name != "alpha.txt", name)
		}
	}
	assert.NilError(t, f.step(t, "", "saved t"))
}

// An edit right after make may leave size and time as they were.
func TestScanSameTimeAndSize(t *testing.T) {
	f := newFake(t, "")
	assert.NilError(t, f.step(t, "", "make t"))
	// On a busy machine the index may be written so late that it trusts times.
	for range 20 {
		idx, err := readIndex(f.tree())
		assert.NilError(t, err)
		if idx["alpha.txt"].mtime == 0 && idx["gamma.txt"].mtime == 0 && idx["sub/beta.txt"].mtime == 0 {
			break
		}
		assert.NilError(t, os.RemoveAll(f.tree()))
		assert.NilError(t, f.step(t, "", "make t"))
	}
	assert.NilError(t, f.step(t, "", "saved t"))
	for name, text := range readAll(t, f.tree()) {
		if strings.HasPrefix(name, ".tree") || name == "sub/own.md" {
			continue
		}
		full := filepath.Join(f.tree(), name)
		info, err := os.Stat(full)
		assert.NilError(t, err)
		assert.NilError(t, os.WriteFile(full, []byte(strings.ToUpper(text)), 0o644))
		assert.NilError(t, os.Chtimes(full, info.ModTime(), info.ModTime()))
		assert.ErrorContains(t, f.step(t, "", "saved t"), name)
		assert.NilError(t, os.WriteFile(full, []byte(text), 0o644))
		assert.NilError(t, f.step(t, "", "saved t"))
	}
}

// patch(1) takes a hunk at another line without a word in its exit code.
func TestMakeTellsOffset(t *testing.T) {
	f := newFake(t, filepath.Join("testdata", "cases", "check-offset"))
	p, err := f.open()
	assert.NilError(t, err)
	var said []string
	p.log = func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
	_, err = p.makeTree(p.rows[0], false)
	assert.NilError(t, err)
	assert.Equal(t, len(said), 1, "%q", said)
	assert.Assert(t, strings.HasPrefix(said[0], "patches/t/0001-alpha-hook.patch: alpha.txt: Hunk #1 succeeded at 3 (offset -1 lines)"), said[0])
}

// A new pin makes the tree anew, so that nothing of the old upstream stays.
func TestMakeNewPin(t *testing.T) {
	f := newFake(t, "")
	assert.NilError(t, f.step(t, "", "make t"))
	assert.NilError(t, os.Remove(filepath.Join(f.upstream, "gamma.txt")))
	assert.NilError(t, os.WriteFile(filepath.Join(f.upstream, "delta.txt"), nil, 0o644))
	var err error
	f.pin, err = dirhash.HashDir(f.upstream, "fake", dirhash.Hash1)
	assert.NilError(t, err)
	assert.NilError(t, f.step(t, "", "make t"))
	_, err = os.Stat(filepath.Join(f.tree(), "delta.txt"))
	assert.NilError(t, err)
	_, err = os.Stat(filepath.Join(f.tree(), "gamma.txt"))
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.NilError(t, f.step(t, "", "noop"))
}

// A make that fails half way must leave the tree as it was, or none.
func TestMakeFailsWhole(t *testing.T) {
	f := newFake(t, "")
	good := f.pin
	assert.NilError(t, f.step(t, "", "make t"))
	f.pin = "h1:AAAA"
	assert.ErrorContains(t, f.step(t, "", "make t"), "the files hash to")
	f.pin = good
	assert.NilError(t, f.step(t, "", "noop"))
	assert.NilError(t, f.step(t, "", "saved t"))
}

func TestDigest(t *testing.T) {
	f := newFake(t, "")
	doc := filepath.Join(f.root, "ours", "Documentation", "page.rst")
	assert.NilError(t, os.Mkdir(filepath.Dir(doc), 0o755))
	assert.NilError(t, os.WriteFile(doc, []byte("one\n"), 0o644))
	digest := func() string {
		p, err := f.open()
		assert.NilError(t, err)
		rows, err := p.pick([]string{"t"})
		assert.NilError(t, err)
		sum, err := p.digest(rows)
		assert.NilError(t, err)
		return sum
	}
	first := digest()
	assert.NilError(t, f.step(t, "", "make t"))
	assert.Equal(t, digest(), first, "making the tree changed the digest")

	assert.NilError(t, os.WriteFile(doc, []byte("two\n"), 0o644))
	assert.Equal(t, digest(), first, "the text of a page is built into nothing")

	seen := map[string]string{first: "nothing"}
	expectNew := func(what string) {
		t.Helper()
		sum := digest()
		assert.Equal(t, seen[sum], "", "%s gives the digest of another state", what)
		seen[sum] = what
	}
	own := filepath.Join(f.root, "ours", "sub", "own.md")
	assert.NilError(t, os.WriteFile(own, []byte("changed\n"), 0o644))
	expectNew("contents of our file")
	assert.NilError(t, os.Rename(own, own+".md"))
	expectNew("name of our file")
	gamma := filepath.Join(f.tree(), "gamma.txt")
	assert.NilError(t, os.WriteFile(gamma, []byte("edited\n"), 0o644))
	expectNew("unsaved edit")
	patch := filepath.Join(f.root, "patches", "t", "0001-alpha-hook.patch")
	data, err := os.ReadFile(patch)
	assert.NilError(t, err)
	assert.NilError(t, os.WriteFile(patch, []byte(strings.Replace(string(data), "hook()", "other()", 1)), 0o644))
	expectNew("hook")
	f.pin = "h1:AAAA"
	expectNew("pin")
}

// The kernel leaves generated sources where people write theirs.
func TestKernelBuiltInTree(t *testing.T) {
	f := newFake(t, "")
	table := "t | deb:fake 1 2 3 | ours | patches/t | -\nu | fake | ours/nested/u | - | -\n"
	assert.NilError(t, os.WriteFile(filepath.Join(f.root, "patches", "trees"), []byte(table), 0o644))
	assert.NilError(t, f.step(t, "", "make t"))
	write := func(name string) {
		t.Helper()
		full := filepath.Join(f.tree(), name)
		assert.NilError(t, os.MkdirAll(filepath.Dir(full), 0o755))
		assert.NilError(t, os.WriteFile(full, nil, 0o644))
	}
	write("include/generated/autoconf.h")
	write("drivers/x.mod.c")
	write("drivers/x.o")
	write(".config")
	assert.NilError(t, f.step(t, "", "saved t"), "build output was taken for a new file")
	write("lib/table.h")
	assert.ErrorContains(t, f.step(t, "", "refresh t"), "built inside the tree (.config is there)")
	assert.NilError(t, os.Remove(filepath.Join(f.tree(), ".config")))
	assert.NilError(t, f.step(t, "", "refresh t"))
	_, err := os.Stat(filepath.Join(f.root, "ours", "lib", "table.h"))
	assert.NilError(t, err)
}

func TestStats(t *testing.T) {
	f := newFake(t, "")
	p, err := f.open()
	assert.NilError(t, err)
	c, err := p.count(p.rows[0])
	assert.NilError(t, err)
	assert.Equal(t, c, counts{patches: 1, files: 2, hunks: 2, added: 2, ownFiles: 1, ownLines: 1})
}

// The real table must parse, and each of its Go rows must have a pin.
func TestOurTable(t *testing.T) {
	root, err := findRoot(".")
	assert.NilError(t, err)
	p, err := openProject(root)
	assert.NilError(t, err)
	for _, name := range []string{"api", "client", "moby", "cli", "moby28", "cli28", "runc", "cgroups", "linux", "containerd", "stock-runc"} {
		rows, err := p.pick([]string{name})
		assert.NilError(t, err)
		_, err = p.pin(rows[0])
		assert.NilError(t, err)
	}
	for tree, want := range map[string][]string{"cli": {"api", "client", "cli"}, "cli28": {"moby28", "cli28"}} {
		rows, err := p.pick([]string{tree})
		assert.NilError(t, err)
		var names []string
		for _, r := range p.withNeeds(rows) {
			names = append(names, r.name)
		}
		assert.DeepEqual(t, names, want)
	}
}
