// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// checker prints one line a proof and goes on after a failure.
type checker struct {
	p      *project
	out    io.Writer
	failed int
}

func (c *checker) proof(what string, err error) {
	if err == nil {
		fmt.Fprintln(c.out, "ok    "+what)
		return
	}
	c.failed++
	fmt.Fprintf(c.out, "FAIL  %s\n%s\n", what, indent(indent(indent(err.Error()))))
}

// checkTrees proves that the pins, hooks and folders of ours fit together.
func (c *checker) checkTrees() {
	tmp, err := os.MkdirTemp(filepath.Dir(c.p.src), "check-")
	if err != nil {
		c.proof("temporary folder", err)
		return
	}
	defer os.RemoveAll(tmp)
	scratch := *c.p
	scratch.src = tmp
	for _, r := range c.p.rows {
		if r.isKernel() {
			c.proof(r.name+": hooks fit the pinned tarball without fuzz or offset, refresh gives the same bytes", c.p.checkHooks(r))
		} else {
			c.proof(r.name+": made from scratch, hooks fit without fuzz or offset, refresh gives the same bytes", scratch.checkRound(r))
		}
	}
	for _, r := range c.p.rows {
		if _, err := os.Stat(c.p.dir(r)); err == nil {
			c.proof(r.name+": the tree in .build is fresh and holds nothing unsaved", c.p.checkSaved(r))
		}
	}
}

// checkHooks applies the hooks to pristine files and makes the patches anew.
func (p *project) checkHooks(r row) error {
	in, err := p.inputs(r)
	if err != nil {
		return err
	}
	src, err := p.resolve(r)
	if err != nil {
		return err
	}
	pl, err := p.plan(r, src, in)
	if err != nil {
		return err
	}
	var errs []error
	for _, pf := range in.patches {
		data, err := regenerate(pf, pl.base, pl.made)
		if err == nil && !bytes.Equal(data, pf.data) {
			err = notCanonical(pf.name, r)
		}
		errs = append(errs, err, headerError(pf))
	}
	return errors.Join(errs...)
}

func notCanonical(name string, r row) error {
	return fmt.Errorf("%s: refresh would write other bytes (line numbers, context or order): run tree refresh --rewrite %s", name, r.name)
}

// checkRound makes the whole tree, and expects refresh to find nothing to write.
func (p *project) checkRound(r row) error {
	in, err := p.inputs(r)
	if err != nil {
		return err
	}
	if _, err := p.makeFresh(r, in); err != nil {
		return err
	}
	rp, err := p.planRefresh(r, true)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range sortedKeys(rp.patches) {
		errs = append(errs, notCanonical(name, r))
	}
	for _, name := range rp.sc.unsaved() {
		errs = append(errs, fmt.Errorf("%s: refresh would take it from a tree just made", name))
	}
	for _, pf := range in.patches {
		errs = append(errs, headerError(pf))
	}
	return errors.Join(append(errs, p.checkCopies(r, in.own))...)
}

func (p *project) checkSaved(r row) error {
	rp, err := p.planRefresh(r, false)
	if err != nil {
		return err
	}
	if u := rp.sc.unsaved(); len(u) > 0 {
		return fmt.Errorf("unsaved edits, run make refresh:\n%s", indent(strings.Join(u, "\n")))
	}
	return nil
}

// headerError tells a patch whose header does not say what and why.
func headerError(pf *patchFile) error {
	var errs []error
	lines := strings.Split(string(pf.header), "\n")
	for _, key := range []string{"Subject:", "Why:", "Upstream:", "SPDX-License-Identifier:"} {
		if !slices.ContainsFunc(lines, func(line string) bool {
			text, found := strings.CutPrefix(line, key)
			text = strings.TrimSpace(text)
			return found && text != "" && !strings.HasSuffix(text, ":")
		}) {
			errs = append(errs, fmt.Errorf("%s: the header has no text after %q", pf.name, key))
		}
	}
	for _, s := range pf.sections {
		if s.bare() {
			errs = append(errs, fmt.Errorf("%s: owns %s but changes nothing in it", pf.name, s.path))
		}
	}
	return errors.Join(errs...)
}

