// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"gotest.tools/v3/assert"
)

// trainTable has one own folder for two trains; the second has other paths and imports.
const trainTable = `
a | fake | own own/1 | patches/t/1 | train 1
b | fake | own own/2 | patches/t/2 | train 2; place old new/place; import x.org/a/old x.org/b/new/place; import x.org/a x.org/b
`

const sharedFile = `package old

import (
	"fmt"

	y "x.org/a/old/y"
	"x.org/a/z"
)

var _ = fmt.Sprint(y.X, z.X, "x.org/a/old")
`

func trainProject(t *testing.T) *fake {
	t.Helper()
	f := newFake(t, "")
	f.write(t, "patches/trees", trainTable)
	f.write(t, "patches/README.md", "")
	f.write(t, "own/old/f.go", sharedFile)
	f.write(t, "own/1/train.go", "package one\n")
	f.write(t, "own/2/train.go", "package two\n")
	return f
}

func (f *fake) write(t *testing.T, name, text string) {
	t.Helper()
	full := filepath.Join(f.root, name)
	assert.NilError(t, os.MkdirAll(filepath.Dir(full), 0o755))
	assert.NilError(t, os.WriteFile(full, []byte(text), 0o644))
}

func (f *fake) read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(f.root, name))
	assert.NilError(t, err)
	return string(data)
}

func (f *fake) make(t *testing.T) (*project, []string, error) {
	t.Helper()
	p, err := f.open()
	assert.NilError(t, err)
	var out []string
	for _, r := range p.rows {
		text, err := p.makeTree(r, false)
		if err != nil {
			return p, out, err
		}
		out = append(out, text)
	}
	return p, out, nil
}

func roundOf(t *testing.T, p *project, r row) error {
	t.Helper()
	scratch := *p
	scratch.src = t.TempDir()
	return scratch.checkRound(r)
}

func TestTrains(t *testing.T) {
	f := trainProject(t)
	p, _, err := f.make(t)
	assert.NilError(t, err)
	const copied = ".build/src/b/new/place/f.go"
	assert.Equal(t, f.read(t, ".build/src/a/old/f.go"), sharedFile)
	assert.Equal(t, f.read(t, copied), `package old

import (
	"fmt"

	y "x.org/b/new/place/y"
	"x.org/b/z"
)

var _ = fmt.Sprint(y.X, z.X, "x.org/a/old")
`)
	assert.Equal(t, f.read(t, ".build/src/a/train.go"), "package one\n")
	assert.Equal(t, f.read(t, ".build/src/b/train.go"), "package two\n")
	for _, r := range p.rows {
		assert.NilError(t, roundOf(t, p, r), r.name)
	}
	_, out, err := f.make(t)
	assert.NilError(t, err)
	assert.DeepEqual(t, out, []string{"a: up to date", "b: up to date"})

	// An edit of ours comes into the copy, and one of the copy back to ours.
	f.write(t, "own/old/f.go", sharedFile+"// ours\n")
	_, out, err = f.make(t)
	assert.NilError(t, err)
	assert.Equal(t, out[1], "b: 1 own file written")
	f.write(t, copied, f.read(t, copied)+"// theirs\n")
	p, _, err = f.make(t)
	assert.NilError(t, err)
	_, err = p.refresh(p.rows[1], false)
	assert.NilError(t, err)
	assert.Equal(t, f.read(t, "own/old/f.go"), sharedFile+"// ours\n// theirs\n")
	f.write(t, ".build/src/b/new/place/g.go", "package old\n\nimport _ \"x.org/b/new/place/y\"\n")
	_, err = p.refresh(p.rows[1], false)
	assert.NilError(t, err)
	assert.Equal(t, f.read(t, "own/old/g.go"), "package old\n\nimport _ \"x.org/a/old/y\"\n")

	// Both changed: neither is overwritten.
	f.write(t, copied, f.read(t, copied)+"// more\n")
	f.write(t, "own/old/f.go", sharedFile)
	_, _, err = f.make(t)
	assert.ErrorContains(t, err, "changed, both")
	_, err = p.refresh(p.rows[1], false)
	assert.ErrorContains(t, err, "changed too: keep one of them")
}

