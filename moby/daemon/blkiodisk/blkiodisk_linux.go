// SPDX-License-Identifier: Apache-2.0

// Package blkiodisk finds the disks behind mounts, as the kernel's block I/O
// controller names them. It throttles whole disks only and answers ENODEV for
// partitions and for the numbers 0:N of file systems without one device.
package blkiodisk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Disk is the number of a block device that can be throttled.
type Disk struct {
	Major, Minor uint32
}

// String spells the number as the kernel's files do.
func (d Disk) String() string { return fmt.Sprintf("%d:%d", d.Major, d.Minor) }

// Compare orders disks by number.
func Compare(a, b Disk) int {
	if a.Major != b.Major {
		return int(int64(a.Major) - int64(b.Major))
	}
	return int(int64(a.Minor) - int64(b.Minor))
}

// Host is where devices and file systems are looked up.
type Host struct {
	// Sys is where sysfs is mounted.
	Sys string

	// Mounts are all mounts that this process sees.
	Mounts []*mountinfo.Info

	// Bases are folders from which the relative paths in the options of an
	// overlay may start: whoever mounted it was in one of them.
	Bases []string

	// Fixed makes OfPath refuse a path with a symbolic link. A container can put one
	// where a folder was that it can write to.
	Fixed bool

	// Open is how OfPath opens a path; tests replace it.
	Open func(path string, fixed bool) (int, error)

	known map[Disk]ofNumber
}

// ofNumber is what OfPath found for the number of a file system, 0:N.
type ofNumber struct {
	disks []Disk
	err   error
}

func openPath(path string, fixed bool) (int, error) {
	if !fixed {
		return unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	return unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
}

// NewHost returns the machine as this process sees it at the moment.
func NewHost(bases ...string) (*Host, error) {
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, err
	}
	return &Host{Sys: "/sys", Mounts: mounts, Bases: bases}, nil
}

// maxDepth is how often a file system may lie on another one. The kernel
// allows an overlay on an overlay, and no more.
const maxDepth = 8

// Device returns the whole disk of a block device node, which may be a
// partition.
func (h *Host) Device(path string) (Disk, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Disk{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return Disk{}, fmt.Errorf("%s is not a block device", path)
	}
	return h.Whole(Disk{unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))})
}

// Whole returns the disk that a partition is on, and any other device itself:
// of devices on top of each other (device-mapper, md, loop) only the top one
// is throttled, because the limit of one below would apply to the same I/O
// again. A device that is gone is an error that wraps [os.ErrNotExist].
func (h *Host) Whole(d Disk) (Disk, error) {
	dir, err := filepath.EvalSymlinks(filepath.Join(h.Sys, "dev/block", d.String()))
	if err != nil {
		return Disk{}, fmt.Errorf("there is no block device %s: %w", d, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "partition")); errors.Is(err, os.ErrNotExist) {
		return d, nil
	} else if err != nil {
		return Disk{}, err
	}
	raw, err := os.ReadFile(filepath.Join(filepath.Dir(dir), "dev"))
	if err != nil {
		return Disk{}, err
	}
	return Parse(strings.TrimSpace(string(raw)))
}

// Exists tells whether there still is such a device.
func (h *Host) Exists(d Disk) bool {
	_, err := os.Stat(filepath.Join(h.Sys, "dev/block", d.String()))
	return err == nil
}

// All returns the whole disks of the machine that have a size: a loop device without a
// file has none.
func (h *Host) All() (disks []Disk) {
	dirs, _ := filepath.Glob(filepath.Join(h.Sys, "block/*"))
	for _, dir := range dirs {
		size, err := os.ReadFile(filepath.Join(dir, "size"))
		if err != nil || strings.TrimSpace(string(size)) == "0" {
			continue
		}
		if raw, err := os.ReadFile(filepath.Join(dir, "dev")); err == nil {
			if d, err := Parse(strings.TrimSpace(string(raw))); err == nil {
				disks = append(disks, d)
			}
		}
	}
	return disks
}

// Path returns the disk's node in /dev, "" if it cannot be told.
func (h *Host) Path(d Disk) string {
	raw, err := os.ReadFile(filepath.Join(h.Sys, "dev/block", d.String(), "uevent"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(raw)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME="); ok {
			return "/dev/" + name
		}
	}
	return ""
}

