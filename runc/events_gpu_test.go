// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/opencontainers/cgroups"

	"github.com/opencontainers/runc/libcontainer"
)

func TestConvertGpu(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   *cgroups.GpuStats
		want string // in the JSON, "" for no "gpu" at all
	}{
		{name: "no controller"},
		{
			name: "limited",
			in:   &cgroups.GpuStats{Memory: cgroups.MemoryData{Usage: 4096, MaxUsage: 8192, Failcnt: 3, Limit: 10240}, Priority: -50},
			want: `"gpu":{"memory":{"limit":10240,"usage":4096,"max":8192,"failcnt":3},"priority":-50}`,
		},
		{
			name: "unlimited and unused",
			in:   &cgroups.GpuStats{Memory: cgroups.MemoryData{Limit: 1<<64 - 1}},
			want: `"gpu":{"memory":{"limit":18446744073709551615,"failcnt":0},"priority":0}`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			stats := cgroups.NewStats()
			stats.GpuStats = tc.in
			out, err := json.Marshal(convertLibcontainerStats(&libcontainer.Stats{CgroupStats: stats}))
			if err != nil {
				t.Fatal(err)
			}
			if tc.want == "" && strings.Contains(string(out), `"gpu"`) || !strings.Contains(string(out), tc.want) {
				t.Errorf("got %s, want %s", out, tc.want)
			}
		})
	}
}
