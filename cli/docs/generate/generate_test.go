// SPDX-License-Identifier: Apache-2.0

//go:build docsgen

package main

import (
	"io"
	"log"
	"os"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// TestReferenceInSync fails when a flag was added or changed and the pages in
// docs/reference/commandline were not generated again.
//
// It needs "-tags docsgen" and no daemon.
func TestReferenceInSync(t *testing.T) {
	const source = "../reference/commandline"

	// These change what is shown as a default.
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	t.Setenv("DOCKER_CONTENT_TRUST", "")
	t.Setenv("DOCKER_DEFAULT_PLATFORM", "")

	log.SetOutput(io.Discard)
	defer log.SetOutput(os.Stderr)

	target := t.TempDir()
	assert.NilError(t, gen(&options{source: source, target: target, formats: []string{"md"}}))

	pages, err := filepath.Glob(filepath.Join(target, "*.md"))
	assert.NilError(t, err)
	assert.Assert(t, len(pages) > 100, "only %d pages were generated", len(pages))
	for _, page := range pages {
		// Its defaults name the home directory of whoever generated it.
		if filepath.Base(page) == "docker.md" {
			continue
		}
		want, err := os.ReadFile(page)
		assert.NilError(t, err)
		got, err := os.ReadFile(filepath.Join(source, filepath.Base(page)))
		assert.NilError(t, err)
		assert.Check(t, is.Equal(string(got), string(want)), filepath.Base(page))
	}
}
