// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// plan is how a tree has to look where it differs from upstream.
type plan struct {
	in    *inputs
	base  map[string][]byte // upstream files that hooks change, after prepare
	made  map[string][]byte // the same and the prepared files, after the hooks
	moved []string          // hunks that landed at another line than theirs
}

func (p *project) plan(r row, src source, in *inputs) (*plan, error) {
	pl := &plan{in: in, base: map[string][]byte{}, made: map[string][]byte{}}
	var owned []string
	for _, pf := range in.patches {
		for _, s := range pf.sections {
			owned = append(owned, s.path)
		}
	}
	for _, t := range in.texts {
		if !t.isNew() {
			owned = append(owned, t.path)
		}
	}
	if err := src.fetch(slices.Concat(owned, sortedKeys(in.own))); err != nil {
		return nil, err
	}
	prepared, err := r.prepared(src)
	if err != nil {
		return nil, err
	}
	var clash []string
	for _, name := range sortedKeys(in.own) {
		_, made := prepared[name]
		switch {
		case r.drops(name):
			clash = append(clash, fmt.Sprintf("%s: prepare leaves that folder out of the tree %s", p.ownName(in, name), r.name))
		case made || src.exists(name):
			clash = append(clash, fmt.Sprintf("%s: exists upstream; our folders hold new files only: rename it, or hook the upstream file by a patch", p.ownName(in, name)))
		}
	}
	if clash != nil {
		return nil, errors.New(strings.Join(clash, "\n"))
	}
	read := func(name string) ([]byte, error) {
		if data, ok := prepared[name]; ok {
			return data, nil
		}
		if r.drops(name) {
			return nil, fmt.Errorf("%s: prepare leaves it out of the tree", name)
		}
		data, err := src.read(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: no such file upstream; a new file goes into %s/, not into a patch", name, r.own)
		}
		return data, err
	}
	for name, data := range prepared {
		pl.base[name], pl.made[name] = data, data
	}
	var errs []error
	for _, pf := range in.patches {
		out, moved, err := pf.apply(read)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, m := range moved {
			pl.moved = append(pl.moved, pf.name+": "+m)
		}
		for name, data := range out {
			pl.made[name] = data
			if pl.base[name], err = read(name); err != nil {
				return nil, err
			}
		}
	}
	for _, t := range in.texts {
		_, hooked := pl.made[t.path]
		_, ours := in.own[t.path]
		if hooked || ours || t.isNew() && src.exists(t.path) {
			errs = append(errs, fmt.Errorf("%s: %s is made by prepare, a patch, a file of ours or upstream, too", t.name, t.path))
			continue
		}
		var base []byte
		if !t.isNew() {
			if base, err = read(t.path); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", t.name, err))
				continue
			}
			pl.base[t.path] = base
		}
		out, err := t.apply(base, in.fields, read)
		if err != nil && p.lenient {
			p.log("%v", err)
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		pl.made[t.path] = out
	}
	return pl, errors.Join(errs...)
}

// ownName returns our file for a path in the tree, below the root.
func (p *project) ownName(in *inputs, name string) string {
	rel, err := filepath.Rel(p.root, in.own[name])
	if err != nil {
		return in.own[name]
	}
	return filepath.ToSlash(rel)
}

// makeTree brings a tree to what its inputs say and tells what it did. Where
// an older tree is there, it writes only the files that differ, so that the
// times of all others stay and builds redo little.
func (p *project) makeTree(r row, discard bool) (string, error) {
	in, err := p.inputs(r)
	if err != nil {
		return "", err
	}
	dir := p.dir(r)
	st, err := readStamp(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if list, err := os.ReadDir(dir); err == nil && len(list) > 0 {
			return "", fmt.Errorf("%s: %s exists but has no %s, so it is not known what is in it; delete the folder and run make tree again", r.name, dir, stampName)
		}
		return p.makeFresh(r, in)
	}
	if err != nil {
		return "", err
	}
	if !discard && st.Digest == in.digest && st.Hooks == in.hooks {
		fixed := 0
		for name, ours := range in.own {
			if p.rewrites(r, ours) {
				continue
			}
			if _, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
				if err := link(dir, name, ours); err != nil {
					return "", err
				}
				fixed++
			}
		}
		if len(r.imports) > 0 {
			idx, err := readIndex(dir)
			if err != nil {
				return "", err
			}
			n, err := p.setCopies(r, idx, in.own, false)
			if err != nil {
				return "", err
			}
			if n > 0 {
				if err := writeIndex(dir, idx); err != nil {
					return "", err
				}
			}
			fixed += n
		}
		if fixed > 0 {
			return fmt.Sprintf("%s: %s written", r.name, plural(fixed, "own file")), nil
		}
		return r.name + ": up to date", nil
	}
	return p.update(r, st, in, discard)
}

