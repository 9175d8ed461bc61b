// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/log"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/container"
	"github.com/docker/docker/daemon/blkiodisk"
	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// coverage is what the disks come to that a container can reach.
type coverage struct {
	disks     []blkiodisk.Disk
	lasting   []blkiodisk.Disk // those that do not go while they are used
	uncovered []string         // "/data (nfs4: it has no disk of this host)"
	anyDisk   bool             // it may open disks that are not there yet
}

// withoutDisk are file systems that are part of any container, or of the host
// that it was given, and that nobody would want to limit.
var withoutDisk = map[string]bool{
	"proc": true, "sysfs": true, "cgroup": true, "cgroup2": true, "devpts": true, "devtmpfs": true, "mqueue": true,
	"debugfs": true, "tracefs": true, "securityfs": true, "bpf": true, "pstore": true, "configfs": true, "hugetlbfs": true,
	"autofs": true, "binfmt_misc": true, "nsfs": true, "fusectl": true, "efivarfs": true, "rpc_pipefs": true,
	"selinuxfs": true, "ramfs": true, "tmpfs": true,
}

// reacher collects the disks that a container can reach.
type reacher struct {
	h       *blkiodisk.Host
	disks   []blkiodisk.Disk
	covered map[string]bool   // places in the container
	missed  map[string]string // places in the container, with the reason
	linked  map[string]string // sources by places, with a symbolic link on the way
	anyDisk bool
	passing []blkiodisk.Disk // what it may open of all that there are: each may go at any moment
}

// reach finds the disks that a container can reach. dockerd's own view comes first:
// root file system, mounts and what is mounted below them, devices and rules. pid is
// of its init process, 0 if there is none; with it the final spec counts, and what the
// container shows may add a disk, but takes none away: it can hide every mount from
// itself.
func (daemon *Daemon) reach(ctr *container.Container, pid int) (*blkiodisk.Host, coverage, error) {
	h, err := daemon.blkioHost(ctr)
	if err != nil {
		return nil, coverage{}, err
	}
	// As it has run, links on the way to the sources of its mounts may be its own.
	h.Fixed = pid > 0
	r := &reacher{h: h, covered: map[string]bool{}, missed: map[string]string{}, linked: map[string]string{}}
	r.ownMounts(ctr)
	r.devices(ctr)
	if pid > 0 {
		if spec, err := bundleSpec(ctr.ID, pid); err == nil {
			r.spec(spec)
		} else {
			log.G(context.TODO()).WithError(err).WithField("container", ctr.ID).Debug("the spec of a container cannot be read: its devices are those of its configuration")
		}
		mounts, err := mountinfo.PidMountInfo(pid)
		if err != nil {
			return nil, coverage{}, err
		}
		r.shown(mounts)
	}
	return h, r.coverage(), nil
}

func (r *reacher) coverage() coverage {
	c := coverage{disks: slices.Concat(r.disks, r.passing), lasting: r.disks, anyDisk: r.anyDisk}
	slices.SortFunc(c.disks, blkiodisk.Compare)
	c.disks = slices.Compact(c.disks)
	for _, place := range slices.Sorted(maps.Keys(r.missed)) {
		c.uncovered = append(c.uncovered, fmt.Sprintf("%s (%s)", place, r.missed[place]))
	}
	return c
}

// add takes what was found out about a place, which is of no interest if it is "".
func (r *reacher) add(place string, disks []blkiodisk.Disk, err error) {
	switch {
	case err == nil:
		r.disks = append(r.disks, disks...)
		r.covered[place] = true
	case place != "" && !r.covered[place] && r.missed[place] == "":
		r.missed[place] = err.Error()
	}
}

// ownMounts takes the root file system, the mounts that the container was made with,
// and what the host has mounted below their sources.
func (r *reacher) ownMounts(ctr *container.Container) {
	if ctr.BaseFS != "" {
		if disks, err := r.h.OfPath(ctr.BaseFS); !errors.Is(err, os.ErrNotExist) { // it is mounted at start
			r.add("/", disks, err)
		}
	}
	noDisk := errors.New("tmpfs: it has no disk of this host")
	for dest := range ctr.HostConfig.Tmpfs {
		r.add(filepath.Clean(dest), nil, noDisk)
	}
	top := map[string]*mountinfo.Info{} // the last mount on a place hides the others
	for _, m := range r.h.Mounts {
		top[m.Mountpoint] = m
	}
	for dest, mp := range ctr.MountPoints {
		dest = filepath.Clean(dest)
		if mp.Type == mount.TypeTmpfs {
			r.add(dest, nil, noDisk)
			continue
		}
		if mp.Source == "" {
			continue // a volume that is mounted at start
		}
		disks, err := r.h.OfPath(mp.Source)
		if errors.Is(err, os.ErrNotExist) {
			continue // it is made at start
		}
		if errors.Is(err, unix.ELOOP) {
			r.linked[dest] = mp.Source
			continue
		}
		r.add(dest, disks, err)
		if mp.Spec.BindOptions != nil && mp.Spec.BindOptions.NonRecursive {
			continue
		}
		source := filepath.Clean(mp.Source)
		if !r.h.Fixed {
			if source, err = filepath.EvalSymlinks(source); err != nil {
				continue
			}
		}
		for place, m := range top {
			below, err := filepath.Rel(source, place)
			if err != nil || below == "." || !filepath.IsLocal(below) {
				continue
			}
			// It may have come from a container, by propagation.
			if disks, err := r.h.OfForeignMount(m); err == nil || !withoutDisk[m.FSType] {
				r.add(filepath.Join(dest, below), disks, err)
			}
		}
	}
}

