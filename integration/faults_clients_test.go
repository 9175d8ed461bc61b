// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// greedy is a command that holds 150 MiB while /ctl/grow is there, and makes
// /ctl/small again and again while it does not.
const greedy = "while true; do if [ -e /ctl/grow ]; then [ -e /dev/shm/x ] || dd if=/dev/zero of=/dev/shm/x bs=1M count=150 2>/dev/null; else rm -f /dev/shm/x; touch /ctl/small; fi; usleep 10000; done"

// clientSet is what one of two clients changes; the other changes the rest.
type clientSet struct {
	Memory, MemorySwap, PidsLimit int64
	BlkioReadLimit                int64 `json:",omitempty"` // which upstream does not know
	RestartPolicy                 struct{ Name string }
}

// Two clients update a container while dockerd or its runtime is killed, its restart
// policy changes, and what it uses grows past the old limit as soon as that is raised.
// Afterwards it has one whole set of each client, the one that it was told of if it
// was told, and it was not killed to put a limit back. That holds, too, if upstream's
// dockerd was there in between, which drops our fields and may change its own.
func TestUpdateFaultsWithTwoClients(t *testing.T) {
	place.OnHost(t)
	d := setup(t)
	disk := rootDisk(t, d)
	n, seed := killsOf(t, "CLIENT_KILLS")
	t.Logf("%d faults, SEED=%d", n, seed)
	random := rand.New(rand.NewPCG(seed, seed))
	ctl := t.TempDir()
	grow := filepath.Join(ctl, "grow")
	t.Cleanup(func() { d.Use(t, nil); d.Restart(t) })
	d.LiveRestore(t)
	d.Must(t, "run", "-d", "--name=box", "--memory=100m", "--memory-swap=100m", "--pids-limit=100", "--cpu-shares=100", "--shm-size=200m", "-v", ctl+":/ctl", "busybox", "sh", "-c", greedy)
	rate := func() int64 {
		if disk == "" {
			return 0
		}
		return mib + random.Int64N(1<<40)
	}
	pid := d.Inspect(t, "box").State.Pid
	g := d.Cgroup(t, "box")
	host := d.HostConfigFile(d.Inspect(t, "box").ID)

	update := func(body any) (status int, message string) {
		data, err := json.Marshal(body)
		assert.Check(t, err)
		r, err := d.TryAPI(http.MethodPost, "/containers/box/update", string(data))
		if err != nil {
			return 0, err.Error()
		}
		return r.Status, r.Message()
	}
	saved := func() (set clientSet, shares int64) {
		t.Helper()
		var all struct {
			clientSet
			CpuShares int64
		}
		readJSON(t, host, &all)
		return all.clientSet, all.CpuShares
	}
	uses := func() int64 {
		t.Helper()
		file := "memory.usage_in_bytes"
		if require.Has("v2") {
			file = "memory.current"
		}
		text, err := g.Read(file)
		assert.NilError(t, err)
		var n int64
		_, err = fmt.Sscan(text, &n)
		assert.NilError(t, err)
		return n
	}
	version := func() (v uint64) {
		t.Helper()
		_, err := fmt.Sscan(d.Must(t, "inspect", "-f", "{{.ResourcesVersion}}", "box"), &v)
		assert.NilError(t, err)
		return v
	}
	// visit starts upstream's dockerd on the data for a while. It returns the shares
	// that it was told to set, 0 for none.
	visit := func() (shares int64) {
		t.Helper()
		d.Use(t, daemon.Stock)
		d.StartAgain(t)
		if random.IntN(2) == 0 {
			shares = 2000 + random.Int64N(1000)
			d.Must(t, "update", fmt.Sprintf("--cpu-shares=%d", shares), "box")
		}
		d.Kill(t)
		var known map[string]json.RawMessage
		readJSON(t, host, &known)
		assert.Check(t, known["BlkioReadLimit"] == nil, "upstream keeps it by itself")
		d.Use(t, nil)
		return shares
	}
	low := func() clientSet {
		set := clientSet{Memory: 100 * mib, MemorySwap: 100 * mib, PidsLimit: 100 + random.Int64N(100), BlkioReadLimit: rate()}
		set.RestartPolicy.Name = []string{"no", "always"}[random.IntN(2)]
		return set
	}
	status, message := update(low())
	assert.Equal(t, status, http.StatusOK, message)
	forward, visits, visitUpdates := 0, 0, 0
	for i := range n {
		old, oldShares := saved()
		was := version()
		want := clientSet{Memory: 400*mib + random.Int64N(100)*mib, PidsLimit: 200 + random.Int64N(1000), BlkioReadLimit: rate()}
		want.MemorySwap = want.Memory
		want.RestartPolicy.Name = []string{"no", "always"}[random.IntN(2)]
		shares := 200 + random.Int64N(1000)
		type answer struct {
			status  int
			message string
		}
		answers := [2]chan answer{make(chan answer, 1), make(chan answer, 1)}
		for c, body := range []any{want, map[string]int64{"CpuShares": shares}} {
			go func() {
				status, message := update(body)
				answers[c] <- answer{status, message}
			}()
		}
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() { // as soon as there is room
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
					if text, err := g.Read("memory.max"); err == nil && text == fmt.Sprint(want.Memory) {
						_ = os.WriteFile(grow, nil, 0o600)
						return
					}
				}
			}
		}()
		time.Sleep(time.Duration(random.Int64N(int64(60 * time.Millisecond))))
		kind := faults[random.IntN(3)] // those that leave the container running
		kind.during(t, d, d.Runtimes())
		a, b := <-answers[0], <-answers[1]
		time.Sleep(time.Duration(random.Int64N(int64(200 * time.Millisecond)))) // it grows, or not yet
		what := fmt.Sprintf("fault %d, %s, answers %+v %+v", i, kind.name, a, b)
		var byUpstream int64
		if kind.after != nil {
			if require.Has("stock") && random.IntN(2) == 0 {
				byUpstream = visit()
				what += fmt.Sprintf(", upstream's dockerd in between (shares %d)", byUpstream)
				visits++
			}
			kind.after(t, d)
		}
		close(stop)
		<-stopped

		state := d.Inspect(t, "box").State
		assert.Assert(t, state.Running && state.Pid == pid, "%s: the container was killed: %+v", what, state)
		assert.Equal(t, d.Must(t, "inspect", "-f", "{{json .LimitsNotInForce}}", "box"), "null", what)
		s := agree(t, d, "box", false, disk)
		got, gotShares := saved()
		assert.Equal(t, s, settings{pids: got.PidsLimit, memory: got.Memory, disk: got.BlkioReadLimit}, what)
		shows := version()
		assert.Assert(t, shows > was || shows == was && got == old && gotShares == oldShares, "%s: version %d after %d", what, shows, was)
		assert.Equal(t, d.Must(t, "inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", "box"), got.RestartPolicy.Name, what)
		switch {
		case a.status == http.StatusOK:
			assert.Equal(t, got, want, what)
		case a.status != 0:
			assert.Equal(t, got, old, what)
		case got != old:
			assert.Equal(t, got, want, what)
		}
		switch {
		case byUpstream != 0:
			assert.Equal(t, gotShares, byUpstream, what)
			visitUpdates++
		case b.status == http.StatusOK:
			assert.Equal(t, gotShares, shares, what)
		case b.status != 0:
			assert.Equal(t, gotShares, oldShares, what)
		case gotShares != oldShares:
			assert.Equal(t, gotShares, shares, what)
		}
		if a.status != http.StatusOK && got == want {
			forward++
		}

		// Back to the low limit, when nothing holds more.
		_ = os.Remove(grow)
		_ = os.Remove(filepath.Join(ctl, "small"))
		until(t, func() error {
			if _, err := os.Stat(filepath.Join(ctl, "small")); err != nil {
				return err
			}
			if used := uses(); used > 90*mib {
				return fmt.Errorf("%d bytes are in use", used)
			}
			return nil
		})
		status, message := update(low())
		assert.Equal(t, status, http.StatusOK, "%s; and then: %s", what, message)
	}
	t.Logf("%d times the new set although nobody was told so; %d times upstream's dockerd in between, which changed shares %d times", forward, visits, visitUpdates)

	// The policy of the last set is the one that is acted by.
	got, _ := saved()
	assert.NilError(t, unix.Kill(pid, unix.SIGKILL))
	if got.RestartPolicy.Name == "always" {
		d.WaitRunning(t, "box", pid)
		return
	}
	time.Sleep(time.Second)
	assert.Check(t, !d.Inspect(t, "box").State.Running)
}
