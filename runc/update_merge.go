// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// updateConfig returns a copy of the container's config for "runc update" to
// change. If that update fails, Container.Set puts back the container's own
// config, which therefore must not share anything with the copy.
func updateConfig(c *libcontainer.Container) (configs.Config, error) {
	config := c.Config()

	// Putting the old config back must not touch the devices either. The new
	// one gets this set by updateCommand, and state.json does not have it.
	config.Cgroups.SkipDevices = true

	// The slices hold pointers. JSON, the format of state.json, copies them too.
	var resources cgroups.Resources
	data, err := json.Marshal(config.Cgroups.Resources)
	if err == nil {
		err = json.Unmarshal(data, &resources)
	}
	if err != nil {
		return config, fmt.Errorf("unable to copy the container's resources: %w", err)
	}
	resources.SkipFreezeOnSet = config.Cgroups.SkipFreezeOnSet

	cg := *config.Cgroups
	cg.Resources = &resources
	config.Cgroups = &cg
	if config.IntelRdt != nil {
		rdt := *config.IntelRdt
		config.IntelRdt = &rdt
	}
	return config, nil
}

// mergeUpdate completes next, the resources "runc update" is about to set, from
// those saved with the container, so that what the update r does not name stays
// as it was. It also prepares the saved resources for being put back.
func mergeUpdate(c *libcontainer.Container, next *cgroups.Resources, r *specs.LinuxResources) error {
	state, err := c.State()
	if err != nil {
		return err
	}
	saved := c.Config().Cgroups.Resources
	v2 := cgroups.IsCgroup2UnifiedMode()

	keepUnnamed(saved, next)
	next.Unified = r.Unified
	if v2 {
		next.Unified = mergeUnified(saved.Unified, r)
	} else if err := next.TakeGPU(); err != nil {
		return err
	} else if next.Unified != nil {
		return cgroups.ErrV1NoUnified // Set says so too, but then puts back what was never written.
	}

	fillUndo(saved, next, v2, func(subsystem, file string) string {
		if v2 {
			subsystem = ""
		}
		s, _ := cgroups.ReadFile(state.CgroupPaths[subsystem], file)
		return strings.TrimSpace(s)
	})
	return nil
}

// keepUnnamed restores the fields that update overwrites with "unset" when they
// are not named. "Unset" is never written, so the kernel goes on with the old
// value, and a later update that fails could not put back what is forgotten here.
func keepUnnamed(saved, next *cgroups.Resources) {
	keep(&next.CpuPeriod, saved.CpuPeriod)
	keep(&next.CpuQuota, saved.CpuQuota)
	keep(&next.CpuBurst, saved.CpuBurst)
	keep(&next.CPUIdle, saved.CPUIdle)
	keep(&next.CpusetCpus, saved.CpusetCpus)
	keep(&next.CpusetMems, saved.CpusetMems)
	keep(&next.PidsLimit, saved.PidsLimit)
}

func keep[T comparable](next *T, saved T) {
	var unset T
	if *next == unset {
		*next = saved
	}
}

// mergeUnified returns the saved unified map with the update's keys put in.
// Left out are keys that are commands, and keys for which the update names
// the typed resource: unified is written last, so they would win.
func mergeUnified(saved map[string]string, r *specs.LinuxResources) map[string]string {
	limited := r.Memory.Limit != nil || r.Memory.Swap != nil
	weighted := r.BlockIO.Weight != nil || len(r.BlockIO.WeightDevice) > 0
	throttled := len(r.BlockIO.ThrottleReadBpsDevice)+len(r.BlockIO.ThrottleWriteBpsDevice)+
		len(r.BlockIO.ThrottleReadIOPSDevice)+len(r.BlockIO.ThrottleWriteIOPSDevice) > 0
	superseded := map[string]bool{
		"cpu.idle":        r.CPU.Idle != nil,
		"cpu.max":         r.CPU.Quota != nil || r.CPU.Period != nil,
		"cpu.max.burst":   r.CPU.Burst != nil,
		"cpu.weight":      r.CPU.Shares != nil,
		"cpu.weight.nice": r.CPU.Shares != nil,
		"cpuset.cpus":     r.CPU.Cpus != "",
		"cpuset.mems":     r.CPU.Mems != "",
		"io.bfq.weight":   weighted,
		"io.max":          throttled,
		"io.weight":       weighted,
		"memory.low":      r.Memory.Reservation != nil,
		"memory.max":      r.Memory.Limit != nil,
		"memory.swap.max": limited,
		"pids.max":        r.Pids.Limit != 0,
	}
	merged := make(map[string]string, len(saved)+len(r.Unified))
	for k, v := range saved {
		if !superseded[k] && !isCommand(k) {
			merged[k] = v
		}
	}
	maps.Copy(merged, r.Unified)
	if len(merged) == 0 {
		return nil
	}
	return merged
}