// devices takes the block devices that the container was given without a mount.
func (r *reacher) devices(ctr *container.Container) {
	if ctr.HostConfig.Privileged {
		r.rule(0, 0, true, true)
	}
	for _, d := range ctr.HostConfig.Devices {
		r.nodes(d.PathOnHost)
	}
	for _, text := range ctr.HostConfig.DeviceCgroupRules {
		fields := strings.Fields(text) // "b 8:* rw"
		if len(fields) != 3 || fields[0] == "c" || !strings.ContainsAny(fields[2], "rw") {
			continue
		}
		a, b, _ := strings.Cut(fields[1], ":")
		major, err1 := strconv.ParseUint(a, 10, 32)
		minor, err2 := strconv.ParseUint(b, 10, 32)
		r.rule(uint32(major), uint32(minor), fields[0] == "a" || err1 != nil, fields[0] == "a" || err2 != nil)
	}
}

// nodes takes a block device, or those in a folder.
func (r *reacher) nodes(path string) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return // the start fails
	}
	_ = filepath.WalkDir(real, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&(fs.ModeDevice|fs.ModeCharDevice) != fs.ModeDevice {
			return nil
		}
		if disk, err := r.h.Device(path); err == nil {
			r.disks = append(r.disks, disk)
		}
		return nil
	})
}

// rule takes the devices that a rule of the devices controller lets the container
// open: it can make a node for each of them.
func (r *reacher) rule(major, minor uint32, anyMajor, anyMinor bool) {
	if !anyMajor && !anyMinor {
		if disk, err := r.h.Whole(blkiodisk.Disk{Major: major, Minor: minor}); err == nil {
			r.disks = append(r.disks, disk)
		}
		return
	}
	r.anyDisk = true
	for _, disk := range r.h.All() {
		if (anyMajor || disk.Major == major) && (anyMinor || disk.Minor == minor) {
			r.passing = append(r.passing, disk)
		}
	}
}

// spec takes what the runtime was given in the end, by CDI or a runtime around it too.
func (r *reacher) spec(s *specs.Spec) {
	if s.Linux == nil {
		return
	}
	for _, d := range s.Linux.Devices {
		if d.Type == "b" {
			r.rule(uint32(d.Major), uint32(d.Minor), false, false)
		}
	}
	if s.Linux.Resources == nil {
		return
	}
	number := func(n *int64) (uint32, bool) {
		if n == nil || *n < 0 {
			return 0, true
		}
		return uint32(*n), false
	}
	for _, d := range s.Linux.Resources.Devices {
		if !d.Allow || d.Type == "c" || !strings.ContainsAny(d.Access, "rw") {
			continue
		}
		major, anyMajor := number(d.Major)
		minor, anyMinor := number(d.Minor)
		r.rule(major, minor, anyMajor, anyMinor)
	}
}

// shown takes what a process of the container sees mounted. It chose the paths in
// there, so none is looked at: a file system is known by its number.
func (r *reacher) shown(mounts []*mountinfo.Info) {
	top := map[string]*mountinfo.Info{} // the last mount on a place hides the others
	for _, m := range mounts {
		top[m.Mountpoint] = m
		// A process that holds a folder open still reaches what is hidden.
		disks, err := r.h.OfForeignMount(m)
		if err == nil {
			r.disks = append(r.disks, disks...)
		}
	}
	for place, m := range top {
		if disks, err := r.h.OfForeignMount(m); err == nil || !withoutDisk[m.FSType] {
			r.add(place, disks, err)
		}
	}
	for place, source := range r.linked {
		if top[place] == nil {
			r.add(place, nil, fmt.Errorf("there is a symbolic link in %s, and the container does not show what it has", source))
		}
	}
}
