// SPDX-License-Identifier: Apache-2.0

package specconv

import "github.com/opencontainers/cgroups"

// Can be changed by unit tests.
var isCgroup2UnifiedMode = cgroups.IsCgroup2UnifiedMode

// takeGPU gives the cgroup v1 managers the GPU limits of the spec's unified
// map as typed fields. It has to run before they, and the validator, refuse
// whatever is left in the map. On v2 the map is written as it is.
func takeGPU(r *cgroups.Resources) error {
	if isCgroup2UnifiedMode() {
		return nil
	}
	return r.TakeGPU()
}
