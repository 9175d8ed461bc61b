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
	"github.com/spf13/pflag"
)

// LimitValue is the value of a flag that sets a field of [container.Resources].
type LimitValue interface {
	pflag.Value

	// Apply puts the value into r, and nothing if the flag was not given.
	Apply(r *container.Resources)
}

// NewLimitValue returns a value that was not given yet.
func NewLimitValue(f *container.ResourceField) LimitValue {
	if _, ok := f.Ref(&container.Resources{}).(*[]container.NetPriority); ok {
		return &NetPriorities{}
	}
	return NewLimit(f)
}

// Limit is the value of a flag that takes a number.
type Limit struct {
	field *container.ResourceField
	value *int64
	bare  bool
}

// NewLimit returns a value that was not given yet.
func NewLimit(f *container.ResourceField) *Limit { return &Limit{field: f} }

// Set parses a number as [ParseLimit] does. An error keeps the old value.
func (l *Limit) Set(value string) error {
	n, err := ParseLimit(l.field, value)
	if err != nil {
		return err
	}
	l.value = &n
	l.bare = value == strconv.FormatInt(n, 10)
	return nil
}

// Type is the name of the value's kind in help texts.
func (l *Limit) Type() string {
	switch l.field.Unit {
	case container.UnitBytes, container.UnitBytesPerSecond:
		return "bytes"
	case container.UnitBitsPerSecond:
		return "rate"
	case container.UnitClass:
		return "classid"
	default:
		return "int"
	}
}

// String returns the number without a unit, because it must stay exact, a class as tc
// writes it, and nothing before Set: on update an absent flag keeps what the container
// has, so there is no default to show.
func (l *Limit) String() string {
	if l.value == nil {
		return ""
	}
	if l.field.Unit == container.UnitClass {
		return FormatNetClassID(uint32(*l.value))
	}
	return strconv.FormatInt(*l.value, 10)
}

// Value returns the number, or nil when the flag was not given.
func (l *Limit) Value() *int64 { return l.value }

// Apply puts the number into r, and nothing if the flag was not given.
func (l *Limit) Apply(r *container.Resources) {
	if l.value != nil {
		l.field.SetNumber(r, *l.value)
	}
}

// LooksLikeMegabytes reports whether an amount of bytes was given without a unit and
// is below 1 MiB. No GPU program runs in that, so a unit was probably forgotten.
func (l *Limit) LooksLikeMegabytes() bool {
	return l.field.Unit == container.UnitBytes && l.value != nil && l.bare && *l.value > 0 && *l.value < 1<<20
}

// ParseLimit parses a number in the unit of the field, which says what spellings there
// are. "-1" is no limit where the field takes it. Anything else is an error that
// states the range.
func ParseLimit(f *container.ResourceField, value string) (int64, error) {
	var (
		n  int64
		ok bool
	)
	switch f.Unit {
	case container.UnitBytes, container.UnitBytesPerSecond:
		n, ok = parseSize(value)
	case container.UnitBitsPerSecond:
		n, ok = parseNetRate(value)
	case container.UnitClass:
		n, ok = parseNetClassID(value)
	default:
		parsed, err := strconv.ParseInt(value, 10, 64)
		n, ok = parsed, err == nil
	}
	if ok && f.Allows(n) {
		return n, nil
	}
	return 0, errors.New(flagTakes(f))
}

// flagTakes is what the daemon says of the range, and how it can be spelled.
func flagTakes(f *container.ResourceField) string {
	switch f.Unit {
	case container.UnitPriority:
		return fmt.Sprintf("must be a whole number from %d to %d (%d is the default, a higher one gets a larger share)", f.Least, f.Most, f.Default)
	case container.UnitBytes, container.UnitBytesPerSecond:
		return fmt.Sprintf("must be %d to %d %s (a suffix b, k, m, g or t is allowed), or %d for no limit", f.Least, f.Most, f.Unit, f.Default)
	case container.UnitBitsPerSecond:
		return f.Takes() + "; units are tc's: bit, kbit, mbit, gbit, tbit (powers of 1000), kibit … tibit (powers of 1024), and bps, kbps, mbps … for bytes per second"
	case container.UnitClass:
		return fmt.Sprintf("must be MAJOR:MINOR in hexadecimal as tc writes it (10:1), 0xAAAABBBB (0x00100001), or the same number in decimal, up to %d; %d removes the class", f.Most, f.Default)
	default:
		return f.Takes()
	}
}

