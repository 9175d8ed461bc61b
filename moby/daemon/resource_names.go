// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	containertypes "github.com/docker/docker/api/types/container"
)

// restartPolicyName is the one name in resourceNames that is no resource.
const restartPolicyName = "RestartPolicy"

// resourceGroups has the JSON names of all resources that an update can change. Those
// of a group depend on each other: they are put back together or not at all.
var resourceGroups = [][]string{
	{"Memory", "MemorySwap", "MemoryReservation", "KernelMemory"},
	{"NanoCpus", "CpuPeriod", "CpuQuota"},
	{"CpuRealtimePeriod", "CpuRealtimeRuntime"},
	{"CpuShares"}, {"CpusetCpus"}, {"CpusetMems"}, {"PidsLimit"},
	{"GPUPriority"}, {"GPUMemory"},
	{"BlkioWeight"}, {"BlkioWeightDevice"},
	{
		"BlkioReadLimit", "BlkioWriteLimit", "BlkioReadIOpsLimit", "BlkioWriteIOpsLimit",
		"BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps",
	},
	{"NetClassID", "NetPriorities"}, {"NetEgressRate"}, {"NetIngressRate"},
}

// resourceNames are the names in resourceGroups, and restartPolicyName.
var resourceNames = append(slices.Concat(resourceGroups...), restartPolicyName)

// resourceFields has the index of each field of Resources by its JSON name.
var resourceFields = func() map[string]int {
	fields := map[string]int{}
	t := reflect.TypeFor[containertypes.Resources]()
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name == "" {
			name = t.Field(i).Name
		}
		fields[name] = i
	}
	return fields
}()

// copyResource gives dst the value that src has for one resource.
func copyResource(dst *containertypes.Resources, src containertypes.Resources, name string) error {
	i, ok := resourceFields[name]
	if !ok || !slices.Contains(resourceNames, name) {
		return fmt.Errorf("%q is no resource that an update can change", name)
	}
	reflect.ValueOf(dst).Elem().Field(i).Set(reflect.ValueOf(src).Field(i))
	return nil
}

// resourceValue returns one resource of r, which must be one of resourceNames.
func resourceValue(r containertypes.Resources, name string) any {
	return reflect.ValueOf(r).Field(resourceFields[name]).Interface()
}

// namesResource tells whether r, as an update, names a resource. An empty list does:
// it clears.
func namesResource(r containertypes.Resources, name string) bool {
	i, ok := resourceFields[name]
	return ok && !reflect.ValueOf(r).Field(i).IsZero()
}

// namesAny tells whether r, as an update, names any resource.
func namesAny(r containertypes.Resources) bool {
	return slices.ContainsFunc(resourceNames, func(name string) bool { return namesResource(r, name) })
}

// joined names what a or b name, with b's values.
func joined(a, b containertypes.Resources) containertypes.Resources {
	for _, name := range resourceNames {
		if namesResource(b, name) {
			_ = copyResource(&a, b, name)
		}
	}
	return a
}

// replacing takes what change names out of stuck, and with it the other half of a pair
// that the kernel takes only together: a limit of memory above that of memory and swap is
// refused, and on cgroup v2 the one is counted from the other. That half goes along in
// change, with target's value.
func (daemon *Daemon) replacing(stuck, change, target containertypes.Resources) (left, whole containertypes.Resources) {
	var half containertypes.Resources
	if change.Memory != 0 || change.MemorySwap != 0 {
		half.Memory, half.MemorySwap = stuck.Memory, stuck.MemorySwap
	}
	whole = joined(daemon.assigning(half, target), change)
	return without(stuck, whole), whole
}

// without names what a names and b does not.
func without(a, b containertypes.Resources) containertypes.Resources {
	for _, name := range resourceNames {
		if namesResource(b, name) {
			_ = copyResource(&a, containertypes.Resources{}, name)
		}
	}
	return a
}
