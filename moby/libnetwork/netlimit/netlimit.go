// SPDX-License-Identifier: Apache-2.0

// Package netlimit enforces the network rates, class and priorities of
// containers on bridge networks, from the host's side of their interfaces,
// where a container cannot reach them even with CAP_NET_ADMIN:
//
//	to the container    tbf as root qdisc of the host's end of the veth pair
//	from the container  redirected at the ingress of that end into an ifb of
//	                    its own, with tbf as root qdisc
//	class, priorities   a CLASSIFY rule for each address, in mangle/POSTROUTING
//
// Class and priorities need a rule, because what the sender's cgroup or socket
// says of a packet is lost when the host routes it: the kernel sets its
// priority anew from the TOS field.
//
// Nothing that this package has to find again is kept on disk. The host's end
// carries the ID of its endpoint as its alias (`ip link` shows it), so do ifb
// and rules; all that names an endpoint without an interface is left over and
// removed by [Sync].
package netlimit

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
)

// Settings is what one endpoint is limited to. The zero value is no limit.
type Settings struct {
	// Egress and Ingress are bits/s as tc counts them, that is of Ethernet
	// frames, from and to the container. 0 is no limit.
	Egress, Ingress int64
	// Class is the priority of all packets that the host routes for the
	// container, which is how HTB and prio on an uplink find the class
	// major:minor (the upper and the lower 16 bits). 0 is none.
	Class uint32
	// Priorities is the same for single uplinks, by name. An endpoint with a
	// Class has none.
	Priorities map[string]uint32
}

// IsZero tells whether s limits nothing.
func (s Settings) IsZero() bool {
	return s.Egress == 0 && s.Ingress == 0 && !s.classifies()
}

// HasRates tells whether s has any rate.
func (s Settings) HasRates() bool { return s.Egress != 0 || s.Ingress != 0 }

func (s Settings) classifies() bool { return s.Class != 0 || len(s.Priorities) != 0 }

func (s Settings) equal(o Settings) bool {
	return s.Egress == o.Egress && s.Ingress == o.Ingress && s.Class == o.Class && maps.Equal(s.Priorities, o.Priorities)
}

// Endpoint is a container's connection to a bridge network.
type Endpoint struct {
	ID    string
	Addrs []netip.Addr // those that the network gave it, without link-local ones
}

// shape is the configuration of one tbf, all in bytes.
type shape struct {
	rate  uint64 // per second
	burst uint32
	limit uint32 // of what may wait
}

// frameOverhead is an Ethernet header with one VLAN tag.
const frameOverhead = 18

// maxBurstTime is how long, in seconds, a bucket may take to fill. The kernel
// cuts it off at 2³² ns and then drops what is larger.
const maxBurstTime = 4

// shapeFor returns the tbf for a rate in bits/s on a link with the given MTU.
//
// The bucket holds 10 ms: a timer that fires later than that (a busy host, a
// VM) loses bandwidth, and a bucket that holds more lets longer bursts pass at
// full speed. From 52 Mbit/s on it holds the largest packet that segmentation
// offload makes, 64 KiB, which is then passed on whole; below that the kernel
// cuts such packets up first. What may wait is 100 ms, enough to keep TCP's
// window open over long ways, and 16 packets at least, as a TCP stream with
// less in flight than that recovers from losses by time-outs.
func shapeFor(bits int64, mtu int) (shape, error) {
	rate := uint64(bits) / 8
	frame := uint64(mtu) + frameOverhead
	if bits < 8 || rate*maxBurstTime < 2*frame {
		return shape{}, fmt.Errorf("a rate of %d bit/s is too low for an MTU of %d: the least is %d bit/s", bits, mtu, MinRate(mtu))
	}
	burst := min(max(rate/100, 4*frame), rate*maxBurstTime)
	limit := burst + max(rate/10, 16*frame)
	return shape{
		rate:  rate,
		burst: uint32(min(burst, math.MaxUint32)),
		limit: uint32(min(limit, math.MaxUint32)),
	}, nil
}

// MinRate returns the lowest rate, in bits/s, that can be kept on a link with
// the given MTU: tbf must be able to save up for a whole frame.
func MinRate(mtu int) int64 {
	frame := int64(mtu) + frameOverhead
	return (2*frame + maxBurstTime - 1) / maxBurstTime * 8
}
