// SPDX-License-Identifier: Apache-2.0

package blkiodisk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/sys/mountinfo"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// fakeSys has a disk sda with partition sda1, a device-mapper and a loop device.
func fakeSys(t *testing.T) *Host {
	t.Helper()
	sys := t.TempDir()
	device := func(path, number, name string, partition bool) {
		dir := filepath.Join(sys, "devices", path)
		assert.NilError(t, os.MkdirAll(dir, 0o755))
		assert.NilError(t, os.WriteFile(filepath.Join(dir, "dev"), []byte(number+"\n"), 0o644))
		assert.NilError(t, os.WriteFile(filepath.Join(dir, "uevent"), []byte("MAJOR=1\nDEVNAME="+name+"\nDEVTYPE=disk\n"), 0o644))
		if partition {
			assert.NilError(t, os.WriteFile(filepath.Join(dir, "partition"), []byte("1\n"), 0o644))
		}
		links := filepath.Join(sys, "dev", "block")
		assert.NilError(t, os.MkdirAll(links, 0o755))
		assert.NilError(t, os.Symlink("../../devices/"+path, filepath.Join(links, number)))
	}
	device("pci0/ata1/sda", "8:0", "sda", false)
	device("pci0/ata1/sda/sda1", "8:1", "sda1", true)
	device("virtual/dm-3", "253:3", "dm-3", false)
	device("virtual/loop7", "7:7", "loop7", false)
	device("virtual/loop7/loop7p1", "259:1", "loop7p1", true)
	return &Host{Sys: sys}
}

func TestWhole(t *testing.T) {
	h := fakeSys(t)
	for in, want := range map[Disk]Disk{{8, 0}: {8, 0}, {8, 1}: {8, 0}, {253, 3}: {253, 3}, {7, 7}: {7, 7}, {259, 1}: {7, 7}} {
		got, err := h.Whole(in)
		assert.NilError(t, err, in.String())
		assert.Check(t, is.Equal(got, want), in.String())
		assert.Check(t, h.Exists(in))
	}
	_, err := h.Whole(Disk{8, 16})
	assert.Check(t, is.ErrorContains(err, "there is no block device 8:16"))
	assert.Check(t, errors.Is(err, os.ErrNotExist))
	assert.Check(t, !h.Exists(Disk{8, 16}))
	assert.Check(t, is.Equal(h.Path(Disk{253, 3}), "/dev/dm-3"))
	assert.Check(t, is.Equal(h.Path(Disk{8, 16}), ""))
}

func TestDevice(t *testing.T) {
	h := fakeSys(t)
	file := filepath.Join(t.TempDir(), "file")
	assert.NilError(t, os.WriteFile(file, nil, 0o600))
	_, err := h.Device(file)
	assert.Check(t, is.Error(err, file+" is not a block device"))
	_, err = h.Device("/dev/null")
	assert.Check(t, is.Error(err, "/dev/null is not a block device"))
	_, err = h.Device(file + "-gone")
	assert.Check(t, errors.Is(err, os.ErrNotExist))
}

func TestParse(t *testing.T) {
	d, err := Parse("253:1048575")
	assert.NilError(t, err)
	assert.Check(t, is.Equal(d, Disk{253, 1048575}))
	for _, bad := range []string{"", "8", "8:", ":0", "8:a", "-1:0", "8:0:0"} {
		_, err := Parse(bad)
		assert.Check(t, is.ErrorContains(err, "is not the number of a device"), bad)
	}
}

