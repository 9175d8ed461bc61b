// SPDX-License-Identifier: Apache-2.0

// Package netlimit enforces the network rates, class and priorities of
// containers on bridge networks, from the host's side of their interfaces,
// where a container cannot reach them even with CAP_NET_ADMIN:
//
//	to the container    tbf as root qdisc of the host's end of the veth pair
//	from the container  redirected at the ingress of that end into an ifb of
//	                    its own, with tbf as root qdisc
//	packets/s           a rule of nftables at either end of these ways, before tbf
//	class, priorities   maps of nftables, from what a packet comes from to the
//	                    priority that it gets; see nft_linux.go
//
// A [Limiter] knows what each endpoint should have and keeps it so: it hears
// from the kernel when somebody else changes a link, a qdisc or a table, looks
// through everything once in a while, and puts back what has gone. What is
// somebody else's it neither replaces nor removes.
//
// Nothing that has to be found again is kept on disk. The host's end and the
// ifb carry the ID of the endpoint as alias and as alternative name (`ip link`
// shows both), what is in the tables as comment.
package netlimit

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"strings"
)

// Settings is what one endpoint is limited to. The zero value is no limit.
type Settings struct {
	// Egress and Ingress are bits/s as tc counts them, that is of Ethernet
	// frames, from and to the container. 0 is no limit.
	Egress, Ingress int64
	// EgressPPS and IngressPPS are packets/s from and to the container, up to
	// [MaxPPS]. 0 is no limit. What segmentation offload hands over at once is one
	// packet. They come before the bits: what they drop uses up none of those.
	EgressPPS, IngressPPS int64
	// Class is the priority of all packets that leave the host for the
	// container, which is how HTB and prio on an uplink find the class
	// major:minor (the upper and the lower 16 bits). 0 is none.
	Class uint32
	// Priorities is the same for single uplinks, by name; they need not be
	// there yet. An endpoint with a Class has none.
	Priorities map[string]uint32
}

// IsZero tells whether s limits nothing.
func (s Settings) IsZero() bool { return !s.HasRates() && !s.classifies() }

// HasRates tells whether s has any rate.
func (s Settings) HasRates() bool {
	return s.Egress != 0 || s.Ingress != 0 || s.EgressPPS != 0 || s.IngressPPS != 0
}

func (s Settings) classifies() bool { return s.Class != 0 || len(s.Priorities) != 0 }

// clone keeps a caller's map from changing what is in force.
func (s Settings) clone() Settings {
	s.Priorities = maps.Clone(s.Priorities)
	return s
}

// Endpoint is a container's connection to a bridge network.
type Endpoint struct {
	ID string
	// Addrs are those that the network gave it.
	Addrs []netip.Addr
	// Ports are published by a proxy on the host, whose packets have the
	// host's address. They get the container's class.
	Ports []Port
	// NetNS is the path of the container's network namespace and MAC the
	// address that its interface was given there. They find the host's end
	// of one that another program has taken the marks off.
	NetNS, MAC string
	// Bridge is the name of the bridge that the host's end is a port of.
	Bridge string
}

// Port is one that a proxy listens on.
type Port struct {
	Addr  netip.Addr // invalid or unspecified: all of them
	Proto uint8      // IPPROTO_TCP, IPPROTO_UDP or IPPROTO_SCTP
	Port  uint16
}

// Limited is an endpoint and what it is limited to.
type Limited struct {
	Endpoint
	Settings
}

// Error tells which limits of an endpoint may not be in force, and why. Other
// errors of this package are about all of them.
type Error struct {
	Ingress, Egress       error // of the rates
	IngressPPS, EgressPPS error
	Class                 error // of the class, or the priorities
}

func (e *Error) Error() string {
	var parts []string
	for _, err := range e.Unwrap() {
		parts = append(parts, err.Error())
	}
	return strings.Join(parts, "; ")
}

// Unwrap returns those of the errors that are not nil.
func (e *Error) Unwrap() (errs []error) {
	for _, err := range []error{e.Ingress, e.Egress, e.IngressPPS, e.EgressPPS, e.Class} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// MissingError says which interfaces priorities are for that the host does not have
// now. They are in force when the interface comes.
type MissingError struct{ Interfaces []string }

func (e *MissingError) Error() string {
	return "the host has no interface " + strings.Join(e.Interfaces, ", ") + " now"
}

// err is e as an error: nil if there is none.
func (e *Error) err() error {
	if e == nil || len(e.Unwrap()) == 0 { // not a nil *Error in an error
		return nil
	}
	return e
}

// refusal is err without what is only waiting for an interface.
func (e *Error) refusal() error {
	if e == nil {
		return nil
	}
	r := *e
	if _, ok := r.Class.(*MissingError); ok {
		r.Class = nil
	}
	return r.err()
}

// about is err for each of the limits that s has.
func about(s Settings, err error) *Error {
	var e Error
	if s.Ingress != 0 {
		e.Ingress = err
	}
	if s.Egress != 0 {
		e.Egress = err
	}
	if s.IngressPPS != 0 {
		e.IngressPPS = err
	}
	if s.EgressPPS != 0 {
		e.EgressPPS = err
	}
	if s.classifies() {
		e.Class = err
	}
	return &e
}

// MaxPPS is the highest rate in packets/s. The kernel counts a packet as a whole number
// of nanoseconds: up to here it keeps a rate within one per cent.
const MaxPPS = 10_000_000

// burstPPS is how many packets the bucket of a rate holds: those of 20 ms, as packets
// come in bunches, but 5 at least.
func burstPPS(rate int64) uint32 { return uint32(max(rate/50, 5)) }

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