func (p *project) makeFresh(r row, in *inputs) (string, error) {
	src, err := p.resolve(r)
	if err != nil {
		return "", err
	}
	dir := p.dir(r)
	tmp := filepath.Join(p.src, "."+r.name+".new")
	if err := os.RemoveAll(tmp); err != nil {
		return "", err
	}
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := src.unpack(tmp, r.drops); err != nil {
		return "", fmt.Errorf("%s: %w", r.name, err)
	}
	if d, ok := src.(*debSource); ok {
		d.tree, d.clean = tmp, func(string) bool { return true }
	}
	pl, err := p.plan(r, src, in)
	if err != nil {
		return "", err
	}
	for _, name := range sortedKeys(pl.made) {
		if err := overwrite(filepath.Join(tmp, filepath.FromSlash(name)), pl.made[name]); err != nil {
			return "", err
		}
	}
	idx := index{}
	err = walkTree(tmp, func(name string, info fs.FileInfo) {
		e := entry{kind: kindCopy}
		if data, ok := pl.made[name]; ok {
			e.kind, e.sum = kindMade, sumOf(data)
		}
		e.stat(info)
		idx[name] = e
	})
	if err != nil {
		return "", err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	// The links are relative: they are made for the place the tree goes to.
	for _, name := range sortedKeys(in.own) {
		if p.rewrites(r, in.own[name]) {
			if idx[name], err = p.writeCopy(r, tmp, name, in.own[name]); err != nil {
				return "", err
			}
			continue
		}
		if err := linkFrom(tmp, dir, name, in.own[name]); err != nil {
			return "", err
		}
		idx[name] = entry{kind: kindLink}
	}
	if err := writeIndex(tmp, idx); err != nil {
		return "", err
	}
	if err := writeStamp(tmp, r, in); err != nil {
		return "", err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return "", err
	}
	p.warnMoved(pl)
	return fmt.Sprintf("%s: made, %s, %s, %s", r.name, plural(len(idx), "file"), plural(len(in.patches), "patch"), plural(len(in.own), "link")), nil
}

func (p *project) warnMoved(pl *plan) {
	for _, m := range pl.moved {
		p.log("%s; with one line of context that can be the wrong place: look at it, then tree refresh --rewrite", m)
	}
}

func (p *project) update(r row, st *stamp, in *inputs, discard bool) (string, error) {
	dir := p.dir(r)
	src, err := p.resolve(r)
	if err != nil {
		return "", err
	}
	idx, err := readIndex(dir)
	if err != nil {
		return "", err
	}
	p.lendTree(r, src, idx)
	var sc *scanned
	if st.Pin == in.pin {
		if sc, err = p.scan(r, src, idx, in.own); err != nil {
			return "", err
		}
	} else {
		// The old upstream may be gone, so contents cannot be compared here.
		if sc, err = p.scan(r, noSource{}, idx, in.own); err != nil {
			return "", err
		}
		if u := sc.unsaved(); len(u) > 0 && !discard {
			return "", fmt.Errorf("%s: the pin changed, and the tree has unsaved edits:\n%s\nSet the old pin again and run tree refresh, or drop them by tree make --discard %s", r.name, indent(strings.Join(u, "\n")), r.name)
		}
		old := filepath.Join(p.src, "."+r.name+".old")
		if err := os.RemoveAll(old); err != nil {
			return "", err
		}
		if err := os.Rename(dir, old); err != nil {
			return "", err
		}
		text, err := p.makeFresh(r, in)
		if err != nil {
			return "", errors.Join(err, os.Rename(old, dir))
		}
		return text, os.RemoveAll(old)
	}
	pl, err := p.plan(r, src, in)
	if err != nil {
		return "", err
	}

	// What each file should hold; nil stands for "not there".
	want := map[string][]byte{}
	for name, e := range idx {
		if _, ok := pl.made[name]; e.kind == kindMade && !ok {
			if want[name], err = src.read(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
		}
	}
	for name, data := range pl.made {
		want[name] = data
	}
	if discard {
		for _, name := range slices.Concat(sc.edited, sc.missing) {
			if _, ok := want[name]; !ok {
				if want[name], err = src.read(name); err != nil {
					return "", err
				}
			}
		}
	}

	var clash, kept []string
	for _, name := range sc.unsaved() {
		if discard {
			break
		}
		now, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		ours, isOurs := in.own[name]
		data, isMade := want[name]
		switch {
		case isOurs:
			was, err := p.readOwn(r, ours)
			if err == nil && idx[name].kind == kindOwn && sumOf(was) == idx[name].sum {
				kept = append(kept, name) // only the tree's copy changed
			} else if err != nil || !bytes.Equal(was, now) {
				clash = append(clash, name)
			}
		case !isMade:
			if e, ok := idx[name]; ok && (e.kind == kindLink || e.kind == kindOwn) {
				clash = append(clash, name) // our file is gone, the edited copy is not
			} else {
				kept = append(kept, name)
			}
		case bytes.Equal(now, data) && err == nil:
		case data != nil && sumOf(data) == was(idx[name], src, name):
			kept = append(kept, name) // this file's hooks did not change: keep the edit
			delete(want, name)
		default:
			clash = append(clash, name)
		}
	}
	if len(clash) > 0 {
		return "", fmt.Errorf("%s: unsaved edits are in the way of changed patches or files:\n%s\nSave them by tree refresh %s with the patches as they were, or drop them by tree make --discard %s", r.name, indent(strings.Join(clash, "\n")), r.name, r.name)
	}

	wrote := 0
	for _, name := range sortedKeys(want) {
		full := filepath.Join(dir, filepath.FromSlash(name))
		if want[name] == nil {
			if err := removeUp(dir, full); err != nil {
				return "", err
			}
			delete(idx, name)
			wrote++
			continue
		}
		if idx[name].kind == kindLink { // a file of ours became a text: not through the link
			if err := os.Remove(full); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
		}
		now, err := os.ReadFile(full)
		if err != nil || !bytes.Equal(now, want[name]) {
			if err := overwrite(full, want[name]); err != nil {
				return "", err
			}
			wrote++
		}
		info, err := os.Lstat(full)
		if err != nil {
			return "", err
		}
		e := entry{kind: kindCopy}
		if data, ok := pl.made[name]; ok {
			e.kind, e.sum = kindMade, sumOf(data)
		}
		e.stat(info)
		idx[name] = e
	}
	if err := p.touch(dir, idx, sc.touched); err != nil {
		return "", err
	}
	links, err := p.setLinks(r, idx, in.own, discard)
	if err != nil {
		return "", err
	}
	if err := writeIndex(dir, idx); err != nil {
		return "", err
	}
	if err := writeStamp(dir, r, in); err != nil {
		return "", err
	}
	p.warnMoved(pl)
	text := fmt.Sprintf("%s: brought up to date, %s written, %s changed", r.name, plural(wrote, "file"), plural(links, "link"))
	if len(kept) > 0 {
		text += "; unsaved edits kept: " + strings.Join(kept, " ")
	}
	return text, nil
}

// was returns the hash of what the tool last put at name, or "".
func was(e entry, src source, name string) string {
	if e.sum != "" || e.kind != kindCopy {
		return e.sum
	}
	data, err := src.read(name)
	if err != nil {
		return ""
	}
	return sumOf(data)
}

// lendTree lets a kernel source take pristine files from the tree while they
// are as they were unpacked.
func (p *project) lendTree(r row, src source, idx index) {
	d, ok := src.(*debSource)
	if !ok {
		return
	}
	d.tree = p.dir(r)
	d.clean = func(name string) bool {
		e, ok := idx[name]
		if !ok || e.kind != kindCopy {
			return false
		}
		info, err := os.Lstat(filepath.Join(d.tree, filepath.FromSlash(name)))
		return err == nil && e.same(info)
	}
}

func (p *project) touch(dir string, idx index, names []string) error {
	for _, name := range names {
		info, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		e := idx[name]
		e.stat(info)
		idx[name] = e
	}
	return nil
}

// setLinks makes the links of a tree those of our files and counts changes.
func (p *project) setLinks(r row, idx index, own map[string]string, discard bool) (int, error) {
	dir := p.dir(r)
	changed := 0
	for name, e := range idx {
		if _, ok := own[name]; (e.kind == kindLink || e.kind == kindOwn) && !ok {
			if err := removeUp(dir, filepath.Join(dir, filepath.FromSlash(name))); err != nil {
				return 0, err
			}
			delete(idx, name)
			changed++
		}
	}
	copies, err := p.setCopies(r, idx, own, discard)
	if err != nil {
		return 0, err
	}
	changed += copies
	for _, name := range sortedKeys(own) {
		if p.rewrites(r, own[name]) {
			continue
		}
		did, err := relink(dir, name, own[name])
		if err != nil {
			return 0, err
		}
		if did {
			changed++
		}
		idx[name] = entry{kind: kindLink}
	}
	return changed, nil
}

// setCopies writes those copies of our files that are not what they should be, and
// leaves alone those that were edited in the tree.
func (p *project) setCopies(r row, idx index, own map[string]string, discard bool) (int, error) {
	dir := p.dir(r)
	changed := 0
	for _, name := range sortedKeys(own) {
		if !p.rewrites(r, own[name]) {
			continue
		}
		want, err := p.readOwn(r, own[name])
		if err != nil {
			return changed, err
		}
		full := filepath.Join(dir, filepath.FromSlash(name))
		e := idx[name]
		info, err := os.Lstat(full)
		if err == nil && e.kind == kindOwn && !discard {
			if e.sum == sumOf(want) && e.same(info) {
				continue
			}
			now, err := os.ReadFile(full)
			if err != nil {
				return changed, err
			}
			switch sum := sumOf(now); {
			case sum == sumOf(want):
				e.sum = sum
				e.stat(info)
				idx[name] = e
				continue
			case sum != e.sum && e.sum == sumOf(want):
				continue // an edit that refresh will save
			case sum != e.sum:
				return changed, fmt.Errorf("%s: %s and its copy in the tree changed, both: save the copy by hand, or drop it by tree make --discard %s", r.name, own[name], r.name)
			}
		}
		if idx[name], err = p.writeCopy(r, dir, name, own[name]); err != nil {
			return changed, err
		}
		changed++
	}
	return changed, nil
}

// writeCopy writes our file into the folder of a tree.
func (p *project) writeCopy(r row, dir, name, ours string) (entry, error) {
	e := entry{kind: kindOwn}
	data, err := p.readOwn(r, ours)
	if err != nil {
		return e, err
	}
	full := filepath.Join(dir, filepath.FromSlash(name))
	if err := writeFile(full, data); err != nil {
		return e, err
	}
	info, err := os.Lstat(full)
	if err != nil {
		return e, err
	}
	e.sum = sumOf(data)
	e.stat(info)
	return e, nil
}

// noSource makes scan count every file with other times as edited.
type noSource struct{ source }

func (noSource) fetch([]string) error        { return nil }
func (noSource) read(string) ([]byte, error) { return nil, fs.ErrNotExist }

// overwrite keeps the mode of a file that is there.
func overwrite(name string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o644)
}

// removeUp removes a file and the folders it leaves empty.
func removeUp(top, name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for dir := filepath.Dir(name); dir != top && os.Remove(dir) == nil; {
		dir = filepath.Dir(dir)
	}
	return nil
}

func link(dir, name, ours string) error { return linkFrom(dir, dir, name, ours) }

// linkFrom makes the link that is right once the tree is at final.
func linkFrom(dir, final, name, ours string) error {
	at := filepath.Join(final, filepath.FromSlash(name))
	target, err := filepath.Rel(filepath.Dir(at), ours)
	if err != nil {
		return err
	}
	full := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		return err
	}
	return os.Symlink(target, full)
}

