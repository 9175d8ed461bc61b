// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"encoding/json"
	"testing"

	"github.com/docker/docker/api/types/blkiodev"
	containertypes "github.com/docker/docker/api/types/container"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func u32(v uint32) *uint32 { return &v }

func TestValidateLimits(t *testing.T) {
	prio := func(names ...string) (r containertypes.Resources) {
		for _, n := range names {
			r.NetPriorities = append(r.NetPriorities, containertypes.NetPriority{Interface: n})
		}
		return r
	}
	for _, tc := range []struct {
		r   containertypes.Resources
		err string
	}{
		{},
		{r: containertypes.Resources{BlkioReadLimit: i64(2), BlkioWriteLimit: i64(1<<63 - 1), BlkioReadIOpsLimit: i64(2), BlkioWriteIOpsLimit: i64(1<<32 - 2)}},
		{r: containertypes.Resources{BlkioReadLimit: i64(-1), BlkioWriteIOpsLimit: i64(-1), NetEgressRate: i64(-1), NetIngressRate: i64(6072), NetClassID: u32(1<<32 - 1)}},
		{r: containertypes.Resources{BlkioReadLimit: i64(1)}, err: "invalid BlkioReadLimit (--blkio-read-limit) 1: must be 2 to 9223372036854775807 bytes per second, or -1 for no limit"},
		{r: containertypes.Resources{BlkioWriteLimit: i64(0)}, err: "invalid BlkioWriteLimit (--blkio-write-limit) 0: must be"},
		{r: containertypes.Resources{BlkioReadIOpsLimit: i64(1 << 32)}, err: "invalid BlkioReadIOpsLimit (--blkio-read-iops-limit) 4294967296: must be 2 to 4294967294 operations per second"},
		{r: containertypes.Resources{BlkioWriteIOpsLimit: i64(-2)}, err: "invalid BlkioWriteIOpsLimit (--blkio-write-iops-limit) -2: must be"},
		{r: containertypes.Resources{NetEgressRate: i64(6071)}, err: "invalid NetEgressRate (--net-egress-rate) 6071: must be 6072 to 1000000000000000 bits per second"},
		{r: containertypes.Resources{NetEgressPPS: i64(1), NetIngressPPS: i64(10_000_000)}},
		{r: containertypes.Resources{NetEgressPPS: i64(0)}, err: "invalid NetEgressPPS (--net-egress-pps) 0: must be 1 to 10000000 packets per second, or -1 for no limit"},
		{r: containertypes.Resources{NetIngressPPS: i64(10_000_001)}, err: "must be 1 to 10000000 packets per second"},
		{r: containertypes.Resources{NetIngressRate: i64(0)}, err: "invalid NetIngressRate (--net-ingress-rate) 0: must be"},
		{r: containertypes.Resources{BlkioWeightDevice: []*blkiodev.WeightDevice{nil}}, err: "invalid BlkioWeightDevice (--blkio-weight-device): null is not a device"},
		{r: containertypes.Resources{BlkioDeviceReadBps: []*blkiodev.ThrottleDevice{{Path: "/dev/a"}, nil}}, err: "invalid BlkioDeviceReadBps (--device-read-bps): null"},
		{r: containertypes.Resources{BlkioDeviceWriteBps: []*blkiodev.ThrottleDevice{nil}}, err: "invalid BlkioDeviceWriteBps (--device-write-bps): null"},
		{r: containertypes.Resources{BlkioDeviceReadIOps: []*blkiodev.ThrottleDevice{nil}}, err: "invalid BlkioDeviceReadIOps (--device-read-iops): null"},
		{r: containertypes.Resources{BlkioDeviceWriteIOps: []*blkiodev.ThrottleDevice{nil}}, err: "invalid BlkioDeviceWriteIOps (--device-write-iops): null"},
		{r: prio("eth0", "eth1", "vlan:7")},
		{r: prio("eth0", "eth0"), err: "interface eth0 has two priorities"},
		{r: prio(""), err: `"" is not the name of a network interface`},
		{r: prio("../../x"), err: "is not the name of a network interface"},
		{r: prio("a\nb"), err: "is not the name of a network interface"},
		{r: prio("0123456789abcdef"), err: "must be 1 to 15 characters"},
	} {
		err := validateLimits(tc.r)
		if tc.err == "" {
			assert.Check(t, err, limitFlags(tc.r))
		} else {
			assert.Check(t, is.ErrorContains(err, tc.err))
		}
	}
}

