// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
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
	"gotest.tools/v3/assert"
)

// resourceInfo is what info says about limits beyond upstream's.
type resourceInfo struct {
	ResourceFeatures []string
	ResourceLimits   []resourceLimits
}

type resourceLimits struct {
	Feature, Backend, Reason string
	Fields                   []string
}

// wantGPUBackend checks what the host says of GPU limits in every place where
// it says so. Without a backend the reason must have these words.
func wantGPUBackend(t *testing.T, d *daemon.Daemon, backend string, reason ...string) {
	t.Helper()
	var info resourceInfo
	for _, path := range []string{"/info", oldestAPI(t, d) + "/info"} {
		r := d.API(t, http.MethodGet, path, "")
		assert.Equal(t, r.Status, http.StatusOK, "%s", r.Body)
		info = resourceInfo{}
		assert.NilError(t, json.Unmarshal(r.Body, &info))
		for feature, field := range map[string]string{"gpu-memory": "GPUMemory", "gpu-priority": "GPUPriority"} {
			i := slices.IndexFunc(info.ResourceLimits, func(l resourceLimits) bool { return l.Feature == feature })
			assert.Assert(t, i >= 0, "%s: %s", path, r.Body)
			gpu := info.ResourceLimits[i]
			assert.DeepEqual(t, gpu.Fields, []string{field})
			assert.Equal(t, gpu.Backend, backend, path)
			assert.Equal(t, gpu.Reason == "", backend != "", gpu.Reason)
			wantWords(t, gpu.Reason, reason...)
			assert.Equal(t, slices.Contains(info.ResourceFeatures, feature), backend != "", path)
		}
		// What it was called before there were two.
		assert.Equal(t, slices.Contains(info.ResourceFeatures, "gpu"), backend != "", path)
	}
	features := strings.Join(info.ResourceFeatures, ",")

	for _, method := range []string{http.MethodGet, http.MethodHead} {
		header := d.API(t, method, "/_ping", "").Header
		assert.DeepEqual(t, header.Values("Docker-Resource-Features"), []string{features})
	}
	var version struct {
		Components []struct {
			Name    string
			Details map[string]string
		}
	}
	r := d.API(t, http.MethodGet, "/version", "")
	assert.NilError(t, json.Unmarshal(r.Body, &version))
	got, ok := version.Components[0].Details["ResourceFeatures"]
	assert.Assert(t, ok, "%s", r.Body)
	assert.Equal(t, got, features)

	line := backend
	if backend == "" {
		line = "not enforced: "
	}
	wantWords(t, d.Must(t, "info"), "\n Resource Limits:\n  GPUMemory: "+line, "\n  GPUPriority: "+line)
	assert.Equal(t, d.Must(t, "info", "--format", `{{range .ResourceLimits}}{{if eq .Feature "gpu-priority"}}{{.Backend}}{{end}}{{end}}`), backend)
	assert.NilError(t, json.Unmarshal([]byte(d.Must(t, "info", "--format", "json")), &info))
	assert.Equal(t, strings.Join(info.ResourceFeatures, ","), features)
	text := d.Must(t, "version")
	assert.Equal(t, strings.Contains(text, "Resource limits:  "+features), features != "", text)
}

func TestInfoSaysWhatEnforcesGPULimits(t *testing.T) {
	d := setup(t)
	switch {
	case !require.Has("gpu"):
		wantGPUBackend(t, d, "", "CONFIG_CGROUP_GPU")
	case require.Has("v1"):
		wantGPUBackend(t, d, "gpu controller of cgroup v1")
	default:
		wantGPUBackend(t, d, "gpu controller of cgroup v2")
	}
}

// It is about the default runtime: what a container gets without being told.
func TestInfoSaysThatARuntimeCannot(t *testing.T) {
	require.GPU(t)
	require.CgroupV1(t)
	d := setup(t)
	d.DefaultRuntime(t, stockRuntime)
	wantGPUBackend(t, d, "", stockRuntime, "use the runc")
}

// oldestAPI begins the paths of the oldest version of the API that dockerd still speaks.
func oldestAPI(t *testing.T, d *daemon.Daemon) string {
	t.Helper()
	var version struct{ MinAPIVersion string }
	assert.NilError(t, json.Unmarshal(d.API(t, http.MethodGet, "/version", "").Body, &version))
	return "/v" + version.MinAPIVersion
}

type gpuStats struct {
	Usage    uint64  `json:"memory_usage"`
	Peak     uint64  `json:"memory_peak"`
	Limit    *uint64 `json:"memory_limit"`
	Failcnt  uint64  `json:"memory_failcnt"`
	Priority int64   `json:"priority"`
}

