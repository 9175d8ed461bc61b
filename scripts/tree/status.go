// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"text/tabwriter"
)

// status tells in one line how a tree stands.
func (p *project) status(r row) (string, error) {
	in, err := p.inputs(r)
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("%-10s %s, %s, ", r.name, plural(len(in.patches), "patch"), plural(len(in.own), "own file"))
	dir := p.dir(r)
	st, err := readStamp(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(dir); err == nil {
			return text + "unknown: a folder without " + stampName, nil
		}
		return text + "not made", nil
	}
	if err != nil {
		return "", err
	}
	switch {
	case st.Pin != in.pin:
		text += "stale: made from " + st.Pin
	case st.Hooks != in.hooks:
		text += "stale: patches changed"
	case st.Digest != in.digest:
		text += "stale: own files came or went"
	default:
		text += "up to date"
	}
	idx, err := readIndex(dir)
	if err != nil {
		return "", err
	}
	src, err := p.resolveLazy(r)
	if err != nil {
		return "", err
	}
	p.lendTree(r, src, idx)
	if st.Pin != in.pin {
		src = noSource{}
	}
	sc, err := p.scan(r, src, idx, in.own)
	if err != nil {
		return "", err
	}
	if u := sc.unsaved(); len(u) > 0 {
		text += "; unsaved: " + strings.Join(u, " ")
	}
	return text, nil
}

// counts are what we carry for one tree.
type counts struct {
	patches, files, hunks, added, removed int
	ownFiles, ownLines, testLines         int
}

func (c counts) row(w io.Writer, name string) {
	fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", name, c.patches, c.files, c.hunks, c.added, c.removed, c.ownFiles, c.ownLines, c.testLines)
}

// stats counts lines of hooks and lines of our own, by tree.
func (p *project) stats(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "tree\tpatches\tfiles\thunks\tadded\tremoved\town files\town lines\tof them tests\t")
	var all counts
	for _, r := range p.rows {
		if r.own == "" && r.hooks == "" {
			continue
		}
		c, err := p.count(r)
		if err != nil {
			return err
		}
		c.row(w, r.name)
		all.patches += c.patches
		all.files += c.files
		all.hunks += c.hunks
		all.added += c.added
		all.removed += c.removed
		all.ownFiles += c.ownFiles
		all.ownLines += c.ownLines
		all.testLines += c.testLines
	}
	all.row(w, "all")
	return w.Flush()
}

func (p *project) count(r row) (c counts, err error) {
	list, err := p.patches(r)
	if err != nil {
		return c, err
	}
	for _, pf := range list {
		c.patches++
		for _, s := range pf.sections {
			c.files++
			for _, line := range strings.Split(string(s.body), "\n")[2:] {
				switch {
				case strings.HasPrefix(line, "@@ "):
					c.hunks++
				case strings.HasPrefix(line, "+"):
					c.added++
				case strings.HasPrefix(line, "-"):
					c.removed++
				}
			}
		}
	}
	own, err := p.ownFiles(r)
	if err != nil {
		return c, err
	}
	for name, file := range own {
		data, err := os.ReadFile(file)
		if err != nil {
			return c, err
		}
		lines := bytes.Count(data, []byte("\n"))
		c.ownFiles++
		c.ownLines += lines
		if strings.HasSuffix(name, "_test.go") || strings.HasPrefix(path.Base(name), "test_") ||
			strings.Contains(name, "/selftests/") || strings.Contains(name, "/testdata/") {
			c.testLines += lines
		}
	}
	return c, nil
}