// Parse reads MAJOR:MINOR.
func Parse(s string) (Disk, error) {
	a, b, ok := strings.Cut(s, ":")
	major, err1 := strconv.ParseUint(a, 10, 32)
	minor, err2 := strconv.ParseUint(b, 10, 32)
	if !ok || err1 != nil || err2 != nil {
		return Disk{}, fmt.Errorf("%q is not the number of a device", s)
	}
	return Disk{uint32(major), uint32(minor)}, nil
}

// OfPath returns the disks of the file system that has path, as OfMount does.
func (h *Host) OfPath(path string) ([]Disk, error) { return h.ofPath(path, 0) }

// OfForeignMount returns the disks that a mount reads and writes which a container may
// have made. Its source and options are what that one wrote, and no path in them is
// looked at: there may be no answer, ever. Disks are told by number, also by that of a
// file system which OfPath came upon. An error says why there is none, and begins with
// the file system's type.
func (h *Host) OfForeignMount(m *mountinfo.Info) ([]Disk, error) {
	number := Disk{uint32(m.Major), uint32(m.Minor)}
	if known, ok := h.known[number]; ok {
		return known.disks, known.err
	}
	disks, err := h.foreign(m, number)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.FSType, err)
	}
	return disks, nil
}

func (h *Host) foreign(m *mountinfo.Info, number Disk) ([]Disk, error) {
	switch {
	case number.Major != 0:
		return h.one(number)
	case m.FSType == "overlay":
		// Of another container: the folders are where dockerd has them.
		for _, base := range h.Bases {
			for _, option := range splitEscaped(m.VFSOptions, ',') {
				if dir, ok := strings.CutPrefix(option, "upperdir="); ok && strings.HasPrefix(filepath.Clean(unescape(dir)), base+"/") {
					return h.ofPath(base, 1)
				}
			}
		}
	case m.FSType == "btrfs":
		if d, ok := h.named(m.Source); ok {
			return h.btrfsOf(d)
		}
	case !strings.HasPrefix(m.Source, "/dev/"):
		return nil, errNoDisk
	default: // Others that have several devices, such as bcachefs ("a:b").
		var disks []Disk
		for _, source := range strings.Split(m.Source, ":") {
			d, ok := h.named(source)
			if !ok {
				return nil, errForeign
			}
			more, err := h.one(d)
			if err != nil {
				return nil, err
			}
			disks = append(disks, more...)
		}
		return disks, nil
	}
	return nil, errForeign
}

var (
	errNoDisk  = errors.New("it has no disk of this host")
	errForeign = errors.New("another program mounted it, its disk cannot be told")
)

// named returns the number of a device by its name in /dev, from sysfs alone.
func (h *Host) named(source string) (Disk, bool) {
	name, ok := strings.CutPrefix(source, "/dev/")
	if mapped, isMapped := strings.CutPrefix(name, "mapper/"); isMapped {
		name = ""
		files, _ := filepath.Glob(filepath.Join(h.Sys, "block/dm-*/dm/name"))
		for _, file := range files {
			if raw, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(raw)) == mapped {
				name = filepath.Base(filepath.Dir(filepath.Dir(file)))
			}
		}
	}
	if !ok || name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return Disk{}, false
	}
	raw, err := os.ReadFile(filepath.Join(h.Sys, "class/block", name, "dev"))
	if err != nil {
		return Disk{}, false
	}
	d, err := Parse(strings.TrimSpace(string(raw)))
	return d, err == nil
}

func (h *Host) ofPath(path string, depth int) ([]Disk, error) {
	open := h.Open
	if open == nil {
		open = openPath
	}
	fd, err := open(path, h.Fixed && depth == 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if major := unix.Major(uint64(st.Dev)); major != 0 {
		return h.one(Disk{major, unix.Minor(uint64(st.Dev))})
	}
	// The number 0:N says nothing. The mount does, and it must be found by
	// its id, because a bind mount can hide another with the same path.
	id, err := mountID(fd)
	if err != nil {
		return nil, err
	}
	for _, m := range h.Mounts {
		if m.ID == id {
			disks, err := h.ofMount(m, depth)
			if h.known == nil {
				h.known = map[Disk]ofNumber{}
			}
			h.known[Disk{uint32(m.Major), uint32(m.Minor)}] = ofNumber{disks, err}
			return disks, err
		}
	}
	return nil, fmt.Errorf("the mount of %s is not visible to dockerd", path)
}

func mountID(fd int) (int, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if id, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			return strconv.Atoi(strings.TrimSpace(id))
		}
	}
	return 0, errors.New("the kernel does not tell the mount of an open file")
}

