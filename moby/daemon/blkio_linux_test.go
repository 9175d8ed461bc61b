// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/docker/docker/api/types/blkiodev"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/daemon/blkiodisk"
	"github.com/docker/docker/daemon/config"
	"github.com/docker/docker/pkg/sysinfo"
	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

type rates = map[blkiodisk.Disk]uint64

var (
	sda = blkiodisk.Disk{Major: 8}
	sdb = blkiodisk.Disk{Major: 8, Minor: 16}
)

func TestVerifyBlkio(t *testing.T) {
	limit := containertypes.Resources{BlkioReadLimit: i64(5)}
	for _, tc := range []struct {
		doc                        string
		r                          containertypes.Resources
		rootless, v2, none, update bool
		err                        string
	}{
		{doc: "v1", r: limit},
		{doc: "v2", r: limit, v2: true},
		{doc: "nothing to enforce", r: containertypes.Resources{BlkioReadLimit: i64(-1)}, none: true, rootless: true},
		{doc: "rootless", r: limit, rootless: true, err: "--blkio-read-limit=5 cannot be enforced: the daemon is rootless"},
		{doc: "rootless update of a device", r: containertypes.Resources{BlkioDeviceReadBps: []*blkiodev.ThrottleDevice{{}}}, rootless: true, update: true, err: "cannot be changed by a rootless daemon"},
		{doc: "no controller on v1", r: limit, none: true, err: "--blkio-read-limit=5 cannot be enforced: there is no blkio hierarchy"},
		{doc: "no controller on v2", r: limit, none: true, v2: true, err: "--blkio-read-limit=5 cannot be enforced: cgroup v2 has no io controller here"},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			info := &sysinfo.SysInfo{CgroupUnified: tc.v2}
			if !tc.none {
				info.BlkioReadBpsDevice, info.BlkioWriteBpsDevice, info.BlkioReadIOpsDevice, info.BlkioWriteIOpsDevice = true, true, true, true
			}
			cfg := &configStore{Config: config.Config{Rootless: tc.rootless}}
			err := verifyBlkio(cfg, &containertypes.HostConfig{Resources: tc.r}, info, tc.update)
			if tc.err == "" {
				assert.Check(t, err)
			} else {
				assert.Check(t, is.ErrorContains(err, tc.err))
			}
		})
	}
}

func TestReadThrottles(t *testing.T) {
	want := throttles{{sda: 1048576, sdb: 5}, {sda: 2048}, {}, {sdb: 100}}
	v1, v2 := t.TempDir(), t.TempDir()
	for name, content := range map[string]string{
		"blkio.throttle.read_bps_device":   "8:0 1048576\n8:16 5\n",
		"blkio.throttle.write_bps_device":  "8:0 2048\n",
		"blkio.throttle.read_iops_device":  "",
		"blkio.throttle.write_iops_device": "8:16 100\n",
	} {
		assert.NilError(t, os.WriteFile(filepath.Join(v1, name), []byte(content), 0o600))
	}
	assert.NilError(t, os.WriteFile(filepath.Join(v2, "io.max"), []byte("8:0 rbps=1048576 wbps=2048 riops=max wiops=max\n8:16 rbps=5 wbps=max riops=max wiops=100\n"), 0o600))
	for dir, isV2 := range map[string]bool{v1: false, v2: true} {
		got, err := readThrottleFiles(dir, isV2)
		assert.NilError(t, err)
		assert.Check(t, is.DeepEqual(got, want))
		_, err = readThrottleFiles(dir, !isV2)
		assert.Check(t, is.ErrorContains(err, "no such file"))
	}
}

func TestChangeThrottles(t *testing.T) {
	entry := func(d blkiodisk.Disk, rate uint64) (e specs.LinuxThrottleDevice) {
		e.Major, e.Minor, e.Rate = int64(d.Major), int64(d.Minor), rate
		return e
	}
	var b specs.LinuxBlockIO
	want := throttles{{sda: 5, sdb: 6}, {sda: 7}, {}, {}}
	want.change(throttles{{sda: 5}, {sda: 7}, {sda: 8}, {}}, &b)
	assert.Check(t, is.DeepEqual(b, specs.LinuxBlockIO{
		ThrottleReadBpsDevice:  []specs.LinuxThrottleDevice{entry(sda, 5), entry(sdb, 6)},
		ThrottleReadIOPSDevice: []specs.LinuxThrottleDevice{entry(sda, math.MaxUint64)},
	}))
	_, ok := want[2][sda]
	assert.Check(t, !ok, "what is wanted must not change")

	all := func(blkiodisk.Disk) bool { return true }
	assert.Check(t, want.differ(want, all))
	assert.Check(t, is.ErrorContains(want.differ(throttles{{sda: 5, sdb: 9}, {sda: 7}, {}, {}}, all), "read_bps_device of 8:16 is 9, want 6"))
	assert.Check(t, is.ErrorContains(want.differ(throttles{{sda: 5}, {sda: 7}, {}, {}}, all), "read_bps_device of 8:16 is no limit, want 6"))
	assert.Check(t, want.differ(throttles{{sda: 5}, {sda: 7}, {}, {}}, func(d blkiodisk.Disk) bool { return d != sdb }), "a disk that is gone")
	assert.Check(t, is.ErrorContains(want.differ(throttles{{sda: 5, sdb: 6}, {sda: 7}, {}, {sda: 3}}, all), "write_iops_device of 8:0 is still 3"))
}

