// SPDX-License-Identifier: Apache-2.0

package place

import (
	"fmt"
	"path/filepath"
	"runtime"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// recorder stands in for a test and notes how it ended.
type recorder struct {
	testing.TB
	how, text string
	cleanups  []func()
}

func (r *recorder) Helper()                        {}
func (r *recorder) Name() string                   { return "TestX" }
func (r *recorder) Failed() bool                   { return r.how == "fail" }
func (r *recorder) Skipped() bool                  { return r.how == "skip" }
func (r *recorder) Cleanup(f func())               { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Skip(a ...any)                  { r.end("skip", fmt.Sprint(a...)) }
func (r *recorder) Skipf(format string, a ...any)  { r.end("skip", fmt.Sprintf(format, a...)) }
func (r *recorder) Fatalf(format string, a ...any) { r.end("fail", fmt.Sprintf(format, a...)) }

func (r *recorder) end(how, text string) {
	r.how, r.text = how, text
	runtime.Goexit()
}

// ending runs f as the body of a test would run.
func ending(t *testing.T, f func(testing.TB)) *recorder {
	r := &recorder{TB: t, how: "ran"}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	for _, c := range r.cleanups {
		c()
	}
	return r
}

func TestWhereATestRuns(t *testing.T) {
	const all = "host vm-v1 vm-v2 "
	for _, tc := range []struct {
		name         string
		place        func(testing.TB)
		onV1, onV2   string // where it runs, by the host's version
		full, byName string
	}{
		{"OnHost", OnHost, "host ", "host ", all, all},
		{"EachVersion", EachVersion, "host vm-v2 ", "host vm-v1 ", all, all},
		{"InVM", InVM, "vm-v1 vm-v2 ", "vm-v1 vm-v2 ", all, all},
		{"OneVM", OneVM, "host vm-v1 ", "host vm-v2 ", all, all},
		{"OnDemand", func(t testing.TB) { OnDemand(t, "make it") }, "", "", "", all},
		{"Measurement", func(t testing.TB) { Measurement(t, "SOME_VARIABLE=x") }, "", "", "", ""},
		{"no word", func(testing.TB) {}, all, all, all, all},
	} {
		t.Run(tc.name, func(t *testing.T) {
			where := func(host, full, run string) (ran string) {
				t.Setenv("HOST_CGROUPS", host)
				t.Setenv("FULL", full)
				t.Setenv("RUN", run)
				for _, p := range []string{Host, VMV1, VMV2} {
					t.Setenv("PLACE", p)
					r := ending(t, tc.place)
					assert.Check(t, r.how != "fail", r.text)
					if r.how == "ran" {
						ran += p + " "
					} else {
						assert.Check(t, r.text != "")
					}
				}
				return ran
			}
			assert.Check(t, is.Equal(where("v1", "", "."), tc.onV1))
			assert.Check(t, is.Equal(where("v2", "", ""), tc.onV2))
			assert.Check(t, is.Equal(where("v1", "1", "."), tc.full))
			assert.Check(t, is.Equal(where("v1", "", "X"), tc.byName))
		})
	}
}

func TestAPlaceThatIsNoneFails(t *testing.T) {
	t.Setenv("HOST_CGROUPS", "v1")
	t.Setenv("PLACE", "vm")
	assert.Equal(t, ending(t, OnHost).how, "fail")
	t.Setenv("PLACE", VMV1)
	t.Setenv("HOST_CGROUPS", "")
	assert.Equal(t, ending(t, OnHost).how, "fail")
	t.Setenv("PLACE", "")
	assert.Equal(t, ending(t, OnHost).how, "ran")
}

func TestAPassOnDemandIsRecorded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "passes.json")
	t.Setenv("RECORD", file)
	t.Setenv("PLACE", Host)
	onDemand := func(t testing.TB) { OnDemand(t, "make it") }

	t.Setenv("RUN", ".")
	assert.Equal(t, ending(t, onDemand).text, "on demand: make it")
	passes, err := Passes(file)
	assert.NilError(t, err)
	assert.Equal(t, len(passes), 0)

	t.Setenv("RUN", "X")
	assert.Equal(t, ending(t, func(t testing.TB) { onDemand(t); t.Fatalf("it fails") }).how, "fail")
	passes, err = Passes(file)
	assert.NilError(t, err)
	assert.Equal(t, len(passes), 0)

	assert.Equal(t, ending(t, onDemand).how, "ran")
	passes, err = Passes(file)
	assert.NilError(t, err)
	assert.Equal(t, passes["TestX"].Command, "make it")
	assert.Assert(t, passes["TestX"].Date != "" && passes["TestX"].Commit != "")
}
