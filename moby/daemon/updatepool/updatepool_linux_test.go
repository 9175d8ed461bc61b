// SPDX-License-Identifier: Apache-2.0

package updatepool

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// fakeRuntime is a shell script. It counts its starts in a file.
func fakeRuntime(t *testing.T, script string) (_ *Runtime, starts func() int) {
	t.Helper()
	dir := t.TempDir()
	count := filepath.Join(dir, "starts")
	binary := filepath.Join(dir, "runtime")
	assert.NilError(t, os.WriteFile(binary, []byte("#!/bin/sh\necho >>"+count+"\n"+script+"\n"), 0o700))
	return &Runtime{Key: Key{Binary: binary, Root: dir, Command: "update-many"}}, func() int {
		data, err := os.ReadFile(count)
		assert.NilError(t, err)
		return len(data)
	}
}

const (
	answerAll = `exec sed -u 's/.*"id":"\([^"]*\)".*/{"id":"\1"}/'`
	refuseAll = `exec sed -u 's/.*"id":"\([^"]*\)".*/{"id":"\1","error":"no such file"}/'`
)

func TestUpdaterIsOneProcess(t *testing.T) {
	u, starts := fakeRuntime(t, answerAll)
	var group sync.WaitGroup
	for i := range 30 {
		group.Add(1)
		go func() {
			defer group.Done()
			assert.Check(t, u.Update(fmt.Sprint("box", i), &specs.LinuxResources{}))
		}()
	}
	group.Wait()
	assert.Check(t, is.Equal(starts(), 1))

	// It is not kept for longer than needed, and started again.
	ended := func() bool {
		u.mu.Lock()
		defer u.mu.Unlock()
		return u.proc == nil
	}
	for i := 0; !ended() && i < 100; i++ {
		time.Sleep(idleFor)
	}
	assert.Check(t, ended())
	assert.Check(t, u.Update("box", &specs.LinuxResources{}))
	assert.Check(t, is.Equal(starts(), 2))
}

// One that was started early does the update, or ends if there is none.
func TestUpdaterStartsEarly(t *testing.T) {
	u, starts := fakeRuntime(t, answerAll)
	u.Expect()
	u.Expect()
	assert.Check(t, u.Update("box", &specs.LinuxResources{}))
	assert.Check(t, is.Equal(starts(), 1))

	u, _ = fakeRuntime(t, answerAll)
	u.Expect()
	ended := func() bool {
		u.mu.Lock()
		defer u.mu.Unlock()
		return u.proc == nil
	}
	assert.Check(t, !ended())
	for i := 0; !ended() && i < 100; i++ {
		time.Sleep(earlyFor / 10)
	}
	assert.Check(t, ended())

	u = &Runtime{Key: Key{Binary: filepath.Join(t.TempDir(), "missing")}}
	u.Expect()
	assert.Check(t, is.ErrorContains(u.Update("box", &specs.LinuxResources{}), "no such file"))
}

func TestUpdaterError(t *testing.T) {
	u, _ := fakeRuntime(t, refuseAll)
	assert.Check(t, is.Error(u.Update("box", &specs.LinuxResources{}), "no such file"))
}

// Everyone who waits is told of a runtime that dies, and the next update gets
// another one.
func TestUpdaterDies(t *testing.T) {
	for script, words := range map[string][]string{
		"read -r line; echo out of paper >&2; kill -9 $$": {"did not finish", "killed", "out of paper"},
		"read -r line; exit 3":                            {"did not finish", "exit status 3"},
		"read -r line; echo hello; exec sleep 60":         {"did not finish", "invalid character"},
		`read -r line; echo '{"id":"other"}'; sleep 60`:   {"did not finish", `container "other", which was not asked for`},
	} {
		u, starts := fakeRuntime(t, script)
		var group sync.WaitGroup
		for i := range 3 {
			group.Add(1)
			go func() {
				defer group.Done()
				err := u.Update(fmt.Sprint("box", i), &specs.LinuxResources{})
				assert.Check(t, err != nil)
			}()
		}
		group.Wait()
		before := starts()
		err := u.Update("box", &specs.LinuxResources{})
		for _, w := range words {
			assert.Check(t, is.ErrorContains(err, w), script)
		}
		assert.Check(t, starts() > before || !strings.Contains(script, "exit"), script)
	}
	u := &Runtime{Key: Key{Binary: filepath.Join(t.TempDir(), "missing")}}
	assert.Check(t, is.ErrorContains(u.Update("box", &specs.LinuxResources{}), "no such file"))
}

