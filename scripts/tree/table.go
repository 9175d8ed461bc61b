// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

// stampFormat is part of every digest: raise it when the way a tree is made
// changes, so that all trees are brought up to date.
const stampFormat = "1"

// row is one line of patches/trees.
type row struct {
	name    string
	source  string
	own     string // folder of new files below the root, or ""
	alone   string // folder of those that this train alone has, or ""
	hooks   string // folder of patches below the root, or ""
	prepare []prepareStep
	// What prepare says, at hand: train.go.
	train, release  string
	places, imports []mapping
}

type prepareStep struct {
	verb string
	args []string
}

// project is a checkout of this repository and the places the tool writes to.
type project struct {
	root     string
	src      string // where the trees are: ROOT/.build/src
	pristine string // unpatched copies of single files: ROOT/.build/pristine
	rows     []row
	// resolve returns the unpatched upstream of a row.
	resolve func(row) (source, error)
	// pin identifies the unpatched upstream of a row without reading it.
	pin func(row) (string, error)
	// newer finds another upstream for rebase and gives its exact name.
	newer func(spec string) (source, string, error)
	// setPins writes new pins, module → module@version.
	setPins func(map[string]string) error
	log     func(format string, args ...any)
	folders map[string]string // MOBY and CLI: checkouts to take in place of the pins
	lenient bool              // leaves out texts that do not fit
}

func openProject(root string) (*project, error) {
	p := &project{
		root:     root,
		src:      filepath.Join(root, ".build", "src"),
		pristine: filepath.Join(root, ".build", "pristine"),
		log:      func(string, ...any) {},
		folders:  map[string]string{},
	}
	for _, name := range []string{"MOBY", "CLI"} {
		if dir := os.Getenv(name); dir != "" {
			dir, err := filepath.Abs(dir)
			if err != nil {
				return nil, err
			}
			if _, err := os.Stat(filepath.Join(dir, "cmd")); err != nil {
				return nil, fmt.Errorf("%s=%s: no checkout of upstream's: %w", name, dir, err)
			}
			p.folders[name] = dir
		}
	}
	data, err := os.ReadFile(filepath.Join(root, "patches", "trees"))
	if err != nil {
		return nil, err
	}
	if p.rows, err = parseTable(data); err != nil {
		return nil, err
	}
	up := &upstreams{p: p}
	p.resolve, p.pin = up.resolve, up.pin
	p.newer, p.setPins = newSource, p.pinModules
	return p, nil
}

// findRoot walks up from dir to the folder that holds patches/trees.
func findRoot(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "patches", "trees")); err == nil {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("%s: no patches/trees here or above; run this in the repository or give -C DIR", dir)
		}
	}
}

var (
	treeName  = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
	patchName = regexp.MustCompile(`^[0-9]{4}-[a-z0-9][a-z0-9.-]*\.patch$`)
)

func parseTable(data []byte) ([]row, error) {
	var rows []row
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fail := func(format string, args ...any) error {
			return fmt.Errorf("patches/trees:%d: %s", i+1, fmt.Sprintf(format, args...))
		}
		cells := strings.Split(line, "|")
		if len(cells) != 5 {
			return nil, fail("%d cells, want 5: tree | source | own files | hooks | prepare", len(cells))
		}
		for j := range cells {
			if cells[j] = strings.TrimSpace(cells[j]); cells[j] == "-" {
				cells[j] = ""
			}
		}
		r := row{name: cells[0], source: cells[1], hooks: cells[3]}
		r.own, r.alone, _ = strings.Cut(cells[2], " ")
		if r.alone = strings.TrimSpace(r.alone); strings.Contains(r.alone, " ") {
			return nil, fail("own files %q: want FOLDER, or FOLDER FOLDER-OF-THIS-TRAIN", cells[2])
		}
		if !treeName.MatchString(r.name) {
			return nil, fail("tree name %q: want lower-case letters, digits and dashes", r.name)
		}
		if slices.ContainsFunc(rows, func(o row) bool { return o.name == r.name }) {
			return nil, fail("tree %s appears twice", r.name)
		}
		if r.source == "" {
			return nil, fail("tree %s has no source", r.name)
		}
		for step := range strings.SplitSeq(cells[4], ";") {
			f := strings.Fields(step)
			if len(f) == 0 {
				continue
			}
			want := map[string]int{"drop": 1, "gomod": 2, "replace": 3, "version": 5, "texts": 1, "train": 1, "release": 1, "place": 2, "import": 2, "imports": 1}
			n, ok := want[f[0]]
			if !ok || n != len(f)-1 {
				return nil, fail("prepare %q: want drop DIR, gomod MODULE GO, replace FILE MODULE TREE, texts DIR or another one that the top of patches/trees lists", strings.TrimSpace(step))
			}
			r.prepare = append(r.prepare, prepareStep{f[0], f[1:]})
		}
		rows = append(rows, r)
	}
	for _, r := range rows {
		for _, s := range r.prepare {
			if s.verb == "replace" && !slices.ContainsFunc(rows, func(o row) bool { return o.name == s.args[2] }) {
				return nil, fmt.Errorf("patches/trees: %s: prepare names the tree %q, which has no row", r.name, s.args[2])
			}
		}
	}
	return rows, finishTrains(rows)
}

