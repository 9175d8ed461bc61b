// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/blkiodev"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/container"
	"github.com/docker/docker/daemon/blkiodisk"
	"github.com/docker/docker/daemon/config"
	"github.com/docker/docker/pkg/sysinfo"
	volumemounts "github.com/docker/docker/volume/mounts"
	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
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
			err := blkioKind{}.admit(cfg, &containertypes.HostConfig{Resources: tc.r}, info, tc.update)
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

	// A runtime that died in between may have other rates than the kernel.
	b = specs.LinuxBlockIO{}
	kernel := throttles{{sda: 5, sdb: 6}, {sda: 7}, {}, {}}
	kernel.forget(containertypes.Resources{BlkioReadLimit: i64(5), BlkioReadIOpsLimit: i64(-1)}, want, []blkiodisk.Disk{sda})
	want.change(kernel, &b)
	assert.Check(t, is.DeepEqual(b, specs.LinuxBlockIO{
		ThrottleReadBpsDevice:  []specs.LinuxThrottleDevice{entry(sda, 5), entry(sdb, 6)},
		ThrottleReadIOPSDevice: []specs.LinuxThrottleDevice{entry(sda, math.MaxUint64)},
	}))

	all := func(blkiodisk.Disk) bool { return true }
	assert.Check(t, want.differ(want, false, all))
	assert.Check(t, is.ErrorContains(want.differ(throttles{{sda: 5, sdb: 9}, {sda: 7}, {}, {}}, false, all), "read_bps_device of 8:16 is 9, want 6"))
	assert.Check(t, is.ErrorContains(want.differ(throttles{{sda: 5}, {sda: 7}, {}, {}}, false, all), "read_bps_device of 8:16 is no limit, want 6"))
	assert.Check(t, want.differ(throttles{{sda: 5}, {sda: 7}, {}, {}}, false, func(d blkiodisk.Disk) bool { return d != sdb }), "a disk that is gone")
	assert.Check(t, is.ErrorContains(want.differ(throttles{{sda: 5, sdb: 6}, {sda: 7}, {}, {sda: 3}}, false, all), "write_iops_device of 8:0 is still 3"))
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
	want, free, errs := wantThrottles(h, disks, containertypes.Resources{
		BlkioReadLimit: i64(5), BlkioDeviceReadBps: named(7),
		BlkioWriteLimit: i64(6), BlkioDeviceWriteBps: named(0),
		BlkioReadIOpsLimit: i64(-1), BlkioDeviceReadIOps: named(9),
		BlkioWriteIOpsLimit: i64(4),
	})
	assert.Check(t, is.DeepEqual(errs, [4]error{}))
	assert.Check(t, is.DeepEqual(free, throttles{{}, {disk: 0}, {}, {}}))
	assert.Check(t, is.DeepEqual(want, throttles{{disk: 7, disks[1]: 5}, {disks[1]: 6}, {disk: 9}, {disk: 4, disks[1]: 4}}))

	_, _, errs = wantThrottles(h, disks, containertypes.Resources{BlkioDeviceWriteIOps: []*blkiodev.ThrottleDevice{{Path: "/dev/null", Rate: 5}}})
	assert.Check(t, is.ErrorContains(errs[3], "/dev/null is not a block device"))
	assert.Check(t, errs[0] == nil)
}

