// SPDX-License-Identifier: Apache-2.0

package opts

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/docker/cli/internal/lazyregexp"
	"github.com/docker/docker/api/types/container"
)

// NetRateUnlimited is the rate that stands for "no limit".
const NetRateUnlimited = -1

// The least rate lets a frame of 1500 bytes pass; links with larger frames need more,
// which dockerd says. Above the most the kernel's clock is too coarse.
const (
	minNetRate = 6072
	maxNetRate = 1e15
)

var (
	errNetRate    = errors.New("must be 6072 to 1000000000000000 bits per second, or -1 for no limit; units are tc's: bit, kbit, mbit, gbit, tbit (powers of 1000), kibit … tibit (powers of 1024), and bps, kbps, mbps … for bytes per second")
	errNetClassID = errors.New("must be MAJOR:MINOR in hexadecimal as tc writes it (10:1), 0xAAAABBBB (0x00100001), or the same number in decimal, up to 4294967295; 0 removes the class")
)

// NetRate is the value of a flag that takes a network rate.
type NetRate struct {
	value *int64
}

// Set parses a rate as [ParseNetRate] does. An error keeps the old value.
func (r *NetRate) Set(value string) error {
	n, err := ParseNetRate(value)
	if err != nil {
		return err
	}
	r.value = &n
	return nil
}

// Type is the name of the value's kind in help texts.
func (*NetRate) Type() string { return "rate" }

// String returns the rate in bits per second, and nothing before Set.
func (r *NetRate) String() string { return formatOptional(r.value) }

// Value returns the rate in bits per second, [NetRateUnlimited] for no limit,
// or nil when the flag was not given.
func (r *NetRate) Value() *int64 { return r.value }

var netRateSyntax = lazyregexp.New(`^([0-9]{1,40}(?:\.[0-9]{1,40})?)(?:([kmgt]i?)?(bit|bps))?$`)

// ParseNetRate parses a rate as tc(8) spells it and returns bits per second.
//
// A number without a unit is in bits per second. "bit" is bits and "bps" is
// bytes per second; both can follow k, m, g or t, powers of 1000, or ki, mi, gi
// or ti, powers of 1024, in any case. A fraction is rounded down to whole bits.
// "-1" is no limit and returned as [NetRateUnlimited]. Less than 6072 bits
// per second, more than 10^15, and other text are an error that states the range.
func ParseNetRate(value string) (int64, error) {
	if value == "-1" {
		return NetRateUnlimited, nil
	}
	parts := netRateSyntax.FindStringSubmatch(strings.ToLower(value))
	if parts == nil {
		return 0, errNetRate
	}
	amount, ok := new(big.Rat).SetString(parts[1])
	if !ok {
		return 0, errNetRate
	}
	if prefix := parts[2]; prefix != "" {
		base := int64(1000)
		if strings.HasSuffix(prefix, "i") {
			base = 1024
		}
		power := int64(strings.IndexByte("kmgt", prefix[0]) + 1)
		amount.Mul(amount, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(base), big.NewInt(power), nil)))
	}
	if parts[3] == "bps" {
		amount.Mul(amount, new(big.Rat).SetInt64(8))
	}
	n := new(big.Int).Quo(amount.Num(), amount.Denom())
	if !n.IsInt64() || n.Int64() < minNetRate || n.Int64() > maxNetRate {
		return 0, errNetRate
	}
	return n.Int64(), nil
}

// NetClassID is the value of a flag that takes a traffic class.
type NetClassID struct {
	value *uint32
}

// Set parses a class as [ParseNetClassID] does. An error keeps the old value.
func (c *NetClassID) Set(value string) error {
	n, err := ParseNetClassID(value)
	if err != nil {
		return err
	}
	id := uint32(n)
	c.value = &id
	return nil
}

// Type is the name of the value's kind in help texts.
func (*NetClassID) Type() string { return "classid" }

// String returns the class as tc writes it, and nothing before Set.
func (c *NetClassID) String() string {
	if c.value == nil {
		return ""
	}
	return FormatNetClassID(*c.value)
}

