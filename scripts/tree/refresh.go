// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// refreshPlan is what a refresh would do; making it writes nothing.
type refreshPlan struct {
	in      *inputs
	idx     index
	sc      *scanned
	src     source
	patches map[string][]byte // name below the root → new bytes, where they differ
	move    map[string]string // path in the tree → our file that gets its contents
}

// planRefresh compares a tree with its upstream. With rewrite, it regenerates
// the patches whose effect did not change too, as after a change of line numbers.
func (p *project) planRefresh(r row, rewrite bool) (*refreshPlan, error) {
	dir := p.dir(r)
	st, err := readStamp(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: no %s; refresh would empty the patches of a tree that is not there: run make tree T=%s first", r.name, filepath.Join(dir, stampName), r.name)
	}
	if err != nil {
		return nil, err
	}
	in, err := p.inputs(r)
	if err != nil {
		return nil, err
	}
	if st.Hooks != in.hooks {
		return nil, fmt.Errorf("%s: the tree is stale: its pin or patches changed since it was made, and refresh would undo that: run make tree T=%s first (it keeps edits that are not in the way)", r.name, r.name)
	}
	rp := &refreshPlan{in: in, patches: map[string][]byte{}, move: map[string]string{}}
	if rp.idx, err = readIndex(dir); err != nil {
		return nil, err
	}
	if rp.src, err = p.resolve(r); err != nil {
		return nil, err
	}
	p.lendTree(r, rp.src, rp.idx)
	if rp.sc, err = p.scan(r, rp.src, rp.idx, in.own); err != nil {
		return nil, err
	}
	pl, err := p.plan(r, rp.src, in)
	if err != nil {
		return nil, err
	}

	var refuse []string
	owner := map[string]string{}
	for _, pf := range in.patches {
		for _, s := range pf.sections {
			owner[s.path] = pf.name
		}
	}
	texts := map[string]string{}
	for _, t := range in.texts {
		texts[t.path] = t.name
	}
	for _, name := range rp.sc.missing {
		refuse = append(refuse, fmt.Sprintf("%s: deleted in the tree; a hook cannot delete an upstream file: put it back by tree make --discard %s", name, r.name))
	}
	for _, name := range rp.sc.edited {
		if texts[name] != "" {
			refuse = append(refuse, fmt.Sprintf("%s: changed in the tree, but it is made from %s: change that, and drop this by tree make --discard %s", name, texts[name], r.name))
		} else if owner[name] == "" {
			refuse = append(refuse, fmt.Sprintf("%s: changed in the tree, but no patch owns it: run make hook T=%s P=NNNN-area-what.patch F=%s, then refresh", name, r.name, name))
		}
	}
	for _, name := range rp.sc.replaced {
		ours, known := in.own[name]
		if !known {
			refuse = append(refuse, fmt.Sprintf("%s: our file is gone, but the tree holds a changed copy: delete the copy, or put it back into %s", name, r.own))
			continue
		}
		a, err1 := os.Stat(filepath.Join(dir, filepath.FromSlash(name)))
		b, err2 := os.Stat(ours)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		if rp.idx[name].kind == kindOwn {
			want, err := p.readOwn(r, ours)
			if err != nil {
				return nil, err
			}
			if sumOf(want) != rp.idx[name].sum {
				refuse = append(refuse, fmt.Sprintf("%s: changed in the tree, and ours, %s, changed too: keep one of them", name, p.ownName(in, name)))
				continue
			}
		} else if !b.ModTime().Before(a.ModTime()) {
			refuse = append(refuse, fmt.Sprintf("%s: the link became a file of its own, and ours in %s changed after that: keep one of them", name, r.own))
			continue
		}
		rp.move[name] = ours
	}
	for _, name := range rp.sc.added {
		if ours, known := in.own[name]; known {
			want, err1 := p.readOwn(r, ours)
			now, err2 := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
			if err := errors.Join(err1, err2); err != nil {
				return nil, err
			}
			if !bytes.Equal(want, now) {
				refuse = append(refuse, fmt.Sprintf("%s: new in the tree and new in %s, with other contents: keep one of them", name, r.own))
			}
			continue
		}
		back, err := r.placeBack(name)
		if err != nil {
			refuse = append(refuse, err.Error())
			continue
		}
		rp.move[name] = filepath.Join(p.root, filepath.FromSlash(r.own), filepath.FromSlash(back))
	}
	if refuse != nil {
		return nil, fmt.Errorf("%s:\n%s", r.name, indent(strings.Join(refuse, "\n")))
	}

	for _, pf := range in.patches {
		now := map[string][]byte{}
		changed := rewrite
		for _, s := range pf.sections {
			if now[s.path], err = os.ReadFile(filepath.Join(dir, filepath.FromSlash(s.path))); err != nil {
				return nil, err
			}
			if conflictMark.Match(now[s.path]) && !conflictMark.Match(pl.base[s.path]) {
				return nil, fmt.Errorf("%s: conflict marks of a rebase in %s: settle them first", r.name, filepath.Join(dir, s.path))
			}
			changed = changed || !bytes.Equal(now[s.path], pl.made[s.path])
		}
		if !changed {
			continue // the same effect: not a byte of the patch moves
		}
		data, err := regenerate(pf, pl.base, now)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(data, pf.data) {
			rp.patches[pf.name] = data
		}
	}
	return rp, nil
}

