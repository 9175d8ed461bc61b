// SPDX-License-Identifier: Apache-2.0

// Package place says in which of its places `make test` runs a test. A test
// without a word runs in all of them: on the host and in a VM with each version
// of cgroups. An emulated machine is ten times as slow, so a test that would show
// nothing new there says so in its first line.
//
// A test that is left out is skipped with the reason, and `testsum report` fails
// if a test has passed in no place. Environment: PLACE is where the tests run
// ("": a developer's own run, which leaves nothing out), HOST_CGROUPS the version
// of cgroups on the host, v1 or v2. FULL=1 leaves nothing out but what is on demand,
// a RUN that names tests not even that.
package place

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// The places of `make test`.
const (
	Host = "host"
	VMV1 = "vm-v1"
	VMV2 = "vm-v2"
)

// OnHost: neither of the VMs would run other code than the host.
func OnHost(t testing.TB) {
	t.Helper()
	leaveOut(t, func(p string, _ string) bool { return p != Host }, "elsewhere: on the host")
}

// EachVersion: once with each version of cgroups, on the host with its own and in
// the VM with the other.
func EachVersion(t testing.TB) {
	t.Helper()
	leaveOut(t, func(p, host string) bool { return p == vm(host) }, "elsewhere: on the host and in the VM with the other version of cgroups")
}

// OneVM: in a VM, and there not once more with the other version of cgroups.
func OneVM(t testing.TB) {
	t.Helper()
	leaveOut(t, func(p, host string) bool { return p != Host && p != vm(host) }, "elsewhere: in the VM with the host's version of cgroups")
}

// InVM: not on the host, where others would notice what the test does to the machine.
func InVM(t testing.TB) {
	t.Helper()
	leaveOut(t, func(p, _ string) bool { return p == Host }, "elsewhere: in the VM")
}

// OnDemand: only by a command of its own, which is too long for `make test` or needs
// what is not on every machine. When it passes it is entered into the file RECORD
// (see [Pass]); `testsum report` fails if it is not there.
func OnDemand(t testing.TB, command string) {
	t.Helper()
	if os.Getenv("PLACE") != "" && !named() {
		t.Skipf("%s%s", OnDemandPrefix, command)
	}
	if file := os.Getenv("RECORD"); file != "" {
		t.Cleanup(func() {
			if !t.Failed() && !t.Skipped() {
				if err := record(file, t.Name(), command); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Measurement: a part of `make bench`, which sets the variable.
func Measurement(t testing.TB, variable string) {
	t.Helper()
	name, want, _ := strings.Cut(variable, "=")
	got := os.Getenv(name)
	if got == "" || want != "" && got != want {
		t.Skipf("%smake bench (it sets %s)", OnDemandPrefix, variable)
	}
	OnDemand(t, "make bench")
}

// OnDemandPrefix begins the reason for which a test on demand is skipped.
const OnDemandPrefix = "on demand: "

// Pass is the last time that a test on demand passed.
type Pass struct {
	Command, Date, Commit string
}

// record enters a pass into a file of them, by name of the test.
func record(file, test, command string) error {
	passes, err := Passes(file)
	if err != nil {
		return err
	}
	commit, err := exec.Command("git", "rev-parse", "--short=12", "HEAD").Output()
	if err != nil {
		commit = []byte("not in git")
	}
	passes[test] = Pass{command, time.Now().UTC().Format(time.DateOnly), strings.TrimSpace(string(commit))}
	data, err := json.MarshalIndent(passes, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}

// Passes reads a file of them; one that is not there has none.
func Passes(file string) (map[string]Pass, error) {
	passes := map[string]Pass{}
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return passes, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &passes); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return passes, nil
}

func vm(version string) string { return "vm-" + version }

// named tells whether the tests of this run were chosen by name.
func named() bool {
	run := os.Getenv("RUN")
	return run != "" && run != "."
}

func leaveOut(t testing.TB, isOut func(place, hostVersion string) bool, why string) {
	t.Helper()
	p, host := os.Getenv("PLACE"), os.Getenv("HOST_CGROUPS")
	if p == "" {
		return
	}
	if p != Host && p != VMV1 && p != VMV2 {
		t.Fatalf("PLACE=%s: the places are %s, %s and %s", p, Host, VMV1, VMV2)
	}
	if host != "v1" && host != "v2" {
		t.Fatalf("HOST_CGROUPS=%s: it is v1 or v2", host)
	}
	if isOut(p, host) && os.Getenv("FULL") == "" && !named() {
		t.Skip(why)
	}
}