// setUpdateDeadline is for one test.
func setUpdateDeadline(t *testing.T, d time.Duration) {
	before := Deadline
	Deadline = d
	t.Cleanup(func() { Deadline = before })
}

// An update that does not end keeps nobody else waiting. It is given up, and its
// process ended; who waits for the same process is answered by the next one.
func TestUpdaterDeadline(t *testing.T) {
	setUpdateDeadline(t, 2*time.Second)
	// The first process never answers for two of three.
	u, starts := fakeRuntime(t, `
test "$(wc -l <"${0%runtime}starts")" -gt 1 && slow=none || slow=slow
echo $$ >>"${0%runtime}pids"
while read -r line; do
	case $line in
	*'"id":"stuck"'* | *'"id":"'$slow'"'*) ;;
	*) echo "$line" | sed 's/.*"id":"\([^"]*\)".*/{"id":"\1"}/' ;;
	esac
done`)
	begin := time.Now()
	stuck, slow := make(chan error, 1), make(chan error, 1)
	go func() { stuck <- u.Update("stuck", &specs.LinuxResources{}) }()
	for waiting := 0; waiting == 0; time.Sleep(time.Millisecond) {
		u.mu.Lock()
		if u.proc != nil {
			waiting = len(u.proc.waiting)
		}
		u.mu.Unlock()
	}
	time.Sleep(Deadline / 2)
	go func() { slow <- u.Update("slow", &specs.LinuxResources{}) }()
	assert.Check(t, u.Update("box", &specs.LinuxResources{}))
	assert.Check(t, time.Since(begin) < Deadline, "an update waited for another container's")

	err := <-stuck
	assert.Check(t, is.ErrorContains(err, "did not finish within 2s"))
	assert.Check(t, cerrdefs.IsDeadlineExceeded(err))
	assert.Check(t, time.Since(begin) < 2*Deadline)
	assert.Check(t, <-slow)
	assert.Check(t, is.Equal(starts(), 2))

	pids, err := os.ReadFile(filepath.Join(u.Root, "pids"))
	assert.NilError(t, err)
	first, err := strconv.Atoi(strings.Fields(string(pids))[0])
	assert.NilError(t, err)
	for i := 0; unix.Kill(first, 0) == nil && i < 100; i++ {
		time.Sleep(10 * time.Millisecond)
	}
	assert.Check(t, is.ErrorIs(unix.Kill(first, 0), unix.ESRCH), "the update that was given up goes on")
}

// A process that does not read, and so lets the pipe fill up, is replaced.
func TestUpdaterDoesNotRead(t *testing.T) {
	u, starts := fakeRuntime(t, `test "$(wc -l <"${0%runtime}starts")" -gt 1 || exec sleep 60
`+answerAll)
	long := &specs.LinuxResources{Unified: map[string]string{"io.max": strings.Repeat("x", 4000)}}
	var group sync.WaitGroup
	begin := time.Now()
	for i := range 40 {
		group.Add(1)
		go func() {
			defer group.Done()
			assert.Check(t, u.Update(fmt.Sprint("box", i), long))
		}()
	}
	group.Wait()
	assert.Check(t, is.Equal(starts(), 2))
	assert.Check(t, time.Since(begin) < 10*requestDeadline)
}
