// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"gotest.tools/v3/assert"
)

// kills is how often dockerd is killed: KILLS, or a number that fits into a
// normal test run. SEED makes a run again.
func kills(t *testing.T) (n int, seed uint64) {
	n, seed = 10, uint64(time.Now().UnixNano())
	for name, set := range map[string]func(uint64){
		"KILLS": func(v uint64) { n = int(v) },
		"SEED":  func(v uint64) { seed = v },
	} {
		if text := os.Getenv(name); text != "" {
			v, err := strconv.ParseUint(text, 10, 63)
			assert.NilError(t, err, name)
			set(v)
		}
	}
	return n, seed
}

// settings is one of the sets that updates switch between. They differ in every
// value, so that a mixture shows.
type settings struct {
	pids, memory, priority, gpu, disk int64
}

func (s settings) body(withGPU, withDisk bool) string {
	text := fmt.Sprintf(`"PidsLimit":%d,"Memory":%d,"MemorySwap":%d`, s.pids, s.memory, s.memory)
	if withGPU {
		text += fmt.Sprintf(`,"GPUPriority":%d,"GPUMemory":%d`, s.priority, s.gpu)
	}
	if withDisk {
		text += fmt.Sprintf(`,"BlkioReadLimit":%d`, s.disk)
	}
	return "{" + text + "}"
}

// inForce is what the kernel's files show; inspect must show the same.
func inForce(t *testing.T, d *daemon.Daemon, name string, withGPU bool, disk string) (s settings) {
	t.Helper()
	g := d.Cgroup(t, name)
	read := func(file string) int64 {
		text, err := g.Read(file)
		assert.NilError(t, err)
		n, err := strconv.ParseInt(text, 10, 64)
		assert.NilError(t, err, file)
		return n
	}
	hc := d.Inspect(t, name).HostConfig
	s = settings{pids: read("pids.max"), memory: read("memory.max")}
	assert.Equal(t, *hc.PidsLimit, s.pids, "inspect differs from the kernel")
	assert.Equal(t, hc.Memory, s.memory, "inspect differs from the kernel")
	if withGPU {
		s.priority, s.gpu = read("gpu.priority"), read("gpu.memory.max")
		assert.Equal(t, *hc.GPUPriority, s.priority, "inspect differs from the kernel")
		assert.Equal(t, *hc.GPUMemory, s.gpu, "inspect differs from the kernel")
	}
	if disk != "" {
		s.disk = int64(kernelRates(t, d, name)[disk][0])
		assert.Equal(t, *hc.BlkioReadLimit, s.disk, "inspect differs from the kernel")
	}
	return s
}

// A crash in the middle of an update: once dockerd is back, kernel and inspect
// agree on one whole set. It is the new one if the client was told so, and the
// old one or the new one if the client was told nothing.
func TestACrashInMidUpdateLeavesNoMixture(t *testing.T) {
	d := setup(t)
	withGPU, disk := require.Has("gpu"), rootDisk(t, d)
	n, seed := kills(t)
	t.Logf("%d kills, SEED=%d", n, seed)
	random := rand.New(rand.NewPCG(seed, seed))

	t.Cleanup(func() {
		d.RemoveAll(t)
		d.Restart(t)
	})
	d.Restart(t, sharedArgs("--live-restore")...)
	d.Must(t, "run", "-d", "--name=box", "busybox", "sleep", "86400")
	now := settings{}
	next := func() settings {
		return settings{
			pids: 50 + random.Int64N(1000), memory: (16 + random.Int64N(1000)) * mib,
			priority: 1 + random.Int64N(1000), gpu: 4096 + random.Int64N(1<<40), disk: mib + random.Int64N(1<<40),
		}
	}
	apply := func(s settings) (answered bool, status int) {
		r, err := d.TryAPI(http.MethodPost, "/containers/box/update", s.body(withGPU, disk != ""))
		if err != nil {
			return false, 0
		}
		return true, r.Status
	}
	now = next()
	start := time.Now()
	_, status := apply(now)
	assert.Equal(t, status, http.StatusOK)
	// Kill at any point of an update as long as this one, and a little later.
	window := time.Since(start) * 3 / 2

	took, kept := 0, 0
	for i := range n {
		want, delay := next(), time.Duration(random.Int64N(int64(window)))
		type answer struct {
			answered bool
			status   int
		}
		done := make(chan answer, 1)
		go func() {
			answered, status := apply(want)
			done <- answer{answered, status}
		}()
		time.Sleep(delay)
		d.Kill(t)
		a := <-done
		d.StartAgain(t, sharedArgs("--live-restore")...)

		got := inForce(t, d, "box", withGPU, disk)
		if !withGPU {
			want.priority, want.gpu, now.priority, now.gpu = 0, 0, 0, 0
		}
		if disk == "" {
			want.disk, now.disk = 0, 0
		}
		switch {
		case a.answered:
			assert.Equal(t, a.status, http.StatusOK)
			assert.Equal(t, got, want, "kill %d after %v: the client was told that it is done", i, delay)
			took++
		case got == want:
			took++
		default:
			assert.Equal(t, got, now, "kill %d after %v: neither the old set nor the new one, which is %v", i, delay, want)
			kept++
		}
		now = got
	}
	t.Logf("%d times the new settings, %d times the old ones", took, kept)
}
