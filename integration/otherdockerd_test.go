// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/netns"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// Upstream's dockerd starts on our data for a while: it drops the fields that it does
// not know. They come back with the next start of ours, running or not.
func TestLimitsSurviveAStockDockerd(t *testing.T) {
	place.OnHost(t)
	require.Stock(t)
	require.Previous(t)
	require.NetRate(t)
	h := newNetHost(t, netns.New(t), netns.New(t))
	d, err := daemon.StartWith(nil, h.NS, "--live-restore")
	assert.NilError(t, err)
	daemon.Until(t, d)
	t.Cleanup(func() { d.RemoveAll(t) })
	clean := h.leftovers(t)
	snapshotter := strings.Contains(d.Must(t, "info", "-f", "{{.DriverStatus}}"), "io.containerd.snapshotter")
	become := func(programs map[string]string, args ...string) {
		t.Helper()
		d.Stop(t)
		d.Use(t, programs, args...)
		d.StartAgain(t)
	}
	limits := []string{"--blkio-read-limit=40m", "--net-classid=10:1", rateFlag(t, "egress", 8), rateFlag(t, "ingress", 16)}
	for _, name := range []string{"runs", "stopped", "lifted", "changed"} {
		d.Must(t, append(append([]string{"run", "-d", "--name=" + name}, limits...), "busybox", "sleep", "600")...)
	}
	// One without limits of ours, updated and not.
	version := func() (v uint64) {
		t.Helper()
		_, err := fmt.Sscan(d.Must(t, "inspect", "-f", "{{.ResourcesVersion}}", "none"), &v)
		assert.NilError(t, err)
		return v
	}
	d.Must(t, "run", "-d", "--name=none", "busybox", "sleep", "600")
	held := []uint64{version()}
	d.Must(t, "update", "--cpu-shares=200", "none")
	held = append(held, version())
	d.Must(t, "stop", "-t", "0", "stopped")
	d.Must(t, "update", "--blkio-read-limit=-1", "--net-classid=0", "--net-egress-rate=-1", "--net-ingress-rate=-1", "lifted")
	names := []string{"BlkioReadLimit", "NetClassID", "NetEgressRate", "NetIngressRate"}
	has := func(name string) string {
		t.Helper()
		var all map[string]json.RawMessage
		assert.NilError(t, json.Unmarshal([]byte(d.Must(t, "inspect", "-f", "{{json .HostConfig}}", name)), &all))
		var s []string
		for _, field := range names {
			if v, ok := all[field]; ok {
				s = append(s, field+"="+string(v))
			}
		}
		return strings.Join(s, " ")
	}
	before := map[string]string{}
	for _, name := range []string{"runs", "stopped", "lifted", "changed"} {
		before[name] = has(name)
	}
	disk := rootDisk(t, d)
	wantRates(t, d, "runs", map[string]diskRates{disk: {40 * mib, 0, 0, 0}})

	become(daemon.Stock)
	var saved map[string]json.RawMessage
	readJSON(t, d.HostConfigFile(d.Inspect(t, "runs").ID), &saved)
	assert.Check(t, saved["BlkioReadLimit"] == nil, "upstream keeps it by itself")
	d.Must(t, "update", "--cpu-shares=300", "runs")
	d.Must(t, "update", "--cpu-shares=300", "stopped")
	d.Must(t, "restart", "-t", "0", "changed") // and has no limits until ours is back
	d.Must(t, "update", "--cpu-shares=300", "none")
	become(nil)
	assert.Check(t, !slices.Contains(held, version()), "version %d again, of %v", version(), held)
	for _, v := range held {
		r := d.API(t, http.MethodPost, fmt.Sprintf("/containers/none/update?version=%d", v), `{"CpuShares":400}`)
		assert.Check(t, is.Equal(r.Status, http.StatusConflict), "version %d: %s", v, r.Body)
	}

	for name, want := range before {
		assert.Check(t, is.Equal(has(name), want), name)
	}
	assert.Equal(t, d.Must(t, "inspect", "-f", "{{.HostConfig.CpuShares}}", "runs"), "300")
	events := pastEvents(t, d, "limits_recovered", "{{.Actor.Attributes.name}} {{.Actor.Attributes.BlkioReadLimit}}")
	for _, name := range []string{"runs", "stopped", "changed"} {
		wantWords(t, events, name+" 41943040")
	}
	// Upstream marks no interface of a container that it starts: it is found all the same.
	assert.Check(t, is.Equal(d.Must(t, "inspect", "-f", "{{json .LimitsNotInForce}}", "changed"), "null"))
	serve(t, d, "changed")
	h.wantRate(t, addrOf(t, d, "changed", "bridge"), true, 8)
	d.Must(t, "restart", "-t", "0", "changed")
	d.Must(t, "start", "stopped")
	for _, name := range []string{"runs", "stopped", "changed"} {
		until(t, func() error { // disks of a running one are gone through in the background
			if got := kernelRates(t, d, name)[disk]; disk != "" && got != (diskRates{40 * mib, 0, 0, 0}) {
				return fmt.Errorf("%s: %v", name, got)
			}
			return nil
		})
		assert.Check(t, is.Equal(h.classOf(t, d, name, outside4), "10:1"), name)
		assert.Check(t, is.Equal(d.Must(t, "inspect", "-f", "{{json .LimitsNotInForce}}", name), "null"))
	}
	serve(t, d, "changed")
	h.wantRate(t, addrOf(t, d, "changed", "bridge"), true, 8)
	wantRates(t, d, "lifted", map[string]diskRates{})

	// An earlier build of ours, which knows the fields and not the copy.
	// It is of Docker 28, which has to be told where 29 keeps images and containers.
	become(daemon.Previous, "--feature", "containerd-snapshotter="+strconv.FormatBool(snapshotter))
	d.Must(t, "update", "--blkio-read-limit=20m", "runs")
	d.Must(t, "update", "--net-classid=0", "stopped")
	become(nil)
	wantRates(t, d, "runs", map[string]diskRates{disk: {20 * mib, 0, 0, 0}})
	assert.Equal(t, h.classOf(t, d, "stopped", outside4), classOther)

	// A container of upstream's with the address of one of ours that it removed.
	become(daemon.Stock)
	addr := addrOf(t, d, "changed", "bridge")
	d.Must(t, "rm", "-f", "changed")
	d.Must(t, "run", "-d", "--name=changed", "busybox", "sleep", "600")
	assert.Equal(t, addrOf(t, d, "changed", "bridge"), addr, "not the case that is tested")
	become(nil)
	assert.Equal(t, has("changed"), "")
	assert.Equal(t, h.classOf(t, d, "changed", outside4), classOther)
	assert.Equal(t, has("runs"), strings.Replace(before["runs"], "41943040", "20971520", 1))

	d.RemoveAll(t)
	assert.Equal(t, h.leftovers(t), clean)
	left, err := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(d.HostConfigFile("x"))), "*"))
	assert.NilError(t, err)
	assert.Check(t, is.Len(left, 0))
}
