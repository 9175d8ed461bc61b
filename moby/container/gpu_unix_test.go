//go:build !windows

// SPDX-License-Identifier: Apache-2.0

package container

import (
	"testing"

	containertypes "github.com/docker/docker/api/types/container"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func TestUpdateContainerGPU(t *testing.T) {
	i64 := func(v int64) *int64 { return &v }
	old := containertypes.Resources{GPUPriority: i64(50), GPUMemory: i64(10240), CPUShares: 7}

	for _, tc := range []struct {
		doc    string
		update containertypes.Resources
		prio   int64
		mem    int64
	}{
		{doc: "absent keeps", update: containertypes.Resources{CPUShares: 9}, prio: 50, mem: 10240},
		{doc: "priority only", update: containertypes.Resources{GPUPriority: i64(-3)}, prio: -3, mem: 10240},
		{doc: "zero priority is a value", update: containertypes.Resources{GPUPriority: i64(0)}, prio: 0, mem: 10240},
		{doc: "memory removed", update: containertypes.Resources{GPUMemory: i64(-1)}, prio: 50, mem: -1},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			c := &Container{HostConfig: &containertypes.HostConfig{Resources: old}}
			backup := *c.HostConfig
			assert.NilError(t, c.UpdateContainer(&containertypes.HostConfig{Resources: tc.update}))
			assert.Check(t, is.Equal(*c.HostConfig.GPUPriority, tc.prio))
			assert.Check(t, is.Equal(*c.HostConfig.GPUMemory, tc.mem))
			assert.Check(t, is.Equal(*backup.GPUPriority, int64(50)), "daemon.update's shallow backup must keep the old values")
			assert.Check(t, is.Equal(*backup.GPUMemory, int64(10240)), "daemon.update's shallow backup must keep the old values")
		})
	}
}
