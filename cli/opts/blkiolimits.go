// SPDX-License-Identifier: Apache-2.0

package opts

import (
	"errors"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/blkiodev"
)

// BlkioUnlimited is the rate that stands for "no limit".
const BlkioUnlimited = -1

// The least rate of a disk, because cgroup v2 refuses 1; and the most
// operations per second, because the kernel counts them in 32 bits, wraps what is
// above and takes the largest for no limit.
const (
	minBlkioRate = 2
	maxBlkioIOps = 1<<32 - 2
)

var (
	errBlkioBps  = errors.New("must be 2 to 9223372036854775807 bytes per second (a suffix b, k, m, g or t is allowed), or -1 for no limit")
	errBlkioIOps = errors.New("must be 2 to 4294967294 operations per second, or -1 for no limit")
)

// BlkioBps is the value of a flag that takes bytes per second of disk I/O.
type BlkioBps struct {
	value *int64
}

// Set parses a rate as [ParseBlkioBps] does. An error keeps the old value.
func (b *BlkioBps) Set(value string) error {
	n, err := ParseBlkioBps(value)
	if err != nil {
		return err
	}
	b.value = &n
	return nil
}

// Type is the name of the value's kind in help texts.
func (*BlkioBps) Type() string { return "bytes" }

// String returns the rate in bytes per second, and nothing before Set.
func (b *BlkioBps) String() string { return formatOptional(b.value) }

// Value returns the rate in bytes per second, [BlkioUnlimited] for no limit,
// or nil when the flag was not given.
func (b *BlkioBps) Value() *int64 { return b.value }

// ParseBlkioBps parses a rate in bytes per second: 2 to 2^63-1, with the
// suffixes of [ParseGPUMemory], or "-1", which is returned as [BlkioUnlimited].
// Anything else is an error that states the range.
func ParseBlkioBps(value string) (int64, error) {
	n, err := ParseGPUMemory(value)
	if err != nil || n != BlkioUnlimited && n < minBlkioRate {
		return 0, errBlkioBps
	}
	return n, nil
}

// BlkioIOps is the value of a flag that takes disk operations per second.
type BlkioIOps struct {
	value *int64
}

// Set parses a rate as [ParseBlkioIOps] does. An error keeps the old value.
func (b *BlkioIOps) Set(value string) error {
	n, err := ParseBlkioIOps(value)
	if err != nil {
		return err
	}
	b.value = &n
	return nil
}

// Type is the name of the value's kind in help texts.
func (*BlkioIOps) Type() string { return "int" }

// String returns the rate in decimal, and nothing before Set.
func (b *BlkioIOps) String() string { return formatOptional(b.value) }

// Value returns the rate in operations per second, [BlkioUnlimited] for no
// limit, or nil when the flag was not given.
func (b *BlkioIOps) Value() *int64 { return b.value }

// ParseBlkioIOps parses a whole decimal number of operations per second, 2 to
// 2^32-1, or "-1", which is returned as [BlkioUnlimited]. Anything else is an
// error that states the range.
func ParseBlkioIOps(value string) (int64, error) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n != BlkioUnlimited && (n < minBlkioRate || n > maxBlkioIOps) {
		return 0, errBlkioIOps
	}
	return n, nil
}

// ThrottleDevices is the value of a flag that changes a list of disks with a
// rate each, where upstream's [ThrottledeviceOpt] can only make a new one: an
// empty value is the empty list, which clears what there was.
type ThrottleDevices struct {
	deviceList[blkiodev.ThrottleDevice]
}

// NewThrottleDevices returns a value whose entries are parsed by validator.
func NewThrottleDevices(validator ValidatorThrottleFctType) ThrottleDevices {
	return ThrottleDevices{deviceList[blkiodev.ThrottleDevice]{parse: validator}}
}

// WeightDevices is the same for [WeightdeviceOpt].
type WeightDevices struct {
	deviceList[blkiodev.WeightDevice]
}

// NewWeightDevices returns a value whose entries are parsed by validator.
func NewWeightDevices(validator ValidatorWeightFctType) WeightDevices {
	return WeightDevices{deviceList[blkiodev.WeightDevice]{parse: validator}}
}

type deviceList[T any] struct {
	parse func(string) (*T, error)
	items []*T
	texts []string
}

// Set adds an entry, or empties the list if value is empty.
func (l *deviceList[T]) Set(value string) error {
	if value == "" {
		l.items, l.texts = []*T{}, nil
		return nil
	}
	item, err := l.parse(value)
	if err != nil {
		return err
	}
	l.items, l.texts = append(l.items, item), append(l.texts, value)
	return nil
}

// Type is the name of the value's kind in help texts.
func (*deviceList[T]) Type() string { return "list" }

func (l *deviceList[T]) String() string { return strings.Join(l.texts, ",") }

// Value returns the list, which is empty if it was cleared, or nil when the
// flag was not given.
func (l *deviceList[T]) Value() []*T { return l.items }