func (s *gpuStats) String() string {
	if s == nil {
		return "none"
	}
	limit := "none"
	if s.Limit != nil {
		limit = strconv.FormatUint(*s.Limit, 10)
	}
	return fmt.Sprintf("usage %d, peak %d, limit %s, failcnt %d, priority %d", s.Usage, s.Peak, limit, s.Failcnt, s.Priority)
}

type stats struct {
	Read time.Time
	GPU  *gpuStats `json:"gpu_stats"`
}

// statsOf asks once, as fast as dockerd can.
func statsOf(t *testing.T, d *daemon.Daemon, name string) stats {
	t.Helper()
	r := d.API(t, http.MethodGet, "/containers/"+name+"/stats?stream=0&one-shot=1", "")
	assert.Equal(t, r.Status, http.StatusOK, "%s", r.Body)
	var s stats
	assert.NilError(t, json.Unmarshal(r.Body, &s))
	return s
}

func wantStats(t *testing.T, d *daemon.Daemon, name, want string) {
	t.Helper()
	if got := statsOf(t, d, name).GPU.String(); got != want {
		t.Errorf("%s: gpu_stats has %s, want %s", name, got, want)
	}
}

func TestStatsShowGPUUse(t *testing.T) {
	require.GPU(t)
	require.DRM(t)
	d := setup(t)
	d.Must(t, "run", "-d", "--name=box", "--device="+engine, "--gpu-memory=8m", "--gpu-priority=50", "busybox", "gem", "alloc", "--count=5", "--hold")
	d.Must(t, "run", "-d", "--name=free", "busybox", "sleep", "600")
	g := d.Cgroup(t, "box")
	g.WantSoon(t, "gpu.memory.current", strconv.Itoa(5*mib), soon)

	t.Run("what the kernel shows", func(t *testing.T) {
		wantStats(t, d, "box", "usage 5242880, peak 5242880, limit 8388608, failcnt 0, priority 50")
		wantAlloc(t, d, "box", 4, 3)
		g.WantSoon(t, "gpu.memory.current", strconv.Itoa(5*mib), soon)
		wantStats(t, d, "box", "usage 5242880, peak 8388608, limit 8388608, failcnt 1, priority 50")
		g.Want(t, "gpu.memory.peak", strconv.Itoa(8*mib))
	})
	t.Run("no limit", func(t *testing.T) {
		wantStats(t, d, "free", "usage 0, peak 0, limit none, failcnt 0, priority 0")
	})
	t.Run("every way of asking", func(t *testing.T) {
		for _, path := range []string{"/containers/box/stats?stream=0", oldestAPI(t, d) + "/containers/box/stats?stream=0"} {
			var s stats
			assert.NilError(t, json.Unmarshal(d.API(t, http.MethodGet, path, "").Body, &s))
			assert.Assert(t, s.GPU != nil && s.GPU.Usage == 5*mib, "%s: %s", path, s.GPU)
		}
		body := d.Stream(t, "/containers/box/stats")
		defer body.Close()
		dec := json.NewDecoder(body)
		for range 2 {
			var s stats
			assert.NilError(t, dec.Decode(&s))
			assert.Assert(t, s.GPU != nil && s.GPU.Usage == 5*mib, "stream: %s", s.GPU)
		}
	})
	t.Run("docker stats", func(t *testing.T) {
		table := d.Must(t, "stats", "--no-stream")
		head, rows, _ := strings.Cut(table, "\n")
		assert.Assert(t, strings.HasSuffix(strings.TrimSpace(head), "PIDS      GPU MEM USAGE / LIMIT"), table)
		wantWords(t, rows, "5MiB / 8MiB", "0B / --")

		const format = "{{.GPUMemUsage}}|{{.GPUMemPerc}}|{{.GPUPriority}}"
		assert.Equal(t, d.Must(t, "stats", "--no-stream", "--format", format, "box"), "5MiB / 8MiB|62.50%|50")
		assert.Equal(t, d.Must(t, "stats", "--no-stream", "--format", format, "free"), "0B / --|--|0")
		wantWords(t, d.Must(t, "stats", "--no-stream", "--format", "json", "box"), `"GPUMemPerc":"62.50%"`, `"GPUMemUsage":"5MiB / 8MiB"`, `"GPUPriority":"50"`)
		// Nobody uses a GPU: the table is upstream's.
		wantUpstreamTable(t, d, "free")
	})
	t.Run("a tighter limit above", func(t *testing.T) {
		for file, value := range map[string]string{"gpu.memory.max": "6291456", "gpu.priority": "10"} {
			path, err := g.Path(file)
			assert.NilError(t, err)
			above := filepath.Join(filepath.Dir(filepath.Dir(path)), filepath.Base(path))
			assert.NilError(t, os.WriteFile(above, []byte(value), 0o644))
			off := "-1"
			if file == "gpu.priority" {
				off = "0"
			}
			t.Cleanup(func() { assert.NilError(t, os.WriteFile(above, []byte(off), 0o644)) })
		}
		wantStats(t, d, "box", "usage 5242880, peak 8388608, limit 6291456, failcnt 1, priority 10")
		wantStats(t, d, "free", "usage 0, peak 0, limit 6291456, failcnt 0, priority 0")
		wantLimits(t, d, "box", 50, 8*mib)
	})
	t.Run("runc events", func(t *testing.T) {
		var event struct {
			Data struct {
				GPU struct {
					Memory   struct{ Usage, Max, Limit, Failcnt uint64 }
					Priority int64
				}
			}
		}
		text := d.Runc(t, "events", "--stats", d.Inspect(t, "box").ID)
		assert.NilError(t, json.Unmarshal([]byte(text), &event))
		gpu := event.Data.GPU
		assert.Equal(t, fmt.Sprint(gpu.Memory, gpu.Priority), "{5242880 8388608 8388608 1} 50", text)
		wantWords(t, d.Runc(t, "events", "--stats", d.Inspect(t, "free").ID), `"gpu":{"memory":{"limit":18446744073709551615,`)
	})
	t.Run("paused", func(t *testing.T) {
		d.Must(t, "pause", "box")
		wantStats(t, d, "box", "usage 5242880, peak 8388608, limit 8388608, failcnt 1, priority 50")
		d.Must(t, "unpause", "box")
	})
	t.Run("stopped", func(t *testing.T) {
		d.Must(t, "stop", "box")
		wantStats(t, d, "box", "none")
		assert.Equal(t, d.Must(t, "stats", "--no-stream", "--format", "{{.GPUMemUsage}}", "box"), "-- / --")
	})
}

