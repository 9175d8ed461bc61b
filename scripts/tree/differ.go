// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A hook should be the same in each train. patches/differ lists, with a reason, the files
// whose hooks are not, each with a hash of how they differ: so a change of a hook in one
// train alone is told of, until the line says that it is meant.

// lineOf is a file's changed lines in one train.
type lineOf struct{ train, lines string }

var quotedPath = regexp.MustCompile(`"[^"]+"`)

// hookLines returns the lines that each hooked file gains and loses, by the name of its
// patch and its path in our folder, without what lines are around them or where they are.
func (p *project) hookLines(r row) (map[string]string, error) {
	list, err := p.patches(r)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, pf := range list {
		for _, s := range pf.sections {
			var b strings.Builder
			for i, line := range strings.Split(string(s.body), "\n") {
				if i < 2 || !strings.HasPrefix(line, "+") && !strings.HasPrefix(line, "-") {
					continue
				}
				if len(strings.TrimSpace(line)) < 2 {
					continue // an empty line
				}
				line = quotedPath.ReplaceAllStringFunc(line, func(q string) string {
					name, _ := mapPrefix(strings.Trim(q, `"`), r.imports, newOf, oldOf)
					return `"` + name + `"`
				})
				b.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
			}
			name, err := r.placeBack(s.path)
			if err != nil {
				return nil, err
			}
			out[filepath.Base(pf.name)+" "+strings.TrimPrefix(r.own+"/"+name, "/")] = b.String()
		}
	}
	return out, nil
}

// checkDiffer compares the hooks of the trains.
func (p *project) checkDiffer() error {
	all := trains(p.rows)
	if len(all) < 2 {
		return nil
	}
	hooks := map[string][]lineOf{}
	for _, r := range p.rows {
		if r.train == "" || r.hooks == "" {
			continue
		}
		lines, err := p.hookLines(r)
		if err != nil {
			return err
		}
		for name, l := range lines {
			hooks[name] = append(hooks[name], lineOf{r.train, l})
		}
	}
	known, err := p.readDiffer()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range sortedKeys(hooks) {
		list := hooks[name]
		slices.SortFunc(list, func(a, b lineOf) int { return strings.Compare(a.train, b.train) })
		if len(list) == len(all) && !slices.ContainsFunc(list, func(l lineOf) bool { return l.lines != list[0].lines }) {
			continue
		}
		sum := sumOf(fmt.Append(nil, list))[:12]
		was, listed := known[name]
		delete(known, name)
		switch {
		case !listed:
			errs = append(errs, fmt.Errorf("%s: the hooks of the trains differ; carry the change over, or say in patches/differ why not:\n%s | %s | REASON", name, name, sum))
		case was.sum != sum:
			errs = append(errs, fmt.Errorf("%s: the hooks of the trains differ in another way than patches/differ says; carry the change over, or put this there:\n%s | %s | %s", name, name, sum, was.reason))
		}
	}
	for _, name := range sortedKeys(known) {
		errs = append(errs, fmt.Errorf("patches/differ: %s: the hooks of the trains do not differ there: take the line out", name))
	}
	return errors.Join(errs...)
}

type differing struct{ sum, reason string }

func (p *project) readDiffer() (map[string]differing, error) {
	data, err := os.ReadFile(filepath.Join(p.root, "patches", "differ"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	out := map[string]differing{}
	for i, line := range strings.Split(string(data), "\n") {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		cells := strings.Split(line, "|")
		for j := range cells {
			cells[j] = strings.TrimSpace(cells[j])
		}
		if len(cells) != 3 || cells[0] == "" || cells[2] == "" || cells[2] == "REASON" {
			return nil, fmt.Errorf("patches/differ:%d: want PATCH FILE | HASH | the reason", i+1)
		}
		out[cells[0]] = differing{cells[1], cells[2]}
	}
	return out, nil
}