var ledgerCell = regexp.MustCompile("[a-z][a-z0-9-]*/[0-9]{4}-[^\\s|()\\[\\]`]*\\.patch")

// checkLedger compares patches/README.md with the patches, both ways.
func (p *project) checkLedger() error {
	data, err := os.ReadFile(filepath.Join(p.root, "patches", "README.md"))
	if err != nil {
		return err
	}
	var errs []error
	rows, found := map[string]bool{}, map[string]bool{}
	for i, line := range strings.Split(string(data), "\n") {
		line, isRow := strings.CutPrefix(strings.TrimSpace(line), "|")
		cells := strings.Split(strings.TrimSuffix(line, "|"), "|")
		name := ledgerCell.FindString(cells[0])
		if !isRow || name == "" {
			continue
		}
		name = "patches/" + name
		if rows[name] {
			errs = append(errs, fmt.Errorf("patches/README.md:%d: %s has two rows", i+1, name))
		}
		rows[name] = true
		if len(cells) != 4 || slices.ContainsFunc(cells, func(c string) bool { return strings.TrimSpace(c) == "" }) {
			errs = append(errs, fmt.Errorf("patches/README.md:%d: want four filled cells: patch | what it hooks | why | upstream status", i+1))
		}
	}
	for _, r := range p.rows {
		list, err := p.patches(r)
		if err != nil {
			return err
		}
		for _, pf := range list {
			name := withoutTrain(pf.name, r)
			if !rows[name] {
				errs = append(errs, fmt.Errorf("%s: no row in patches/README.md; its first cell is %s", pf.name, strings.TrimPrefix(name, "patches/")))
			}
			found[name] = true
		}
	}
	for name := range found { // one row for the patch of each train
		delete(rows, name)
	}
	for _, name := range sortedKeys(rows) {
		errs = append(errs, fmt.Errorf("patches/README.md: %s has a row, but there is no such patch", name))
	}
	return errors.Join(errs...)
}

// codeFolders are the folders whose Go and C files are ours.
var codeFolders = []string{"cli", "integration", "kernel", "moby", "runc", "scripts"}

func (p *project) existing(dirs []string) []string {
	var out []string
	for _, d := range dirs {
		if _, err := os.Stat(filepath.Join(p.root, d)); err == nil {
			out = append(out, d)
		}
	}
	return out
}

func (p *project) checkGofmt() error {
	dirs := p.existing(codeFolders)
	if len(dirs) == 0 {
		return nil // without a name, gofmt would wait for its input
	}
	out, err := p.run("gofmt", append([]string{"-l"}, dirs...)...)
	if err == nil && out != "" {
		err = fmt.Errorf("run gofmt -w on:\n%s", out)
	}
	return err
}

