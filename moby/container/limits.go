// SPDX-License-Identifier: Apache-2.0

package container

import containertypes "github.com/docker/docker/api/types/container"

// mergeLimits takes over the limits that an update names, of those that upstream's
// update does not know: nil keeps, an empty list clears.
//
// Pointers and lists are replaced and never written through, because the backup that
// daemon.update restores on failure is a shallow copy sharing them.
func mergeLimits(dst *containertypes.Resources, update containertypes.Resources) {
	for _, f := range containertypes.ResourceFields {
		if (f.Kind != "" || f.UpdateKind != "") && f.Named(&update) {
			f.Copy(dst, &update)
		}
	}
}