// relink makes sure of a link and tells whether it had to.
func relink(dir, name, ours string) (bool, error) {
	full := filepath.Join(dir, filepath.FromSlash(name))
	a, err1 := os.Stat(full)
	b, err2 := os.Stat(ours)
	if info, err := os.Lstat(full); err == nil {
		if info.Mode()&fs.ModeSymlink != 0 && err1 == nil && err2 == nil && os.SameFile(a, b) {
			return false, nil
		}
		if err := os.Remove(full); err != nil {
			return false, err
		}
	}
	return true, link(dir, name, ours)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if strings.HasSuffix(what, "ch") {
		what += "e"
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// lock keeps two runs of the tool from writing the trees at the same time.
func (p *project) lock() (unlock func(), err error) {
	if err := os.MkdirAll(p.src, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(filepath.Dir(p.src), ".tree.lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil
}

// digest covers all that determines the trees and those they replace modules
// by: upstream, hooks, our files with their contents, and unsaved edits.
func (p *project) digest(rows []row) (string, error) {
	h := sha256.New()
	for _, r := range p.withNeeds(rows) {
		in, err := p.inputs(r)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "tree %s %s\n", r.name, in.digest)
		for _, name := range sortedKeys(in.own) {
			if strings.HasPrefix(name, "Documentation/") {
				continue // no build of a kernel reads it
			}
			sum, err := fileSum(in.own[name])
			if err != nil {
				return "", err
			}
			fmt.Fprintf(h, "own %s %s\n", sum, name)
		}
		dir := p.dir(r)
		idx, err := readIndex(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		src, err := p.resolveLazy(r)
		if err != nil {
			return "", err
		}
		p.lendTree(r, src, idx)
		sc, err := p.scan(r, src, idx, in.own)
		if err != nil {
			return "", err
		}
		for _, name := range sc.unsaved() {
			sum, err := fileSum(filepath.Join(dir, filepath.FromSlash(name)))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
			fmt.Fprintf(h, "unsaved %s %s\n", sum, name)
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}