// What a container shows may add a disk, and takes none away.
func TestKeepThrottles(t *testing.T) {
	gone := blkiodisk.Disk{Major: 99}
	exists := func(d blkiodisk.Disk) bool { return d != gone }
	is5 := func() throttles { return throttles{{sda: 5, sdb: 5, gone: 5}, {}, {}, {}} }
	for _, tc := range []struct {
		doc    string
		r      containertypes.Resources
		update containertypes.Resources
		free   throttles
		errs   [4]error
		want   rates
	}{
		{doc: "a disk that is not seen any more", r: containertypes.Resources{BlkioReadLimit: i64(5)}, want: rates{sda: 5, sdb: 5}},
		{doc: "with the new rate", r: containertypes.Resources{BlkioReadLimit: i64(7)}, update: containertypes.Resources{BlkioReadLimit: i64(7)}, want: rates{sda: 7, sdb: 7}},
		{doc: "the rate is set to -1", r: containertypes.Resources{BlkioReadLimit: i64(-1)}, update: containertypes.Resources{BlkioReadLimit: i64(-1)}, want: rates{}},
		{doc: "an update of something else lifts nothing", r: containertypes.Resources{BlkioReadLimit: i64(-1)}, want: rates{sda: 5, sdb: 5}},
		{doc: "an update of another rate lifts nothing", update: containertypes.Resources{BlkioWriteLimit: i64(-1), BlkioDeviceReadIOps: []*blkiodev.ThrottleDevice{}}, want: rates{sda: 5, sdb: 5}},
		{doc: "its list is cleared", update: containertypes.Resources{BlkioDeviceReadBps: []*blkiodev.ThrottleDevice{}}, want: rates{}},
		{doc: "a name that is gone", update: containertypes.Resources{BlkioDeviceReadBps: []*blkiodev.ThrottleDevice{{}}}, errs: [4]error{errors.New("no such device")}, want: rates{sda: 5, sdb: 5}},
		{doc: "named to be free", r: containertypes.Resources{BlkioReadLimit: i64(5)}, free: throttles{{sdb: 0}}, want: rates{sda: 5}},
	} {
		want, _, _ := wantThrottles(nil, nil, tc.r)
		if limiting(tc.r.BlkioReadLimit) != nil {
			want[0][sda] = uint64(*tc.r.BlkioReadLimit) // what is still seen
		}
		want.keep(is5(), tc.free, tc.r, tc.update, tc.errs, exists)
		assert.Check(t, is.DeepEqual(want[0], tc.want), tc.doc)
	}
}

// Paths that the container chose are not looked at: they would be found here.
func TestReachOfWhatAContainerShows(t *testing.T) {
	sys := fakeSys(t, map[string]string{"8:0": "100", "8:16": "100", "7:0": "0"})
	upper := t.TempDir()
	r := &reacher{
		h: &blkiodisk.Host{Sys: sys, Mounts: []*mountinfo.Info{
			{Major: 0, Minor: 50, FSType: "overlay", Mountpoint: "/own", VFSOptions: "upperdir=/no/such"},
			{Major: 0, Minor: 51, FSType: "nfs4", Source: "server:/", Mountpoint: "/nfs"},
		}},
		covered: map[string]bool{}, missed: map[string]string{},
	}
	r.shown([]*mountinfo.Info{
		{Mountpoint: "/", FSType: "overlay", Minor: 50, VFSOptions: "upperdir=/no/such"},
		{Mountpoint: "/disk", FSType: "ext4", Major: 8, Minor: 16, Source: "/dev/../etc/passwd"},
		{Mountpoint: "/gone", FSType: "ext4", Major: 9, Minor: 9},
		{Mountpoint: "/mine", FSType: "overlay", Minor: 60, VFSOptions: "upperdir=" + upper},
		{Mountpoint: "/data", FSType: "nfs4", Minor: 51, Source: "server:/"},
		{Mountpoint: "/b", FSType: "btrfs", Minor: 61, Source: "/dev/null"},
		{Mountpoint: "/proc", FSType: "proc", Minor: 62},
		{Mountpoint: "/dev/shm", FSType: "tmpfs", Minor: 63},
		{Mountpoint: "/mnt/sub", FSType: "fuse.sshfs", Minor: 64, Source: "x:"},
	})
	c := r.coverage()
	assert.Check(t, is.DeepEqual(c.disks, []blkiodisk.Disk{sdb}))
	assert.Assert(t, is.Len(c.uncovered, 6))
	for i, want := range []string{
		"/ (overlay: another program mounted it, its disk cannot be told)",
		"/b (btrfs: another program mounted it, its disk cannot be told)",
		"/data (nfs4: it has no disk of this host)",
		"/gone (ext4: there is no block device 9:9:",
		"/mine (overlay: another program mounted it, its disk cannot be told)",
		"/mnt/sub (fuse.sshfs: it has no disk of this host)",
	} {
		assert.Check(t, strings.HasPrefix(c.uncovered[i], want), "%s: want %s", c.uncovered[i], want)
	}
}

