// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A train is a set of upstream versions that belong together. Own files are there once;
// where a train has them in other folders or imports other packages, its row says so by
// "place" and "import", and its tree gets written copies with rewritten import lines in
// place of links. What one train alone has lies in a folder of its name below the own
// folder, at the tree's own paths, and is linked as it is.

// mapping is a prefix of paths, and what stands for it in a train.
type mapping struct{ old, new string }

// mapPrefix replaces the longest prefix that ends at a slash or the end. left tells
// that the path is left out.
func mapPrefix(name string, list []mapping, from, to func(mapping) string) (out string, left bool) {
	var best *mapping
	for i, m := range list {
		old := from(m)
		if (name == old || strings.HasPrefix(name, old+"/")) && (best == nil || len(old) > len(from(*best))) {
			best = &list[i]
		}
	}
	if best == nil {
		return name, false
	}
	if to(*best) == "-" {
		return "", true
	}
	return to(*best) + name[len(from(*best)):], false
}

func oldOf(m mapping) string { return m.old }
func newOf(m mapping) string { return m.new }

// place returns where the tree has what our folder has at name, "" for nowhere.
func (r row) place(name string) string {
	out, _ := mapPrefix(name, r.places, oldOf, newOf)
	return out
}

// placeBack returns where our folder has a new file of the tree.
func (r row) placeBack(name string) (string, error) {
	back := slices.DeleteFunc(slices.Clone(r.places), func(m mapping) bool { return m.new == "-" })
	out, _ := mapPrefix(name, back, newOf, oldOf)
	if r.place(out) != name {
		return "", fmt.Errorf("%s: no place in %s stands for it: put it into %s", name, r.own, r.home())
	}
	return out, nil
}

// home is where what only this tree has goes to.
func (r row) home() string {
	if r.alone != "" {
		return r.alone
	}
	return r.own
}

// rewrites tells whether the tree has a written copy of our file instead of a link.
func (p *project) rewrites(r row, ours string) bool {
	if len(r.imports) == 0 || !strings.HasSuffix(ours, ".go") {
		return false
	}
	return r.alone == "" || !strings.HasPrefix(ours, filepath.Join(p.root, filepath.FromSlash(r.alone))+string(filepath.Separator))
}

// readOwn returns what the tree has for our file.
func (p *project) readOwn(r row, ours string) ([]byte, error) {
	data, err := os.ReadFile(ours)
	if err != nil || !p.rewrites(r, ours) {
		return data, err
	}
	out, err := mapImports(data, r.imports, oldOf, newOf)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ours, err)
	}
	return out, nil
}

// ownBack returns what our file has to be for the tree to have data.
func (p *project) ownBack(r row, ours string, data []byte) ([]byte, error) {
	if !p.rewrites(r, ours) {
		return data, nil
	}
	out, err := mapImports(data, r.imports, newOf, oldOf)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ours, err)
	}
	return out, nil
}

// mapImports rewrites the paths of the import lines of a Go file, and nothing else.
func mapImports(data []byte, list []mapping, from, to func(mapping) string) ([]byte, error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "", data, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	at := 0
	for _, s := range f.Imports {
		name, err := strconv.Unquote(s.Path.Value)
		if err != nil {
			return nil, err
		}
		now, left := mapPrefix(name, list, from, to)
		if left {
			return nil, fmt.Errorf("imports %s, which this train does not have", name)
		}
		start := fset.Position(s.Path.Pos()).Offset
		out.Write(data[at:start])
		out.WriteString(strconv.Quote(now))
		at = start + len(s.Path.Value)
	}
	out.Write(data[at:])
	return out.Bytes(), nil
}

