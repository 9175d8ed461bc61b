// SPDX-License-Identifier: Apache-2.0

package sysinfo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// checkGPUInfo wants the same of both features, as one controller has both.
func checkGPUInfo(t *testing.T, info *SysInfo, want bool, reason string) {
	t.Helper()
	for feature, got := range map[string]struct {
		able   bool
		reason string
	}{
		"memory":   {info.GPUMemory, info.GPUMemoryReason},
		"priority": {info.GPUPriority, info.GPUPriorityReason},
	} {
		assert.Check(t, is.Equal(got.able, want), feature)
		assert.Check(t, is.Contains(got.reason, reason), feature)
		assert.Check(t, is.Equal(got.reason == "", want), "%s: a reason is given when, and only when, the controller is missing", feature)
	}
}

func TestGPUCgroupInfo(t *testing.T) {
	real, named := t.TempDir(), t.TempDir()
	assert.NilError(t, os.WriteFile(filepath.Join(real, "gpu.usage_in_bytes"), []byte("0\n"), 0o600))

	for _, tc := range []struct {
		doc    string
		mounts map[string]string
		want   bool
		reason string
	}{
		{doc: "mounted", mounts: map[string]string{"gpu": real}, want: true},
		{doc: "named hierarchy in its place", mounts: map[string]string{"gpu": named}, reason: "is not the kernel's gpu controller"},
		{doc: "not mounted", mounts: map[string]string{"memory": named}, reason: "gpu cgroup controller"},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			info := &SysInfo{cgMounts: tc.mounts}
			applyGPUCgroupInfo(info)
			checkGPUInfo(t, info, tc.want, tc.reason)
		})
	}
}

func TestGPUCgroupInfoV2(t *testing.T) {
	info := &SysInfo{cg2Controllers: map[string]struct{}{"gpu": {}}}
	applyGPUCgroupInfoV2(info)
	checkGPUInfo(t, info, true, "")

	info = &SysInfo{cg2Controllers: map[string]struct{}{"memory": {}}}
	applyGPUCgroupInfoV2(info)
	checkGPUInfo(t, info, false, "gpu cgroup controller")
}

func TestGPUMissingReason(t *testing.T) {
	const head = "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t3\t9\t1\n"
	for _, tc := range []struct {
		doc, cgroups string
		v1           bool
		want         string
	}{
		{doc: "kernel without it", cgroups: head, v1: true, want: "CONFIG_CGROUP_GPU"},
		{doc: "disabled at boot", cgroups: head + "gpu\t0\t1\t0\n", v1: true, want: "cgroup_disable=gpu"},
		{doc: "v1, not mounted", cgroups: head + "gpu\t0\t1\t1\n", v1: true, want: "mount -t cgroup -o gpu"},
		{doc: "v2, taken by a v1 hierarchy", cgroups: head + "gpu\t7\t1\t1\n", want: "cgroup v2"},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			assert.Check(t, is.Contains(gpuMissingReason(strings.NewReader(tc.cgroups), tc.v1), tc.want))
		})
	}
}