// checkLicense wants an SPDX line at the top of each source of ours.
func (p *project) checkLicense() error {
	var errs []error
	for _, top := range p.existing(codeFolders) {
		err := filepath.WalkDir(filepath.Join(p.root, top), func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && d.Name() == "testdata" {
				return fs.SkipDir
			}
			switch filepath.Ext(name) {
			case ".go", ".c", ".h", ".S", ".sh", ".rst", ".cocci":
			default:
				return nil
			}
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			head := bytes.SplitN(data, []byte("\n"), 6)
			if !bytes.Contains(bytes.Join(head[:min(len(head), 5)], []byte("\n")), []byte("SPDX-License-Identifier: ")) {
				rel, err := filepath.Rel(p.root, name)
				errs = append(errs, fmt.Errorf("%s: no SPDX-License-Identifier in the first five lines", rel), err)
			}
			return nil
		})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// skipCall is a test that decides by itself not to run.
var skipCall = regexp.MustCompile(`\.(Skip|Skipf|SkipNow)\(`)

// maySkip are the packages that every test under integration/ has to ask instead:
// there MUST turns a skip into a failure, and testsum knows the reasons.
var maySkip = []string{"integration/place", "integration/internal/require"}

func (p *project) checkSkips() error {
	var errs []error
	for _, top := range p.existing([]string{"integration"}) {
		err := filepath.WalkDir(filepath.Join(p.root, top), func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(p.root, name)
			if err != nil {
				return err
			}
			if d.IsDir() && slices.Contains(maySkip, rel) {
				return fs.SkipDir
			}
			if d.IsDir() || filepath.Ext(name) != ".go" {
				return nil
			}
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			for i, line := range strings.Split(string(data), "\n") {
				if skipCall.MatchString(line) {
					errs = append(errs, fmt.Errorf("%s:%d: skips by itself: ask %s", rel, i+1, strings.Join(maySkip, " or ")))
				}
			}
			return nil
		})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// leaves are packages of ours in the trees that import nothing of their own tree, nor of
// another leaf. Their tests link in a second, and they are the same for the next train,
// whose import paths are others.
var leaves = []string{
	"moby/daemon/blkiodisk",
	"moby/daemon/cgroupdir",
	"moby/daemon/gpudevice",
	"moby/daemon/updatepool",
	"moby/libnetwork/netlimit",
}

// trees are the import paths of the trees that packages of ours are in.
var trees = []string{"github.com/docker/docker", "github.com/docker/cli", "github.com/moby/moby", "github.com/opencontainers/runc"}

func (p *project) checkLeaves() error {
	var errs []error
	for _, leaf := range leaves {
		files, err := filepath.Glob(filepath.Join(p.root, filepath.FromSlash(leaf), "*.go"))
		if err == nil && len(files) == 0 {
			err = fmt.Errorf("%s: no package is there", leaf)
		}
		errs = append(errs, err)
		for _, name := range files {
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			for _, i := range f.Imports {
				path, _ := strconv.Unquote(i.Path.Value)
				if slices.ContainsFunc(trees, func(tree string) bool { return path == tree || strings.HasPrefix(path, tree+"/") }) {
					errs = append(errs, fmt.Errorf("%s/%s imports %s, and must import nothing of its tree", leaf, filepath.Base(name), path))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// checkShell runs shellcheck over each shell script of ours.
func (p *project) checkShell() error {
	var scripts []string
	for _, top := range p.existing(append([]string{".ci"}, codeFolders...)) {
		err := filepath.WalkDir(filepath.Join(p.root, top), func(name string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			if line, _, _ := bytes.Cut(data, []byte("\n")); shellShebang.Match(line) {
				scripts = append(scripts, name)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if len(scripts) == 0 {
		return nil
	}
	_, err := p.run("shellcheck", append([]string{"--external-sources", "--format=gcc"}, scripts...)...)
	return err
}

var shellShebang = regexp.MustCompile(`^#!.*\b(ba)?sh$`)

// run returns what a command run at the root printed.
func (p *project) run(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = p.root
	out, err := cmd.CombinedOutput()
	text := strings.TrimRight(string(out), "\n")
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, text)
	}
	return text, err
}

// checkAll is what "tree check" runs; it returns an error if a proof failed.
func (p *project) checkAll(out io.Writer) error {
	c := &checker{p: p, out: out}
	c.checkTrees()
	c.checkDrivers()
	c.proof("patches/README.md has a row for each patch and no other", p.checkLedger())
	c.proof("hooks are the same in each train, or patches/differ says why not", p.checkDiffer())
	c.proof("gofmt", p.checkGofmt())
	c.proof("SPDX line in each source of ours", p.checkLicense())
	c.proof("no test under integration/ skips but through package place or require", p.checkSkips())
	c.proof("packages that must import nothing of their tree do not", p.checkLeaves())
	_, err := p.run("go", "vet", "./...")
	if err == nil {
		_, err = p.run("go", "vet", "-tags=pins", "./scripts/pins")
	}
	c.proof("go vet", err)
	_, err = p.run("go", "tool", "staticcheck", "./...")
	c.proof("staticcheck", err)
	c.proof("shellcheck", p.checkShell())
	if err == nil { // else tidy might look for our own packages elsewhere
		_, err = p.run("go", "mod", "tidy", "-diff")
		c.proof("go.mod and go.sum are tidy and hold the pins", err)
	}
	return c.result()
}

func (c *checker) result() error {
	if c.failed > 0 {
		return fmt.Errorf("%s failed", plural(c.failed, "proof"))
	}
	return nil
}
