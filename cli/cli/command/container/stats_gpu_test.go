// SPDX-License-Identifier: Apache-2.0

package container

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/docker/api/types/container"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
	"gotest.tools/v3/golden"
)

func uint64Ptr(n uint64) *uint64 { return &n }

func TestContainerStatsContextGPU(t *testing.T) {
	var ctx statsContext
	limited := &container.GPUStats{MemoryUsage: 3 << 20, MemoryLimit: uint64Ptr(8 << 20), Priority: -50}
	unlimited := &container.GPUStats{MemoryUsage: 3 << 20}
	for _, tc := range []struct {
		name  string
		stats StatsEntry
		usage string
		perc  string
		prio  string
	}{
		{name: "no controller", usage: "-- / --", perc: "--", prio: "--"},
		{name: "limited", stats: StatsEntry{GPU: limited}, usage: "3MiB / 8MiB", perc: "37.50%", prio: "-50"},
		{name: "unlimited", stats: StatsEntry{GPU: unlimited}, usage: "3MiB / --", perc: "--", prio: "0"},
		{name: "unused", stats: StatsEntry{GPU: &container.GPUStats{}}, usage: "0B / --", perc: "--", prio: "0"},
		{name: "invalid", stats: StatsEntry{GPU: limited, IsInvalid: true}, usage: "-- / --", perc: "--", prio: "--"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx = statsContext{s: tc.stats, os: "linux"}
			assert.Check(t, is.Equal(ctx.GPUMemUsage(), tc.usage))
			assert.Check(t, is.Equal(ctx.GPUMemPerc(), tc.perc))
			assert.Check(t, is.Equal(ctx.GPUPriority(), tc.prio))
		})
	}
}

func gpuStatsEntries(gpu ...*container.GPUStats) []StatsEntry {
	entries := []StatsEntry{{
		ID: "c74518277ddc15a6", Container: "web", Name: "/web", CPUPercentage: 20, Memory: 20, MemoryLimit: 80, MemoryPercentage: 25,
		NetworkRx: 20, NetworkTx: 20, BlockRead: 20, BlockWrite: 20, PidsCurrent: 2,
	}, {
		ID: "1285939c1fd3aaaa", Container: "db", Name: "/db", Memory: 30, MemoryLimit: 80, MemoryPercentage: 37.5, PidsCurrent: 3,
	}}
	for i := range gpu {
		entries[i].GPU = gpu[i]
	}
	return entries
}

// The table that everyone knows stays as it is, unless some container has
// something to show in the new column.
func TestContainerStatsFormatWriteGPU(t *testing.T) {
	unused := &container.GPUStats{}
	for _, tc := range []struct {
		doc, source, osType, golden string
		entries                     []StatsEntry
	}{
		{doc: "no controller", source: "table", osType: "linux", entries: gpuStatsEntries(), golden: "container-stats.golden"},
		{doc: "no one uses a GPU", source: "table", osType: "linux", entries: gpuStatsEntries(unused, unused), golden: "container-stats.golden"},
		{doc: "no container", source: "table", osType: "linux", golden: "container-stats-none.golden"},
		{doc: "windows", source: "table", osType: "windows", entries: gpuStatsEntries(), golden: "container-stats-windows.golden"},
		{
			doc: "a limit", source: "table", osType: "linux", golden: "container-stats-gpu.golden",
			entries: gpuStatsEntries(&container.GPUStats{MemoryLimit: uint64Ptr(8 << 20)}, unused),
		},
		{
			doc: "use without a limit", source: "table", osType: "linux", golden: "container-stats-gpu-unlimited.golden",
			entries: gpuStatsEntries(unused, &container.GPUStats{MemoryUsage: 3 << 20}),
		},
		{
			doc: "placeholders", source: "table {{.Name}}\t{{.GPUMemUsage}}\t{{.GPUMemPerc}}\t{{.GPUPriority}}", osType: "linux", golden: "container-stats-gpu-format.golden",
			entries: gpuStatsEntries(&container.GPUStats{MemoryUsage: 3 << 20, MemoryLimit: uint64Ptr(8 << 20), Priority: 50}, nil),
		},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			var out bytes.Buffer
			ctx := formatter.Context{Output: &out, Format: statsFormat(tc.source, tc.osType, tc.entries)}
			assert.NilError(t, statsFormatWrite(ctx, tc.entries, tc.osType, true))
			golden.Assert(t, out.String(), tc.golden)
		})
	}
}

func TestContainerStatsJSONGPU(t *testing.T) {
	var out bytes.Buffer
	entries := gpuStatsEntries(&container.GPUStats{MemoryUsage: 3 << 20, MemoryLimit: uint64Ptr(8 << 20), Priority: 50})
	ctx := formatter.Context{Output: &out, Format: statsFormat("{{json .}}", "linux", entries)}
	assert.NilError(t, statsFormatWrite(ctx, entries, "linux", false))
	dec := json.NewDecoder(&out)
	for _, want := range []map[string]string{
		{"GPUMemUsage": "3MiB / 8MiB", "GPUMemPerc": "37.50%", "GPUPriority": "50"},
		{"GPUMemUsage": "-- / --", "GPUMemPerc": "--", "GPUPriority": "--"},
	} {
		var got map[string]string
		assert.NilError(t, dec.Decode(&got))
		for name, value := range want {
			assert.Check(t, is.Equal(got[name], value), name)
		}
		assert.Check(t, is.Contains(got, "MemUsage"))
	}
}

func TestStatsErrorResetsGPU(t *testing.T) {
	s := &Stats{StatsEntry: StatsEntry{GPU: &container.GPUStats{MemoryUsage: 1}}}
	s.SetErrorAndReset(errors.New("timeout waiting for stats"))
	assert.Check(t, is.Nil(s.GetStatistics().GPU))
}