// TestWantThrottles uses the first block device that this machine has.
func TestWantThrottles(t *testing.T) {
	h, err := blkiodisk.NewHost()
	assert.NilError(t, err)
	var node string
	var disk blkiodisk.Disk
	for _, pattern := range []string{"/dev/vd?", "/dev/sd?", "/dev/nvme?n1", "/dev/loop?"} {
		nodes, _ := filepath.Glob(pattern)
		for _, n := range nodes {
			if d, err := h.Device(n); err == nil {
				node, disk = n, d
			}
		}
	}
	if node == "" {
		t.Skip("no block device")
	}
	named := func(rate uint64) []*blkiodev.ThrottleDevice {
		return []*blkiodev.ThrottleDevice{{Path: node, Rate: rate}}
	}
	disks := []blkiodisk.Disk{disk, {Major: 1 << 11}}
	want, errs := wantThrottles(h, disks, containertypes.Resources{
		BlkioReadLimit: i64(5), BlkioDeviceReadBps: named(7),
		BlkioWriteLimit: i64(6), BlkioDeviceWriteBps: named(0),
		BlkioReadIOpsLimit: i64(-1), BlkioDeviceReadIOps: named(9),
		BlkioWriteIOpsLimit: i64(4),
	})
	assert.Check(t, is.DeepEqual(errs, [4]error{}))
	assert.Check(t, is.DeepEqual(want, throttles{{disk: 7, disks[1]: 5}, {disks[1]: 6}, {disk: 9}, {disk: 4, disks[1]: 4}}))

	_, errs = wantThrottles(h, disks, containertypes.Resources{BlkioDeviceWriteIOps: []*blkiodev.ThrottleDevice{{Path: "/dev/null", Rate: 5}}})
	assert.Check(t, is.ErrorContains(errs[3], "/dev/null is not a block device"))
	assert.Check(t, errs[0] == nil)
}

func TestCoverMounts(t *testing.T) {
	h, err := blkiodisk.NewHost()
	assert.NilError(t, err)
	c := coverMounts(h, []*mountinfo.Info{
		{Mountpoint: "/", FSType: "overlay", VFSOptions: "upperdir=/no/such"},
		{Mountpoint: "/data", FSType: "nfs4", Source: "server:/"},
		{Mountpoint: "/proc", FSType: "proc"},
		{Mountpoint: "/dev/shm", FSType: "tmpfs"},
		{Mountpoint: "/cache", FSType: "tmpfs"},
		{Mountpoint: "/mnt/sub", FSType: "fuse.sshfs", Source: "x:"},
	}, map[string]bool{"/": true, "/cache": true, "/data": true})
	assert.Check(t, is.Len(c.disks, 0))
	assert.Check(t, is.DeepEqual(c.uncovered, []string{
		"/ (overlay: open /no/such: no such file or directory)",
		"/cache (tmpfs: it has no disk of this host)",
		"/data (nfs4: it has no disk of this host)",
		"/mnt/sub (fuse.sshfs: it has no disk of this host)",
	}))
}

func TestOtherWeights(t *testing.T) {
	dir := t.TempDir()
	assert.Check(t, is.Len(otherWeights(dir, nil), 0))
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "io.bfq.weight"), []byte("default 100\n8:0 300\n8:16 400\n"), 0o600))
	var named specs.LinuxWeightDevice
	named.Major = 8
	others := otherWeights(dir, []specs.LinuxWeightDevice{named})
	assert.Assert(t, is.Len(others, 1))
	assert.Check(t, is.Equal(others[0].Minor, int64(16)))
	assert.Check(t, is.Equal(*others[0].Weight, uint16(0)))
}
