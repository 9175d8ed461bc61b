// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func sh(script string) []string { return []string{"sh", "-c", script} }

func TestRunSuite(t *testing.T) {
	const (
		pass = `{"Action":"pass","Package":"p","Test":"TestA","Elapsed":0.1}
{"Action":"pass","Package":"p","Elapsed":0.2}`
		fail = `{"Action":"output","Package":"p","Test":"TestB","Output":"why it broke\n"}
{"Action":"fail","Package":"p","Test":"TestB"}
{"Action":"fail","Package":"p"}`
		skip = `{"Action":"output","Package":"p","Test":"TestC","Output":"    x_test.go:1: no such kernel\n"}
{"Action":"skip","Package":"p","Test":"TestC"}`
		broken = `{"Action":"output","Package":"p","Output":"does not compile\n"}
{"Action":"fail","Package":"p"}`
		text = "=== RUN   TestA\n--- PASS: TestA (0.00s)\n=== RUN   TestB\n    b_test.go:1: why it broke\n--- FAIL: TestB (0.00s)\nFAIL\n"
	)
	for _, tc := range []struct {
		doc         string
		args        []string
		text, plain bool
		want        result
		shows       string
	}{
		{doc: "pass", args: []string{"echo", pass}, want: result{Passed: 1}},
		{doc: "skip", args: []string{"echo", skip}, want: result{Skipped: 1, Skips: map[string]string{"p.TestC": "x_test.go:1: no such kernel"}}},
		{doc: "fail counts once and shows why", args: sh("echo '" + fail + "'; exit 1"), want: result{Failed: []string{"p.TestB"}}, shows: "why it broke"},
		{doc: "a package that does not build", args: sh("echo '" + broken + "'; exit 1"), want: result{Failed: []string{"p"}}, shows: "does not compile"},
		{doc: "died after a pass", args: sh("echo '" + pass + "'; exit 3"), want: result{Passed: 1, Failed: []string{"s: exit status 3"}}},
		{doc: "no test ran", args: []string{"true"}, want: result{Failed: []string{"s: no test ran"}}},
		{doc: "text", args: sh("printf '" + text + "'; exit 1"), text: true, want: result{Passed: 1, Failed: []string{"s.TestB"}}, shows: "why it broke"},
		{doc: "text cut off", args: sh("printf '=== RUN   TestA\n'; exit 3"), text: true, want: result{Failed: []string{"s: exit status 3"}}},
		{doc: "plain", args: []string{"true"}, plain: true, want: result{Passed: 1}},
		{doc: "plain failure", args: []string{"false"}, plain: true, want: result{Failed: []string{"s: exit status 1"}}},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			var out bytes.Buffer
			got, err := runSuite("s", tc.args, tc.text, tc.plain, "", &out)
			assert.NilError(t, err)
			assert.Check(t, is.Equal(got.Passed, tc.want.Passed))
			assert.Check(t, is.Equal(got.Skipped, tc.want.Skipped))
			assert.Check(t, is.DeepEqual(got.Failed, tc.want.Failed))
			if tc.want.Skips != nil {
				assert.Check(t, is.DeepEqual(got.Skips, tc.want.Skips))
			}
			assert.Check(t, is.Contains(out.String(), tc.shows))
		})
	}
	var out bytes.Buffer
	_, err := runSuite("s", sh("printf '"+text+"'"), true, false, "v1 ", &out)
	assert.NilError(t, err)
	assert.Check(t, is.Contains(out.String(), "\nv1     b_test.go:1: why it broke\n"))

	_, err = runSuite("s", []string{"/no/such/command"}, false, true, "", &bytes.Buffer{})
	assert.Check(t, err != nil, "a command that cannot be run is an error, not a suite")
}

