// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// commit is one patch of an exported series. In files, a nil slice stands for
// "not there"; old and new never both do.
type commit struct {
	name    string // of the file, without number and ending
	subject string
	body    string
	files   []change
}

type change struct {
	path     string
	old, new []byte
}

// author is who and when the mails of a series come from.
type author struct {
	name string // NAME <MAIL>
	date time.Time
}

// headAuthor takes both from our last commit, so that one state of the
// repository gives the same bytes each time.
func (p *project) headAuthor() (author, error) {
	out, err := p.run("git", "log", "-1", "--format=%an <%ae>%n%aI")
	if err != nil {
		return author{}, fmt.Errorf("who to name in the series: git log: %w", err)
	}
	name, date, _ := strings.Cut(out, "\n")
	when, err := time.Parse(time.RFC3339, date)
	return author{name, when}, err
}

// series turns the patches and folders of a tree into commits on the pristine
// upstream: what only our way of building needs, our files, then the hooks.
func (p *project) series(r row, src source, pl *plan) ([]commit, error) {
	var out []commit
	prepared, err := r.prepared(src)
	if err != nil {
		return nil, err
	}
	build := commit{
		name:    "build-beside-the-other-trees",
		subject: "build: beside the other patched trees",
		body: "Only for building as gpu-cgroup does: the tree as a module of its own, with\n" +
			"the other patched trees in place of released modules and no vendor folder.\n" +
			"Leave this one out to build in another way, or to send the others upstream.\n",
	}
	for _, name := range sortedKeys(prepared) {
		old, err := src.read(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		build.files = append(build.files, change{name, old, prepared[name]})
	}
	dropped, err := r.dropped(src)
	if err != nil {
		return nil, err
	}
	for _, name := range dropped {
		old, err := src.read(name)
		if err != nil {
			return nil, err
		}
		build.files = append(build.files, change{name, old, nil})
	}
	own := commit{
		name:    "gpu-cgroup-new-files",
		subject: r.name + ": new files of gpu-cgroup",
		body:    "The code itself; the commits that follow call it from upstream's files. It may\nnot compile before them.\n",
	}
	for _, name := range sortedKeys(pl.in.own) {
		data, err := p.readOwn(r, pl.in.own[name])
		if err != nil {
			return nil, err
		}
		own.files = append(own.files, change{name, nil, notNil(data)})
	}
	for _, c := range []commit{build, own} {
		if len(c.files) > 0 {
			out = append(out, c)
		}
	}
	for _, pf := range pl.in.patches {
		c := commit{name: strings.TrimSuffix(path.Base(pf.name), ".patch")[5:]}
		c.subject, c.body = splitHeader(pf.header)
		for _, s := range pf.sections {
			if old, new := pl.base[s.path], pl.made[s.path]; !bytes.Equal(old, new) {
				c.files = append(c.files, change{s.path, old, new})
			}
		}
		if len(c.files) > 0 {
			out = append(out, c)
		}
	}
	made := commit{
		name:    "texts-of-the-limits",
		subject: r.name + ": texts of the limits",
		body:    "Reference, completion and the like, made from the table of limits.\n",
	}
	for _, t := range pl.in.texts {
		if old, new := pl.base[t.path], pl.made[t.path]; !bytes.Equal(old, new) {
			made.files = append(made.files, change{t.path, old, new})
		}
	}
	slices.SortFunc(made.files, func(a, b change) int { return strings.Compare(a.path, b.path) })
	if len(made.files) > 0 {
		out = append(out, made)
	}
	return out, nil
}

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// dropped lists the upstream files that prepare leaves out of the tree.
func (r row) dropped(src source) ([]string, error) {
	var dirs, out []string
	for _, s := range r.prepare {
		if s.verb == "drop" {
			dirs = append(dirs, s.args[0])
		}
	}
	if dirs == nil {
		return nil, nil
	}
	d, ok := src.(*dirSource)
	if !ok {
		return nil, fmt.Errorf("%s: prepare drops folders, which export knows only of modules", r.name)
	}
	for _, dir := range dirs {
		err := filepath.WalkDir(d.path(dir), func(name string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || e.IsDir() {
				return err
			}
			rel, err := filepath.Rel(d.dir, name)
			out = append(out, filepath.ToSlash(rel))
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// splitHeader parts a patch's header into the subject and all else.
func splitHeader(header []byte) (subject, body string) {
	var rest []string
	for line := range strings.SplitSeq(string(header), "\n") {
		if s, ok := strings.CutPrefix(line, "Subject:"); ok && subject == "" {
			subject = strings.TrimSpace(s)
			continue
		}
		rest = append(rest, line)
	}
	return subject, strings.Trim(strings.Join(rest, "\n"), "\n") + "\n"
}

// gitDiff writes one file's change as git does, with three lines of context.
func gitDiff(c change) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "diff --git a/%s b/%s\n", c.path, c.path)
	from, to := "a/"+c.path, "b/"+c.path
	switch {
	case c.old == nil:
		b.WriteString("new file mode 100644\n")
		from = "/dev/null"
	case c.new == nil:
		b.WriteString("deleted file mode 100644\n")
		to = "/dev/null"
	}
	body, err := unified(from, to, c.old, c.new, 3)
	if err != nil {
		return nil, err
	}
	if len(body) == 0 { // an empty file: git wants the hashes to know
		b.WriteString("index 0000000..e69de29\n")
	}
	b.Write(body)
	return b.Bytes(), nil
}

// mail formats one commit as git format-patch does.
func (c commit) mail(who author, n, of int) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "From %040d Mon Sep 17 00:00:00 2001\n", 0)
	fmt.Fprintf(&b, "From: %s\nDate: %s\nSubject: [PATCH %d/%d] %s\n\n%s---\n\n", who.name, who.date.Format(time.RFC1123Z), n, of, c.subject, c.body)
	for _, f := range c.files {
		d, err := gitDiff(f)
		if err != nil {
			return nil, err
		}
		b.Write(d)
	}
	b.WriteString("-- \ngpu-cgroup\n\n")
	return b.Bytes(), nil
}

// export writes the series of a tree to dir/TREE, replacing what export wrote
// there before, after it has proven that the series gives what make tree makes.
func (p *project) export(r row, dir string, who author) (string, error) {
	in, err := p.inputs(r)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(p.dir(r)); err == nil {
		if err := p.checkSaved(r); err != nil {
			return "", err
		}
	}
	src, err := p.resolve(r)
	if err != nil {
		return "", err
	}
	pl, err := p.plan(r, src, in)
	if err != nil {
		return "", err
	}
	commits, err := p.series(r, src, pl)
	if err != nil {
		return "", err
	}
	mails := map[string][]byte{}
	var order []string
	for i, c := range commits {
		name := fmt.Sprintf("%04d-%s.patch", i+1, c.name)
		if mails[name], err = c.mail(who, i+1, len(commits)); err != nil {
			return "", err
		}
		order = append(order, name)
	}
	to := filepath.Join(dir, r.name)
	old, err := os.ReadDir(to)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	for _, e := range old {
		if !patchName.MatchString(e.Name()) && e.Name() != "series" && e.Name() != "base" {
			return "", fmt.Errorf("%s holds %s, which export did not write: give another folder", to, e.Name())
		}
		if err := os.Remove(filepath.Join(to, e.Name())); err != nil {
			return "", err
		}
	}
	for name, data := range mails {
		if err := writeFile(filepath.Join(to, name), data); err != nil {
			return "", err
		}
	}
	// As quilt and Debian want it; and what the series applies to.
	if err := writeFile(filepath.Join(to, "series"), []byte(strings.Join(order, "\n")+"\n")); err != nil {
		return "", err
	}
	if err := writeFile(filepath.Join(to, "base"), []byte(in.pin+"\n")); err != nil {
		return "", err
	}
	whole, err := p.proveSeries(r, src, commits, to, order)
	if err != nil {
		return "", fmt.Errorf("%s: the series does not give the tree: %w", r.name, err)
	}
	scope := "the files it touches equal"
	if whole {
		scope = "all files equal"
	}
	return fmt.Sprintf("%s: %s in %s; applied by git am and by patch -p1, %s .build/src/%s", r.name, plural(len(order), "patch"), to, scope, r.name), nil
}

var gitEnv = []string{"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "LC_ALL=C", "HOME=/nonexistent",
	"GIT_AUTHOR_NAME=tree", "GIT_AUTHOR_EMAIL=tree@localhost", "GIT_COMMITTER_NAME=tree", "GIT_COMMITTER_EMAIL=tree@localhost"}

// proveSeries applies a series to the pristine upstream in both ways and
// compares with what the plan says. For the kernel it takes only the files
// that the series names; whole tells when it took all.
func (p *project) proveSeries(r row, src source, commits []commit, dir string, order []string) (whole bool, err error) {
	want := map[string][]byte{} // nil: must be gone
	first := map[string][]byte{}
	for _, c := range commits {
		for _, f := range c.files {
			if _, ok := first[f.path]; !ok {
				first[f.path] = f.old
			}
			want[f.path] = f.new
		}
	}
	whole = !r.isKernel()
	tmp, err := os.MkdirTemp("", "tree-export-")
	if err != nil {
		return whole, err
	}
	defer os.RemoveAll(tmp)
	for _, way := range []string{"am", "patch"} {
		at := filepath.Join(tmp, way)
		if err := os.Mkdir(at, 0o755); err != nil {
			return whole, err
		}
		if whole {
			if err := src.unpack(at, func(string) bool { return false }); err != nil {
				return whole, err
			}
		} else {
			for name, data := range first {
				if data == nil {
					continue
				}
				if err := overwrite(filepath.Join(at, filepath.FromSlash(name)), data); err != nil {
					return whole, err
				}
			}
		}
		do := func(stdin []byte, name string, args ...string) error {
			cmd := exec.Command(name, args...)
			cmd.Dir = at
			cmd.Env = append(os.Environ(), gitEnv...)
			cmd.Stdin = bytes.NewReader(stdin)
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, indent(string(out)))
			}
			return nil
		}
		before, err := contents(at)
		if err != nil {
			return whole, err
		}
		if way == "am" {
			if err := do(nil, "git", "init", "-q"); err != nil {
				return whole, err
			}
			if err := errors.Join(do(nil, "git", "add", "-A", "-f", "."), do(nil, "git", "commit", "-q", "--allow-empty", "-m", "pristine")); err != nil {
				return whole, err
			}
		}
		for _, name := range order {
			file, err := filepath.Abs(filepath.Join(dir, name))
			if err != nil {
				return whole, err
			}
			if way == "am" {
				err = do(nil, "git", "am", "-q", file)
			} else {
				err = do(nil, "patch", "-p1", "-F0", "-s", "--no-backup-if-mismatch", "-i", file)
			}
			if err != nil {
				return whole, err
			}
		}
		if err := os.RemoveAll(filepath.Join(at, ".git")); err != nil {
			return whole, err
		}
		after, err := contents(at)
		if err != nil {
			return whole, err
		}
		for name, data := range want {
			if data == nil {
				delete(before, name)
			} else {
				before[name] = sumOf(data)
			}
		}
		if err := sameFiles(after, before); err != nil {
			return whole, fmt.Errorf("by %s: %w", way, err)
		}
		if _, err := os.Stat(p.dir(r)); err != nil || !whole {
			continue
		}
		made, err := contents(p.dir(r))
		if err != nil {
			return whole, err
		}
		for name := range made {
			if _, ok := after[name]; !ok { // build output, the tool's own notes
				delete(made, name)
			}
		}
		if err := sameFiles(after, made); err != nil {
			return whole, fmt.Errorf("by %s, against %s: %w", way, p.dir(r), err)
		}
	}
	return whole, nil
}

// contents returns the hash of each file below dir; links count as their target.
func contents(dir string) (map[string]string, error) {
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		out[filepath.ToSlash(rel)], err = fileSum(name)
		return err
	})
	return out, err
}

func sameFiles(got, want map[string]string) error {
	var diff []string
	for name, sum := range want {
		switch g, ok := got[name]; {
		case !ok:
			diff = append(diff, name+" is missing")
		case g != sum:
			diff = append(diff, name+" differs")
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			diff = append(diff, name+" should not be there")
		}
	}
	if diff == nil {
		return nil
	}
	slices.Sort(diff)
	return errors.New(strings.Join(diff[:min(len(diff), 10)], ", "))
}

var conflictMark = regexp.MustCompile(`(?m)^(<<<<<<<|>>>>>>>) `)
