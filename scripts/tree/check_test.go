// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"
)

func TestCheckSkips(t *testing.T) {
	p := &project{root: t.TempDir()}
	assert.NilError(t, p.checkSkips())
	put := func(name, text string) {
		t.Helper()
		file := filepath.Join(p.root, name)
		assert.NilError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		assert.NilError(t, os.WriteFile(file, []byte(text), 0o644))
	}
	put("integration/place/place.go", "t.Skip(why)")
	put("integration/internal/require/require.go", "t.Skipf(why)")
	put("integration/a_test.go", "require.GPU(t)\n")
	assert.NilError(t, p.checkSkips())
	for _, call := range []string{"t.Skip(", "t.Skipf(", "tb.SkipNow("} {
		put("integration/a_test.go", "func TestA(t *testing.T) {\n\t"+call+")\n}\n")
		assert.ErrorContains(t, p.checkSkips(), "integration/a_test.go:2: skips by itself")
	}
}

func TestCheckLeaves(t *testing.T) {
	p := &project{root: t.TempDir()}
	put := func(name, text string) {
		t.Helper()
		file := filepath.Join(p.root, name)
		assert.NilError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		assert.NilError(t, os.WriteFile(file, []byte(text), 0o644))
	}
	assert.ErrorContains(t, p.checkLeaves(), leaves[0]+": no package is there")
	for _, leaf := range leaves {
		put(leaf+"/a.go", "package a\n\nimport _ \"github.com/docker/go-units\"\n")
	}
	assert.NilError(t, p.checkLeaves())
	put(leaves[1]+"/a_test.go", "package a\n\nimport (\n\t\"os\"\n\t\"github.com/docker/docker/errdefs\"\n)\n")
	assert.ErrorContains(t, p.checkLeaves(), leaves[1]+"/a_test.go imports github.com/docker/docker/errdefs")
}

func TestCheckShell(t *testing.T) {
	p := &project{root: t.TempDir()}
	assert.NilError(t, p.checkShell())
	put := func(name, text string) {
		t.Helper()
		file := filepath.Join(p.root, name)
		assert.NilError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		assert.NilError(t, os.WriteFile(file, []byte(text), 0o755))
	}
	put("scripts/a.sh", "#!/bin/bash\nset -eu\nrm -rf \"${1:?}\"\n")
	put("scripts/README", "rm -rf $1\n")
	assert.NilError(t, p.checkShell())
	put(".ci/run", "#!/bin/bash\nrm -rf $1\n")
	assert.ErrorContains(t, p.checkShell(), "SC2086")
}