// Paths that a container wrote, or can put a symbolic link into, are not opened: there
// may be no answer, ever.
func TestBlkioOpensNoPathOfAContainer(t *testing.T) {
	dir := t.TempDir()
	trap := filepath.Join(dir, "trap")
	assert.NilError(t, os.Mkdir(trap, 0o755))
	link := filepath.Join(dir, "link")
	assert.NilError(t, os.Symlink(trap, link))
	opened := map[string]bool{}
	h := &blkiodisk.Host{
		Sys: fakeSys(t, map[string]string{"8:0": "100", "8:16": "100"}), Fixed: true,
		Mounts: []*mountinfo.Info{{Minor: 50, FSType: "overlay", Mountpoint: link + "/below", VFSOptions: "upperdir=" + trap}},
		Open: func(path string, fixed bool) (int, error) {
			opened[path] = true
			assert.Check(t, fixed, path)
			return unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{Flags: unix.O_PATH, Resolve: unix.RESOLVE_NO_SYMLINKS})
		},
	}
	r := &reacher{h: h, covered: map[string]bool{}, missed: map[string]string{}, linked: map[string]string{}}
	r.ownMounts(&container.Container{HostConfig: &containertypes.HostConfig{}, MountPoints: map[string]*volumemounts.MountPoint{"/data": {Source: link}}})
	r.shown([]*mountinfo.Info{
		{Mountpoint: "/", FSType: "overlay", Minor: 50, VFSOptions: "upperdir=" + trap},
		{Mountpoint: "/x", FSType: "btrfs", Minor: 51, Source: "/dev/.." + trap},
		{Mountpoint: "/y", FSType: "ext4", Major: 8, Minor: 16, Source: "/dev/.." + trap},
		{Mountpoint: "/y", FSType: "tmpfs", Minor: 52},
	})
	assert.Check(t, is.DeepEqual(opened, map[string]bool{link: true}))
	c := r.coverage()
	assert.Check(t, is.DeepEqual(c.disks, []blkiodisk.Disk{sdb}), "also what is hidden by a mount on top")
	assert.Check(t, is.DeepEqual(c.uncovered, []string{
		"/ (overlay: another program mounted it, its disk cannot be told)",
		"/data (there is a symbolic link in " + link + ", and the container does not show what it has)",
		"/x (btrfs: another program mounted it, its disk cannot be told)",
	}))
}