// regenerate writes the sections of a patch anew and keeps its header. A
// section without hunks stays until its file is changed.
func regenerate(pf *patchFile, base, now map[string][]byte) ([]byte, error) {
	out := &patchFile{header: pf.header}
	for _, old := range pf.sections {
		s, err := diffSection(old.path, base[old.path], now[old.path])
		if err != nil {
			return nil, err
		}
		switch {
		case s.body != nil:
			out.sections = append(out.sections, s)
		case old.bare():
			out.sections = append(out.sections, old)
		}
	}
	if len(out.sections) == 0 {
		return nil, fmt.Errorf("%s: no file it owns differs from upstream any more; delete the patch and its row in patches/README.md if that is meant", pf.name)
	}
	return out.format(), nil
}

// refresh writes the edits of a tree back to our patches and folders.
func (p *project) refresh(r row, rewrite bool) ([]string, error) {
	rp, err := p.planRefresh(r, rewrite)
	if err != nil {
		return nil, err
	}
	dir := p.dir(r)
	var report []string
	for _, name := range sortedKeys(rp.patches) {
		if err := writeFile(filepath.Join(p.root, filepath.FromSlash(name)), rp.patches[name]); err != nil {
			return nil, err
		}
		report = append(report, name+" written")
	}
	for _, name := range sortedKeys(rp.move) {
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return nil, err
		}
		if data, err = p.ownBack(r, rp.move[name], data); err != nil {
			return nil, err
		}
		verb := "taken from the tree"
		if _, known := rp.in.own[name]; known {
			verb = "written from the tree's copy"
		}
		if err := writeFile(rp.move[name], data); err != nil {
			return nil, err
		}
		rel, err := filepath.Rel(p.root, rp.move[name])
		if err != nil {
			return nil, err
		}
		report = append(report, filepath.ToSlash(rel)+" "+verb)
	}
	if rp.in, err = p.inputs(r); err != nil {
		return nil, err
	}
	if _, err := p.setLinks(r, rp.idx, rp.in.own, false); err != nil {
		return nil, err
	}
	if err := p.touch(dir, rp.idx, slices.Concat(rp.sc.touched, rp.sc.edited)); err != nil {
		return nil, err
	}
	// What a patch owns is compared by hash from now on; a file whose last
	// hunk went away is upstream's again.
	made, err := r.prepared(rp.src)
	if err != nil {
		return nil, err
	}
	for _, pf := range rp.in.patches {
		for _, s := range pf.sections {
			if made[s.path], err = os.ReadFile(filepath.Join(dir, filepath.FromSlash(s.path))); err != nil {
				return nil, err
			}
		}
	}
	for _, t := range rp.in.texts {
		if made[t.path], err = os.ReadFile(filepath.Join(dir, filepath.FromSlash(t.path))); err != nil {
			return nil, err
		}
	}
	for name, e := range rp.idx {
		data, ok := made[name]
		switch {
		case ok:
			e.kind, e.sum = kindMade, sumOf(data)
		case e.kind == kindMade:
			e.kind, e.sum = kindCopy, ""
		default:
			continue
		}
		rp.idx[name] = e
	}
	if err := writeIndex(dir, rp.idx); err != nil {
		return nil, err
	}
	if err := writeStamp(dir, r, rp.in); err != nil {
		return nil, err
	}
	if len(report) == 0 {
		report = []string{"nothing to write"}
	}
	if rp.sc.alone > 0 {
		report = append(report, fmt.Sprintf("%s left alone: not sources by name; put one into our folder by hand if it is meant", plural(rp.sc.alone, "other new file")))
	}
	for i := range report {
		report[i] = r.name + ": " + report[i]
	}
	return report, nil
}

