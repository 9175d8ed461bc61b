// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// Runc is followed from one system call to the next. When the kernel shows some
// of the new values and some of the old ones, it dies, with half of the update done.
func TestAFaultBetweenTwoWritesIsTakenBack(t *testing.T) {
	place.OneVM(t)
	d := setup(t)
	withGPU := require.Has("gpu")
	n, seed := kills(t)
	times := max(1, n/40) // of each fault
	t.Logf("SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, seed))
	d.LiveRestore(t)
	d.Must(t, "run", "-d", "--name=box", "busybox", "sleep", "86400")
	next := func() settings {
		s := settings{pids: 50 + random.Int64N(1000), memory: (16 + random.Int64N(1000)) * mib}
		if withGPU {
			s.priority, s.gpu = 1+random.Int64N(1000), 4096+random.Int64N(1<<40)
		}
		return s
	}
	update := func(s settings) (daemon.Response, error) {
		return d.TryAPI(http.MethodPost, "/containers/box/update", s.body(withGPU, false))
	}
	type answer struct {
		daemon.Response
		err error
	}
	// In the order in which runc writes them.
	files := []string{"memory.max", "pids.max"}
	if require.Has("v2") {
		files = []string{"pids.max", "memory.max"}
	}
	if withGPU {
		files = append(files, "gpu.memory.max")
	}

	now := next()
	r, err := update(now)
	assert.NilError(t, err)
	assert.Equal(t, r.Status, http.StatusOK, "%s", r.Body)
	for _, f := range []struct {
		name    string
		dockerd bool
	}{{"runc", false}, {"dockerd, and runc with it", true}} {
		// try tells whether the fault fell between two writes.
		try := func() bool {
			tr := newTracer(t, d.Cgroup(t, "box").Path, files)
			defer tr.close()
			letGo := holdRuntime(t, d, "box")
			defer letGo()
			want := next()
			answered := make(chan answer, 1)
			go func() {
				r, err := update(want)
				answered <- answer{r, err}
			}()
			runc := waitForRuntime(t, d)
			half, more := "", random.IntN(16)
			attached, followed := make(chan error), make(chan struct{})
			go func() {
				defer close(followed)
				runtime.LockOSThread() // A tracer is a thread.
				defer runtime.UnlockOSThread()
				attached <- tr.attach(runc)
				tr.follow(more, func(changed string) {
					half = changed
					if f.dockerd {
						d.Kill(t) // and the kernel kills its runc
					} else {
						_ = unix.Kill(runc, unix.SIGKILL)
					}
				})
			}()
			assert.NilError(t, <-attached)
			letGo()
			a := <-answered
			<-followed
			if half == "" {
				assert.NilError(t, a.err)
				assert.Equal(t, a.Status, http.StatusOK, "%s", a.Body)
				assert.Equal(t, agree(t, d, "box", withGPU, ""), want)
				now = want
				return false
			}
			what := fmt.Sprintf("%s killed after %s of %v", f.name, half, files)
			assert.Assert(t, a.err != nil || a.Status != http.StatusOK, "%s: the client was told that it is done", what)
			if f.dockerd {
				d.StartAgain(t)
			} else {
				wantWords(t, a.Message(), d.Inspect(t, "box").ID, "update-many did not finish", "killed")
			}
			assert.Equal(t, agree(t, d, "box", withGPU, ""), now, what)
			return true
		}
		done, tries := 0, 0
		for ; done < times && tries < 10*times; tries++ {
			if try() {
				done++
			}
		}
		t.Logf("%s killed: %d of %d times between two writes", f.name, done, tries)
		assert.Equal(t, done, times, "%s: came too late each other time", f.name)
	}
}

// tracer follows a process from one system call to the next, and knows what
// the files had before.
type tracer struct {
	names []string
	fds   []int
	old   []string
}

func newTracer(t *testing.T, path func(string) (string, error), names []string) *tracer {
	tr := &tracer{names: names}
	for _, name := range names {
		full, err := path(name)
		assert.NilError(t, err)
		fd, err := unix.Open(full, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		assert.NilError(t, err)
		tr.fds = append(tr.fds, fd)
		tr.old = append(tr.old, tr.read(fd))
	}
	return tr
}

func (tr *tracer) close() {
	for _, fd := range tr.fds {
		_ = unix.Close(fd)
	}
}

func (tr *tracer) read(fd int) string {
	var buf [64]byte
	n, _ := unix.Pread(fd, buf[:], 0)
	return string(buf[:max(n, 0)])
}

func (tr *tracer) changed() (names []string) {
	for i, fd := range tr.fds {
		if tr.read(fd) != tr.old[i] {
			names = append(names, tr.names[i])
		}
	}
	return names
}

// attach traces all threads of a process. All calls have to come from the same
// thread of ours.
func (tr *tracer) attach(pid int) error {
	seen := map[int]bool{}
	for more := true; more; { // a thread may start others meanwhile
		more = false
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return err
		}
		for _, task := range tasks {
			tid, err := strconv.Atoi(task.Name())
			if err != nil || seen[tid] {
				continue
			}
			seen[tid], more = true, true
			_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(tid), 0, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_TRACECLONE, 0, 0)
			if errno != 0 && errno != unix.EPERM { // EPERM: as a clone, it is traced by now
				return errno
			}
			_ = unix.PtraceInterrupt(tid)
		}
	}
	return nil
}

// follow lets an attached process go on until it ends. When the kernel shows some
// of the new values and some of the old ones, and after so many stops more, it
// calls at with the names of the files that have changed; whoever has written
// them stands still meanwhile.
func (tr *tracer) follow(more int, at func(changed string)) {
	for {
		var status unix.WaitStatus
		tid, err := unix.Wait4(-1, &status, unix.WALL|unix.WNOTHREAD, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil { // ECHILD: no thread is left
			return
		}
		if !status.Stopped() {
			continue
		}
		if changed := tr.changed(); at != nil && 0 < len(changed) && len(changed) < len(tr.names) {
			if more == 0 {
				at(strings.Join(changed, " and "))
				at = nil
			}
			more--
		}
		signal := 0
		if s := status.StopSignal(); s != unix.SIGTRAP && s != unix.SIGTRAP|0x80 && status>>16 == 0 {
			signal = int(s) // It was sent by someone, such as Go's scheduler.
		}
		_ = unix.PtraceSyscall(tid, signal)
	}
}
