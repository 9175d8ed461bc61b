// SPDX-License-Identifier: Apache-2.0

package fs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fscommon"
)

// GpuGroup is the cgroup v1 gpu controller.
type GpuGroup struct{}

func (s *GpuGroup) Name() string {
	return "gpu"
}

// ID is the bit that asks for the controller's statistics.
func (s *GpuGroup) ID() cgroups.Controller {
	return cgroups.GPU
}

func (s *GpuGroup) Apply(path string, _ *cgroups.Resources, pid int) error {
	return apply(path, pid)
}

// Set writes the limits that are not nil. There is deliberately no check of
// path: a limit without a gpu hierarchy has to fail, and it does on the write.
func (s *GpuGroup) Set(path string, r *cgroups.Resources) error {
	if r.GPUPriority != nil {
		if err := setGpu(path, "gpu.priority", *r.GPUPriority); err != nil {
			return err
		}
	}
	if r.GPUMemory != nil {
		if err := setGpu(path, "gpu.max_mem_in_bytes", *r.GPUMemory); err != nil {
			return err
		}
	}
	return nil
}

func setGpu(path, file string, value int64) error {
	err := cgroups.WriteFile(path, file, strconv.FormatInt(value, 10))
	if errors.Is(err, os.ErrNotExist) {
		// The default mount point is taken for the controller's by its name
		// alone, so some other hierarchy mounted there gets this far.
		return fmt.Errorf("cannot set gpu limit: %s is not a cgroup of the gpu controller: %w", path, err)
	}
	if err != nil {
		return fmt.Errorf("cannot set gpu limit %s to %d: %w", file, value, err)
	}
	return nil
}

// GetStats reports nothing where the controller is not mounted, or where some
// other hierarchy stands in its place.
func (s *GpuGroup) GetStats(path string, stats *cgroups.Stats) error {
	if !cgroups.PathExists(filepath.Join(path, "gpu.usage_in_bytes")) {
		return nil
	}
	var st cgroups.GpuStats
	for file, value := range map[string]*uint64{
		"gpu.usage_in_bytes":     &st.Memory.Usage,
		"gpu.max_usage_in_bytes": &st.Memory.MaxUsage,
		"gpu.failcnt":            &st.Memory.Failcnt,
		"gpu.max_mem_in_bytes":   &st.Memory.Limit,
	} {
		var err error
		if *value, err = fscommon.GetCgroupParamUint(path, file); err != nil {
			return err
		}
	}
	var err error
	if st.Priority, err = fscommon.GetCgroupParamInt(path, "gpu.priority"); err != nil {
		return err
	}
	stats.GpuStats = &st
	return nil
}