// Upper case, a fraction and the long spellings (kb, kib) are what --memory
// takes too. An exponent is not: "1e3" is more likely a slip than an amount.
var sizeSyntax = lazyregexp.New(`^([0-9]{1,40}(?:\.[0-9]{1,40})?)(?:(b)|([kmgt])(?:i?b)?)?$`)

// parseSize parses an amount of bytes.
//
// A number without a suffix is in bytes. The suffixes b, k, m, g and t (also kb
// and kib and so on, in any case) are powers of 1024. A fraction is rounded
// down to a whole byte. "-1" stands for itself. Less than one byte, 2^63 bytes or
// more, other negative numbers and other text are not ok.
func parseSize(value string) (_ int64, ok bool) {
	if value == "-1" {
		return -1, true
	}
	// units.RAMInBytes computes in float64: above 2^53 it is off by some bytes,
	// and from 2^63 on the conversion to int64 gives a negative number.
	parts := sizeSyntax.FindStringSubmatch(strings.ToLower(value))
	if parts == nil {
		return 0, false
	}
	amount, ok := new(big.Rat).SetString(parts[1])
	if !ok {
		return 0, false
	}
	if unit := parts[3]; unit != "" {
		shift := 10 * uint(strings.Index("kmgt", unit)+1)
		amount.Mul(amount, new(big.Rat).SetInt64(1<<shift))
	}
	n := new(big.Int).Quo(amount.Num(), amount.Denom())
	if n.Sign() <= 0 || !n.IsInt64() {
		return 0, false
	}
	return n.Int64(), true
}

var netRateSyntax = lazyregexp.New(`^([0-9]{1,40}(?:\.[0-9]{1,40})?)(?:([kmgt]i?)?(bit|bps))?$`)

// parseNetRate parses a rate as tc(8) spells it and returns bits per second.
//
// A number without a unit is in bits per second. "bit" is bits and "bps" is
// bytes per second; both can follow k, m, g or t, powers of 1000, or ki, mi, gi
// or ti, powers of 1024, in any case. A fraction is rounded down to whole bits.
// "-1" stands for itself.
func parseNetRate(value string) (_ int64, ok bool) {
	if value == "-1" {
		return -1, true
	}
	parts := netRateSyntax.FindStringSubmatch(strings.ToLower(value))
	if parts == nil {
		return 0, false
	}
	amount, ok := new(big.Rat).SetString(parts[1])
	if !ok {
		return 0, false
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
	if !n.IsInt64() || n.Sign() <= 0 {
		return 0, false
	}
	return n.Int64(), true
}

// parseNetClassID parses a traffic class: hexadecimal major and minor number
// with a colon between as tc(8) writes them (the minor may be left out, as in
// "10:"), or the whole as 0xAAAABBBB or in decimal. It returns 0 to 2^32-1;
// anything else is not ok.
func parseNetClassID(value string) (_ int64, ok bool) {
	major, minor, isPair := strings.Cut(value, ":")
	if !isPair {
		base, digits := 10, value
		if hex, ok := strings.CutPrefix(strings.ToLower(value), "0x"); ok {
			base, digits = 16, hex
		}
		n, err := strconv.ParseUint(digits, base, 32)
		if err != nil {
			return 0, false
		}
		return int64(n), true
	}
	if minor == "" {
		minor = "0"
	}
	hi, err := strconv.ParseUint(major, 16, 16)
	if err != nil {
		return 0, false
	}
	lo, err := strconv.ParseUint(minor, 16, 16)
	if err != nil {
		return 0, false
	}
	return int64(hi<<16 | lo), true
}

// FormatNetClassID spells a class as tc does, "0" if there is none.
func FormatNetClassID(id uint32) string {
	if id == 0 {
		return "0"
	}
	return fmt.Sprintf("%x:%x", id>>16, id&0xffff)
}