// checkCopies proves that copy → back → copy is the identity for each own file.
func (p *project) checkCopies(r row, own map[string]string) error {
	var errs []error
	base := filepath.Join(p.root, filepath.FromSlash(r.own))
	for _, name := range sortedKeys(own) {
		if !p.rewrites(r, own[name]) {
			continue
		}
		rel, err := filepath.Rel(base, own[name])
		if err == nil {
			var back string
			if back, err = r.placeBack(name); err == nil && back != filepath.ToSlash(rel) {
				err = fmt.Errorf("%s: comes back to %s: two places in patches/trees stand for one", own[name], back)
			}
		}
		errs = append(errs, err)
		was, err := os.ReadFile(own[name])
		if err != nil {
			return err
		}
		copied, err := p.readOwn(r, own[name])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		back, err := p.ownBack(r, own[name], copied)
		if err == nil && !bytes.Equal(back, was) {
			err = fmt.Errorf("%s: not the same after copying it into %s and back: it imports a package by the path of another train, or two imports in patches/trees stand for one", own[name], r.name)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// module returns what a row's source names, without version and hash.
func (r row) module() string { return firstWord(r.source) }

// trains returns the names of all trains in the table.
func trains(rows []row) (out []string) {
	for _, r := range rows {
		if r.train != "" && !slices.Contains(out, r.train) {
			out = append(out, r.train)
		}
	}
	return out
}

// otherTrain tells a folder that holds what one train alone has.
func (p *project) otherTrain(rel string) bool {
	return slices.Contains(trains(p.rows), path.Base(rel))
}

// finishTrains checks and completes what rows say about trains.
func finishTrains(rows []row) error {
	for i := range rows {
		r := &rows[i]
		for _, s := range r.prepare {
			switch s.verb {
			case "train":
				r.train = s.args[0]
			case "release":
				r.release = s.args[0]
			case "place":
				r.places = append(r.places, mapping{s.args[0], s.args[1]})
			case "import":
				r.imports = append(r.imports, mapping{s.args[0], s.args[1]})
			}
		}
	}
	for i := range rows {
		r := &rows[i]
		for _, s := range r.prepare {
			if s.verb != "imports" {
				continue
			}
			n := slices.IndexFunc(rows, func(o row) bool { return o.name == s.args[0] })
			if n < 0 {
				return fmt.Errorf("patches/trees: %s: prepare names the tree %q, which has no row", r.name, s.args[0])
			}
			for _, q := range rows[n].prepare {
				if q.verb == "import" {
					r.imports = append(r.imports, mapping{q.args[0], q.args[1]})
				}
			}
		}
		for _, list := range [][]mapping{r.places, r.imports} {
			for j, m := range list {
				if slices.ContainsFunc(list[:j], func(o mapping) bool { return o.old == m.old || o.new == m.new && m.new != "-" }) {
					return fmt.Errorf("patches/trees: %s: %s → %s: one of them stands there before", r.name, m.old, m.new)
				}
			}
		}
	}
	return nil
}

// releaseOf returns what the programs of a tree say they are: the release that the table
// names where the module's version is another, or a checkout's with part of its hash.
func (p *project) releaseOf(r row, pin string) (string, error) {
	if dir := p.folderOf(r); dir != "" {
		name := r.release
		if data, err := os.ReadFile(filepath.Join(dir, "VERSION")); err == nil {
			name = strings.TrimSpace(string(data))
		} else if out, err := exec.Command("git", "-C", dir, "describe", "--tags", "--match", "docker-v*").Output(); err == nil {
			name = strings.TrimPrefix(strings.TrimSpace(string(out)), "docker-v")
		}
		return name + "-folder." + sumOf([]byte(pin))[:12], nil
	}
	if r.release != "" {
		return r.release, nil
	}
	_, version, _ := strings.Cut(firstWord(pin), "@")
	return strings.TrimSuffix(strings.TrimPrefix(version, "v"), "+incompatible"), nil
}

// withoutTrain returns what the patch of a name is called in each train.
func withoutTrain(name string, r row) string {
	if r.train == "" {
		return name
	}
	return strings.Replace(name, "/"+r.train+"/", "/", 1)
}