// Value returns the class, 0 for none, or nil when the flag was not given.
func (c *NetClassID) Value() *uint32 { return c.value }

// ParseNetClassID parses a traffic class: hexadecimal major and minor number
// with a colon between as tc(8) writes them (the minor may be left out, as in
// "10:"), or the whole as 0xAAAABBBB or in decimal. It returns 0 to 2^32-1;
// anything else is an error.
func ParseNetClassID(value string) (int64, error) {
	major, minor, isPair := strings.Cut(value, ":")
	if !isPair {
		base, digits := 10, value
		if hex, ok := strings.CutPrefix(strings.ToLower(value), "0x"); ok {
			base, digits = 16, hex
		}
		n, err := strconv.ParseUint(digits, base, 32)
		if err != nil {
			return 0, errNetClassID
		}
		return int64(n), nil
	}
	if minor == "" {
		minor = "0"
	}
	hi, err := strconv.ParseUint(major, 16, 16)
	if err != nil {
		return 0, errNetClassID
	}
	lo, err := strconv.ParseUint(minor, 16, 16)
	if err != nil {
		return 0, errNetClassID
	}
	return int64(hi<<16 | lo), nil
}

// FormatNetClassID spells a class as tc does, "0" if there is none.
func FormatNetClassID(id uint32) string {
	if id == 0 {
		return "0"
	}
	return fmt.Sprintf("%x:%x", id>>16, id&0xffff)
}

// NetPriorities is the value of a flag that takes a priority for a network
// interface and can be given several times.
type NetPriorities struct {
	value []container.NetPriority
}

// Set adds an entry as [ParseNetPriority] reads it; one for an interface that
// has one already replaces it. An empty value empties the list, which clears
// the priorities that a container had. An error keeps the old value.
func (p *NetPriorities) Set(value string) error {
	if value == "" {
		p.value = []container.NetPriority{}
		return nil
	}
	entry, err := ParseNetPriority(value)
	if err != nil {
		return err
	}
	for i := range p.value {
		if p.value[i].Interface == entry.Interface {
			p.value[i] = entry
			return nil
		}
	}
	p.value = append(p.value, entry)
	return nil
}

// Type is the name of the value's kind in help texts.
func (*NetPriorities) Type() string { return "list" }

// String returns the entries with commas between.
func (p *NetPriorities) String() string { return FormatNetPriorities(p.value) }

// Value returns the entries, an empty list to clear them, or nil when the flag
// was not given.
func (p *NetPriorities) Value() []container.NetPriority { return p.value }

// maxInterfaceName is IFNAMSIZ without the zero at the end, in bytes.
const maxInterfaceName = 15

// ParseNetPriority parses IFACE:PRIO, an interface of the host and a priority
// of 0 to 2^32-1, in decimal or as 0xAAAABBBB, the form that names a class.
func ParseNetPriority(value string) (container.NetPriority, error) {
	i := strings.LastIndexByte(value, ':')
	if i < 0 {
		return container.NetPriority{}, errors.New("must be IFACE:PRIO, such as eth0:5")
	}
	name, number := value[:i], value[i+1:]
	if name == "" || len(name) > maxInterfaceName || name == "." || name == ".." || strings.ContainsAny(name, "/ \t\n,") {
		return container.NetPriority{}, fmt.Errorf("%q is not a network interface: must be a name of 1 to %d characters without blanks, slashes and commas", name, maxInterfaceName)
	}
	base := 10
	if hex, ok := strings.CutPrefix(strings.ToLower(number), "0x"); ok {
		base, number = 16, hex
	}
	n, err := strconv.ParseUint(number, base, 32)
	if err != nil {
		return container.NetPriority{}, errors.New("the priority of " + name + " must be 0 to 4294967295")
	}
	return container.NetPriority{Interface: name, Priority: uint32(n)}, nil
}

// FormatNetPriorities spells priorities as the flag takes them, with commas
// between.
func FormatNetPriorities(priorities []container.NetPriority) string {
	texts := make([]string, len(priorities))
	for i, p := range priorities {
		texts[i] = fmt.Sprintf("%s:%d", p.Interface, p.Priority)
	}
	return strings.Join(texts, ",")
}