func (h *Host) one(d Disk) ([]Disk, error) {
	whole, err := h.Whole(d)
	if err != nil {
		return nil, err
	}
	return []Disk{whole}, nil
}

func (h *Host) ofMount(m *mountinfo.Info, depth int) ([]Disk, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%s: too many file systems on top of each other", m.FSType)
	}
	var disks []Disk
	var err error
	switch {
	case m.Major != 0:
		disks, err = h.one(Disk{uint32(m.Major), uint32(m.Minor)})
	case m.FSType == "overlay":
		disks, err = h.overlay(m, depth)
	case m.FSType == "btrfs":
		disks, err = h.btrfs(m.Source)
	case strings.HasPrefix(m.Source, "/dev/"):
		// Others that have several devices, such as bcachefs ("a:b").
		for _, source := range strings.Split(m.Source, ":") {
			var d Disk
			if d, err = h.Device(source); err != nil {
				break
			}
			disks = append(disks, d)
		}
	default:
		err = errNoDisk
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.FSType, err)
	}
	return disks, nil
}

// overlay takes the upper folder: what the container changes goes there, and
// the layers below are beside it. A read-only overlay has only those.
func (h *Host) overlay(m *mountinfo.Info, depth int) ([]Disk, error) {
	var upper, lower []string
	for _, option := range splitEscaped(m.VFSOptions, ',') {
		name, value, _ := strings.Cut(option, "=")
		switch name {
		case "upperdir":
			upper = []string{value}
		case "lowerdir":
			lower = splitEscaped(value, ':')
		case "lowerdir+", "datadir+": // one each, since Linux 6.8
			lower = append(lower, value)
		}
	}
	dirs := upper
	if upper == nil {
		dirs = slices.DeleteFunc(lower, func(dir string) bool { return dir == "" }) // "a::b" has layers of data only
	}
	var all []Disk
	for _, dir := range dirs {
		disks, err := h.layer(unescape(dir), depth)
		if err != nil {
			return nil, err
		}
		all = append(all, disks...)
	}
	if len(all) == 0 {
		return nil, errors.New("it does not name its folders")
	}
	slices.SortFunc(all, Compare)
	return slices.Compact(all), nil
}

func (h *Host) layer(dir string, depth int) ([]Disk, error) {
	if filepath.IsAbs(dir) {
		return h.ofPath(dir, depth+1)
	}
	for _, base := range h.Bases {
		if _, err := os.Stat(filepath.Join(base, dir)); err == nil {
			return h.ofPath(filepath.Join(base, dir), depth+1)
		}
	}
	return nil, fmt.Errorf("its folder %s cannot be found", dir)
}

// splitEscaped splits where sep has no backslash, which may itself stand as
// \134 in mountinfo, before it.
func splitEscaped(s string, sep byte) []string {
	s = strings.ReplaceAll(s, `\134`, `\`)
	var parts []string
	start := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case sep:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}

// unescape undoes mountinfo's octal numbers and overlay's backslashes.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// btrfs can be on several devices; the source is only one of them.
func (h *Host) btrfs(source string) ([]Disk, error) {
	if !strings.HasPrefix(source, "/dev/") {
		return nil, fmt.Errorf("its device %q is not in /dev", source)
	}
	var st unix.Stat_t
	if err := unix.Stat(source, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: source, Err: err}
	}
	return h.btrfsOf(Disk{unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))})
}

// btrfsOf returns the disks of the btrfs that has this one.
func (h *Host) btrfsOf(number Disk) ([]Disk, error) {
	members, err := filepath.Glob(filepath.Join(h.Sys, "fs/btrfs/*/devices/*/dev"))
	if err != nil {
		return nil, err
	}
	groups := map[string][]Disk{}
	var mine string
	for _, member := range members {
		raw, err := os.ReadFile(member)
		if err != nil {
			continue // a device that is just being taken out
		}
		d, err := Parse(strings.TrimSpace(string(raw)))
		if err != nil {
			return nil, err
		}
		group := filepath.Dir(filepath.Dir(member))
		groups[group] = append(groups[group], d)
		if d == number {
			mine = group
		}
	}
	if mine == "" {
		return h.one(number)
	}
	var disks []Disk
	for _, d := range groups[mine] {
		whole, err := h.Whole(d)
		if err != nil {
			return nil, err
		}
		disks = append(disks, whole)
	}
	slices.SortFunc(disks, Compare)
	return slices.Compact(disks), nil
}
