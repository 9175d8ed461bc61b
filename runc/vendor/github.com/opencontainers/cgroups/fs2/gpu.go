// SPDX-License-Identifier: Apache-2.0

package fs2

import (
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fscommon"
)

// statGpu returns an error for which os.IsNotExist holds where the controller
// is not there. There is no setGpu: the limits come as unified.
func statGpu(dirPath string, stats *cgroups.Stats) error {
	var (
		st  cgroups.GpuStats
		err error
	)
	for file, value := range map[string]*uint64{
		"gpu.memory.current": &st.Memory.Usage,
		"gpu.memory.peak":    &st.Memory.MaxUsage,
		"gpu.memory.max":     &st.Memory.Limit,
	} {
		if *value, err = fscommon.GetCgroupParamUint(dirPath, file); err != nil {
			return err
		}
	}
	// Not gpu.memory.events, which has the refusals of the cgroups below.
	if st.Memory.Failcnt, err = fscommon.GetValueByKey(dirPath, "gpu.memory.events.local", "max"); err != nil {
		return err
	}
	if st.Priority, err = fscommon.GetCgroupParamInt(dirPath, "gpu.priority"); err != nil {
		return err
	}
	stats.GpuStats = &st
	return nil
}
