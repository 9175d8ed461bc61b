// SPDX-License-Identifier: Apache-2.0

package opts

import (
	"errors"
	"math/big"
	"strconv"
	"strings"

	"github.com/docker/cli/internal/lazyregexp"
)

// Range of a GPU priority, both ends included.
const (
	MinGPUPriority = -1024
	MaxGPUPriority = 1024
)

// GPUMemoryUnlimited is the GPU memory value that stands for "no limit".
const GPUMemoryUnlimited = -1

var (
	errGPUPriority = errors.New("must be a whole number from -1024 to 1024 (0 is the default, a higher one is served sooner)")
	errGPUMemory   = errors.New("must be 1 to 9223372036854775807 bytes (a suffix b, k, m, g or t is allowed), or -1 for no limit")
)

// GPUPriority is the value of a flag that takes a GPU priority.
type GPUPriority struct {
	value *int64
}

// Set parses a whole decimal number from MinGPUPriority to MaxGPUPriority.
// Anything else is an error that states this range, and keeps the old value.
func (p *GPUPriority) Set(value string) error {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < MinGPUPriority || n > MaxGPUPriority {
		return errGPUPriority
	}
	p.value = &n
	return nil
}

// Type is the name of the value's kind in help texts.
func (*GPUPriority) Type() string { return "int" }

// String returns the priority in decimal, and nothing before Set: on update an
// absent flag keeps what the container has, so there is no default to show.
func (p *GPUPriority) String() string { return formatOptional(p.value) }

// Value returns the priority, or nil when the flag was not given.
func (p *GPUPriority) Value() *int64 { return p.value }

// GPUMemory is the value of a flag that takes an amount of GPU memory.
type GPUMemory struct {
	value *int64
	bare  bool
}

// Set parses an amount as [ParseGPUMemory] does. An error keeps the old value.
func (m *GPUMemory) Set(value string) error {
	n, err := ParseGPUMemory(value)
	if err != nil {
		return err
	}
	m.value = &n
	m.bare = value == strconv.FormatInt(n, 10)
	return nil
}

// Type is the name of the value's kind in help texts.
func (*GPUMemory) Type() string { return "bytes" }

// String returns the amount in bytes without a unit, because the number must
// stay exact, and nothing before Set.
func (m *GPUMemory) String() string { return formatOptional(m.value) }

// Value returns the amount in bytes, [GPUMemoryUnlimited] for no limit, or nil
// when the flag was not given.
func (m *GPUMemory) Value() *int64 { return m.value }

// LooksLikeMegabytes reports whether the amount was given without a unit and
// is below 1 MiB. No GPU program runs in that, so a unit was probably forgotten.
func (m *GPUMemory) LooksLikeMegabytes() bool {
	return m.value != nil && m.bare && *m.value > 0 && *m.value < 1<<20
}

// Upper case, a fraction and the long spellings (kb, kib) are what --memory
// takes too. An exponent is not: "1e3" is more likely a slip than an amount.
var gpuMemorySyntax = lazyregexp.New(`^([0-9]{1,40}(?:\.[0-9]{1,40})?)(?:(b)|([kmgt])(?:i?b)?)?$`)

// ParseGPUMemory parses an amount of GPU memory and returns it in bytes.
//
// A number without a suffix is in bytes. The suffixes b, k, m, g and t (also kb
// and kib and so on, in any case) are powers of 1024. A fraction is rounded
// down to a whole byte. "-1" is no limit and returned as [GPUMemoryUnlimited].
// Less than one byte, 2^63 bytes or more, other negative numbers and other text
// are an error that states the range.
func ParseGPUMemory(value string) (int64, error) {
	if value == "-1" {
		return GPUMemoryUnlimited, nil
	}
	// units.RAMInBytes computes in float64: above 2^53 it is off by some bytes,
	// and from 2^63 on the conversion to int64 gives a negative number.
	parts := gpuMemorySyntax.FindStringSubmatch(strings.ToLower(value))
	if parts == nil {
		return 0, errGPUMemory
	}
	amount, ok := new(big.Rat).SetString(parts[1])
	if !ok {
		return 0, errGPUMemory
	}
	if unit := parts[3]; unit != "" {
		shift := 10 * uint(strings.Index("kmgt", unit)+1)
		amount.Mul(amount, new(big.Rat).SetInt64(1<<shift))
	}
	n := new(big.Int).Quo(amount.Num(), amount.Denom())
	if n.Sign() <= 0 || !n.IsInt64() {
		return 0, errGPUMemory
	}
	return n.Int64(), nil
}

func formatOptional(n *int64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatInt(*n, 10)
}