func TestReachWithoutAMount(t *testing.T) {
	sys := fakeSys(t, map[string]string{"8:0": "100", "8:16": "100", "7:0": "0"})
	all := []blkiodisk.Disk{sda, sdb}
	spec := func(d specs.LinuxDeviceCgroup) *specs.Spec {
		return &specs.Spec{Linux: &specs.Linux{Resources: &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{d}}}}
	}
	n := func(v int64) *int64 { return &v }
	for _, tc := range []struct {
		doc     string
		hc      containertypes.HostConfig
		spec    *specs.Spec
		want    []blkiodisk.Disk
		anyDisk bool
	}{
		{doc: "nothing"},
		{doc: "privileged", hc: containertypes.HostConfig{Privileged: true}, want: all, anyDisk: true},
		{doc: "rule", hc: containertypes.HostConfig{Resources: containertypes.Resources{DeviceCgroupRules: []string{"b 8:16 rw"}}}, want: []blkiodisk.Disk{sdb}},
		{doc: "rule of a driver", hc: containertypes.HostConfig{Resources: containertypes.Resources{DeviceCgroupRules: []string{"b 8:* r"}}}, want: all, anyDisk: true},
		{doc: "rule of all", hc: containertypes.HostConfig{Resources: containertypes.Resources{DeviceCgroupRules: []string{"a *:* rwm"}}}, want: all, anyDisk: true},
		{doc: "rules that open no disk", hc: containertypes.HostConfig{Resources: containertypes.Resources{DeviceCgroupRules: []string{"b *:* m", "c *:* rwm", "b 9:9 rw"}}}},
		{doc: "device of the spec", spec: &specs.Spec{Linux: &specs.Linux{Devices: []specs.LinuxDevice{{Type: "b", Major: 8}, {Type: "c", Major: 8, Minor: 16}}}}, want: []blkiodisk.Disk{sda}},
		{doc: "rule of the spec", spec: spec(specs.LinuxDeviceCgroup{Allow: true, Type: "b", Major: n(8), Minor: n(0), Access: "r"}), want: []blkiodisk.Disk{sda}},
		{doc: "all of the spec", spec: spec(specs.LinuxDeviceCgroup{Allow: true, Access: "rwm"}), want: all, anyDisk: true},
		{doc: "what every spec has", spec: spec(specs.LinuxDeviceCgroup{Access: "rwm"})},
		{doc: "nodes only", spec: spec(specs.LinuxDeviceCgroup{Allow: true, Type: "b", Major: n(-1), Minor: n(-1), Access: "m"})},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			r := &reacher{h: &blkiodisk.Host{Sys: sys}, covered: map[string]bool{}, missed: map[string]string{}}
			r.devices(&container.Container{HostConfig: &tc.hc})
			if tc.spec != nil {
				r.spec(tc.spec)
			}
			c := r.coverage()
			assert.Check(t, is.Len(c.disks, len(tc.want)))
			for i, want := range tc.want {
				assert.Check(t, is.Equal(c.disks[i], want))
			}
			assert.Check(t, is.Equal(c.anyDisk, tc.anyDisk))
		})
	}
}

// fakeSys is a /sys with disks of some sizes, by number.
func fakeSys(t *testing.T, disks map[string]string) string {
	t.Helper()
	sys := t.TempDir()
	for number, size := range disks {
		dir := filepath.Join(sys, "devices", number)
		for path, content := range map[string]string{"dev": number, "size": size} {
			assert.NilError(t, os.MkdirAll(dir, 0o755))
			assert.NilError(t, os.WriteFile(filepath.Join(dir, path), []byte(content+"\n"), 0o600))
		}
		for _, link := range []string{"dev/block", "block"} {
			assert.NilError(t, os.MkdirAll(filepath.Join(sys, link), 0o755))
			assert.NilError(t, os.Symlink(dir, filepath.Join(sys, link, number)))
		}
	}
	return sys
}

func TestDeviceRatesOnV2(t *testing.T) {
	one := containertypes.Resources{BlkioDeviceReadIOps: []*blkiodev.ThrottleDevice{{Path: "/dev/sda", Rate: 1}}}
	info := &sysinfo.SysInfo{CgroupUnified: true}
	err := blkioKind{}.admit(&configStore{}, &containertypes.HostConfig{Resources: one}, info, false)
	assert.Check(t, is.ErrorContains(err, "--device-read-iops /dev/sda:1 cannot be enforced: cgroup v2 takes rates from 2 up"))
	info.CgroupUnified = false
	assert.Check(t, blkioKind{}.admit(&configStore{}, &containertypes.HostConfig{Resources: one}, info, false))
}

func TestNetRateOfANetwork(t *testing.T) {
	limits := containertypes.Resources{NetEgressRate: i64(6072)}
	assert.NilError(t, checkNetRates(nil, 1500, limits))
	assert.Check(t, is.ErrorContains(checkNetRates(nil, 9000, limits), "with an MTU of 9000 the least rate is"))
	assert.NilError(t, checkNetRates(map[string]string{"com.docker.network.driver.mtu": "1500"}, 9000, limits))
	assert.Check(t, is.ErrorContains(checkNetRates(map[string]string{"com.docker.network.driver.mtu": "9000"}, 1500, limits), "9000"))
	assert.NilError(t, checkNetRates(nil, 9000, containertypes.Resources{}))
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
