// SPDX-License-Identifier: Apache-2.0

package opts

import (
	"testing"

	"github.com/docker/docker/api/types/container"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func TestNetRate(t *testing.T) {
	var r NetRate
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
	var c NetClassID
	assert.Check(t, is.Nil(c.Value()))
	assert.Check(t, is.Equal(c.String(), ""))
	for in, want := range map[string]uint32{
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
		assert.Check(t, is.Equal(*c.Value(), uint32(0x100001)), in)
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
