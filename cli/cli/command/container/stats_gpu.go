// SPDX-License-Identifier: Apache-2.0

package container

import (
	"slices"
	"strconv"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/go-units"
)

const (
	gpuMemUseHeader   = "GPU MEM USAGE / LIMIT"
	gpuMemPercHeader  = "GPU MEM %"
	gpuPriorityHeader = "GPU PRIO"
)

// statsFormat is [NewStatsFormat] with a column for the GPU memory behind the
// others if any container has some, or a limit of it. Everyone else gets the
// table that they know.
func statsFormat(source, osType string, entries []StatsEntry) formatter.Format {
	format := NewStatsFormat(source, osType)
	if source == formatter.TableFormatKey && slices.ContainsFunc(entries, usesGPU) {
		format += "\t{{.GPUMemUsage}}"
	}
	return format
}

func usesGPU(s StatsEntry) bool {
	return s.GPU != nil && (s.GPU.MemoryUsage > 0 || s.GPU.MemoryLimit != nil)
}

func (c *statsContext) addGPUHeaders() {
	if header, ok := c.Header.(formatter.SubHeaderContext); ok {
		header["GPUMemUsage"] = gpuMemUseHeader
		header["GPUMemPerc"] = gpuMemPercHeader
		header["GPUPriority"] = gpuPriorityHeader
	}
}

// GPUMemUsage is the GPU memory in use and the limit in force. The size of the
// GPU's memory is not known, so that there may be none.
func (c *statsContext) GPUMemUsage() string {
	usage, limit := noValue, noValue
	if gpu := c.s.GPU; gpu != nil && !c.s.IsInvalid {
		usage = units.BytesSize(float64(gpu.MemoryUsage))
		if gpu.MemoryLimit != nil {
			limit = units.BytesSize(float64(*gpu.MemoryLimit))
		}
	}
	return usage + " / " + limit
}

// GPUMemPerc is the part of the limit that is in use.
func (c *statsContext) GPUMemPerc() string {
	gpu := c.s.GPU
	if gpu == nil || c.s.IsInvalid || gpu.MemoryLimit == nil || *gpu.MemoryLimit == 0 {
		return noValue
	}
	return formatPercentage(float64(gpu.MemoryUsage) / float64(*gpu.MemoryLimit) * 100)
}

// GPUPriority is the GPU scheduling priority in force.
func (c *statsContext) GPUPriority() string {
	if c.s.GPU == nil || c.s.IsInvalid {
		return noValue
	}
	return strconv.FormatInt(c.s.GPU.Priority, 10)
}
