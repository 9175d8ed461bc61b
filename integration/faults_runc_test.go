// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// The lock that every runc takes on the container's state holds this one up,
// so that it surely dies in the middle of its update.
func TestAFaultOfRuncIsToldAndTakenBack(t *testing.T) {
	d := setup(t)
	d.Must(t, "run", "-d", "--name=box", "--pids-limit=100", "--memory=64m", "--memory-swap=64m", "busybox", "sleep", "600")
	old := settings{pids: 100, memory: 64 * mib}
	dir, err := os.Open(filepath.Dir(d.StateFile(d.Inspect(t, "box").ID)))
	assert.NilError(t, err)
	defer dir.Close()
	assert.NilError(t, unix.Flock(int(dir.Fd()), unix.LOCK_EX))

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
	killed := false
	for end := time.Now().Add(time.Minute); !killed && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		killed = d.KillRuntime()
	}
	assert.Assert(t, killed, "no runc was started")
	assert.NilError(t, unix.Flock(int(dir.Fd()), unix.LOCK_UN))
	a := <-done
	assert.Equal(t, a.status, http.StatusInternalServerError, a.message)
	wantWords(t, a.message, d.Inspect(t, "box").ID, "runc update-many did not finish", "killed")
	assert.Equal(t, agree(t, d, "box", false, ""), old)
	d.Must(t, "modresources", "--pids-limit=144", "box")
	d.Cgroup(t, "box").Want(t, "pids.max", "144")
}
