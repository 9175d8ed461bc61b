// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// price is what one upstream file costs at a rebase: a line of the table.
type price struct {
	patch   string // or "" for what is no patch's: our files, prepare
	path    string
	newPath string
	alone   string // what patch -F0 makes of the hunks: exact, offset, rejected
	result  string // unchanged, clean, made, 3-way, conflict, elsewhere, gone, text, taken, prepare
	churn   int    // lines that upstream added and removed in the file
	note    string
	merged  []byte // with marks where it conflicts; nil if gone
}

// move is a tree on its way to another upstream.
type move struct {
	row    row
	in     *inputs
	src    source
	from   string
	to     string
	prices []price
}

// needsHands tells whether a person has to settle something.
func (m *move) needsHands() bool {
	return slices.ContainsFunc(m.prices, func(f price) bool {
		return f.merged == nil || f.result == "conflict" || f.result == "elsewhere"
	})
}

// blocked lists what keeps the tree from being made at all.
func (m *move) blocked() []string {
	var out []string
	for _, f := range m.prices {
		if f.result == "taken" || f.result == "prepare" {
			out = append(out, fmt.Sprintf("%s: %s: %s", m.row.name, f.path, f.note))
		}
	}
	return out
}

// rowsOf returns the trees that a target names: by tree, module or the module's
// last element. The trees of a module in different trains have each their version, so
// that there the name has to be a tree's.
func (p *project) rowsOf(name string) ([]row, error) {
	var out []row
	for _, r := range p.rows {
		if r.name != name {
			continue
		}
		for _, o := range p.rows {
			if o.source == r.source {
				out = append(out, o)
			}
		}
		return out, nil
	}
	for _, r := range p.rows {
		if !r.isKernel() && (r.module() == name || path.Base(r.module()) == name) {
			if len(out) > 0 && out[0].source != r.source {
				return nil, fmt.Errorf("%s: is of another version in each train: name the tree, %s or %s", name, out[0].name, r.name)
			}
			out = append(out, r)
		}
	}
	return out, nil
}

// parseTarget reads one TO: TREE@VERSION for another version of the same
// module, or TREE=SOURCE, which can only be priced: a folder, or
// MODULE@VERSION with more of them for sub-folders, as dir=MODULE@VERSION.
func (p *project) parseTarget(arg string) (rows []row, spec string, priceOnly bool, err error) {
	eq, at := strings.IndexByte(arg, '='), strings.IndexByte(arg, '@')
	name := arg
	switch {
	case eq >= 0 && (at < 0 || eq < at):
		name, spec, priceOnly = arg[:eq], arg[eq+1:], true
	case at > 0:
		name, spec = arg[:at], arg[at+1:]
	default:
		return nil, "", false, fmt.Errorf("%s: want TREE@VERSION, or TREE=FOLDER or TREE=MODULE@VERSION with --dry-run", arg)
	}
	if rows, err = p.rowsOf(name); err != nil {
		return nil, "", false, err
	}
	if len(rows) == 0 {
		return nil, "", false, fmt.Errorf("%s: no tree %q and none of such a module in patches/trees", arg, name)
	}
	if !priceOnly {
		if rows[0].isKernel() {
			return nil, "", false, fmt.Errorf("%s: a package's version and hashes are set by hand in patches/trees; price it with --dry-run linux=FOLDER", arg)
		}
		spec = rows[0].module() + "@" + spec
	}
	return rows, spec, priceOnly, nil
}

// newSource returns another upstream, and its exact name.
func newSource(spec string) (source, string, error) {
	if info, err := os.Stat(spec); err == nil && info.IsDir() {
		return &dirSource{dir: spec, verify: func() error { return nil }}, spec, nil
	}
	u := unionSource{}
	var names []string
	for i, part := range strings.Split(spec, ",") {
		sub := ""
		if i > 0 {
			var ok bool
			if sub, part, ok = strings.Cut(part, "="); !ok {
				return nil, "", fmt.Errorf("%s: want FOLDER=MODULE@VERSION after the first module", part)
			}
		}
		m, err := downloadModule(part)
		if err != nil && !strings.HasSuffix(part, "+incompatible") {
			// A module without go.mod has this at its versions, people leave it out.
			if n, e := downloadModule(part + "+incompatible"); e == nil {
				m, err = n, nil
			}
		}
		if err != nil {
			return nil, "", err
		}
		u = append(u, unionPart{sub, &dirSource{dir: m.Dir, verify: func() error { return nil }}})
		names = append(names, m.Path+"@"+m.Version)
	}
	return u, strings.Join(names, " + "), nil
}