// pick returns the rows of the named trees, or all of them, in table order.
func (p *project) pick(names []string) ([]row, error) {
	if len(names) == 0 {
		return p.rows, nil
	}
	for _, n := range names {
		if !slices.ContainsFunc(p.rows, func(r row) bool { return r.name == n }) {
			var known []string
			for _, r := range p.rows {
				known = append(known, r.name)
			}
			return nil, fmt.Errorf("no tree %q; trees are %s", n, strings.Join(known, " "))
		}
	}
	var rows []row
	for _, r := range p.rows {
		if slices.Contains(names, r.name) {
			rows = append(rows, r)
		}
	}
	return rows, nil
}

// withNeeds adds the trees that the given ones replace modules by.
func (p *project) withNeeds(rows []row) []row {
	need := map[string]bool{}
	var add func(r row)
	add = func(r row) {
		if need[r.name] {
			return
		}
		need[r.name] = true
		for _, s := range r.prepare {
			if s.verb == "replace" {
				for _, o := range p.rows {
					if o.name == s.args[2] {
						add(o)
					}
				}
			}
		}
	}
	for _, r := range rows {
		add(r)
	}
	var out []row
	for _, r := range p.rows {
		if need[r.name] {
			out = append(out, r)
		}
	}
	return out
}

func (p *project) dir(r row) string { return filepath.Join(p.src, r.name) }

// drops tells whether prepare leaves the upstream path out of the tree.
func (r row) drops(name string) bool {
	for _, s := range r.prepare {
		if s.verb == "drop" && (name == s.args[0] || strings.HasPrefix(name, s.args[0]+"/")) {
			return true
		}
	}
	return false
}

// prepared returns the files that prepare writes, with their contents.
func (r row) prepared(src source) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, s := range r.prepare {
		switch s.verb {
		case "gomod":
			if src.exists("go.mod") {
				return nil, fmt.Errorf("%s: prepare writes go.mod, but upstream has one", r.name)
			}
			out["go.mod"] = fmt.Appendf(nil, "module %s\n\ngo %s\n", s.args[0], s.args[1])
		case "replace", "version":
			file := s.args[0]
			data, ok := out[file]
			if !ok {
				var err error
				if data, err = src.read(file); err != nil {
					return nil, fmt.Errorf("%s: prepare: %w", r.name, err)
				}
			}
			f, err := modfile.Parse(file, data, nil)
			if err != nil {
				return nil, err
			}
			if !slices.ContainsFunc(f.Require, func(q *modfile.Require) bool { return q.Mod.Path == s.args[1] }) {
				return nil, fmt.Errorf("%s: prepare replaces %s, which %s does not require", r.name, s.args[1], file)
			}
			// A checkout of upstream's may replace its own parts.
			if slices.ContainsFunc(f.Replace, func(q *modfile.Replace) bool { return q.Old.Path == s.args[1] }) {
				for _, q := range slices.Clone(f.Replace) {
					if q.Old.Path == s.args[1] {
						if err := f.DropReplace(q.Old.Path, q.Old.Version); err != nil {
							return nil, err
						}
					}
				}
				f.Cleanup()
				if data, err = f.Format(); err != nil {
					return nil, err
				}
			}
			if s.verb == "replace" {
				out[file] = fmt.Appendf(bytes.Clone(data), "\nreplace %s => ../%s\n", s.args[1], s.args[2])
				continue
			}
			out[file] = fmt.Appendf(bytes.Clone(data), "\nreplace %s => %s %s\n", s.args[1], s.args[1], s.args[2])
			sums := strings.TrimSuffix(file, ".mod") + ".sum"
			if data, ok = out[sums]; !ok {
				if data, err = src.read(sums); err != nil {
					return nil, fmt.Errorf("%s: prepare: %w", r.name, err)
				}
			}
			out[sums] = fmt.Appendf(bytes.Clone(data), "%s %s %s\n%s %s/go.mod %s\n", s.args[1], s.args[2], s.args[3], s.args[1], s.args[2], s.args[4])
		}
	}
	return out, nil
}

