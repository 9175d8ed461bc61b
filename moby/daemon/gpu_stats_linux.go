// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/daemon/cgroupdir"
)

// gpuStats reads what the gpu controller counts for a container from its
// cgroup, as the metrics of a stock shim have no place for it. It is nil where
// there is nothing to read: without the controller, or when the container has
// just ended, which the caller finds out by itself.
func (daemon *Daemon) gpuStats(id string, pid int) *containertypes.GPUStats {
	if !daemon.hostInfo().GPUMemory {
		return nil
	}
	dir, v2, err := cgroupdir.Of(id, pid, "gpu")
	if err != nil {
		return nil
	}
	stats, err := readGPUStats(dir, v2)
	if err != nil {
		return nil
	}
	return stats
}

// readGPUStats reads the files of a cgroup, and of those above it as far as
// they are to be seen: usage counts in each of them, and the smallest limit
// decides.
func readGPUStats(dir string, v2 bool) (*containertypes.GPUStats, error) {
	var (
		stats   containertypes.GPUStats
		usage   = "gpu.usage_in_bytes"
		peak    = "gpu.max_usage_in_bytes"
		failcnt = "gpu.failcnt"
		limit   = "gpu.max_mem_in_bytes"
		err     error
	)
	if v2 {
		// Not memory.events, which has the refusals of the cgroups below.
		usage, peak, failcnt, limit = "gpu.memory.current", "gpu.memory.peak", "gpu.memory.events.local", "gpu.memory.max"
	}
	for file, value := range map[string]*uint64{usage: &stats.MemoryUsage, peak: &stats.MemoryPeak, failcnt: &stats.MemoryFailcnt} {
		if *value, err = readGPUNumber(filepath.Join(dir, file)); err != nil {
			return nil, err
		}
	}
	if stats.Priority, err = readGPUPriority(dir); err != nil {
		return nil, err
	}
	if stats.MemoryLimit, err = readGPULimit(filepath.Join(dir, limit)); err != nil {
		return nil, err
	}
	// The root cgroup has neither file.
	for above := filepath.Dir(dir); ; above = filepath.Dir(above) {
		max, err := readGPULimit(filepath.Join(above, limit))
		if errors.Is(err, os.ErrNotExist) {
			return &stats, nil
		}
		if err != nil {
			return nil, err
		}
		if max != nil && (stats.MemoryLimit == nil || *max < *stats.MemoryLimit) {
			stats.MemoryLimit = max
		}
		priority, err := readGPUPriority(above)
		if err != nil {
			return nil, err
		}
		// 0 is "not set" there, and holds nothing down.
		if priority != 0 && priority < stats.Priority {
			stats.Priority = priority
		}
	}
}

func readGPUPriority(dir string) (int64, error) {
	text, err := os.ReadFile(filepath.Join(dir, "gpu.priority"))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}

// readGPULimit returns nil for "no limit".
func readGPULimit(file string) (*uint64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	switch limit := strings.TrimSpace(string(text)); limit {
	case gpuFileUnlimitedV1, gpuFileUnlimitedV2:
		return nil, nil
	default:
		n, err := strconv.ParseUint(limit, 10, 64)
		return &n, err
	}
}

// readGPUNumber reads a file with one number, or with lines of "key number",
// where it is that of "max".
func readGPUNumber(file string) (uint64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	sc := bufio.NewScanner(bytes.NewReader(text))
	for sc.Scan() {
		switch f := strings.Fields(sc.Text()); {
		case len(f) == 1:
			return strconv.ParseUint(f[0], 10, 64)
		case len(f) == 2 && f[0] == "max":
			return strconv.ParseUint(f[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no number: %q", file, text)
}
