// SPDX-License-Identifier: Apache-2.0

package container

// NetPriority is the priority of a container's packets on an interface of the
// host. What it means is up to the interface's queueing discipline.
type NetPriority struct {
	Interface string
	Priority  uint32
}

// BlkioLimitDisk is a disk whose rate is limited for a container, as the kernel
// shows it. A rate of 0 is no limit.
type BlkioLimitDisk struct {
	Device    string // Number, as in the kernel's files: MAJOR:MINOR.
	Path      string // Node in /dev.
	ReadBps   uint64 `json:",omitempty"` // Bytes per second.
	WriteBps  uint64 `json:",omitempty"`
	ReadIOps  uint64 `json:",omitempty"` // IO per second.
	WriteIOps uint64 `json:",omitempty"`
}

// NetLimitEndpoint is a network whose packets are limited for a container, as the
// kernel shows it. A rate or class of 0 is no limit.
type NetLimitEndpoint struct {
	Network     string        // Name of the network.
	Interface   string        // The host's end of the container's interface.
	EgressRate  int64         `json:",omitempty"` // From the container, in bits per second.
	IngressRate int64         `json:",omitempty"` // To the container, in bits per second.
	EgressPPS   int64         `json:",omitempty"` // From the container, in packets per second.
	IngressPPS  int64         `json:",omitempty"` // To the container, in packets per second.
	ClassID     uint32        `json:",omitempty"` // 0xAAAABBBB for the class AAAA:BBBB of tc.
	Priorities  []NetPriority `json:",omitempty"`
}
