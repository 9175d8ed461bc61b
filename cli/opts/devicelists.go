// SPDX-License-Identifier: Apache-2.0

package opts

import (
	"strings"

	"github.com/docker/docker/api/types/blkiodev"
)

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