// hook lets a patch own an upstream file. The next refresh writes the hunks.
func (p *project) hook(r row, patch, file string) (string, error) {
	if r.hooks == "" {
		return "", fmt.Errorf("%s: patches/trees gives this tree no folder of hooks", r.name)
	}
	in, err := p.inputs(r)
	if err != nil {
		return "", err
	}
	src, err := p.resolve(r)
	if err != nil {
		return "", err
	}
	if idx, err := readIndex(p.dir(r)); err == nil {
		p.lendTree(r, src, idx)
	}
	file = path.Clean(file)
	if err := src.fetch([]string{file}); err != nil {
		return "", err
	}
	prepared, err := r.prepared(src)
	if err != nil {
		return "", err
	}
	if _, made := prepared[file]; !made && (r.drops(file) || !src.exists(file)) {
		return "", fmt.Errorf("%s: no such file upstream in %s; a new file needs no patch, it goes into %s/", file, r.name, r.own)
	}
	for _, t := range in.texts {
		if t.path == file {
			return "", fmt.Errorf("%s: it is made from %s; change that", file, t.name)
		}
	}
	patch = path.Base(patch)
	var found []*patchFile
	for _, pf := range in.patches {
		for _, s := range pf.sections {
			if s.path == file {
				return "", fmt.Errorf("%s: %s owns it already; edit the tree and refresh", file, pf.name)
			}
		}
		if strings.HasPrefix(path.Base(pf.name), strings.TrimSuffix(patch, ".patch")) {
			found = append(found, pf)
		}
	}
	var pf *patchFile
	switch {
	case len(found) > 1:
		return "", fmt.Errorf("%s: fits %s and %s; give more of the name", patch, found[0].name, found[1].name)
	case len(found) == 1:
		pf = found[0]
	default:
		if !strings.HasSuffix(patch, ".patch") {
			patch += ".patch"
		}
		if !patchName.MatchString(patch) {
			return "", fmt.Errorf("%s: no such patch, and not a name for a new one; want NNNN-area-what.patch in lower case", patch)
		}
		license := "Apache-2.0"
		if r.isKernel() {
			license = "GPL-2.0-only"
		}
		pf = &patchFile{
			name:   path.Join(r.hooks, patch),
			header: fmt.Appendf(nil, "Subject: %s: \n\nWhy: \nUpstream: lasting difference\nSPDX-License-Identifier: %s\n\n", r.name, license),
		}
	}
	pf.sections = append(pf.sections, section{path: file, body: fmt.Appendf(nil, "--- a/%s\n+++ b/%s\n", file, file)})
	slices.SortFunc(pf.sections, func(a, b section) int { return strings.Compare(a.path, b.path) })
	if err := writeFile(filepath.Join(p.root, filepath.FromSlash(pf.name)), pf.format()); err != nil {
		return "", err
	}
	// Owning a file changes no byte of the tree, so a tree that was not stale
	// is not stale now. The digest stays old: make has a look all the same.
	if st, err := readStamp(p.dir(r)); err == nil && st.Hooks == in.hooks {
		was := st.Digest
		if in, err = p.inputs(r); err != nil {
			return "", err
		}
		in.digest = was
		if err := writeStamp(p.dir(r), r, in); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%s owns %s; edit it in %s, then make refresh", pf.name, file, p.dir(r)), nil
}
