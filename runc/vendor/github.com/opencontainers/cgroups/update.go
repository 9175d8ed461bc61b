// SPDX-License-Identifier: Apache-2.0

package cgroups

// UpdateResources are orders to the managers for a single Set.
type UpdateResources struct {
	// NetClsClear takes the network class off the cgroup, by writing 0. In
	// [Resources.NetClsClassid] 0 means "leave the kernel's value alone".
	NetClsClear bool `json:"-"`
}