func TestOfMount(t *testing.T) {
	h := fakeSys(t)
	for _, tc := range []struct {
		doc  string
		m    mountinfo.Info
		want []Disk
		err  string
	}{
		{doc: "partition", m: mountinfo.Info{Major: 8, Minor: 1, FSType: "ext4", Source: "/dev/sda1"}, want: []Disk{{8, 0}}},
		{doc: "device-mapper", m: mountinfo.Info{Major: 253, Minor: 3, FSType: "xfs", Source: "/dev/mapper/vg-lv"}, want: []Disk{{253, 3}}},
		{doc: "a disk that is gone", m: mountinfo.Info{Major: 8, Minor: 32, FSType: "ext4", Source: "/dev/sdc"}, err: "ext4: there is no block device 8:32"},
		{doc: "tmpfs", m: mountinfo.Info{Minor: 40, FSType: "tmpfs", Source: "tmpfs"}, err: "tmpfs: it has no disk of this host"},
		{doc: "nfs", m: mountinfo.Info{Minor: 41, FSType: "nfs4", Source: "server:/export"}, err: "nfs4: it has no disk of this host"},
		{doc: "fuse", m: mountinfo.Info{Minor: 42, FSType: "fuse.sshfs", Source: "me@server:"}, err: "fuse.sshfs: it has no disk of this host"},
		{doc: "zfs", m: mountinfo.Info{Minor: 43, FSType: "zfs", Source: "tank/data"}, err: "zfs: it has no disk of this host"},
		{doc: "btrfs whose device is gone", m: mountinfo.Info{Minor: 44, FSType: "btrfs", Source: "/dev/no-such-device"}, err: "btrfs: stat /dev/no-such-device: no such file"},
		{doc: "overlay without folders", m: mountinfo.Info{Minor: 45, FSType: "overlay", Source: "overlay", VFSOptions: "rw"}, err: "overlay: it does not name its folders"},
		{doc: "overlay of a folder that is gone", m: mountinfo.Info{Minor: 45, FSType: "overlay", VFSOptions: "rw,upperdir=/no/such,workdir=/no"}, err: "overlay: open /no/such: no such file"},
		{doc: "overlay of an unknown folder", m: mountinfo.Info{Minor: 45, FSType: "overlay", VFSOptions: "rw,upperdir=x/diff"}, err: "overlay: its folder x/diff cannot be found"},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			got, err := h.ofMount(&tc.m, 0)
			if tc.err != "" {
				assert.Check(t, is.ErrorContains(err, tc.err))
				return
			}
			assert.NilError(t, err)
			assert.Check(t, is.DeepEqual(got, tc.want))
		})
	}
}

// TestOverlay resolves an overlay's folders to the disk that they are really
// on, whatever that is here, absolute and relative to a base.
func TestOverlay(t *testing.T) {
	base := t.TempDir()
	h, err := NewHost(base)
	assert.NilError(t, err)
	want, err := h.OfPath(base)
	if err != nil {
		t.Skip("the temporary folder has no disk:", err)
	}
	for _, dir := range []string{"a,b:c/diff", "lower1", "lower2"} {
		assert.NilError(t, os.MkdirAll(filepath.Join(base, dir), 0o755))
	}
	for _, options := range []string{
		`rw,lowerdir=/no/such,upperdir=` + base + `/a\,b:c/diff,workdir=/no`,
		`rw,lowerdir=/no/such,upperdir=` + base + `/a\134,b:c/diff,workdir=/no`,
		`rw,lowerdir=l/x:l/y,upperdir=lower1,workdir=/no`,
		fmt.Sprintf("ro,lowerdir=%s/lower1:%s/lower2", base, base),
		fmt.Sprintf("ro,lowerdir+=%s/lower1,lowerdir+=%s/lower2", base, base),
		fmt.Sprintf("ro,lowerdir=%s/lower1::%s/lower2", base, base),
	} {
		got, err := h.ofMount(&mountinfo.Info{FSType: "overlay", VFSOptions: options}, 0)
		assert.NilError(t, err, options)
		assert.Check(t, is.DeepEqual(got, want), options)
	}
}

// TestOfPathByMountID looks a file system without a number of its own up by
// its mount.
func TestOfPathByMountID(t *testing.T) {
	h, err := NewHost()
	assert.NilError(t, err)
	_, err = h.OfPath("/proc/self")
	assert.Check(t, is.Error(err, "proc: it has no disk of this host"))
	h.Mounts = nil
	_, err = h.OfPath("/proc/self")
	assert.Check(t, is.Error(err, "the mount of /proc/self is not visible to dockerd"))
}