func TestAnImportOfTheOtherTrain(t *testing.T) {
	f := trainProject(t)
	f.write(t, "own/old/f.go", "package old\n\nimport _ \"x.org/b/new/place/y\"\n")
	p, _, err := f.make(t)
	assert.NilError(t, err)
	assert.NilError(t, roundOf(t, p, p.rows[0]))
	assert.ErrorContains(t, roundOf(t, p, p.rows[1]), "not the same after copying it into b and back")
}

func TestTwoImportsForOne(t *testing.T) {
	f := trainProject(t)
	f.write(t, "patches/trees", trainTable+"c | fake | own | - | train 3; import x.org/a x.org/c; import x.org/b x.org/c\n")
	_, err := f.open()
	assert.ErrorContains(t, err, "one of them stands there before")
}

func TestHooksThatDiffer(t *testing.T) {
	f := trainProject(t)
	hook := func(train, file, line string) {
		f.write(t, "patches/t/"+train+"/0001-x.patch", "--- a/"+file+"\n+++ b/"+file+"\n@@ -1,2 +1,3 @@\n one\n+"+line+"\n two\n")
	}
	p, err := f.open()
	assert.NilError(t, err)
	hook("1", "old/u.go", `import "x.org/a/z"`)
	hook("2", "new/place/u.go", `import "x.org/b/z"`)
	assert.NilError(t, p.checkDiffer())
	hook("2", "new/place/u.go", `import "x.org/b/other"`)
	err = p.checkDiffer()
	assert.ErrorContains(t, err, "0001-x.patch own/old/u.go: the hooks of the trains differ; carry the change over")
	sum := regexpFind(t, `u\.go \| ([0-9a-f]{12}) \| REASON`, err.Error())
	f.write(t, "patches/differ", "0001-x.patch own/old/u.go | "+sum+" | another package there\n")
	assert.NilError(t, p.checkDiffer())
	hook("1", "old/u.go", "third")
	assert.ErrorContains(t, p.checkDiffer(), "in another way than patches/differ says")
	hook("2", "new/place/u.go", "third")
	assert.ErrorContains(t, p.checkDiffer(), "do not differ there: take the line out")
	f.write(t, "patches/differ", "0001-x.patch own/old/u.go | "+sum+" |\n")
	assert.ErrorContains(t, p.checkDiffer(), "patches/differ:1: want")
}

func regexpFind(t *testing.T, expr, text string) string {
	t.Helper()
	m := regexp.MustCompile(expr).FindStringSubmatch(text)
	assert.Assert(t, m != nil, text)
	return m[1]
}

// A tree from a checkout says so, with its hash, in what its programs report.
func TestFolders(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		full := filepath.Join(dir, name)
		assert.NilError(t, os.MkdirAll(filepath.Dir(full), 0o755))
		assert.NilError(t, os.WriteFile(full, []byte(text), 0o644))
	}
	put("cmd/x.go", "package x\n")
	put("VERSION", "30.0.0-dev\n")
	put(".git/HEAD", "x")
	t.Setenv("CLI", dir)
	f := newFake(t, "")
	f.write(t, "patches/trees", "cli | fake 1 h1:x | - | patches/t | -\n")
	p, err := openProject(f.root)
	assert.NilError(t, err)
	pin, err := p.pin(p.rows[0])
	assert.NilError(t, err)
	release, err := p.releaseOf(p.rows[0], pin)
	assert.NilError(t, err)
	assert.Equal(t, release, "30.0.0-dev-folder."+sumOf([]byte(pin))[:12])
	put(".git/HEAD", "y")
	same, err := p.pin(p.rows[0])
	assert.NilError(t, err)
	assert.Equal(t, same, pin)
	put("cmd/x.go", "package y\n")
	other, err := p.pin(p.rows[0])
	assert.NilError(t, err)
	assert.Assert(t, other != pin)
	src, err := p.resolve(p.rows[0])
	assert.NilError(t, err)
	to := t.TempDir()
	assert.NilError(t, src.unpack(to, func(string) bool { return false }))
	assert.DeepEqual(t, readAll(t, to), map[string]string{"cmd/x.go": "package y\n", "VERSION": "30.0.0-dev\n"})
}
