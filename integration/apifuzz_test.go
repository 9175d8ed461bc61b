// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"gotest.tools/v3/assert"
)

// bodies makes JSON that is now right, now wrong in type, range or shape.
type bodies struct{ *rand.Rand }

var fuzzFields = []string{
	"GPUMemory", "GPUPriority", "BlkioReadLimit", "BlkioWriteLimit", "BlkioReadIOpsLimit", "BlkioWriteIOpsLimit", "NetClassID", "NetPriorities", "NetEgressRate",
	"NetIngressRate", "NetEgressPPS", "NetIngressPPS", "BlkioDeviceReadBps", "BlkioDeviceWriteIOps", "BlkioWeight", "BlkioWeightDevice", "Memory", "MemorySwap", "MemoryReservation", "CpuShares",
	"NanoCpus", "CpuQuota", "CpuPeriod", "CpusetCpus", "PidsLimit", "RestartPolicy", "Ulimits", "Devices", "CgroupParent", "gpumemory", "Unknown",
}

// plausible are values that alone are right.
var plausible = map[string][]any{
	"GPUMemory": {-1}, "GPUPriority": {0}, "BlkioReadLimit": {-1}, "NetClassID": {0}, "NetPriorities": {[]any{}}, "NetEgressRate": {-1}, "Memory": {64 << 20, 0},
	"MemorySwap": {-1}, "CpuShares": {2, 1024}, "NanoCpus": {0, 500000000}, "CpuQuota": {10000}, "CpusetCpus": {"0"}, "PidsLimit": {-1, 100},
	"BlkioDeviceReadBps": {[]any{}}, "BlkioWeight": {0}, "RestartPolicy": {map[string]any{"Name": "always"}, map[string]any{"Name": "no"}},
}

func (b bodies) value(depth int) any {
	numbers := []any{0, 1, 2, 7, 8, -1, -2, 1024, 1025, 10240, 1 << 31, 1<<32 - 1, 1 << 32, int64(1<<63 - 1), int64(-1 << 63), uint64(1 << 63), 0.5, 1e30, json.Number("1e400")}
	switch n := b.IntN(12); {
	case n < 6:
		return numbers[b.IntN(len(numbers))]
	case n == 6:
		return nil
	case n == 7:
		return b.IntN(2) == 0
	case n == 8:
		return []string{"", "1", "max", "-1", "/dev/null", "eth0", "\x00", strings.Repeat("x", 300), "ä€"}[b.IntN(9)]
	case n == 9 && depth > 0:
		var list []any
		for range b.IntN(4) {
			list = append(list, b.value(depth-1))
		}
		return list
	case depth > 0:
		keys := []string{"Path", "Rate", "Weight", "Interface", "Priority", "Name", "MaximumRetryCount"}
		m := map[string]any{}
		for range b.IntN(4) {
			m[keys[b.IntN(len(keys))]] = b.value(depth - 1)
		}
		if b.IntN(2) == 0 {
			return []any{m}
		}
		return m
	}
	return []any{}
}

func (b bodies) resources() map[string]any {
	m := map[string]any{}
	for range 1 + b.IntN(4) {
		name := fuzzFields[b.IntN(len(fuzzFields))]
		m[name] = b.value(2)
		if good := plausible[name]; good != nil && b.IntN(4) > 0 {
			m[name] = good[b.IntN(len(good))]
		}
	}
	return m
}

// text breaks the JSON itself now and then.
func (b bodies) text(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		data = []byte(`{"GPUMemory":1e400}`)
	}
	s := string(data)
	switch b.IntN(20) {
	case 0:
		return s[:b.IntN(len(s)+1)]
	case 1:
		return s + s
	case 2:
		i := b.IntN(len(s))
		return s[:i] + string(rune(b.IntN(256))) + s[i:]
	}
	return s
}

// Whatever a body holds, dockerd answers it: no panic, no container that a
// refused create leaves behind, and a refused update changes nothing. FUZZ is the
// number of bodies (default 300), SEED makes a run again.
func TestRandomBodies(t *testing.T) {
	place.OnHost(t)
	n := 300
	if s := os.Getenv("FUZZ"); s != "" {
		var err error
		n, err = strconv.Atoi(s)
		assert.NilError(t, err)
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		assert.NilError(t, err)
	}
	t.Logf("SEED=%d", seed)
	b := bodies{rand.New(rand.NewPCG(seed, 0))}
	d := setup(t)
	box := strings.TrimSpace(d.Must(t, "create", "--name=box", "--memory=64m", "busybox", "sleep", "600"))
	running := strings.TrimSpace(d.Must(t, "run", "-d", "--name=running", "--memory=64m", "busybox", "sleep", "6000"))
	pid := d.Inspect(t, running).State.Pid
	hostConfig := func(box string) string {
		t.Helper()
		r := d.API(t, http.MethodGet, "/containers/"+box+"/json", "")
		assert.Equal(t, r.Status, http.StatusOK, "%s", r.Body)
		var c struct{ HostConfig json.RawMessage }
		assert.NilError(t, json.Unmarshal(r.Body, &c))
		return string(c.HostConfig)
	}
	var created, updated, live, refused int
	for i := range n {
		names := len(d.Names(t))
		if b.IntN(2) == 0 {
			body := b.text(map[string]any{"Image": "busybox", "Cmd": []string{"true"}, "HostConfig": b.resources()})
			r, err := d.TryAPI(http.MethodPost, "/containers/create", body)
			assert.NilError(t, err, "body %d: %s", i, body) // a panic ends the connection without an answer
			assert.Assert(t, r.Status != http.StatusInternalServerError || r.Message() != "", "%s", body)
			if r.Status != http.StatusCreated {
				refused++
				assert.Equal(t, len(d.Names(t)), names, "a container is left of the refused %s", body)
				continue
			}
			created++
			var c struct{ Id string }
			assert.NilError(t, json.Unmarshal(r.Body, &c))
			r = d.API(t, http.MethodDelete, "/containers/"+c.Id+"?force=1", "")
			assert.Equal(t, r.Status, http.StatusNoContent, "%s: %s", body, r.Body)
			continue
		}
		target := box
		if b.IntN(2) == 0 {
			target = running
		}
		before := hostConfig(target)
		body := b.text(b.resources())
		path := "/containers/" + target + "/update"
		if b.IntN(3) == 0 {
			path += "?replace=1"
		}
		r, err := d.TryAPI(http.MethodPost, path, body)
		assert.NilError(t, err, "body %d: %s %s", i, path, body)
		if r.Status != http.StatusOK {
			refused++
			assert.Equal(t, hostConfig(target), before, "changed by the refused %s %s: %s", path, body, r.Body)
			continue
		}
		updated++
		if target == running {
			live++
		}
	}
	t.Logf("%d created, %d updated, %d of them live, %d refused", created, updated, live, refused)
	assert.Assert(t, created > 0 && live > 0 && updated > live && refused > 0, "the bodies are all of one kind")
	assert.Equal(t, d.Inspect(t, running).State.Pid, pid, "an update has ended the container")
	assert.Assert(t, !strings.Contains(d.Logs(), "panic"), "%s", d.Logs())
}
