// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

const cocciHere = "../kernel/cocci"

// Each rule has a file with functions bad_… that it must find, and good_… that
// it must not.
func TestRules(t *testing.T) {
	rules, err := readRules(cocciHere, refusable)
	assert.NilError(t, err)
	assert.Assert(t, len(rules) >= 8)
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			name := r.name + ".c"
			data, err := os.ReadFile(filepath.Join(cocciHere, "testdata", name))
			assert.NilError(t, err)
			d := &drivers{byFile: map[string][]*cFunc{name: scanC(name, data)}}
			found, err := spatch(filepath.Join(cocciHere, "testdata"), r, []string{name})
			assert.NilError(t, err)
			hit := map[string]bool{}
			for _, f := range found {
				hit[d.where(f.file, f.line)] = true
			}
			bad := 0
			for _, f := range d.byFile[name] {
				want := strings.HasPrefix(f.name, "bad_")
				assert.Assert(t, want || strings.HasPrefix(f.name, "good_"), f.name)
				assert.Equal(t, hit[f.name], want, "found in %s", f.name)
				if want {
					bad++
				}
				delete(hit, f.name)
			}
			assert.Assert(t, bad > 0)
			assert.Equal(t, len(hit), 0, "%v", hit)
		})
	}
}

func TestRuleThatCannotBeRead(t *testing.T) {
	_, err := spatch(cocciHere, rule{name: "x", text: "@r@\n@@\n* f(\n"}, []string{"testdata/calls.c"})
	assert.ErrorContains(t, err, "x: spatch")
}

func TestScanC(t *testing.T) {
	list := scanC("a.c", []byte(`
static const struct x x = {
	.f = drm_gem_object_init(1),
};

#define M(a) \
	drm_gem_handle_create(a)

static int
first(struct a *a, /* ) { */ int b)
{
	char *s = "drm_gem_handle_create(";
	// drm_gem_handle_create(
#ifdef X
	return drm_gem_object_init(a,
				   b);
#else
	if (a) {
		second(a);
	}
#endif
}

void second(struct a *a)
{
}

void *third(void)
{
}
`))
	assert.Equal(t, len(list), 3)
	assert.Equal(t, list[0].name, "first")
	assert.DeepEqual(t, sortedKeys(list[0].calls), []string{"drm_gem_object_init", "if", "second"})
	assert.Equal(t, list[0].calls["drm_gem_object_init"], 15)
	assert.Assert(t, !list[0].void && list[1].void && !list[2].void)
}

// A tree with one driver, whose only function is given.
func refusalTree(t *testing.T, source, page, exceptions string) (*project, func() (string, error)) {
	p := &project{root: t.TempDir(), rows: []row{{name: "linux", source: "deb:linux-source-6.1 1 2"}}}
	p.src = filepath.Join(p.root, ".build", "src")
	write := func(name, data string) {
		t.Helper()
		name = filepath.Join(p.root, name)
		assert.NilError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		assert.NilError(t, os.WriteFile(name, []byte(data), 0o644))
	}
	write(".build/src/linux/drivers/gpu/drm/x/x.c", source)
	write(driversPage, page)
	write(cocciDir+"/exceptions", exceptions)
	list, err := filepath.Glob(filepath.Join(cocciHere, "*.cocci"))
	assert.NilError(t, err)
	for _, name := range list {
		data, err := os.ReadFile(name)
		assert.NilError(t, err)
		write(filepath.Join(cocciDir, filepath.Base(name)), string(data))
	}
	return p, func() (string, error) {
		var out strings.Builder
		c := &checker{p: p, out: io.Writer(&out)}
		c.checkDrivers()
		return out.String(), c.result()
	}
}

const (
	goodDriver = "int x_create(struct drm_file *f, struct drm_gem_object *o, u32 *h)\n{\n\tint r;\n\n\tr = drm_gem_handle_create(f, o, h);\n\tdrm_gem_object_put(o);\n\treturn r;\n}\n"
	goodPage   = "| `x/x.c:x_create` | drm_gem_handle_create | puts | rule |\n"
)