// ownFiles returns the files of our folder, by their path in the tree.
func (p *project) ownFiles(r row) (map[string]string, error) {
	out := map[string]string{}
	if r.own == "" {
		return out, nil
	}
	err := p.walkOwn(r.own, func(rel, name string) { // folders of trains are left out
		if at := r.place(rel); at != "" {
			out[at] = name
		}
	}, func(rel string) bool {
		if p.otherTrain(rel) {
			return true
		}
		return len(r.places) == 0 && slices.ContainsFunc(p.rows, func(o row) bool { // another tree's folder inside ours
			return o.name != r.name && o.own == path.Join(r.own, rel) && (o.train == r.train || o.train == "" || r.train == "")
		})
	})
	if err != nil || r.alone == "" {
		return out, err
	}
	err = p.walkOwn(r.alone, func(rel, name string) { out[rel] = name }, func(rel string) bool {
		return slices.ContainsFunc(p.rows, func(o row) bool { return o.name != r.name && o.alone == path.Join(r.alone, rel) })
	})
	return out, err
}

// walkOwn calls each for the files below a folder of ours.
func (p *project) walkOwn(folder string, each func(rel, name string), skip func(rel string) bool) error {
	base := filepath.Join(p.root, filepath.FromSlash(folder))
	return filepath.WalkDir(base, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && name == base {
			return nil // no file of ours yet
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(base, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		switch {
		case d.IsDir() && rel != "." && skip(rel):
			return fs.SkipDir
		case d.IsDir() || editorFile(d.Name()):
			return nil
		case !d.Type().IsRegular():
			return fmt.Errorf("%s: not a regular file; our folders hold plain files only", name)
		}
		each(rel, name)
		return nil
	})
}

// editorFile tells the droppings of editors and patch from files of ours.
func editorFile(name string) bool {
	return strings.HasSuffix(name, "~") || strings.HasSuffix(name, ".swp") ||
		strings.HasSuffix(name, ".orig") || strings.HasSuffix(name, ".rej") || strings.HasPrefix(name, ".#")
}

// patches reads the hooks of a tree in order.
func (p *project) patches(r row) ([]*patchFile, error) {
	if r.hooks == "" {
		return nil, nil
	}
	list, err := os.ReadDir(filepath.Join(p.root, filepath.FromSlash(r.hooks)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []*patchFile
	owner := map[string]string{}
	for _, e := range list {
		name := path.Join(r.hooks, e.Name())
		if editorFile(e.Name()) || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if !patchName.MatchString(e.Name()) {
			return nil, fmt.Errorf("%s: not a patch name; want NNNN-area-what.patch in lower case", name)
		}
		data, err := os.ReadFile(filepath.Join(p.root, filepath.FromSlash(name)))
		if err != nil {
			return nil, err
		}
		pf, err := parsePatch(name, data)
		if err != nil {
			return nil, err
		}
		for _, s := range pf.sections {
			if o := owner[s.path]; o != "" {
				return nil, fmt.Errorf("%s: owned by %s and by %s; an upstream file belongs to one patch: move all its hunks into one", s.path, o, name)
			}
			owner[s.path] = name
		}
		out = append(out, pf)
	}
	return out, nil
}

// inputs is everything but the upstream that makes a tree.
type inputs struct {
	pin     string
	release string // of Docker, or of what the module is
	patches []*patchFile
	texts   []*text
	fields  []field // for the texts
	own     map[string]string
	digest  string // of the above; own files by name only, they are links
	hooks   string // of pin, prepare and patches
}

func (p *project) inputs(r row) (*inputs, error) {
	in := &inputs{}
	var err error
	if in.pin, err = p.pin(r); err != nil {
		return nil, fmt.Errorf("%s: %w", r.name, err)
	}
	if in.release, err = p.releaseOf(r, in.pin); err != nil {
		return nil, err
	}
	if in.patches, err = p.patches(r); err != nil {
		return nil, err
	}
	if in.texts, in.fields, err = p.texts(r); err != nil {
		return nil, err
	}
	if in.own, err = p.ownFiles(r); err != nil {
		return nil, err
	}
	h := sha256.New()
	fmt.Fprintf(h, "format %s\npin %s\n", stampFormat, in.pin)
	for _, s := range r.prepare {
		fmt.Fprintf(h, "prepare %q %q\n", s.verb, s.args)
	}
	for _, pf := range in.patches {
		fmt.Fprintf(h, "patch %s %x\n", pf.name, sha256.Sum256(pf.data))
	}
	for _, t := range in.texts {
		fmt.Fprintf(h, "text %s %x\n", t.name, sha256.Sum256(t.data))
	}
	if in.fields != nil {
		fmt.Fprintf(h, "fields %+v\n", in.fields)
	}
	in.hooks = fmt.Sprintf("%x", h.Sum(nil))
	fmt.Fprintf(h, "own %s\n", strings.TrimSpace(r.own+" "+r.alone))
	for _, name := range sortedKeys(in.own) {
		fmt.Fprintf(h, "file %s\n", name)
	}
	in.digest = fmt.Sprintf("%x", h.Sum(nil))
	return in, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