func downloadModule(mod string) (goModule, error) {
	var m goModule
	dir, err := os.MkdirTemp("", "tree-rebase-")
	if err != nil {
		return m, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("go", "mod", "download", "-json", mod)
	cmd.Dir = dir // no module here: our go.sum must not change
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	out, err := cmd.Output()
	if e := json.Unmarshal(out, &m); e != nil {
		return m, errors.Join(fmt.Errorf("go mod download %s: %w", mod, e), err)
	}
	if m.Error != "" {
		return m, fmt.Errorf("%s: %s", mod, m.Error)
	}
	return m, nil
}

// unionSource is an upstream that is released as several modules. The first
// part is the whole; further ones stand for a folder each.
type unionSource []unionPart

type unionPart struct {
	sub string
	src *dirSource
}

func (u unionSource) find(name string) (*dirSource, string) {
	for _, part := range u[1:] {
		if rest, ok := strings.CutPrefix(name, part.sub+"/"); ok {
			return part.src, rest
		}
	}
	return u[0].src, name
}

func (u unionSource) read(name string) ([]byte, error) {
	s, name := u.find(name)
	return s.read(name)
}

func (u unionSource) exists(name string) bool {
	s, name := u.find(name)
	return s.exists(name)
}

func (u unionSource) fetch([]string) error { return nil }

func (u unionSource) unpack(string, func(string) bool) error {
	return errors.New("an upstream of several modules can only be priced")
}

// price merges our hooks into another upstream, in memory.
func (p *project) price(r row, to source, moved map[string]string) (*move, error) {
	in, err := p.inputs(r)
	if err != nil {
		return nil, err
	}
	src, err := p.resolve(r)
	if err != nil {
		return nil, err
	}
	pl, err := p.plan(r, src, in)
	if err != nil {
		return nil, err
	}
	m := &move{row: r, in: in, src: to, from: in.pin}
	prepared, err := r.prepared(to)
	if err != nil {
		m.prices = append(m.prices, price{path: "patches/trees", result: "prepare", note: err.Error()})
		prepared = map[string][]byte{}
	}
	read := func(name string) ([]byte, error) {
		if data, ok := prepared[name]; ok {
			return data, nil
		}
		return to.read(name)
	}
	for _, pf := range in.patches {
		for _, s := range pf.sections {
			f := price{patch: path.Base(pf.name), path: s.path, newPath: s.path}
			if n, ok := moved[s.path]; ok {
				f.newPath = n
			}
			theirs, err := read(f.newPath)
			if errors.Is(err, fs.ErrNotExist) {
				f.result, f.alone, f.note = "gone", "rejected", "upstream has no such file: give --moved OLD=NEW, or hook another"
				m.prices = append(m.prices, f)
				continue
			}
			if err != nil {
				return nil, err
			}
			if err := f.merge(s, pl.base[s.path], pl.made[s.path], theirs); err != nil {
				return nil, err
			}
			m.prices = append(m.prices, f)
		}
	}
	for _, t := range in.texts {
		f := price{patch: "texts", path: t.path, newPath: t.path, result: "made", alone: "exact"}
		var theirs []byte
		if !t.isNew() {
			if theirs, err = read(t.path); err == nil {
				f.churn, err = churn(pl.base[t.path], theirs)
			}
		}
		if err == nil {
			f.merged, err = t.apply(theirs, in.fields, read)
		}
		if err != nil {
			f.merged, f.result, f.alone, f.note = nil, "text", "rejected", strings.ReplaceAll(err.Error(), "\n", " ")
		}
		m.prices = append(m.prices, f)
	}
	for _, name := range sortedKeys(in.own) {
		if to.exists(name) {
			m.prices = append(m.prices, price{path: name, result: "taken", note: "a file of ours exists upstream now: rename ours, or drop it"})
		}
	}
	return m, nil
}

// merge settles one file, and says what patch(1) alone would have made of it.
func (f *price) merge(s section, base, ours, theirs []byte) error {
	var err error
	if f.churn, err = churn(base, theirs); err != nil {
		return err
	}
	one := &patchFile{sections: []section{{f.newPath, s.body}}}
	if f.newPath != s.path {
		one.sections[0].body = append(fmt.Appendf(nil, "--- a/%s\n+++ b/%s\n", f.newPath, f.newPath), afterLines(s.body, 2)...)
	}
	byPatch, offs, err := one.apply(func(string) ([]byte, error) { return theirs, nil })
	switch {
	case err != nil:
		f.alone = "rejected"
	case len(offs) > 0:
		f.alone = "offset"
	default:
		f.alone = "exact"
	}
	if bytes.Equal(base, theirs) {
		f.result, f.merged = "unchanged", ours
		return nil
	}
	conflicts := 0
	if f.merged, conflicts, err = merge3(ours, base, theirs); err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	switch {
	case conflicts > 0:
		f.result, f.note = "conflict", plural(conflicts, "conflict")
	case f.alone == "rejected":
		f.result = "3-way"
	default:
		f.result = "clean"
		if !bytes.Equal(byPatch[f.newPath], f.merged) {
			f.result, f.note = "elsewhere", "patch(1) puts a hunk at another place than the merge: see that the merge has the right one"
		}
	}
	if conflicts == 0 {
		was, now, err := hunkFunctions(base, ours, theirs, f.merged)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(now, func(name string) bool { return !slices.Contains(was, name) }) {
			f.result = "elsewhere"
			f.note = fmt.Sprintf("a hunk is in another function: was in %s, is in %s", strings.Join(was, ", "), strings.Join(now, ", "))
		}
	}
	return nil
}

// hunkFunctions returns the functions that the hunks of two versions of a file are in,
// by the line that diff -p shows: the last one that starts with a letter.
func hunkFunctions(base, ours, theirs, merged []byte) (was, now []string, err error) {
	list := func(old, new []byte) (out []string, err error) {
		d, err := unified("a", "b", old, new, 0)
		if err != nil {
			return nil, err
		}
		lines := strings.Split(string(old), "\n")
		for line := range strings.SplitSeq(string(d), "\n") {
			var at, n int
			if k, _ := fmt.Sscanf(line, "@@ -%d,%d", &at, &n); k == 0 || !strings.HasPrefix(line, "@@ ") {
				continue
			} else if k == 1 {
				n = 1
			}
			if n > 0 {
				at--
			}
			name := "the top of the file"
			for i := min(at, len(lines)) - 1; i >= 0; i-- {
				if l := lines[i]; l != "" && (l[0] == '_' || l[0] >= 'a' && l[0] <= 'z' || l[0] >= 'A' && l[0] <= 'Z') {
					name, _, _ = strings.Cut(l, "{")
					// Of a function only its name: a new parameter is no other place.
					if f, ok := strings.CutPrefix(name, "func "); ok {
						name = f
						if i := strings.Index(f, ") "); strings.HasPrefix(f, "(") && i > 0 {
							name = f[i+2:]
						}
						name, _, _ = strings.Cut(name, "(")
					}
					name = strings.TrimSpace(name)
					break
				}
			}
			if !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
		slices.Sort(out)
		return out, nil
	}
	if was, err = list(base, ours); err == nil {
		now, err = list(theirs, merged)
	}
	return was, now, err
}

// afterLines returns what follows the first n lines.
func afterLines(data []byte, n int) []byte {
	for range n {
		_, data, _ = bytes.Cut(data, []byte("\n"))
	}
	return data
}

func churn(old, new []byte) (int, error) {
	out, err := unified("a", "b", old, new, 0)
	n := 0
	for _, line := range bytes.Split(afterLines(out, 2), []byte("\n")) {
		if len(line) > 0 && (line[0] == '+' || line[0] == '-') {
			n++
		}
	}
	return n, err
}

// merge3 runs git merge-file and returns the text and how many conflicts are in it.
func merge3(ours, base, theirs []byte) ([]byte, int, error) {
	dir, err := os.MkdirTemp("", "tree-merge-")
	if err != nil {
		return nil, 0, err
	}
	defer os.RemoveAll(dir)
	for name, data := range map[string][]byte{"ours": ours, "base": base, "theirs": theirs} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return nil, 0, err
		}
	}
	cmd := exec.Command("git", "merge-file", "-p", "-q", "--diff3", "-L", "ours", "-L", "old upstream", "-L", "new upstream", "ours", "base", "theirs")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), gitEnv...)
	out, err := cmd.Output()
	if ee := (*exec.ExitError)(nil); errors.As(err, &ee) && ee.ExitCode() < 128 {
		return out, ee.ExitCode(), nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("git merge-file: %w", err)
	}
	return out, 0, nil
}