// isCommand tells if writing the file does something each time, as cgroup.kill
// does, or changes what others change too, as cgroup.freeze.
func isCommand(file string) bool {
	if strings.HasPrefix(file, "cgroup.") {
		return !strings.HasPrefix(file, "cgroup.max.")
	}
	return file == "memory.reclaim"
}

// fillUndo gives saved the kernel's default for each limit that next sets and
// saved does not have: putting saved back after a failed update writes only
// what it holds, and would leave a limit that was set for the first time.
// Not covered, for want of a default that fits all kernels, are block I/O
// weights and realtime CPU limits.
//
// read returns the content of a cgroup's file, "" if there is none. It is used
// where the default depends on the host, and to leave out a controller that
// is not there: writing its default would fail as the update does.
func fillUndo(saved, next *cgroups.Resources, v2 bool, read func(subsystem, file string) string) {
	undo(&saved.Memory, next.Memory, -1)
	undo(&saved.MemorySwap, next.MemorySwap, -1)
	undo(&saved.PidsLimit, next.PidsLimit, -1)
	undo(&saved.CpuQuota, next.CpuQuota, -1)
	undo(&saved.CpuPeriod, next.CpuPeriod, 100000)
	undo(&saved.CpuBurst, next.CpuBurst, u64Ptr(0))
	undo(&saved.CPUIdle, next.CPUIdle, i64Ptr(0))
	undo(&saved.CpuShares, next.CpuShares, 1024)
	undo(&saved.CpuWeight, next.CpuWeight, 100)
	undo(&saved.CpusetCpus, next.CpusetCpus, read("cpuset", "cpuset.cpus"))
	undo(&saved.CpusetMems, next.CpusetMems, read("cpuset", "cpuset.mems"))
	for _, t := range []struct {
		saved *[]*cgroups.ThrottleDevice
		next  []*cgroups.ThrottleDevice
	}{
		{&saved.BlkioThrottleReadBpsDevice, next.BlkioThrottleReadBpsDevice},
		{&saved.BlkioThrottleWriteBpsDevice, next.BlkioThrottleWriteBpsDevice},
		{&saved.BlkioThrottleReadIOPSDevice, next.BlkioThrottleReadIOPSDevice},
		{&saved.BlkioThrottleWriteIOPSDevice, next.BlkioThrottleWriteIOPSDevice},
	} {
		*t.saved = undoThrottles(*t.saved, t.next)
	}

	if !v2 {
		undo(&saved.MemoryReservation, next.MemoryReservation, -1)
		if read("gpu", "gpu.priority") != "" {
			undo(&saved.GPUPriority, next.GPUPriority, i64Ptr(0))
		}
		if read("gpu", "gpu.max_mem_in_bytes") != "" {
			undo(&saved.GPUMemory, next.GPUMemory, i64Ptr(-1))
		}
		return
	}

	// The default of memory.low is 0, which as a field means "unset".
	unified := maps.Clone(next.Unified)
	if unified == nil {
		unified = map[string]string{}
	}
	if saved.MemoryReservation == 0 && next.MemoryReservation != 0 {
		unified["memory.low"] = ""
	}
	for file := range unified {
		value := read("", file)
		if strings.Contains(value, "\n") { // A table, not a limit.
			value = ""
		}
		unified[file] = value
	}
	for k, v := range saved.Unified {
		if !isCommand(k) {
			unified[k] = v
		}
	}
	maps.DeleteFunc(unified, func(_, v string) bool { return v == "" })
	saved.Unified = unified
}

func undo[T comparable](saved *T, next, byDefault T) {
	var unset T
	if *saved == unset && next != unset {
		*saved = byDefault
	}
}

// undoThrottles appends to saved the devices only next has, without a limit.
// The highest rate lifts it on cgroup v1 and v2; 0 does so on v1 only.
func undoThrottles(saved, next []*cgroups.ThrottleDevice) []*cgroups.ThrottleDevice {
	for _, n := range next {
		known := slices.ContainsFunc(saved, func(s *cgroups.ThrottleDevice) bool {
			return s.Major == n.Major && s.Minor == n.Minor
		})
		// A device that is not there took no limit and would not take it back.
		if _, err := os.Stat(fmt.Sprintf("/sys/dev/block/%d:%d", n.Major, n.Minor)); known || err != nil {
			continue
		}
		saved = append(saved, cgroups.NewThrottleDevice(n.Major, n.Minor, math.MaxUint64))
	}
	return saved
}
