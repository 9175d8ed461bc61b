// SPDX-License-Identifier: Apache-2.0

//go:build manpages

package main

import (
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// TestGenerate makes the man pages and looks for what is ours in them.
//
// It needs "-tags manpages" and no daemon.
func TestGenerate(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	log.SetOutput(io.Discard)
	defer log.SetOutput(os.Stderr)

	target := t.TempDir()
	assert.NilError(t, gen(&options{source: "src", target: target}))
	for page, words := range map[string][]string{
		"docker-modresources.1":           {"--gpu-memory", "--gpu-priority", "--resources-file", "--dry-run"},
		"docker-container-modresources.1": {"--gpu-memory", "--gpu-priority", "--resources-file", "--dry-run"},
		"docker-update.1":                 {"--gpu-memory", "--gpu-priority", "--resources-file"},
		"docker-container-run.1":          {"--gpu-memory", "--gpu-priority", "--resources-file"},
		"docker-container-create.1":       {"--gpu-memory", "--gpu-priority", "--resources-file"},
		"docker-container-stats.1":        {".GPUMemUsage", ".GPUMemPerc", ".GPUPriority"},
	} {
		text, err := os.ReadFile(filepath.Join(target, page))
		assert.NilError(t, err)
		// roff may escape a hyphen.
		plain := strings.ReplaceAll(string(text), `\-`, "-")
		for _, word := range words {
			assert.Check(t, is.Contains(plain, word), page)
		}
	}
}
