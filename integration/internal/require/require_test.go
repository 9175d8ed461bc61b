// SPDX-License-Identifier: Apache-2.0

package require

import (
	"errors"
	"fmt"
	"runtime"
	"testing"

	"gotest.tools/v3/assert"
)

// recorder stands in for a test and notes how it ended. It embeds a real one
// only to be a testing.TB.
type recorder struct {
	testing.TB
	how, text string
}

func (r *recorder) Helper() {}

func (r *recorder) Skipf(format string, a ...any)  { r.end("skip", fmt.Sprintf(format, a...)) }
func (r *recorder) Fatalf(format string, a ...any) { r.end("fail", fmt.Sprintf(format, a...)) }
func (r *recorder) Fatal(a ...any)                 { r.end("fail", fmt.Sprint(a...)) }

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
	return r
}

func TestDecide(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		must bool
		want string
	}{
		{"present", nil, false, "ran"},
		{"present where it must be", nil, true, "ran"},
		{"missing", missingf("gone"), false, "skip"},
		{"missing, wrapped", fmt.Errorf("looked: %w", missingf("gone")), false, "skip"},
		{"missing where it must be", missingf("gone"), true, "fail"},
		{"could not look", errors.New("EIO"), false, "fail"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := ending(t, func(tb testing.TB) { decide(tb, "gpu", tc.err, tc.must) })
			assert.Equal(t, r.how, tc.want, r.text)
		})
	}
}

func TestMustTurnsASkipIntoAFailure(t *testing.T) {
	features["absent"] = func() error { return missingf("never here") }
	t.Cleanup(func() { delete(features, "absent") })
	for must, want := range map[string]string{"": "skip", "root": "skip", "absent": "fail", "root, absent": "fail", "absnt": "fail"} {
		t.Setenv("MUST", must)
		r := ending(t, func(tb testing.TB) { need(tb, "absent") })
		assert.Equal(t, r.how, want, "MUST=%q: %s", must, r.text)
	}
}

func TestThePlaceSaysWhatMustBeThere(t *testing.T) {
	features["absent"] = func() error { return missingf("never here") }
	mustOf["here"] = "root,absent"
	t.Cleanup(func() { delete(features, "absent"); delete(mustOf, "here") })
	t.Setenv("MUST", "")
	for p, want := range map[string]string{"": "skip", "here": "fail", "there": "fail"} {
		t.Setenv("PLACE", p)
		r := ending(t, func(tb testing.TB) { need(tb, "absent") })
		assert.Equal(t, r.how, want, "PLACE=%q: %s", p, r.text)
	}
	for p, words := range mustOf {
		_, err := parseMust(words)
		assert.Check(t, err, "place %q", p)
	}
}

// Exactly one of each pair holds on any machine, so no test can be skipped on
// all of them.
func TestEveryMachineIsOneOrTheOther(t *testing.T) {
	for _, pair := range [][2]func(testing.TB){{CgroupV1, CgroupV2}, {GPU, NoGPU}} {
		t.Setenv("MUST", "")
		a, b := ending(t, pair[0]), ending(t, pair[1])
		assert.Assert(t, (a.how == "ran") != (b.how == "ran"), "%s (%s), %s (%s)", a.how, a.text, b.how, b.text)
		assert.Assert(t, a.how != "fail" && b.how != "fail", "%s, %s", a.text, b.text)
	}
}