func TestLimitFlags(t *testing.T) {
	assert.Check(t, is.Equal(limitFlags(containertypes.Resources{GPUMemory: i64(5), CPUShares: 5}), "--gpu-memory=5"))
	r := containertypes.Resources{
		BlkioReadLimit: i64(2), BlkioWriteLimit: i64(-1), BlkioReadIOpsLimit: i64(3), BlkioWriteIOpsLimit: i64(4),
		NetClassID: u32(0x100001), NetPriorities: []containertypes.NetPriority{{Interface: "eth0", Priority: 5}, {Interface: "eth1", Priority: 6}},
		NetEgressRate: i64(8), NetIngressRate: i64(-1),
	}
	assert.Check(t, is.Equal(limitFlags(blkioLimits(r)), "--blkio-read-limit=2 --blkio-read-iops-limit=3 --blkio-write-iops-limit=4"))
	assert.Check(t, is.Equal(limitFlags(netLimits(r)), "--net-classid=10:1 --net-prio=eth0:5 --net-prio=eth1:6 --net-egress-rate=8"))
	assert.Check(t, is.Equal(limitFlags(netLimits(containertypes.Resources{NetClassID: u32(0), NetPriorities: []containertypes.NetPriority{}})), ""))
}

// TestLimitsJSON checks that the API and hostconfig.json tell none, an empty
// list and an entry apart, and that inspect of other containers stays as it is.
func TestLimitsJSON(t *testing.T) {
	for want, list := range map[string][]containertypes.NetPriority{
		"":                                    nil,
		"[]":                                  {},
		`[{"Interface":"eth0","Priority":5}]`: {{Interface: "eth0", Priority: 5}},
	} {
		data, err := json.Marshal(containertypes.HostConfig{Resources: containertypes.Resources{NetPriorities: list}})
		assert.NilError(t, err)
		var fields map[string]json.RawMessage
		assert.NilError(t, json.Unmarshal(data, &fields))
		assert.Check(t, is.Equal(string(fields["NetPriorities"]), want))
		for _, name := range []string{"BlkioReadLimit", "BlkioWriteIOpsLimit", "NetClassID", "NetEgressRate"} {
			_, ok := fields[name]
			assert.Check(t, !ok, name)
		}
		var back containertypes.HostConfig
		assert.NilError(t, json.Unmarshal(data, &back))
		assert.Check(t, is.DeepEqual(back.NetPriorities, list))
	}
}

func TestTakeBackLimits(t *testing.T) {
	d := &Daemon{}
	update := containertypes.Resources{
		BlkioReadLimit: i64(5), BlkioWriteIOpsLimit: i64(-1), BlkioDeviceReadBps: []*blkiodev.ThrottleDevice{},
		BlkioWeightDevice: []*blkiodev.WeightDevice{{Path: "/dev/sda", Weight: 10}},
		NetClassID:        u32(7), NetPriorities: []containertypes.NetPriority{{Interface: "eth0"}}, NetEgressRate: i64(8),
	}
	old := containertypes.Resources{
		BlkioReadLimit: i64(6), BlkioWriteLimit: i64(7), BlkioDeviceReadBps: []*blkiodev.ThrottleDevice{{Path: "/dev/sda", Rate: 5}},
		NetPriorities: []containertypes.NetPriority{{Interface: "eth1"}},
	}
	assert.Check(t, is.DeepEqual(d.assigning(update, old), containertypes.Resources{
		BlkioReadLimit: i64(6), BlkioWriteIOpsLimit: i64(-1), BlkioDeviceReadBps: old.BlkioDeviceReadBps,
		BlkioWeightDevice: []*blkiodev.WeightDevice{},
		NetClassID:        u32(0), NetPriorities: old.NetPriorities, NetEgressRate: i64(-1),
	}))
}
