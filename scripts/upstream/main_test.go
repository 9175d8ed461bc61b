// SPDX-License-Identifier: Apache-2.0

package main

import (
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
}

// A baseline that is written and read again must say the same.
func TestBaselineRoundTrip(t *testing.T) {
	r := results("pass p TestA\nfail p TestB\nfail p TestB/sub one\nskip p TestC\nfail p ")
	again := parse(r.format(trees[0]))
	assert.DeepEqual(t, again, results("pass p TestA\nfail p TestB\nfail p TestB/sub one\nskip p TestC"))
}

func TestReachable(t *testing.T) {
	tr, err := find("moby")
	assert.NilError(t, err)
	t.Chdir("../..")
	touched, err := tr.touched()
	assert.NilError(t, err)
	assert.Assert(t, touched["daemon"] && touched["pkg/sysinfo"] && touched["client"], "%v", touched)
}
