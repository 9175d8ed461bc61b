// SPDX-License-Identifier: Apache-2.0

package container

// NetPriority is the priority of a container's packets on an interface of the
// host. What it means is up to the interface's queueing discipline.
type NetPriority struct {
	Interface string
	Priority  uint32
}
