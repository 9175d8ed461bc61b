// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	libcontainerdtypes "github.com/docker/docker/libcontainerd/types"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// fakeRuntime is a shell script. It counts its starts in a file.
func fakeRuntime(t *testing.T, script string) (_ *updater, starts func() int) {
	t.Helper()
	dir := t.TempDir()
	count := filepath.Join(dir, "starts")
	binary := filepath.Join(dir, "runtime")
	assert.NilError(t, os.WriteFile(binary, []byte("#!/bin/sh\necho >>"+count+"\n"+script+"\n"), 0o700))
	return &updater{updaterKey: updaterKey{binary: binary, root: dir, command: "update-many"}}, func() int {
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
			assert.Check(t, u.update(fmt.Sprint("box", i), &libcontainerdtypes.Resources{}))
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
		time.Sleep(updaterIdle)
	}
	assert.Check(t, ended())
	assert.Check(t, u.update("box", &libcontainerdtypes.Resources{}))
	assert.Check(t, is.Equal(starts(), 2))
}

// One that was started early does the update, or ends if there is none.
func TestUpdaterStartsEarly(t *testing.T) {
	u, starts := fakeRuntime(t, answerAll)
	u.expect()
	u.expect()
	assert.Check(t, u.update("box", &libcontainerdtypes.Resources{}))
	assert.Check(t, is.Equal(starts(), 1))

	u, _ = fakeRuntime(t, answerAll)
	u.expect()
	ended := func() bool {
		u.mu.Lock()
		defer u.mu.Unlock()
		return u.proc == nil
	}
	assert.Check(t, !ended())
	for i := 0; !ended() && i < 100; i++ {
		time.Sleep(updaterEarly / 10)
	}
	assert.Check(t, ended())

	u = &updater{updaterKey: updaterKey{binary: filepath.Join(t.TempDir(), "missing")}}
	u.expect()
	assert.Check(t, is.ErrorContains(u.update("box", &libcontainerdtypes.Resources{}), "no such file"))
}

func TestUpdaterError(t *testing.T) {
	u, _ := fakeRuntime(t, refuseAll)
	assert.Check(t, is.Error(u.update("box", &libcontainerdtypes.Resources{}), "no such file"))
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
				err := u.update(fmt.Sprint("box", i), &libcontainerdtypes.Resources{})
				assert.Check(t, err != nil)
			}()
		}
		group.Wait()
		before := starts()
		err := u.update("box", &libcontainerdtypes.Resources{})
		for _, w := range words {
			assert.Check(t, is.ErrorContains(err, w), script)
		}
		assert.Check(t, starts() > before || !strings.Contains(script, "exit"), script)
	}
	u := &updater{updaterKey: updaterKey{binary: filepath.Join(t.TempDir(), "missing")}}
	assert.Check(t, is.ErrorContains(u.update("box", &libcontainerdtypes.Resources{}), "no such file"))
}
