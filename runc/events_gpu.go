// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/opencontainers/cgroups"

	"github.com/opencontainers/runc/types"
)

// convertGpu returns nil where the host has no gpu controller.
func convertGpu(c *cgroups.GpuStats) *types.GPU {
	if c == nil {
		return nil
	}
	return &types.GPU{
		Memory:   convertMemoryEntry(c.Memory),
		Priority: c.Priority,
	}
}
