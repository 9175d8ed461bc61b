// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// patchFile is one file of hooks: a header for people, then one section for
// each upstream file that the patch owns.
type patchFile struct {
	name     string // below the root, with slashes
	data     []byte
	header   []byte // up to the first "--- a/"
	sections []section
}

// section is the part of a patch that concerns one file. A section without
// hunks is how "tree hook" notes that the patch owns a file not yet changed.
type section struct {
	path string
	body []byte // the "---" line up to the next section
}

func (s section) bare() bool { return !bytes.Contains(s.body, []byte("\n@@ ")) }

func parsePatch(name string, data []byte) (*patchFile, error) {
	pf := &patchFile{name: name, data: data}
	fail := func(n int, format string, args ...any) (*patchFile, error) {
		return nil, fmt.Errorf("%s:%d: %s", name, n, fmt.Sprintf(format, args...))
	}
	if len(data) > 0 && data[len(data)-1] != '\n' {
		return fail(bytes.Count(data, []byte("\n"))+1, "no newline at the end")
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	if n := len(lines); n > 0 && len(lines[n-1]) == 0 {
		lines = lines[:n-1]
	}
	var oldLeft, newLeft int // lines of the current hunk still to come
	for i := 0; i < len(lines); i++ {
		line := string(lines[i])
		last := len(pf.sections) - 1
		if oldLeft > 0 || newLeft > 0 {
			switch line[0] {
			case ' ':
				oldLeft, newLeft = oldLeft-1, newLeft-1
			case '-':
				oldLeft--
			case '+':
				newLeft--
			case '\\':
			default:
				return fail(i+1, "the hunk ends too early; its @@ line promises %d old and %d new lines more", oldLeft, newLeft)
			}
			if oldLeft < 0 || newLeft < 0 {
				return fail(i+1, "the hunk is longer than its @@ line says")
			}
			pf.sections[last].body = append(pf.sections[last].body, lines[i]...)
			continue
		}
		switch {
		case strings.HasPrefix(line, "--- a/"):
			if i+1 == len(lines) {
				return fail(i+1, "no +++ line after this one")
			}
			old := strings.TrimSuffix(strings.TrimPrefix(line, "--- a/"), "\n")
			if string(lines[i+1]) != "+++ b/"+old+"\n" {
				return fail(i+2, "want +++ b/%s, without a timestamp", old)
			}
			if old != path.Clean(old) || strings.HasPrefix(old, "../") || strings.ContainsAny(old, "\t ") {
				return fail(i+1, "bad path %q", old)
			}
			if last >= 0 && pf.sections[last].path >= old {
				return fail(i+1, "%s after %s; want files once each, in alphabetical order", old, pf.sections[last].path)
			}
			body := append(bytes.Clone(lines[i]), lines[i+1]...)
			pf.sections = append(pf.sections, section{path: old, body: body})
			i++
		case strings.HasPrefix(line, "--- "):
			return fail(i+1, "want --- a/PATH; a new file does not go into a patch but into our own folder")
		case last < 0:
			pf.header = append(pf.header, lines[i]...)
		case strings.HasPrefix(line, "@@ "):
			m := hunkLine.FindStringSubmatch(line)
			if m == nil {
				return fail(i+1, "bad hunk line %q", strings.TrimSpace(line))
			}
			oldLeft, newLeft = count(m[1]), count(m[2])
			pf.sections[last].body = append(pf.sections[last].body, lines[i]...)
		case strings.HasPrefix(line, `\`):
			pf.sections[last].body = append(pf.sections[last].body, lines[i]...)
		default:
			return fail(i+1, "unexpected line %q between hunks", strings.TrimSpace(line))
		}
	}
	if oldLeft > 0 || newLeft > 0 {
		return fail(len(lines), "the last hunk ends too early; its @@ line promises %d old and %d new lines more", oldLeft, newLeft)
	}
	if len(pf.sections) == 0 {
		return fail(len(lines), `no "--- a/PATH" line; delete the file, or let it own one with "make hook"`)
	}
	return pf, nil
}

var hunkLine = regexp.MustCompile(`^@@ -[0-9]+(?:,([0-9]+))? \+[0-9]+(?:,([0-9]+))? @@`)

func count(s string) int {
	if s == "" {
		return 1
	}
	n := 0
	fmt.Sscan(s, &n)
	return n
}

// format writes a patch from its header and sections.
func (pf *patchFile) format() []byte {
	out := bytes.Clone(pf.header)
	for _, s := range pf.sections {
		out = append(out, s.body...)
	}
	return out
}

// apply runs patch(1) on the files the patch owns and returns their new
// contents. It never accepts fuzz: with one line of context, fuzz puts hunks
// into whatever function comes first. moved holds the hunks that patch found
// at another line than theirs.
func (pf *patchFile) apply(read func(string) ([]byte, error)) (out map[string][]byte, moved []string, err error) {
	dir, err := os.MkdirTemp("", "tree-patch-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(dir)
	out = map[string][]byte{}
	var body []byte
	for _, s := range pf.sections {
		data, err := read(s.path)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", pf.name, err)
		}
		out[s.path] = data
		if s.bare() {
			continue
		}
		body = append(body, s.body...)
		name := filepath.Join(dir, filepath.FromSlash(s.path))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return nil, nil, err
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			return nil, nil, err
		}
	}
	if body == nil {
		return out, nil, nil
	}
	cmd := exec.Command("patch", "-p1", "-F0", "-f", "-r", "-", "--no-backup-if-mismatch")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PATCH_GET=0")
	cmd.Stdin = bytes.NewReader(body)
	text, err := cmd.CombinedOutput()
	if err != nil {
		if !errors.As(err, new(*exec.ExitError)) {
			return nil, nil, fmt.Errorf("patch: %w", err)
		}
		return nil, nil, fmt.Errorf("%s does not apply (no fuzz allowed):\n%s", pf.name, failures(string(text)))
	}
	moved = grep(string(text), "offset")
	for _, s := range pf.sections {
		if s.bare() {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(s.path)))
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", pf.name, err)
		}
		out[s.path] = data
	}
	return out, moved, nil
}

// failures keeps the lines of patch(1) that say which hunk of which file failed.
func failures(text string) string {
	keep := grep(text, "FAILED", "malformed", "can't find", "garbage", "Reversed", "No file to patch")
	if len(keep) == 0 {
		return indent(text)
	}
	return indent(strings.Join(keep, "\n"))
}

// grep returns the lines that hold one of the words, each with the file that
// patch(1) named before it.
func grep(text string, words ...string) []string {
	var keep []string
	file := ""
	for line := range strings.SplitSeq(text, "\n") {
		if f, ok := strings.CutPrefix(line, "patching file "); ok {
			file = f + ": "
		}
		if strings.Contains(line, "out of") {
			continue
		}
		for _, w := range words {
			if strings.Contains(line, w) {
				keep = append(keep, file+line)
				break
			}
		}
	}
	return keep
}

func indent(s string) string {
	return "  " + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n  ")
}

// diffSection returns the section that turns old into new, or no body when
// they are equal.
func diffSection(name string, old, new []byte) (section, error) {
	s := section{path: name}
	if bytes.Equal(old, new) {
		return s, nil
	}
	var err error
	s.body, err = unified("a/"+name, "b/"+name, old, new, 1)
	return s, err
}

// unified runs diff(1) and returns what it prints, nothing for equal contents.
func unified(from, to string, old, new []byte, context int) ([]byte, error) {
	dir, err := os.MkdirTemp("", "tree-diff-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "a"), old, 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "b"), new, 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command("diff", "--text", fmt.Sprintf("-U%d", context), "--label", from, "--label", to, "a", "b")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if ee := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &ee) || ee.ExitCode() != 1) {
		return nil, fmt.Errorf("diff %s %s: %v %s", from, to, err, stderr.String())
	}
	return out, nil
}
