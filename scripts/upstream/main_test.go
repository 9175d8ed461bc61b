// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

func results(lines string) result { return parse([]byte(lines)) }

func TestDifference(t *testing.T) {
	base := results("pass p TestA\npass p TestB\nfail p TestC\nskip p TestD\npass q TestQ\nfail broken \n")
	for _, tc := range []struct{ name, now, worse, lost string }{
		{name: "same", now: "pass p TestA\npass p TestB\nfail p TestC\nskip p TestD\npass q TestQ\nfail broken "},
		{name: "better", now: "pass p TestA\npass p TestB\npass p TestC\npass p TestD\npass p TestOurs\npass q TestQ\nfail broken "},
		{name: "new failure", now: "pass p TestA\nfail p TestB\nfail p \nfail p TestC\nskip p TestD\npass q TestQ\nfail broken ", worse: "p TestB"},
		{name: "ours fails", now: "pass p TestA\npass p TestB\nfail p TestC\nfail p TestOurs\npass q TestQ\nfail broken ", worse: "p TestOurs"},
		{name: "skipped now", now: "pass p TestA\nskip p TestB\nfail p TestC\npass q TestQ\nfail broken ", lost: "p TestB"},
		{name: "gone", now: "pass p TestA\nfail p TestC\npass q TestQ\nfail broken ", lost: "p TestB"},
		{name: "does not build", now: "pass p TestA\npass p TestB\nfail p TestC\nfail q \nfail broken ", worse: "q "},
		{name: "package gone", now: "pass p TestA\npass p TestB\nfail p TestC\nfail broken ", lost: "q"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			worse, lost := difference(base, results(tc.now))
			check := func(got []string, want string) {
				t.Helper()
				if want == "" {
					assert.Equal(t, len(got), 0, "%q", got)
				} else {
					assert.DeepEqual(t, got, []string{want})
				}
			}
			check(worse, tc.worse)
			check(lost, tc.lost)
		})
	}
}

// With packages given, the others are not lost.
func TestOnly(t *testing.T) {
	base := results("pass example.com/m/daemon TestA\npass example.com/m/client TestB")
	assert.DeepEqual(t, base.only([]string{"./daemon"}), results("pass example.com/m/daemon TestA"))
	assert.DeepEqual(t, base.only([]string{"./daemon", "./client"}), base)
	parts := results("pass m/daemon TestA\nfail m/daemon TestA/Z\npass m/daemon TestB\nfail m/client ")
	assert.DeepEqual(t, parts.only([]string{"./daemon@^Test[A]"}), results("pass m/daemon TestA\nfail m/daemon TestA/Z"))
	assert.DeepEqual(t, parts.only([]string{"./daemon@^TestA", "./daemon@^TestB", "./client"}), parts)
	assert.DeepEqual(t, results("pass m/daemon TestA\npass m/daemon TestB").with(results("fail m/daemon TestB")), results("pass m/daemon TestA\nfail m/daemon TestB"))
}

// A baseline that is written and read again must say the same.
func TestBaselineRoundTrip(t *testing.T) {
	r := results("pass p TestA\nfail p TestB\nfail p TestB/sub one\nskip p TestC\nfail p ")
	again := parse(r.format(trees[0]))
	assert.DeepEqual(t, again, results("pass p TestA\nfail p TestB\nfail p TestB/sub one\nskip p TestC"))
}

func TestTAP(t *testing.T) {
	read := func(text string) result {
		r, tp := result{}, tap{}
		for line := range strings.Lines(text) {
			r.add(tp.event(strings.TrimSpace(line)))
		}
		r.add(tp.end())
		return r
	}
	assert.DeepEqual(t, read("# file a.bats\n1..3\nok 1 v1/v2 # 2\nnot ok 2 two\n# why\nok 3 three # skip no disk\n# file b.bats\n1..1\nok 1 x\n"),
		results("pass a.bats v1_v2 # 2\nfail a.bats two\nskip a.bats three\npass b.bats x"))
	for name, text := range map[string]string{
		"cut off":    "# file a.bats\n1..2\nok 1 x\n",
		"no plan":    "# file a.bats\n",
		"then a new": "# file a.bats\n1..2\nok 1 x\n# file b.bats\n1..1\nok 1 y\n",
	} {
		assert.Equal(t, read(text)["a.bats"][""], "fail", name)
	}
	assert.Equal(t, pattern("a.bats", "v1_v2 [x]"), `^v1.v2 \[x\]$`)
	assert.Equal(t, pattern("m/pkg", "TestA/one"), "^TestA$/^one$")
	assert.DeepEqual(t, leaves([]string{"p TestA", "p TestA/one", "p TestB", "p TestAB"}), []string{"p TestA/one", "p TestB", "p TestAB"})
}

func TestUnsteadyInBoth(t *testing.T) {
	for _, tc := range []struct {
		name        string
		ours, stock string // "+" passes, "-" fails, the last goes on
		unsteady    bool
	}{
		{"both", "--+", "++-", true},
		{"at the last go", "---------+", "+++++++++-", true},
		{"broken by us", "-", "++-", false},
		{"steady in stock", "-+", "+", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			runs := map[bool]int{}
			got, err := unsteadyInBoth([]string{"x"}, func(ours bool, _ string) (bool, error) {
				outcomes := tc.stock
				if ours {
					outcomes = tc.ours
				}
				i := min(runs[ours], len(outcomes)-1)
				runs[ours]++
				return outcomes[i] == '+', nil
			})
			assert.NilError(t, err)
			assert.Equal(t, len(got) == 1, tc.unsteady)
			assert.Assert(t, runs[true] <= 10 && runs[false] <= 10)
		})
	}
}
