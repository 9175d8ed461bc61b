// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"reflect"
	"slices"

	containertypes "github.com/docker/docker/api/types/container"
)

// restartPolicyName is the one name in resourceNames that is no resource.
const restartPolicyName = "RestartPolicy"

// resourceGroups has the JSON names of all resources that an update can change. Those
// of a group depend on each other: they are put back together or not at all.
var resourceGroups = func() (groups [][]string) {
	at := map[string]int{} // by name of the group
	for _, f := range containertypes.ResourceFields {
		if f.Fixed {
			continue
		}
		i, ok := at[f.Group]
		if f.Group == "" || !ok {
			i = len(groups)
			groups, at[f.Group] = append(groups, nil), i
		}
		groups[i] = append(groups[i], f.Name)
	}
	return groups
}()

// resourceNames are the names in resourceGroups, and restartPolicyName.
var resourceNames = append(slices.Concat(resourceGroups...), restartPolicyName)

// copyResource gives dst the value that src has for one resource.
func copyResource(dst *containertypes.Resources, src containertypes.Resources, name string) error {
	f := containertypes.ResourceFieldNamed(name)
	if f == nil || f.Fixed {
		return fmt.Errorf("%q is no resource that an update can change", name)
	}
	f.Copy(dst, &src)
	return nil
}

// resourceValue returns one resource of r, which must be one of resourceNames.
func resourceValue(r containertypes.Resources, name string) any {
	return reflect.ValueOf(containertypes.ResourceFieldNamed(name).Ref(&r)).Elem().Interface()
}

// namesResource tells whether r, as an update, names a resource. An empty list does:
// it clears.
func namesResource(r containertypes.Resources, name string) bool {
	f := containertypes.ResourceFieldNamed(name)
	return f != nil && f.Named(&r)
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
