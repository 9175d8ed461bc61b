// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// kills is how often something is killed: KILLS, or a number that fits into a
// normal test run. SEED makes a run again.
func kills(t *testing.T) (n int, seed uint64) { return killsOf(t, "KILLS") }

func killsOf(t *testing.T, count string) (n int, seed uint64) {
	n, seed = 10, uint64(time.Now().UnixNano())
	for name, set := range map[string]func(uint64){
		count:  func(v uint64) { n = int(v) },
		"SEED": func(v uint64) { seed = v },
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

// agree fails the test unless kernel, inspect, the file that the next dockerd
// would read and runc's own state all have one set, and returns it.
func agree(t *testing.T, d *daemon.Daemon, name string, withGPU bool, disk string) settings {
	t.Helper()
	s, id := inForce(t, d, name, withGPU, disk), d.Inspect(t, name).ID
	var saved struct{ PidsLimit, Memory, GPUPriority, GPUMemory, BlkioReadLimit int64 }
	readJSON(t, d.HostConfigFile(id), &saved)
	var state struct {
		Config struct {
			Cgroups struct {
				PidsLimit   int64 `json:"pids_limit"`
				Memory      int64 `json:"memory"`
				GPUPriority int64 `json:"gpu_priority"`
				GPUMemory   int64 `json:"gpu_memory"`
				Unified     map[string]string
				ReadBps     []struct {
					Major, Minor int
					Rate         int64
				} `json:"blkio_throttle_read_bps_device"`
			} `json:"cgroups"`
		} `json:"config"`
	}
	readJSON(t, d.StateFile(id), &state)
	inState := settings{pids: state.Config.Cgroups.PidsLimit, memory: state.Config.Cgroups.Memory}
	onDisk := settings{pids: saved.PidsLimit, memory: saved.Memory}
	if withGPU {
		onDisk.priority, onDisk.gpu = saved.GPUPriority, saved.GPUMemory
		inState.priority, inState.gpu = state.Config.Cgroups.GPUPriority, state.Config.Cgroups.GPUMemory
		for key, field := range map[string]*int64{"gpu.priority": &inState.priority, "gpu.memory.max": &inState.gpu} {
			// So it is on cgroup v2.
			if text, ok := state.Config.Cgroups.Unified[key]; ok {
				n, err := strconv.ParseInt(text, 10, 64)
				assert.NilError(t, err, key)
				*field = n
			}
		}
	}
	if disk != "" {
		onDisk.disk = saved.BlkioReadLimit
		for _, r := range state.Config.Cgroups.ReadBps {
			if fmt.Sprintf("%d:%d", r.Major, r.Minor) == disk {
				inState.disk = r.Rate
			}
		}
	}
	assert.Equal(t, onDisk, s, "hostconfig.json differs from the kernel")
	assert.Equal(t, inState, s, "state.json differs from the kernel")
	return s
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	assert.NilError(t, err)
	assert.NilError(t, json.Unmarshal(data, v))
}

// fault is one way for an update to go wrong.
type fault struct {
	name string
	// during happens some time after the request was sent. These runcs were
	// there before: to look for them then would take longer than the update.
	during func(t *testing.T, d *daemon.Daemon, runcs []int)
	// after brings back what during has broken, before anything is looked at.
	after func(t *testing.T, d *daemon.Daemon)
}

var faults = []fault{
	{
		name:   "dockerd killed",
		during: func(t *testing.T, d *daemon.Daemon, _ []int) { d.Kill(t) },
		after:  func(t *testing.T, d *daemon.Daemon) { d.StartAgain(t) },
	},
	{
		name:   "runc killed",
		during: killRuncs,
	},
	{
		name: "dockerd and runc killed",
		during: func(t *testing.T, d *daemon.Daemon, runcs []int) {
			killRuncs(t, d, runcs)
			d.Kill(t)
		},
		after: func(t *testing.T, d *daemon.Daemon) { d.StartAgain(t) },
	},
	{
		name:   "containerd killed",
		during: func(t *testing.T, d *daemon.Daemon, _ []int) { d.RestartContainerd(t) },
	},
	{
		name:   "shim killed",
		during: func(_ *testing.T, d *daemon.Daemon, _ []int) { d.KillShims() },
		after: func(t *testing.T, d *daemon.Daemon) {
			// The container dies with it. Its limits come from disk now.
			stopped := func() bool {
				for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
					if !d.Inspect(t, "box").State.Running {
						return true
					}
				}
				return false
			}
			if !stopped() {
				// Upstream's dockerd misses the event of a death so soon after
				// that of containerd. It looks again when it starts.
				d.Restart(t)
				assert.Assert(t, stopped())
			}
			// Containerd may still be clearing up what the shim has left.
			var r daemon.Response
			for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
				if r = d.API(t, http.MethodPost, "/containers/box/start", ""); r.Status < 300 {
					return
				}
			}
			t.Fatalf("start: %d %s", r.Status, r.Message())
		},
	},
}

