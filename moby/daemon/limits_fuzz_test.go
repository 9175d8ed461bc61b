// SPDX-License-Identifier: Apache-2.0

//go:build linux || freebsd

package daemon

import (
	"encoding/json"
	"strconv"
	"testing"

	containertypes "github.com/docker/docker/api/types/container"
)

// What passes validation is in range, and goes to the runtime as that number.
func FuzzValidateLimits(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"GPUMemory":10240,"GPUPriority":50}`, `{"GPUMemory":0}`, `{"GPUMemory":-1}`, `{"GPUPriority":1025}`, `{"BlkioReadLimit":1}`,
		`{"BlkioReadIOpsLimit":4294967296}`, `{"NetEgressRate":7}`, `{"NetPriorities":[{"Interface":"","Priority":1}]}`, `{"NetClassID":4294967295}`,
		`{"BlkioDeviceReadIOps":[null]}`, `{"BlkioWeightDevice":[null]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var r containertypes.Resources
		if json.Unmarshal(body, &r) != nil {
			return
		}
		if err := validateLimits(r); err != nil {
			if err.Error() == "" {
				t.Fatal("an error without words")
			}
			return
		}
		u := gpuUnified(gpuLimits(r))
		if r.GPUMemory != nil {
			if n := *r.GPUMemory; n != -1 && n < 1 {
				t.Fatalf("GPUMemory %d passes", n)
			} else if got, ok := u[unifiedGPUMemory]; ok && got != "max" && got != strconv.FormatInt(n, 10) {
				t.Fatalf("GPUMemory %d is sent as %q", n, got)
			}
		}
		if r.GPUPriority != nil {
			if n := *r.GPUPriority; n < -1024 || n > 1024 {
				t.Fatalf("GPUPriority %d passes", n)
			} else if got, ok := u[unifiedGPUPriority]; ok && got != strconv.FormatInt(n, 10) {
				t.Fatalf("GPUPriority %d is sent as %q", n, got)
			}
		}
		for name, n := range map[string]*int64{"BlkioReadLimit": r.BlkioReadLimit, "BlkioWriteLimit": r.BlkioWriteLimit, "BlkioReadIOpsLimit": r.BlkioReadIOpsLimit, "BlkioWriteIOpsLimit": r.BlkioWriteIOpsLimit} {
			if n != nil && *n != -1 && *n < 2 {
				t.Fatalf("%s %d passes", name, *n)
			}
		}
		for name, n := range map[string]*int64{"NetEgressRate": r.NetEgressRate, "NetIngressRate": r.NetIngressRate} {
			if n != nil && *n != -1 && *n < 8 {
				t.Fatalf("%s %d passes", name, *n)
			}
		}
	})
}
