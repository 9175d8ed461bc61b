// SPDX-License-Identifier: Apache-2.0

// Package docs tests that the documentation agrees with the repository.
package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../..", name))
	assert.NilError(t, err)
	return string(data)
}

// The flags of the table of limits, and what is no limit.
var flagLine = regexp.MustCompile(`Flag: "([a-z-]+)", Kind:|flags\.Var\(&o\.[a-zA-Z]+, "([a-z-]+)"`)

// A flag that is added must be described, one that goes must go there too.
func TestEveryFlagIsInCLI(t *testing.T) {
	flags := flagLine.FindAllStringSubmatch(read(t, "moby/api/types/container/resource_table.go")+read(t, "cli/cli/command/container/limits.go"), -1)
	assert.Assert(t, len(flags) >= 11, "only %d flags found", len(flags))
	known := map[string]bool{}
	page := read(t, "docs/cli.md")
	table := page[:strings.Index(page, "\n## ")]
	for _, f := range flags {
		name := f[1] + f[2]
		known[name] = true
		assert.Assert(t, strings.Contains(table, "`--"+name+"`"), "docs/cli.md does not describe --%s", name)
	}
	for _, f := range regexp.MustCompile("`--([a-z-]+)`").FindAllStringSubmatch(table, -1) {
		assert.Assert(t, known[f[1]], "docs/cli.md describes --%s, which the table of limits does not have", f[1])
	}
}

// Each session of the page was printed by the script, and each of the script's
// is on the page.
func TestSessionsAreThere(t *testing.T) {
	page, script := read(t, "docs/cli.md"), read(t, "scripts/docs/session.sh")
	names := func(re, text string) (out []string) {
		for _, m := range regexp.MustCompile(re).FindAllStringSubmatch(text, -1) {
			out = append(out, m[1])
		}
		return out
	}
	assert.DeepEqual(t, names(`<!-- session ([a-z]+) -->`, page), names(`(?m)^part ([a-z]+)$`, script))
	if filled := strings.Count(page, "-->\n```console\n$ "); filled > 0 {
		assert.Equal(t, filled, strings.Count(page, "<!-- session "), "an empty session: run make docs-cli")
	}
}

var link = regexp.MustCompile(`\]\(([^)#: ]+)(#[^)]*)?\)`)

// A relative link must lead to a file.
func TestLinks(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	assert.NilError(t, err)
	for _, page := range append(pages, "../../README.md", "../../CHANGELOG.md", "../../CONTRIBUTING.md", "../../patches/README.md") {
		data, err := os.ReadFile(page)
		assert.NilError(t, err)
		for _, m := range link.FindAllStringSubmatch(string(data), -1) {
			_, err := os.Stat(filepath.Join(filepath.Dir(page), m[1]))
			assert.NilError(t, err, "%s: %s", page, m[1])
		}
	}
}