// wantUpstreamTable checks that the default table has upstream's columns only.
func wantUpstreamTable(t *testing.T, d *daemon.Daemon, name string) {
	t.Helper()
	head, _, _ := strings.Cut(d.Must(t, "stats", "--no-stream", name), "\n")
	assert.DeepEqual(t, strings.Fields(head), strings.Fields("CONTAINER ID NAME CPU % MEM USAGE / LIMIT MEM % NET I/O BLOCK I/O PIDS"))
}

func TestStatsWithoutTheController(t *testing.T) {
	require.NoGPU(t)
	d := setup(t)
	d.Must(t, "run", "-d", "--name=box", "busybox", "sleep", "600")
	wantStats(t, d, "box", "none")
	wantUpstreamTable(t, d, "box")
	assert.Equal(t, d.Must(t, "stats", "--no-stream", "--format", "{{.GPUMemUsage}}|{{.GPUMemPerc}}|{{.GPUPriority}}", "box"), "-- / --|--|--")
	text := d.Runc(t, "events", "--stats", d.Inspect(t, "box").ID)
	wantWords(t, text, `"pids":{"current":1`)
	assert.Assert(t, !strings.Contains(text, `"gpu"`), text)
}

func TestTheUpdateEventNamesWhatChanged(t *testing.T) {
	place.OneVM(t)
	d := setup(t)
	d.Must(t, "run", "-d", "--name=box", "--pids-limit=100", "--memory=64m", "busybox", "sleep", "600")
	since := time.Now()
	want := map[string]string{"PidsLimit": "133"}
	args := []string{"modresources", "--pids-limit=133", "--memory=64m"}
	if require.Has("gpu") {
		args = append(args, "--gpu-memory=10240", "--gpu-priority=50")
		want["GPUMemory"], want["GPUPriority"] = "10240", "50"
	}
	d.Must(t, append(args, "box")...)
	// Nothing has changed: no event.
	r := d.API(t, http.MethodPost, "/containers/box/update", `{"GPUMemory":0,"PidsLimit":155}`)
	assert.Equal(t, r.Status, http.StatusBadRequest, "%s", r.Body)

	query := url.Values{
		"since": {fmt.Sprint(since.Unix())}, "until": {fmt.Sprint(time.Now().Unix() + 1)},
		"filters": {`{"event":{"update":true},"container":{"box":true}}`},
	}
	body := d.API(t, http.MethodGet, "/events?"+query.Encode(), "").Body
	var event struct {
		Action string
		Actor  struct{ Attributes map[string]string }
	}
	dec := json.NewDecoder(strings.NewReader(string(body)))
	assert.NilError(t, dec.Decode(&event))
	assert.Equal(t, event.Action, "update")
	assert.Assert(t, !dec.More(), "more than one event: %s", body)
	got := event.Actor.Attributes
	assert.Equal(t, got["name"], "box")
	delete(got, "name")
	delete(got, "image")
	assert.DeepEqual(t, got, want)
	d.Cgroup(t, "box").Want(t, "pids.max", "133")
	if require.Has("gpu") {
		wantKernel(t, d, "box", 50, 10240)
	}
}
