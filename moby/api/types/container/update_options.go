// SPDX-License-Identifier: Apache-2.0

package container

// UpdateOptions says how an update of a container's resources treats what it does not
// name, and what it expects to find.
type UpdateOptions struct {
	// Replace lists JSON names of fields of [UpdateConfig] ("Memory", "RestartPolicy")
	// that the update sets even if it does not have them: such a field goes back to
	// its default. All other fields that the update does not name keep their values,
	// and fields that are not listed are ignored. Nil lists none, and the update
	// merges; [ReplaceAll] is every field. BlkioWeight and RestartPolicy have no
	// default: they are only ever set.
	Replace []string

	// Version is the ResourcesVersion that the container must have, else the update
	// is refused with a conflict. 0 is any.
	Version uint64
}

// ReplaceAll is the [UpdateOptions.Replace] of every field.
var ReplaceAll = []string{"*"}
