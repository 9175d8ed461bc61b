// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func TestReadFindings(t *testing.T) {
	const stream = `{"config": {}} {"SBOM": {"modules": []}} {"osv": {"id": "GO-1"}}
{"finding": {"osv": "GO-1", "fixed_version": "v1.2.0", "trace": [{"module": "m", "version": "v1.0.0"}]}}
{"finding": {"osv": "GO-1", "fixed_version": "v1.2.0", "trace": [{"module": "m", "version": "v1.0.0", "package": "m/p"}]}}
{"finding": {"osv": "GO-2", "trace": [{"module": "stdlib", "version": "v1.26.8", "package": "net", "function": "Dial"}]}}`
	list, err := readFindings(strings.NewReader(stream), "prog")
	assert.NilError(t, err)
	assert.DeepEqual(t, nearest(list), []finding{
		{"GO-2", "prog", symbol, "stdlib", "v1.26.8", ""},
		{"GO-1", "prog", pkg, "m", "v1.0.0", "v1.2.0"},
	}, cmpFinding)

	_, err = readFindings(strings.NewReader(`{"config": {}}`), "prog")
	assert.ErrorContains(t, err, "looked at no module")
	_, err = readFindings(strings.NewReader(`{"SBOM": {}} {"find`), "prog")
	assert.ErrorContains(t, err, "unexpected EOF")
}

func TestAffects(t *testing.T) {
	const text = `{"id": "GO-1", "affected": [
		{"package": {"name": "other"}, "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}]}]},
		{"package": {"name": "m"}, "ranges": [{"type": "SEMVER", "events": [
			{"introduced": "1.1.0"}, {"fixed": "1.1.5"}, {"introduced": "2.0.0-beta.0"}, {"fixed": "2.0.0-beta.14"}]}]},
		{"package": {"name": "open"}, "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}]}]},
		{"package": {"name": "all"}}]}`
	var e entry
	assert.NilError(t, json.Unmarshal([]byte(text), &e))
	for _, tc := range []struct {
		path, version string
		affected      bool
		fixed         string
	}{
		{"m", "v1.0.9", false, ""},
		{"m", "v1.1.0", true, "v1.1.5"},
		{"m", "v1.1.4+incompatible", true, "v1.1.5"},
		{"m", "v1.1.5+incompatible", false, ""},
		{"m", "v2.0.0-beta.13", true, "v2.0.0-beta.14"},
		{"m", "v2.0.0-beta.24", false, ""},
		{"open", "v9.0.0", true, ""},
		{"all", "v0.0.1", true, ""},
		{"none", "v1.1.0", false, ""},
	} {
		affected, fixed := e.affects(tc.path, tc.version)
		assert.Check(t, affected == tc.affected && fixed == tc.fixed, "%s@%s: %v, %q", tc.path, tc.version, affected, fixed)
	}
	e.Withdrawn = "2025-03-26T18:45:50Z"
	affected, _ := e.affects("open", "v9.0.0")
	assert.Check(t, !affected)
}

const list = `# a comment
ids: GO-1 GO-2
programs: dockerd docker
until: 2026-12-31
why: nothing mends it,
  at all

ids: GO-3
programs: runc
until: 2027-01-31
why: does not build
tried: "undefined: x"
`

func TestCompare(t *testing.T) {
	file := filepath.Join(t.TempDir(), "known")
	assert.NilError(t, os.WriteFile(file, []byte(list), 0o600))
	rows, err := readKnown(file)
	assert.NilError(t, err)
	assert.Equal(t, rows[0].why, "nothing mends it, at all")
	found := []finding{
		{id: "GO-1", program: "dockerd", module: "m", version: "v1.0.0"},
		{id: "GO-2", program: "docker", module: "m", version: "v1.0.0"},
		{id: "GO-3", program: "runc", module: "n", version: "v1.0.0", fixed: "v2.0.0"},
	}
	day := time.Date(2026, 12, 31, 23, 0, 0, 0, time.UTC)
	assert.DeepEqual(t, compare(found, rows, day), []string(nil))

	// A new one; one that is mended now, without a trial.
	more := append(found, finding{id: "GO-9", program: "docker", module: "m", version: "v1.0.0", reach: symbol, fixed: "v1.1.0"})
	assert.DeepEqual(t, compare(more, rows, day), []string{"GO-9 in docker: m v1.0.0 (symbol), v1.1.0 mends it"})
	more[0].fixed = "v1.3.0"
	assert.Check(t, strings.Contains(compare(more, rows, day)[0], "does not say what came of trying it"))
	found[0].fixed = ""

	// A program that has what only another one is known to have.
	other := append(found[:2:2], finding{id: "GO-3", program: "docker", module: "n", version: "v1.0.0", fixed: "v2.0.0"})
	assert.DeepEqual(t, compare(other, rows, day), []string{
		"GO-3 in docker: n v1.0.0 (itself), v2.0.0 mends it",
		"line 8: GO-3 is not found any more", "line 8: runc is not found any more",
	})
	// Over.
	assert.DeepEqual(t, compare(found, rows, day.AddDate(0, 0, 1)), []string{"line 2: known until 2026-12-31: look again"})
}

func TestReadKnownRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "known")
	for text, want := range map[string]string{
		"ids: GO-1\nprograms: runc\nwhy: x\n":                                     "no until",
		"ids: GO-1\nprograms: runc\nuntil: soon\nwhy: x\n":                        "cannot parse",
		"ids: GO-1\nprogram: runc\n":                                              "neither",
		"programs: runc\nuntil: 2026-12-31\nwhy: x\n":                             "no ids",
		"ids: GO-1\n\nids: GO-2\nprograms: runc\nuntil: 2026-12-31\nwhy: because": "known:1:",
	} {
		assert.NilError(t, os.WriteFile(file, []byte(text), 0o600))
		_, err := readKnown(file)
		assert.Check(t, err != nil && strings.Contains(err.Error(), want), "%q: %v", text, err)
	}
}

// TestScan looks at a program whose module has no version in it: this test.
func TestScan(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"index/modules.json": `[{"path": "other", "vulns": [{"id": "GO-2"}]}, {"path": "github.com/gpu-cgroup/gpu-cgroup", "vulns": [{"id": "GO-1"}]}]`,
		"ID/GO-1.json":       `{"id": "GO-1", "affected": [{"package": {"name": "github.com/gpu-cgroup/gpu-cgroup"}, "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}, {"fixed": "0.9.0"}]}]}]}`,
	} {
		file := filepath.Join(dir, name)
		assert.NilError(t, os.MkdirAll(filepath.Dir(file), 0o700))
		assert.NilError(t, os.WriteFile(file, []byte(text), 0o600))
	}
	self, err := os.Executable()
	assert.NilError(t, err)
	c := &checker{db: dir, pins: pins{{"", "github.com/gpu-cgroup/gpu-cgroup"}: "v0.8.0"}}
	got, err := c.unversioned(self)
	assert.NilError(t, err)
	assert.DeepEqual(t, got, []finding{{"GO-1", filepath.Base(self), itself, "github.com/gpu-cgroup/gpu-cgroup", "v0.8.0", "v0.9.0"}}, cmpFinding)

	c.pins = nil
	_, err = c.unversioned(self)
	assert.ErrorContains(t, err, "has no version in it, in go.mod")
}

func TestTableInADocument(t *testing.T) {
	file := filepath.Join(t.TempDir(), "doc.md")
	assert.NilError(t, os.WriteFile(file, []byte("before\n"+tableBegin+"old\n"+tableEnd+"after\n"), 0o600))
	assert.Equal(t, len(putTable(file, "new\n", false)), 1)
	assert.Equal(t, len(putTable(file, "new\n", true)), 0)
	assert.Equal(t, len(putTable(file, "new\n", false)), 0)
	data, err := os.ReadFile(file)
	assert.NilError(t, err)
	assert.Equal(t, string(data), "before\n"+tableBegin+"\nnew\n\n"+tableEnd+"after\n")
	assert.NilError(t, os.WriteFile(file, []byte("before\n"), 0o600))
	assert.Equal(t, len(putTable(file, "new\n", true)), 1)
}

var cmpFinding = cmp.AllowUnexported(finding{})

func TestPinsOfATrain(t *testing.T) {
	trees := filepath.Join(t.TempDir(), "trees")
	assert.NilError(t, os.WriteFile(trees, []byte(`# tree | source | own files | hooks | prepare
cli | example.com/cli v29.9.3 h1:x= | - | - | train 29; drop vendor
cli28 | example.com/cli v28.5.2 h1:y= | - | - | drop vendor; train 28
linux | deb:linux 6.1 a b | - | - | -
`), 0o644))
	p, err := readPins("../../go.mod", trees)
	assert.NilError(t, err)
	for program, want := range map[string]string{"bin/docker": "v29.9.3", "bin/28/docker": "v28.5.2"} {
		got, _ := p.version(program, "example.com/cli")
		assert.Check(t, is.Equal(got, want), program)
		_, ok := p.version(program, "github.com/opencontainers/runc")
		assert.Check(t, ok, "a module of both trains")
	}
	_, ok := p.version("bin/docker", "linux")
	assert.Check(t, !ok)
}
