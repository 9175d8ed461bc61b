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
func updateConfig(c *libcontainer.Updatable) (configs.Config, error) {
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

// setUpdate is the end of "runc update": it applies the update r to a running
// container. config is updateConfig's copy with r's values put in by upstream;
// it gets what is missing there and becomes the container's config. The kernel's
// files are written for the resources that r names, and no others, so a limit
// that the kernel would no longer take, such as one for a disk that is gone,
// does not stand in the way of the rest.
func setUpdate(c *libcontainer.Updatable, config configs.Config, r *specs.LinuxResources) error {
	state, err := c.State()
	if err != nil {
		return err
	}
	next, saved := config.Cgroups.Resources, c.Config().Cgroups.Resources
	v2 := cgroups.IsCgroup2UnifiedMode()
	read := func(subsystem, file string) string {
		if v2 {
			subsystem = ""
		}
		s, _ := cgroups.ReadFile(state.CgroupPaths[subsystem], file)
		return strings.TrimSpace(s)
	}

	keepUnnamed(saved, next)
	next.Unified = r.Unified
	if v2 {
		next.Unified = mergeUnified(saved.Unified, r)
	} else if err := next.TakeGPU(); err != nil {
		return err
	} else if next.Unified != nil {
		return cgroups.ErrV1NoUnified
	}
	if err := mergeNetwork(next, r.Network, state.CgroupPaths, v2); err != nil {
		return err
	}

	parts := namedParts(r, next, v2, read)
	fillUndo(saved, next, v2, read)
	change := &cgroups.Resources{SkipDevices: true, SkipFreezeOnSet: next.SkipFreezeOnSet}
	var back []*cgroups.Resources
	for _, copyPart := range parts {
		copyPart(change, next)
		undo := &cgroups.Resources{SkipDevices: true, SkipFreezeOnSet: next.SkipFreezeOnSet}
		copyPart(undo, saved)
		undo.MemoryCheckBeforeUpdate = lowersMemory(next, undo)
		back = append(back, undo)
	}
	forgetLifted(next)
	return c.Update(config, change, back)
}

// lowersMemory tells whether to goes below from, as an undo does that comes after memory
// was raised: by then more may be in use. Cgroup v1 refuses it, v2 would kill; so there
// it is looked at right before. An undo that lowers nothing must not be held up by it.
func lowersMemory(from, to *cgroups.Resources) bool {
	return to.Memory > 0 && (from.Memory < 0 || from.Memory > to.Memory)
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

// namedParts returns one function for each group of resources that r names and
// that the kernel couples; each copies its group, and nothing else.
func namedParts(r *specs.LinuxResources, next *cgroups.Resources, v2 bool, read func(subsystem, file string) string) []func(dst, src *cgroups.Resources) {
	type part = func(dst, src *cgroups.Resources)
	var parts []part
	add := func(named bool, p part) {
		if named {
			parts = append(parts, p)
		}
	}
	add(r.Memory.Limit != nil || r.Memory.Swap != nil, func(dst, src *cgroups.Resources) {
		dst.Memory, dst.MemorySwap, dst.MemoryCheckBeforeUpdate = src.Memory, src.MemorySwap, src.MemoryCheckBeforeUpdate
	})
	add(r.Memory.Reservation != nil, func(dst, src *cgroups.Resources) { dst.MemoryReservation = src.MemoryReservation })
	add(r.CPU.Shares != nil || r.CPU.Idle != nil, func(dst, src *cgroups.Resources) {
		dst.CpuShares, dst.CpuWeight = src.CpuShares, src.CpuWeight
		if r.CPU.Idle != nil {
			dst.CPUIdle = src.CPUIdle
		}
	})
	add(r.CPU.Period != nil || r.CPU.Quota != nil || r.CPU.Burst != nil, func(dst, src *cgroups.Resources) {
		dst.CpuPeriod, dst.CpuQuota, dst.CpuBurst = src.CpuPeriod, src.CpuQuota, src.CpuBurst
	})
	add(r.CPU.RealtimePeriod != nil || r.CPU.RealtimeRuntime != nil, func(dst, src *cgroups.Resources) {
		dst.CpuRtPeriod, dst.CpuRtRuntime = src.CpuRtPeriod, src.CpuRtRuntime
	})
	add(r.CPU.Cpus != "", func(dst, src *cgroups.Resources) { dst.CpusetCpus = src.CpusetCpus })
	add(r.CPU.Mems != "", func(dst, src *cgroups.Resources) { dst.CpusetMems = src.CpusetMems })
	add(r.Pids.Limit != nil, func(dst, src *cgroups.Resources) { dst.PidsLimit = src.PidsLimit })

	add(r.BlockIO.Weight != nil, func(dst, src *cgroups.Resources) { dst.BlkioWeight = src.BlkioWeight })
	add(r.BlockIO.LeafWeight != nil, func(dst, src *cgroups.Resources) { dst.BlkioLeafWeight = src.BlkioLeafWeight })
	add(len(r.BlockIO.WeightDevice) > 0, func(dst, src *cgroups.Resources) {
		dst.BlkioWeightDevice = slices.DeleteFunc(slices.Clone(src.BlkioWeightDevice), func(d *cgroups.WeightDevice) bool {
			return !slices.ContainsFunc(r.BlockIO.WeightDevice, func(named specs.LinuxWeightDevice) bool {
				return named.Major == d.Major && named.Minor == d.Minor
			})
		})
	})
	for i, named := range namedThrottles(r.BlockIO) {
		add(len(named) > 0, func(dst, src *cgroups.Resources) {
			*throttles(dst)[i] = slices.DeleteFunc(slices.Clone(*throttles(src)[i]), func(d *cgroups.ThrottleDevice) bool {
				return !slices.ContainsFunc(named, func(n specs.LinuxThrottleDevice) bool {
					return n.Major == d.Major && n.Minor == d.Minor
				}) || !takesThrottle(d) && (src != next || d.Rate == math.MaxUint64)
			})
		})
	}

	if r.Network != nil && !v2 {
		add(r.Network.ClassID != nil && read("net_cls", "net_cls.classid") != "", func(dst, src *cgroups.Resources) {
			dst.NetClsClassid, dst.NetClsClear = src.NetClsClassid, src.NetClsClassid == 0
		})
		interfaces := map[string]bool{}
		for _, line := range strings.Split(read("net_prio", "net_prio.ifpriomap"), "\n") {
			name, _, _ := strings.Cut(line, " ")
			interfaces[name] = true
		}
		for _, named := range r.Network.Priorities {
			add(true, func(dst, src *cgroups.Resources) {
				prio := cgroups.IfPrioMap{Interface: named.Name}
				for _, p := range src.NetPrioIfpriomap {
					if p.Interface == named.Name {
						prio = *p
					}
				}
				// The kernel no longer has a priority of an interface that is gone.
				if interfaces[named.Name] || src == next && prio.Priority != 0 {
					dst.NetPrioIfpriomap = append(dst.NetPrioIfpriomap, &prio)
				}
			})
		}
	}

	if !v2 {
		_, priority := r.Unified["gpu.priority"]
		add(priority, func(dst, src *cgroups.Resources) { dst.GPUPriority = src.GPUPriority })
		_, memory := r.Unified["gpu.memory.max"]
		add(memory, func(dst, src *cgroups.Resources) { dst.GPUMemory = src.GPUMemory })
		return parts
	}
	typed := superseded(r)
	for key := range r.Unified {
		typed[key] = true
	}
	for _, key := range slices.Sorted(maps.Keys(typed)) {
		add(typed[key], func(dst, src *cgroups.Resources) {
			if value, ok := src.Unified[key]; ok {
				if dst.Unified == nil {
					dst.Unified = map[string]string{}
				}
				dst.Unified[key] = value
			}
		})
	}
	return parts
}

// mergeNetwork puts the class and the priorities that n names into next. A
// priority of 0 takes the interface's entry away, a class of 0 the class: that
// is what a cgroup has without them.
func mergeNetwork(next *cgroups.Resources, n *specs.LinuxNetwork, paths map[string]string, v2 bool) error {
	if n == nil {
		return nil
	}
	if n.ClassID != nil {
		if err := checkNetwork("net_cls", *n.ClassID != 0, paths, v2); err != nil {
			return err
		}
		next.NetClsClassid = *n.ClassID
	}
	for _, p := range n.Priorities {
		if err := checkNetwork("net_prio", p.Priority != 0, paths, v2); err != nil {
			return err
		}
		next.NetPrioIfpriomap = without(next.NetPrioIfpriomap, func(old *cgroups.IfPrioMap) bool {
			return old.Interface == p.Name
		})
		if p.Priority != 0 {
			next.NetPrioIfpriomap = append(next.NetPrioIfpriomap, &cgroups.IfPrioMap{Interface: p.Name, Priority: int64(p.Priority)})
		}
	}
	return nil
}

// checkNetwork refuses what nothing would enforce: cgroup v2 has no such
// controller, and the systemd v1 manager passes over one that is not mounted.
func checkNetwork(controller string, wanted bool, paths map[string]string, v2 bool) error {
	switch {
	case !wanted:
		return nil
	case v2:
		return fmt.Errorf("cannot set %s: cgroup v2 has no such controller", controller)
	case paths[controller] == "":
		return fmt.Errorf("cannot set %s: the container has no cgroup of this controller (was its hierarchy mounted when the container was created?)", controller)
	}
	return nil
}

func throttles(r *cgroups.Resources) [4]*[]*cgroups.ThrottleDevice {
	return [4]*[]*cgroups.ThrottleDevice{
		&r.BlkioThrottleReadBpsDevice, &r.BlkioThrottleWriteBpsDevice,
		&r.BlkioThrottleReadIOPSDevice, &r.BlkioThrottleWriteIOPSDevice,
	}
}

// namedThrottles is in the order of throttles.
func namedThrottles(b *specs.LinuxBlockIO) [4][]specs.LinuxThrottleDevice {
	return [4][]specs.LinuxThrottleDevice{
		b.ThrottleReadBpsDevice, b.ThrottleWriteBpsDevice, b.ThrottleReadIOPSDevice, b.ThrottleWriteIOPSDevice,
	}
}

// forgetLifted takes out of r the entries without a limit: the highest rate has
// been written by then, and an entry kept would outlive its disk.
func forgetLifted(r *cgroups.Resources) {
	for _, list := range throttles(r) {
		*list = without(*list, func(d *cgroups.ThrottleDevice) bool { return d.Rate == math.MaxUint64 })
	}
}

// without is slices.DeleteFunc, but nil if nothing is left: state.json leaves out
// what is nil, and not what is empty.
func without[T any](list []T, del func(T) bool) []T {
	if list = slices.DeleteFunc(list, del); len(list) > 0 {
		return list
	}
	return nil
}

// takesThrottle tells if the kernel takes a limit for the device at all. It
// answers ENODEV for one that is not there (any more) and for partitions.
func takesThrottle(d *cgroups.ThrottleDevice) bool {
	path := fmt.Sprintf("/sys/dev/block/%d:%d", d.Major, d.Minor)
	if _, err := os.Stat(path); err != nil {
		return false
	}
	_, err := os.Stat(path + "/partition")
	return err != nil
}

func keep[T comparable](next *T, saved T) {
	var unset T
	if *next == unset {
		*next = saved
	}
}

// superseded returns the files of cgroup v2 whose typed resource r names.
func superseded(r *specs.LinuxResources) map[string]bool {
	weighted := r.BlockIO.Weight != nil || len(r.BlockIO.WeightDevice) > 0
	throttled := false
	for _, list := range namedThrottles(r.BlockIO) {
		throttled = throttled || len(list) > 0
	}
	return map[string]bool{
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
		"memory.swap.max": r.Memory.Limit != nil || r.Memory.Swap != nil,
		"pids.max":        r.Pids.Limit != nil,
	}
}

// mergeUnified returns the saved unified map with the update's keys put in.
// Left out are keys that are commands, and keys for which the update names
// the typed resource: unified is written last, so they would win.
func mergeUnified(saved map[string]string, r *specs.LinuxResources) map[string]string {
	typed := superseded(r)
	merged := make(map[string]string, len(saved)+len(r.Unified))
	for k, v := range saved {
		if !typed[k] && !isCommand(k) {
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
	undo(&saved.PidsLimit, next.PidsLimit, mkPtr[int64](-1))
	undo(&saved.CpuQuota, next.CpuQuota, -1)
	undo(&saved.CpuPeriod, next.CpuPeriod, 100000)
	undo(&saved.CpuBurst, next.CpuBurst, mkPtr[uint64](0))
	undo(&saved.CPUIdle, next.CPUIdle, mkPtr[int64](0))
	undo(&saved.CpuShares, next.CpuShares, 1024)
	undo(&saved.CpuWeight, next.CpuWeight, 100)
	undo(&saved.CpusetCpus, next.CpusetCpus, read("cpuset", "cpuset.cpus"))
	undo(&saved.CpusetMems, next.CpusetMems, read("cpuset", "cpuset.mems"))
	for i, list := range throttles(next) {
		undoThrottles(throttles(saved)[i], *list)
	}

	if !v2 {
		undo(&saved.MemoryReservation, next.MemoryReservation, -1)
		if read("gpu", "gpu.priority") != "" {
			undo(&saved.GPUPriority, next.GPUPriority, mkPtr[int64](0))
		}
		if read("gpu", "gpu.max_mem_in_bytes") != "" {
			undo(&saved.GPUMemory, next.GPUMemory, mkPtr[int64](-1))
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
func undoThrottles(saved *[]*cgroups.ThrottleDevice, next []*cgroups.ThrottleDevice) {
	for _, n := range next {
		if !slices.ContainsFunc(*saved, func(s *cgroups.ThrottleDevice) bool {
			return s.Major == n.Major && s.Minor == n.Minor
		}) {
			*saved = append(*saved, cgroups.NewThrottleDevice(n.Major, n.Minor, math.MaxUint64))
		}
	}
}
