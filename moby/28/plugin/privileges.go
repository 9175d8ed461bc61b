// SPDX-License-Identifier: Apache-2.0

package plugin

import "slices"

// sameValues compares the values of two privileges, which are in no order.
func sameValues(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}