func killRuncs(_ *testing.T, d *daemon.Daemon, runcs []int) {
	for _, pid := range runcs {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	if len(runcs) == 0 {
		d.KillRuntime()
	}
}

// A fault at any moment of an update: after it kernel, inspect, disk and runc's
// state agree on one whole set. It is the new one if the client was told so,
// the old one if it was told no, and one of the two if it was told nothing.
func TestAFaultInMidUpdateLeavesNoMixture(t *testing.T) {
	place.EachVersion(t)
	d := setup(t)
	withGPU, disk := require.Has("gpu"), rootDisk(t, d)
	n, seed := kills(t)
	t.Logf("%d faults, SEED=%d", n, seed)
	random := rand.New(rand.NewPCG(seed, seed))

	// Which ends the container, too. To remove it before is what upstream's dockerd
	// may fail at after the death of containerd: it waits for a lost event.
	t.Cleanup(func() { d.Restart(t) })
	d.LiveRestore(t)
	d.Must(t, "run", "-d", "--name=box", "busybox", "sleep", "86400")
	next := func() settings {
		s := settings{
			pids: 50 + random.Int64N(1000), memory: (16 + random.Int64N(1000)) * mib,
			priority: 1 + random.Int64N(1000), gpu: 4096 + random.Int64N(1<<40), disk: mib + random.Int64N(1<<40),
		}
		if !withGPU {
			s.priority, s.gpu = 0, 0
		}
		if disk == "" {
			s.disk = 0
		}
		return s
	}
	type answer struct {
		answered bool
		status   int
		message  string
	}
	apply := func(s settings) answer {
		r, err := d.TryAPI(http.MethodPost, "/containers/box/update", s.body(withGPU, disk != ""))
		if err != nil {
			return answer{}
		}
		return answer{true, r.Status, r.Message()}
	}
	now := next()
	timed := func() time.Duration {
		start := time.Now()
		a := apply(now)
		assert.Equal(t, a.status, http.StatusOK, a.message)
		return time.Since(start)
	}
	// At any point of an update for which a runc has to start, or of one for
	// which there is one already, and a little later.
	windows := []time.Duration{timed() * 3 / 2, timed() * 3 / 2}

	count := map[string]*[2]int{}
	for i := range n {
		f := faults[random.IntN(len(faults))]
		want, delay := next(), time.Duration(random.Int64N(int64(windows[random.IntN(2)])))
		runcs := d.Runtimes()
		done := make(chan answer, 1)
		go func() { done <- apply(want) }()
		time.Sleep(delay)
		f.during(t, d, runcs)
		a := <-done
		if f.after != nil {
			f.after(t, d)
		}

		got := agree(t, d, "box", withGPU, disk)
		what := fmt.Sprintf("fault %d, %s after %v, answer %+v", i, f.name, delay, a)
		switch {
		case a.status == http.StatusOK:
			assert.Equal(t, got, want, "%s: the client was told that it is done", what)
		case a.answered:
			assert.Equal(t, got, now, "%s: the client was told that it has failed", what)
			wantWords(t, a.message, d.Inspect(t, "box").ID)
		case got != want:
			assert.Equal(t, got, now, "%s: neither the old set nor the new one, which is %v", what, want)
		}
		if count[f.name] == nil {
			count[f.name] = new([2]int)
		}
		if got == want {
			count[f.name][0]++
		} else {
			count[f.name][1]++
		}
		now = got
	}
	for _, f := range faults {
		if c := count[f.name]; c != nil {
			t.Logf("%s: %d times the new settings, %d times the old ones", f.name, c[0], c[1])
		}
	}
}

// crowd puts a small file system over a container's folder, with what is in it,
// and returns a function that leaves so many bytes free in it.
func crowd(t *testing.T, dir string) (leave func(bytes int)) {
	t.Helper()
	names, err := os.ReadDir(dir)
	assert.NilError(t, err)
	files := map[string][]byte{}
	for _, e := range names {
		if e.Type().IsRegular() {
			data, err := os.ReadFile(filepath.Join(dir, e.Name()))
			assert.NilError(t, err)
			files[e.Name()] = data
		}
	}
	assert.NilError(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=512k"))
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	for name, data := range files {
		assert.NilError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	return func(bytes int) {
		ballast := filepath.Join(dir, "ballast")
		_ = os.Remove(ballast)
		var st unix.Statfs_t
		assert.NilError(t, unix.Statfs(dir, &st))
		if free := int(st.Bavail) * int(st.Bsize); free > bytes {
			assert.NilError(t, os.WriteFile(ballast, make([]byte, free-bytes), 0o600))
		}
	}
}

func TestAFaultOfTheDiskChangesNothing(t *testing.T) {
	place.OnHost(t)
	d := setup(t)
	withGPU := require.Has("gpu")
	for _, tc := range []struct {
		name string
		dir  func(id string) string
		word string
	}{
		{"the daemon's", func(id string) string { return filepath.Dir(d.HostConfigFile(id)) }, ""},
		{"the runtime's", func(id string) string { return filepath.Dir(d.StateFile(id)) }, "state"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Cleanup(func() { d.RemoveAll(t) })
			old := settings{pids: 100, memory: 64 * mib}
			args := []string{"run", "-d", "--name=box", "--pids-limit=100", "--memory=64m", "--memory-swap=64m"}
			if withGPU {
				old.priority, old.gpu = 50, 10240
				args = append(args, "--gpu-priority=50", "--gpu-memory=10240")
			}
			d.Must(t, append(args, "busybox", "sleep", "86400")...)
			id := d.Inspect(t, "box").ID
			dir := tc.dir(id)
			leave := crowd(t, dir)
			changed := settings{pids: 133, memory: 128 * mib}
			if withGPU {
				changed.priority, changed.gpu = 7, 20480
			}
			update := func() daemon.Response {
				return d.API(t, http.MethodPost, "/containers/box/update", changed.body(withGPU, false))
			}
			refused, sizes := 0, []int{0, 4096, 8192, 12288, 16384, 32768}
			if withGPU { // The VM, where each update takes much longer.
				sizes = []int{0, 8192, 32768}
			}
			for _, free := range sizes {
				leave(free)
				r := update()
				if r.Status == http.StatusOK {
					assert.Equal(t, agree(t, d, "box", withGPU, ""), changed, "%d bytes free", free)
					leave(1 << 18)
					back := d.API(t, http.MethodPost, "/containers/box/update", old.body(withGPU, false))
					assert.Equal(t, back.Status, http.StatusOK, "%s", back.Body)
					continue
				}
				refused++
				wantWords(t, r.Message(), id, "no space left on device", tc.word)
				assert.Equal(t, agree(t, d, "box", withGPU, ""), old, "%d bytes free", free)
			}
			assert.Assert(t, refused > 0, "the disk was never full")

			leave(1 << 18)
			assert.NilError(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
			r := update()
			assert.Assert(t, r.Status != http.StatusOK)
			wantWords(t, r.Message(), id, "read-only file system", tc.word)
			assert.Equal(t, agree(t, d, "box", withGPU, ""), old)

			assert.NilError(t, unix.Mount("", dir, "", unix.MS_REMOUNT, "size=512k"))
			r = update()
			assert.Equal(t, r.Status, http.StatusOK, "%s", r.Body)
			assert.Equal(t, agree(t, d, "box", withGPU, ""), changed)
		})
	}
}

// The kernel refuses one resource after others have been written: someone has
// set a burst for CPU time, which no quota may be below.
func TestAFaultOfTheKernelChangesNothing(t *testing.T) {
	place.EachVersion(t)
	d := setup(t)
	quota, burst, rest := "cpu.cfs_quota_us", "cpu.cfs_burst_us", ""
	if require.Has("v2") {
		quota, burst, rest = "cpu.max", "cpu.max.burst", " 100000"
	}
	names := []string{"one", "two", "three"}
	for _, name := range names {
		d.Must(t, "run", "-d", "--name="+name, "--pids-limit=100", "--memory=64m", "--memory-swap=64m",
			"--cpu-period=100000", "--cpu-quota=80000", "busybox", "sleep", "600")
	}
	file := func(name, file string) string {
		dir, err := d.Cgroup(t, name).Dir("cpu")
		assert.NilError(t, err)
		return filepath.Join(dir, file)
	}
	assert.NilError(t, os.WriteFile(file("two", burst), []byte("60000"), 0))

	old, changed := settings{pids: 100, memory: 64 * mib}, settings{pids: 133, memory: 128 * mib}
	want := func(name string, s settings, cpu string) {
		t.Helper()
		assert.Equal(t, agree(t, d, name, false, ""), s, name)
		text, err := os.ReadFile(file(name, quota))
		assert.NilError(t, err)
		assert.Equal(t, strings.TrimSpace(string(text)), cpu+rest, name)
	}
	all := func() {
		t.Helper()
		for _, name := range names {
			want(name, old, "80000")
		}
	}
	r := d.API(t, http.MethodPost, "/containers/two/update", `{"Memory":134217728,"MemorySwap":134217728,"PidsLimit":133,"CpuQuota":50000}`)
	assert.Assert(t, r.Status != http.StatusOK, "the kernel took it")
	wantWords(t, r.Message(), d.Inspect(t, "two").ID, quota, "invalid argument")
	all()

	// Of several containers none is changed, unless that is asked for.
	flags := []string{"--pids-limit=133", "--memory=128m", "--memory-swap=128m", "--cpu-quota=50000"}
	res := d.Docker(t, slices.Concat([]string{"modresources"}, flags, names)...)
	assert.Assert(t, res.Code != 0, "the kernel took it")
	wantWords(t, res.Stderr, "two: ", d.Inspect(t, "two").ID, quota, "invalid argument")
	all()
	res = d.Docker(t, slices.Concat([]string{"modresources", "--partial"}, flags, names)...)
	assert.Assert(t, res.Code != 0, "the kernel took it")
	wantWords(t, res.Stderr, "two: ", "invalid argument")
	want("one", changed, "50000")
	want("two", old, "80000")
	want("three", changed, "50000")
}