// table prints the prices of all moves as Markdown.
func table(moves []*move) string {
	var b strings.Builder
	b.WriteString("| from → to | files | clean | by 3-way | conflict or gone |\n|---|---|---|---|---|\n")
	for _, m := range moves {
		var n, clean, way3, bad int
		for _, f := range m.prices {
			if f.patch == "" {
				continue
			}
			n++
			switch f.result {
			case "unchanged", "clean", "made":
				clean++
			case "3-way":
				way3++
			default:
				bad++
			}
		}
		fmt.Fprintf(&b, "| %s: %s → %s | %d | %d | %d | %d |\n", m.row.name, firstWord(m.from), m.to, n, clean, way3, bad)
	}
	b.WriteString("\n| tree | patch | file | upstream's changed lines | patch -F0 alone | result | |\n|---|---|---|---|---|---|---|\n")
	for _, m := range moves {
		for _, f := range m.prices {
			file := f.path
			if f.newPath != "" && f.newPath != f.path {
				file += " → " + f.newPath
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %d | %s | %s | %s |\n", m.row.name, dash(f.patch), file, f.churn, dash(f.alone), f.result, f.note)
		}
	}
	return b.String()
}

func firstWord(s string) string {
	s, _, _ = strings.Cut(s, " ")
	return s
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// rebase carries the hooks of all trees of the targets over. A dry run only
// returns the table. Else the pins, the patches and the trees are written;
// conflicts are left in the trees, between marks that refresh refuses.
func (p *project) rebase(targets []string, moved map[string]string, dry bool) (report string, done bool, err error) {
	var moves []*move
	pins := map[string]string{}
	for _, arg := range targets {
		rows, spec, priceOnly, err := p.parseTarget(arg)
		if err != nil {
			return "", false, err
		}
		if priceOnly && !dry {
			return "", false, fmt.Errorf("%s: another module or a folder can only be priced: give --dry-run, or TREE@VERSION", arg)
		}
		to, label, err := p.newer(spec)
		if err != nil {
			return "", false, err
		}
		if !priceOnly {
			pins[rows[0].source] = label
		}
		for _, r := range rows {
			if _, err := os.Stat(p.dir(r)); err == nil && !dry {
				if err := p.checkSaved(r); err != nil {
					return "", false, err
				}
			}
			if r.hooks == "" && r.own == "" {
				continue
			}
			m, err := p.price(r, to, moved)
			if err != nil {
				return "", false, err
			}
			m.to = label
			moves = append(moves, m)
		}
	}
	report = table(moves)
	if dry {
		return report, true, nil
	}
	var blocked []string
	done = true
	for _, m := range moves {
		blocked = append(blocked, m.blocked()...)
		done = done && !m.needsHands()
	}
	if blocked != nil {
		return report, false, fmt.Errorf("nothing was written:\n%s", indent(strings.Join(blocked, "\n")))
	}
	if err := p.setPins(pins); err != nil {
		return report, false, err
	}
	for _, m := range moves {
		for _, r := range p.rows { // their sources are new
			if r.name == m.row.name {
				m.row = r
			}
		}
		if err := p.carry(m); err != nil {
			return report, false, err
		}
	}
	return report, done, nil
}

// carry writes the patches of one tree for its new upstream, and the tree.
func (p *project) carry(m *move) error {
	byPatch := map[string][]price{}
	for _, f := range m.prices {
		byPatch[f.patch] = append(byPatch[f.patch], f)
	}
	prepared, err := m.row.prepared(m.src)
	if err != nil {
		return err
	}
	aside := filepath.Join(filepath.Dir(p.src), "rebase", m.row.name)
	if err := os.RemoveAll(aside); err != nil {
		return err
	}
	marked := map[string][]byte{}
	for _, pf := range m.in.patches {
		out := &patchFile{header: pf.header}
		lost := false
		for _, f := range byPatch[path.Base(pf.name)] {
			switch {
			case f.merged == nil:
				lost = true
				continue
			case f.result == "conflict":
				marked[f.newPath] = f.merged
				out.sections = append(out.sections, section{f.newPath, fmt.Appendf(nil, "--- a/%s\n+++ b/%s\n", f.newPath, f.newPath)})
				lost = true
				continue
			}
			base, ok := prepared[f.newPath]
			if !ok {
				if base, err = m.src.read(f.newPath); err != nil {
					return err
				}
			}
			s, err := diffSection(f.newPath, base, f.merged)
			if err != nil {
				return err
			}
			if s.body != nil {
				out.sections = append(out.sections, s)
			}
		}
		if lost { // what the hunks were, for whoever settles it
			if err := writeFile(filepath.Join(aside, path.Base(pf.name)), pf.data); err != nil {
				return err
			}
		}
		slices.SortFunc(out.sections, func(a, b section) int { return strings.Compare(a.path, b.path) })
		full := filepath.Join(p.root, filepath.FromSlash(pf.name))
		if len(out.sections) == 0 {
			p.log("%s: nothing of it is left; removed, a copy is in %s", pf.name, aside)
			if err := errors.Join(writeFile(filepath.Join(aside, path.Base(pf.name)), pf.data), os.Remove(full)); err != nil {
				return err
			}
			continue
		}
		if err := writeFile(full, out.format()); err != nil {
			return err
		}
	}
	// The old tree held nothing unsaved.
	if err := os.RemoveAll(p.dir(m.row)); err != nil {
		return err
	}
	// A text that does not fit leaves its file as upstream has it, until it is changed.
	p.lenient = true
	text, err := p.makeTree(m.row, false)
	p.lenient = false
	if err != nil {
		return err
	}
	p.log("%s", text)
	for _, name := range sortedKeys(marked) {
		if err := overwrite(filepath.Join(p.dir(m.row), filepath.FromSlash(name)), marked[name]); err != nil {
			return err
		}
		p.log("%s: conflict in %s; the old hunks are in %s", m.row.name, filepath.Join(p.dir(m.row), name), aside)
	}
	return nil
}

// pinModules writes the versions, source → module@version, to go.mod or patches/trees,
// where the old ones stand, and reads all pins anew.
func (p *project) pinModules(pins map[string]string) error {
	args := []string{"mod", "edit"}
	table := filepath.Join(p.root, "patches", "trees")
	data, err := os.ReadFile(table)
	if err != nil {
		return err
	}
	for _, source := range sortedKeys(pins) {
		if !strings.Contains(source, " ") {
			args = append(args, "-require="+pins[source])
			continue
		}
		m, err := downloadModule(pins[source])
		if err != nil {
			return err
		}
		data = bytes.ReplaceAll(data, []byte(source), []byte(m.Path+" "+m.Version+" "+m.Sum))
		for _, r := range p.rows {
			if r.source == source && r.release != "" {
				p.log("%s: set the release that %s is in patches/trees, now %s", r.name, pins[source], r.release)
			}
		}
	}
	if err := writeFile(table, data); err != nil {
		return err
	}
	if p.rows, err = parseTable(data); err != nil {
		return err
	}
	if len(args) > 2 {
		if _, err := p.run("go", args...); err != nil {
			return fmt.Errorf("go mod edit: %w", err)
		}
		if _, err := p.run("go", "mod", "tidy"); err != nil {
			return fmt.Errorf("go mod tidy: %w", err)
		}
	}
	up := &upstreams{p: p}
	p.resolve, p.pin = up.resolve, up.pin
	return nil
}
