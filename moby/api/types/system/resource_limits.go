// SPDX-License-Identifier: Apache-2.0

package system

// ResourceLimits tells by what the host enforces one kind of resource limits,
// or why it does not.
type ResourceLimits struct {
	// Feature is the kind of limits, as it is named in the header
	// "Docker-Resource-Features" of a ping.
	Feature string

	// Fields are the fields of HostConfig that set such a limit.
	Fields []string

	// Backend is what enforces these limits for containers of the default
	// runtime. It is empty if nothing does.
	Backend string `json:",omitempty"`

	// Devices are those of the host that keep such a limit, where that is a matter
	// of the device: for GPUs a node and, in brackets, its driver. The list is as
	// of now, and is empty on a host without such a device.
	Devices []string `json:",omitempty"`

	// Reason says, if nothing enforces them, why, and what to do.
	Reason string `json:",omitempty"`
}
