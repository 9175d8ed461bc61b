// SPDX-License-Identifier: Apache-2.0

package opts

import (
	"testing"

	"github.com/docker/docker/api/types/blkiodev"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func TestBlkioBps(t *testing.T) {
	var b BlkioBps
	assert.Check(t, is.Nil(b.Value()))
	assert.Check(t, is.Equal(b.String(), ""))
	for in, want := range map[string]int64{"2": 2, "-1": -1, "40m": 40 << 20, "1.5k": 1536, "64MB": 64 << 20, "9223372036854775807": 1<<63 - 1} {
		assert.NilError(t, b.Set(in), in)
		assert.Check(t, is.Equal(*b.Value(), want), in)
	}
	assert.NilError(t, b.Set("7"))
	for _, in := range []string{"", "0", "1", "1.9", "-2", "abc", "1mbit", "9223372036854775808"} {
		assert.Check(t, is.ErrorContains(b.Set(in), "must be 2 to 9223372036854775807 bytes per second"), in)
		assert.Check(t, is.Equal(*b.Value(), int64(7)), in)
	}
}

func TestBlkioIOps(t *testing.T) {
	var b BlkioIOps
	assert.Check(t, is.Nil(b.Value()))
	assert.Check(t, is.Equal(b.String(), ""))
	for in, want := range map[string]int64{"2": 2, "-1": -1, "4294967294": 1<<32 - 2} {
		assert.NilError(t, b.Set(in), in)
		assert.Check(t, is.Equal(*b.Value(), want), in)
	}
	assert.NilError(t, b.Set("7"))
	for _, in := range []string{"", "0", "1", "-2", "1k", "4294967295", "4294967296", "18446744073709551615"} {
		assert.Check(t, is.ErrorContains(b.Set(in), "must be 2 to 4294967294 operations per second"), in)
		assert.Check(t, is.Equal(*b.Value(), int64(7)), in)
	}
}

func TestThrottleDevices(t *testing.T) {
	d := NewThrottleDevices(ValidateThrottleBpsDevice)
	assert.Check(t, d.Value() == nil, "not given is no list")
	assert.NilError(t, d.Set("/dev/sda:1m"))
	assert.NilError(t, d.Set("/dev/sdb:5"))
	assert.Check(t, is.ErrorContains(d.Set("sda:5"), "bad format for device path"))
	assert.Check(t, is.DeepEqual(d.Value(), []*blkiodev.ThrottleDevice{{Path: "/dev/sda", Rate: 1 << 20}, {Path: "/dev/sdb", Rate: 5}}))
	assert.Check(t, is.Equal(d.String(), "/dev/sda:1m,/dev/sdb:5"))
	assert.NilError(t, d.Set(""))
	assert.Check(t, d.Value() != nil && len(d.Value()) == 0, "the empty list clears")
	assert.NilError(t, d.Set("/dev/sdb:6"))
	assert.Check(t, is.DeepEqual(d.Value(), []*blkiodev.ThrottleDevice{{Path: "/dev/sdb", Rate: 6}}))

	w := NewWeightDevices(ValidateWeightDevice)
	assert.NilError(t, w.Set("/dev/sda:300"))
	assert.Check(t, is.ErrorContains(w.Set("/dev/sda:5"), "invalid weight"))
	assert.Check(t, is.DeepEqual(w.Value(), []*blkiodev.WeightDevice{{Path: "/dev/sda", Weight: 300}}))
}