var badDriver = strings.Replace(goodDriver, "\tdrm_gem_object_put(o);\n", "", 1)

func TestDriversAreChecked(t *testing.T) {
	for _, c := range []struct{ name, source, page, exceptions, want string }{
		{"good", goodDriver, goodPage, "", ""},
		{"leak", badDriver, goodPage, "", "drivers/gpu/drm/x/x.c:5: handle, in x_create"},
		{"exception", badDriver, goodPage, "handle | drivers/gpu/drm/x/x.c | x_create | why\n", ""},
		{"exception not needed", goodDriver, goodPage, "handle | drivers/gpu/drm/x/x.c | x_create | why\n", "nothing needs the exception handle | drivers/gpu/drm/x/x.c | x_create"},
		{"exception for what is read", goodDriver, goodPage, "calls | drivers/gpu/drm/x/x.c | x_create | why\n", "nothing needs the exception calls"},
		{"exception without a reason", badDriver, goodPage, "handle | drivers/gpu/drm/x/x.c | x_create\n", "exceptions:1: want rule | file | function | reason"},
		{"cannot be read", strings.Replace(goodDriver, "int r;", "int r = ) (;", 1), goodPage, "", "Coccinelle cannot read x_create"},
		{"new caller", goodDriver, "", "", "read this caller and say what it does when it is told no: | `x/x.c:x_create` | drm_gem_handle_create |"},
		{"caller that is gone", goodDriver, goodPage + strings.Replace(goodPage, "x_create", "y_create", 1), "", "docs/drivers.md:2: x/x.c:y_create: the tree has no such caller"},
		{"twice", goodDriver, goodPage + goodPage, "", "docs/drivers.md:2: x/x.c:x_create: a second row"},
		{"other call", goodDriver, strings.Replace(goodPage, "drm_gem_handle_create", "drm_gem_object_init", 1), "", "calls drm_gem_handle_create, not drm_gem_object_init"},
		{"empty cell", goodDriver, strings.Replace(goodPage, "rule", " ", 1), "", "want four filled cells"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, check := refusalTree(t, c.source, c.page, c.exceptions)
			out, err := check()
			if c.want == "" {
				assert.NilError(t, err, out)
			} else {
				assert.Assert(t, err != nil, out)
				assert.Assert(t, strings.Contains(out, c.want), out)
			}
		})
	}
}

// An answer is followed through functions that hand it on.
func TestAnswerIsFollowed(t *testing.T) {
	_, check := refusalTree(t, goodDriver+"void y(void)\n{\n\tx_create(f, o, h);\n}\n", goodPage, "")
	out, err := check()
	assert.Assert(t, err != nil)
	assert.Assert(t, strings.Contains(out, "x.c:11: ignored, in y: x_create(f, o, h);"), out)
}

// What was found is remembered until a file or a rule changes.
func TestFindingsAreKept(t *testing.T) {
	real, err := exec.LookPath("spatch")
	assert.NilError(t, err)
	p, check := refusalTree(t, badDriver, goodPage, "")
	first, err := check()
	assert.Assert(t, err != nil)

	bin := t.TempDir()
	assert.NilError(t, os.WriteFile(filepath.Join(bin, "spatch"), []byte("#!/bin/sh\n[ \"$1\" = --version ] && exec "+real+" --version\necho spatch ran >&2\nexit 1\n"), 0o755))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	again, err := check()
	assert.Assert(t, err != nil)
	assert.Equal(t, again, first)

	name := filepath.Join(p.dir(p.rows[0]), "drivers/gpu/drm/x/x.c")
	assert.NilError(t, os.WriteFile(name, []byte(goodDriver), 0o644))
	out, err := check()
	assert.Assert(t, err != nil)
	assert.Assert(t, strings.Contains(out, "spatch ran"), out)
}
