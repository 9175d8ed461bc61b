// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// holdRuntime holds up every runc that wants to update the container, until the
// function that it returns is called.
func holdRuntime(t *testing.T, d *daemon.Daemon, name string) (letGo func()) {
	t.Helper()
	return holdState(t, filepath.Dir(d.StateFile(d.Inspect(t, name).ID)))
}

// holdState is holdRuntime for who knows the container's state folder.
func holdState(t *testing.T, path string) (letGo func()) {
	t.Helper()
	dir, err := os.Open(path)
	assert.NilError(t, err)
	assert.NilError(t, unix.Flock(int(dir.Fd()), unix.LOCK_EX))
	return func() { _ = dir.Close() }
}

// waitForRuntime returns the runc that an update has come to, which waits for who
// holds the container's state. One of an update before may wait for more beside it.
func waitForRuntime(t *testing.T, d *daemon.Daemon) int {
	t.Helper()
	found := 0
	until(t, func() error {
		locks, err := os.ReadFile("/proc/locks")
		assert.NilError(t, err)
		for line := range strings.Lines(string(locks)) {
			f := strings.Fields(line)
			if len(f) < 6 || f[1] != "->" || f[2] != "FLOCK" {
				continue
			}
			if pid, _ := strconv.Atoi(f[5]); slices.Contains(d.Runtimes(), pid) {
				found = pid
				return nil
			}
		}
		return errors.New("no runc waits")
	})
	return found
}

// The lock that every runc takes on the container's state holds this one up,
// so that it surely dies in the middle of its update.
func TestAFaultOfRuncIsToldAndTakenBack(t *testing.T) {
	place.OnHost(t)
	d := setup(t)
	d.Must(t, "run", "-d", "--name=box", "--pids-limit=100", "--memory=64m", "--memory-swap=64m", "busybox", "sleep", "600")
	old := settings{pids: 100, memory: 64 * mib}
	letGo := holdRuntime(t, d, "box")

	type answer struct {
		status  int
		message string
	}
	done := make(chan answer, 1)
	go func() {
		r, err := d.TryAPI(http.MethodPost, "/containers/box/update", settings{pids: 133, memory: 128 * mib}.body(false, false))
		if err != nil {
			done <- answer{message: err.Error()}
			return
		}
		done <- answer{r.Status, r.Message()}
	}()
	waitForRuntime(t, d)
	assert.Assert(t, d.KillRuntime())
	letGo()
	a := <-done
	assert.Equal(t, a.status, http.StatusInternalServerError, a.message)
	wantWords(t, a.message, d.Inspect(t, "box").ID, "runc update-many did not finish", "killed")
	assert.Equal(t, agree(t, d, "box", false, ""), old)
	d.Must(t, "modresources", "--pids-limit=144", "box")
	d.Cgroup(t, "box").Want(t, "pids.max", "144")
}