// The first run fails in package q, after p passed and before q's TestD was reached.
func TestAgain(t *testing.T) {
	const first = `{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p"}
{"Action":"pass","Package":"q","Test":"TestB"}
{"Action":"skip","Package":"q","Test":"TestS"}
{"Action":"fail","Package":"q","Test":"TestC"}
{"Action":"fail","Package":"q"}`
	const steady = `{"Action":"pass","Package":"q","Test":"TestB"}
{"Action":"skip","Package":"q","Test":"TestS"}
{"Action":"pass","Package":"q","Test":"TestC"}
{"Action":"pass","Package":"q","Test":"TestD"}
{"Action":"pass","Package":"q"}`
	const died = `{"Action":"fail","Package":"q"}`
	for _, tc := range []struct {
		doc, second string
		want        result
	}{
		{doc: "passes", second: "echo '" + steady + "'", want: result{Passed: 4, Skipped: 1, Unsteady: []string{"q.TestC"}}},
		{doc: "fails again", second: "echo '" + died + "'; exit 1", want: result{Passed: 1, Failed: []string{"q"}}},
		{doc: "does not start", second: "exit 1", want: result{Passed: 1, Failed: []string{"s: exit status 1"}}},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			// With an argument, which has to be the package: the second run.
			args := sh("case $0 in sh) echo '" + first + "'; exit 1 ;; q) " + tc.second + " ;; *) echo unexpected; exit 9 ;; esac")
			got, err := runSuite("s", append(args, "sh"), false, false, "", &bytes.Buffer{})
			assert.NilError(t, err)
			assert.NilError(t, got.again(args, &bytes.Buffer{}))
			assert.Check(t, is.Equal(got.Passed, tc.want.Passed))
			assert.Check(t, is.Equal(got.Skipped, tc.want.Skipped))
			assert.Check(t, is.Len(got.Skips, tc.want.Skipped))
			assert.Check(t, is.DeepEqual(got.Failed, tc.want.Failed))
			assert.Check(t, is.DeepEqual(got.Unsteady, tc.want.Unsteady))
		})
	}
}

func TestReport(t *testing.T) {
	dir := t.TempDir()
	put := func(r result) {
		data, err := json.Marshal(r)
		assert.NilError(t, err)
		assert.NilError(t, os.WriteFile(filepath.Join(dir, r.Suite+".json"), data, 0o600))
	}
	report := func(suites ...string) (string, error) {
		var out bytes.Buffer
		err := writeReport(dir, "", suites, &out)
		lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n"))
		return string(lines[len(lines)-1]), err
	}
	put(result{Suite: "a", Passed: 3, Skipped: 1})
	put(result{Suite: "b", Passed: 4})
	last, err := report("a", "b")
	assert.NilError(t, err)
	assert.Check(t, is.Equal(last, "7 passed, 0 failed, 1 skipped"))

	last, err = report("a", "b", "never ran")
	assert.Check(t, err != nil)
	assert.Check(t, is.Equal(last, "7 passed, 1 failed, 1 skipped"))

	put(result{Suite: "b", Passed: 2, Failed: []string{"x", "y"}})
	last, err = report("a", "b")
	assert.Check(t, err != nil)
	assert.Check(t, is.Equal(last, "5 passed, 2 failed, 1 skipped"))
}

func TestATestThatRanNowhereFailsTheReport(t *testing.T) {
	const host, vm = "integration-host", "integration-vm-v2"
	elsewhere := map[string]string{"integration.TestA": "a_test.go:1: elsewhere: on the host"}
	needs := func(test string) map[string]string {
		return map[string]string{"github.com/x/integration." + test: "a_test.go:2: needs loop: no /dev/loop-control"}
	}
	onDemand := func(test string) map[string]string {
		return map[string]string{"integration." + test: "a_test.go:3: " + place.OnDemandPrefix + "make it"}
	}
	pass := map[string]place.Pass{"TestA": {Command: "make it", Date: "2026-11-28", Commit: "abc"}}
	for _, tc := range []struct {
		doc     string
		results map[string]result
		passes  map[string]place.Pass
		want    string
	}{
		{doc: "passed in one place", results: map[string]result{host: {Passes: []string{"TestA"}}, vm: {Skips: elsewhere}}},
		{doc: "failed in one place", results: map[string]result{host: {Failed: []string{"x/integration.TestA"}}, vm: {Skips: elsewhere}}},
		{doc: "the one place lacks something", results: map[string]result{host: {Skips: needs("TestA")}, vm: {Skips: elsewhere}},
			want: "TestA ran nowhere (host: a_test.go:2: needs loop: no /dev/loop-control; vm-v2: a_test.go:1: elsewhere: on the host)"},
		{doc: "a subtest", results: map[string]result{host: {Skips: needs("TestA/part"), Passes: []string{"TestA"}}},
			want: "TestA/part ran nowhere (host: a_test.go:2: needs loop: no /dev/loop-control)"},
		{doc: "on demand, on record", results: map[string]result{host: {Skips: onDemand("TestA")}, vm: {Skips: onDemand("TestA")}}, passes: pass},
		{doc: "on demand, not on record", results: map[string]result{host: {Skips: onDemand("TestA")}}, want: "TestA has no pass on record: run make it"},
		{doc: "on record, but not on demand", results: map[string]result{host: {Skips: needs("TestA")}}, passes: pass,
			want: "TestA ran nowhere (host: a_test.go:2: needs loop: no /dev/loop-control)"},
		{doc: "a suite of one place may skip", results: map[string]result{"unit-moby": {Skips: needs("TestA")}}},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			var want []string
			if tc.want != "" {
				want = []string{tc.want}
			}
			assert.Check(t, is.DeepEqual(ranNowhere(tc.results, tc.passes), want))
		})
	}
}
