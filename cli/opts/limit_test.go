// SPDX-License-Identifier: Apache-2.0

package opts

import (
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/blkiodev"
	"github.com/docker/docker/api/types/container"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func newLimit(name string) *Limit { return NewLimit(container.ResourceFieldNamed(name)) }

func TestNetRate(t *testing.T) {
	r := newLimit("NetEgressRate")
	assert.Check(t, is.Nil(r.Value()))
	assert.Check(t, is.Equal(r.String(), ""))
	// What `tc class show` prints for the same text.
	for in, want := range map[string]int64{
		"6072": 6072, "-1": -1, "10000": 10000, "20mbit": 20e6, "1.5Mbit": 1500000, "10kbit": 10000, "10kibit": 10240, "1gbit": 1e9, "1gibit": 1 << 30,
		"1tbit": 1e12, "1tibit": 1 << 40, "1000bps": 8000, "1kbps": 8000, "1kibps": 8192, "1mbps": 8e6, "1mibps": 8 << 20, "1gbps": 8e9, "1tbps": 8e12,
		"9000bit": 9000, "9000.99bit": 9000, "1000tbit": 1e15,
	} {
		assert.NilError(t, r.Set(in), in)
		assert.Check(t, is.Equal(*r.Value(), want), in)
	}
	assert.NilError(t, r.Set("8000"))
	for _, in := range []string{"", "0", "6071", "6071.9bit", "-8000", "1000000000000001", "1m", "1mb", "1mbit/s", "50%", "mbit", "1e6", "99999999tbit", "1 mbit"} {
		assert.Check(t, is.ErrorContains(r.Set(in), "must be 6072 to 1000000000000000 bits per second"), in)
		assert.Check(t, is.Equal(*r.Value(), int64(8000)), in)
	}
}

func TestNetClassID(t *testing.T) {
	c := newLimit("NetClassID")
	assert.Check(t, is.Nil(c.Value()))
	assert.Check(t, is.Equal(c.String(), ""))
	for in, want := range map[string]int64{
		"10:1": 0x100001, "1:10": 0x10010, "ffff:FFFF": 0xffffffff, "10:": 0x100000, "0x100001": 0x100001, "0X100001": 0x100001,
		"1048577": 0x100001, "4294967295": 0xffffffff, "0": 0, "0:0": 0,
	} {
		assert.NilError(t, c.Set(in), in)
		assert.Check(t, is.Equal(*c.Value(), want), in)
		text := c.String()
		assert.NilError(t, c.Set(text), in)
		assert.Check(t, is.Equal(*c.Value(), want), "%s, read back from %s", in, text)
	}
	assert.NilError(t, c.Set("10:1"))
	for _, in := range []string{"", ":1", "10:10000", "10000:1", "-1", "4294967296", "g:1", "10:1:1", "+1:1", "0x", "1.5"} {
		assert.Check(t, is.ErrorContains(c.Set(in), "must be MAJOR:MINOR"), in)
		assert.Check(t, is.Equal(*c.Value(), int64(0x100001)), in)
	}
}

func TestNetPriorities(t *testing.T) {
	var p NetPriorities
	assert.Check(t, p.Value() == nil, "not given is no list")
	for _, in := range []string{"eth0:5", "eth1:0x100003", "eth0.7:1", "vlan:7:4294967295", "eth0:6"} {
		assert.NilError(t, p.Set(in), in)
	}
	assert.Check(t, is.DeepEqual(p.Value(), []container.NetPriority{
		{Interface: "eth0", Priority: 6}, {Interface: "eth1", Priority: 0x100003}, {Interface: "eth0.7", Priority: 1}, {Interface: "vlan:7", Priority: 1<<32 - 1},
	}))
	assert.Check(t, is.Equal(p.String(), "eth0:6,eth1:1048579,eth0.7:1,vlan:7:4294967295"))
	for in, want := range map[string]string{
		"eth0":               "must be IFACE:PRIO, such as eth0:5",
		":5":                 "is not a network interface",
		"0123456789abcdef:5": "must be a name of 1 to 15 characters",
		"a b:5":              "is not a network interface",
		"../x:5":             "is not a network interface",
		"eth0:":              "the priority of eth0 must be 0 to 4294967295",
		"eth0:-1":            "the priority of eth0 must be 0 to 4294967295",
		"eth0:4294967296":    "the priority of eth0 must be 0 to 4294967295",
	} {
		assert.Check(t, is.ErrorContains(p.Set(in), want), in)
	}
	assert.Check(t, is.Len(p.Value(), 4))
	assert.NilError(t, p.Set(""))
	assert.Check(t, p.Value() != nil && len(p.Value()) == 0, "the empty list clears")
}

func TestGPUPriority(t *testing.T) {
	p := newLimit("GPUPriority")
	assert.Check(t, is.Nil(p.Value()))
	assert.Check(t, is.Equal(p.String(), ""))

	for in, want := range map[string]int64{"0": 0, "50": 50, "-0": 0, "-1": -1, "1024": 1024, "-1024": -1024, "007": 7} {
		assert.NilError(t, p.Set(in), in)
		assert.Assert(t, p.Value() != nil, in)
		assert.Check(t, is.Equal(*p.Value(), want), in)
		assert.Check(t, is.Equal(p.String(), strconv.FormatInt(want, 10)), in)
	}

	assert.NilError(t, p.Set("7"))
	for _, in := range []string{"", " ", "abc", "1025", "-1025", "1.5", "1e2", "0x10", "5 ", "10m", "9223372036854775808", "NaN"} {
		assert.Check(t, is.ErrorContains(p.Set(in), "from -1024 to 1024"), in)
		assert.Check(t, is.Equal(*p.Value(), int64(7)), in)
	}
}

func TestGPUMemory(t *testing.T) {
	m := newLimit("GPUMemory")
	assert.Check(t, is.Nil(m.Value()))
	assert.Check(t, is.Equal(m.String(), ""))
	assert.Check(t, !m.LooksLikeMegabytes())

	for _, tc := range []struct {
		in        string
		want      int64
		megabytes bool
	}{
		{in: "10240", want: 10240, megabytes: true},
		{in: "1", want: 1, megabytes: true},
		{in: "1048575", want: 1<<20 - 1, megabytes: true},
		{in: "1048576", want: 1 << 20},
		{in: "10240b", want: 10240},
		{in: "10k", want: 10240},
		{in: "10K", want: 10240},
		{in: "10kb", want: 10240},
		{in: "10KiB", want: 10240},
		{in: "10240m", want: 10 << 30},
		{in: "10g", want: 10 << 30},
		{in: "2t", want: 2 << 40},
		{in: "1.5g", want: 3 << 29},
		{in: "0.5k", want: 512},
		{in: "0.3k", want: 307},
		{in: "-1", want: -1},
		// Not a multiple of what a float64 can hold.
		{in: "9007199254740993", want: 1<<53 + 1},
		{in: "9223372036854775807", want: math.MaxInt64},
		{in: "8388607t", want: 8388607 << 40},
	} {
		t.Run(tc.in, func(t *testing.T) {
			assert.NilError(t, m.Set(tc.in))
			assert.Assert(t, m.Value() != nil)
			assert.Check(t, is.Equal(*m.Value(), tc.want))
			assert.Check(t, is.Equal(m.String(), strconv.FormatInt(tc.want, 10)))
			assert.Check(t, is.Equal(m.LooksLikeMegabytes(), tc.megabytes))
		})
	}

	assert.NilError(t, m.Set("7"))
	for _, in := range []string{
		"", " ", "0", "00", "0m", "0.0000001k", "-5", "-1k", "-0", "+5", "1q", "1p", "1bb", "1ki", "k", "max", "inf", "NaN",
		"10.5.5m", "1.", ".5g", "1e3", "1e30", "0x10", "1_000", "1 000", "10 m", "10m ", "1,5g",
		"9223372036854775808", "18446744073709551615", "8388608t", strings.Repeat("9", 1000),
	} {
		assert.Check(t, is.ErrorContains(m.Set(in), "1 to 9223372036854775807 bytes"), in)
		assert.Check(t, is.Equal(*m.Value(), int64(7)), in)
	}
}

func TestBlkioBps(t *testing.T) {
	b := newLimit("BlkioReadLimit")
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
	b := newLimit("BlkioReadIOpsLimit")
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
