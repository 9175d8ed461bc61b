//go:build !windows

// SPDX-License-Identifier: Apache-2.0

package container

import (
	"reflect"
	"testing"

	"github.com/docker/docker/api/types/blkiodev"
	containertypes "github.com/docker/docker/api/types/container"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func TestUpdateContainerLimits(t *testing.T) {
	full := func(n int64) (r containertypes.Resources) {
		id := uint32(n)
		throttle := []*blkiodev.ThrottleDevice{{Path: "/dev/sda", Rate: uint64(n)}}
		return containertypes.Resources{
			BlkioReadLimit: &n, BlkioWriteLimit: &n, BlkioReadIOpsLimit: &n, BlkioWriteIOpsLimit: &n,
			BlkioWeightDevice:  []*blkiodev.WeightDevice{{Path: "/dev/sda", Weight: uint16(n)}},
			BlkioDeviceReadBps: throttle, BlkioDeviceWriteBps: throttle, BlkioDeviceReadIOps: throttle, BlkioDeviceWriteIOps: throttle,
			NetClassID: &id, NetPriorities: []containertypes.NetPriority{{Interface: "eth0", Priority: id}},
			NetEgressRate: &n, NetIngressRate: &n,
		}
	}
	update := func(r containertypes.Resources) containertypes.Resources {
		c := &Container{HostConfig: &containertypes.HostConfig{Resources: full(5)}}
		backup := *c.HostConfig
		assert.NilError(t, c.UpdateContainer(&containertypes.HostConfig{Resources: r}))
		assert.Check(t, is.DeepEqual(backup.Resources, full(5)), "daemon.update's shallow backup must keep the old values")
		return c.HostConfig.Resources
	}
	assert.Check(t, is.DeepEqual(update(containertypes.Resources{CPUShares: 0}), full(5)), "absent keeps")
	assert.Check(t, is.DeepEqual(update(full(7)), full(7)))

	// One at a time: a value takes no other field along, an empty list clears.
	for i := range reflect.TypeFor[containertypes.Resources]().NumField() {
		name := reflect.TypeFor[containertypes.Resources]().Field(i).Name
		value := reflect.ValueOf(full(7)).Field(i)
		if value.IsZero() {
			continue
		}
		if value.Kind() == reflect.Slice {
			value = reflect.MakeSlice(value.Type(), 0, 0)
		}
		var one containertypes.Resources
		reflect.ValueOf(&one).Elem().Field(i).Set(value)
		want := full(5)
		reflect.ValueOf(&want).Elem().Field(i).Set(value)
		assert.Check(t, is.DeepEqual(update(one), want), name)
	}
}
