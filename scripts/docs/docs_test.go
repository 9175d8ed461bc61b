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

// A row of the table of limits that has a kind.
var limitRow = regexp.MustCompile(`(?s)Flag: "([a-z-]+)", Kind: .*?Help: +"([^"]*)"`)

// The page's table of flags is made of the table of limits: UPDATE=1 writes it.
func TestFlagsOfCLI(t *testing.T) {
	const begin, end = "<!-- flags: made by UPDATE=1 go test ./scripts/docs -->\n", "\nA flag that is not given"
	rows := limitRow.FindAllStringSubmatch(read(t, "moby/api/types/container/resource_table.go"), -1)
	assert.Assert(t, len(rows) >= 12, "only %d flags found", len(rows))
	table := "\n| flag | what it does |\n|---|---|\n"
	for _, r := range rows {
		table += "| `--" + r[1] + "` | " + r[2] + " |\n"
	}
	file := regexp.MustCompile(`flags\.Var\(&o\.file, "([a-z-]+)", "([^"]*)"`).FindStringSubmatch(read(t, "cli/cli/command/container/limits.go"))
	assert.Assert(t, file != nil)
	table += "| `--" + file[1] + "` | " + file[2] + " |\n"

	page := read(t, "docs/cli.md")
	before, rest, ok := strings.Cut(page, begin)
	assert.Assert(t, ok)
	_, after, ok := strings.Cut(rest, end)
	assert.Assert(t, ok)
	want := before + begin + table + end + after
	if os.Getenv("UPDATE") != "" {
		assert.NilError(t, os.WriteFile("../../docs/cli.md", []byte(want), 0o644))
		return
	}
	assert.Equal(t, page, want)
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

// The README's table is written by hand, as it says what a limit means in the kernel;
// it leaves none out.
func TestREADMEHasEachLimit(t *testing.T) {
	page := read(t, "README.md")
	for _, r := range limitRow.FindAllStringSubmatch(read(t, "moby/api/types/container/resource_table.go"), -1) {
		assert.Check(t, strings.Contains(page, "`--"+r[1]+"`"), "README.md does not name --%s", r[1])
	}
}
