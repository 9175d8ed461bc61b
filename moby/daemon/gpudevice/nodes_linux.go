// SPDX-License-Identifier: Apache-2.0

package gpudevice

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What a container's /dev may have, more than any host has.
const (
	maxDepth   = 3
	maxEntries = 50_000
)

// inDevWithin is how long a file system under /dev may take; it may be the
// container's own program that answers. Tests shorten it.
var inDevWithin = 10 * time.Second

// InDev lists the character devices below /dev of a process's root. Nothing is
// opened but folders, and no link is followed: what stands there was chosen by a
// container.
func InDev(pid int) (Set, error) {
	return within(func() (Set, error) { return inDev(fmt.Sprintf("/proc/%d/root", pid)) })
}

func within(list func() (Set, error)) (Set, error) {
	type answer struct {
		set Set
		err error
	}
	done := make(chan answer, 1)
	go func() {
		set, err := list()
		done <- answer{set, err}
	}()
	select {
	case a := <-done:
		return a.set, a.err
	case <-time.After(inDevWithin):
		return Set{}, fmt.Errorf("the container's /dev did not answer within %s; a file system that is mounted there hangs", inDevWithin)
	}
}

func inDev(root string) (s Set, _ error) {
	// This is the kernel's link to the root; nothing of the container is in it.
	top, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return s, &os.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(top)
	entries := 0
	err = walk(top, "dev", "/dev", maxDepth, &entries, &s)
	if errors.Is(err, unix.ENOENT) {
		return s, nil
	}
	return s, err
}

func walk(parent int, name, path string, depth int, entries *int, s *Set) error {
	fd, err := unix.Openat2(parent, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return fmt.Errorf("the container's %s: %w", path, err)
	}
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close()
	for {
		// The types that a folder names are not believed: the file system may be a
		// program's, and say anything there.
		list, err := dir.Readdirnames(256)
		for _, name := range list {
			if *entries++; *entries > maxEntries {
				return fmt.Errorf("the container's /dev has more than %d entries", maxEntries)
			}
			below := filepath.Join(path, name)
			var st unix.Stat_t
			if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); errors.Is(err, unix.ENOENT) {
				continue
			} else if err != nil {
				return fmt.Errorf("the container's %s: %w", below, err)
			}
			switch st.Mode & unix.S_IFMT {
			case unix.S_IFDIR:
				if depth > 1 {
					if err := walk(fd, name, below, depth-1, entries, s); err != nil && !errors.Is(err, unix.ENOENT) {
						return err
					}
				}
			case unix.S_IFCHR:
				s.Nodes = append(s.Nodes, Node{Number{unix.Major(st.Rdev), unix.Minor(st.Rdev)}, below})
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the container's %s: %w", path, err)
		}
	}
}

// OnHost lists the character devices that `--device path` gives: path itself, or
// all below it. What is not there gives none; the start will say so.
func OnHost(path string) (s Set) {
	add := func(p string) {
		var st unix.Stat_t
		if unix.Lstat(p, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR {
			s.Nodes = append(s.Nodes, Node{Number{unix.Major(st.Rdev), unix.Minor(st.Rdev)}, p})
		}
	}
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return s
	}
	if st, err := os.Lstat(resolved); err != nil {
		return s
	} else if !st.IsDir() {
		add(resolved)
		return s
	}
	_ = filepath.WalkDir(resolved, func(p string, _ os.DirEntry, err error) error {
		if err == nil {
			add(p)
		}
		return nil
	})
	return s
}

// ParseDevicesList reads devices.list of a v1 cgroup: "c 195:0 rw", "a *:* rwm".
func ParseDevicesList(text string) (s Set) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if r, ok := ParseRule(line); ok {
			r.By = fmt.Sprintf("device cgroup rule %q", line)
			s.Rules = append(s.Rules, r)
		}
	}
	return s
}

// ParseRule reads "TYPE MAJOR:MINOR ACCESS"; ok is false where it opens no
// character device.
func ParseRule(rule string) (r Rule, ok bool) {
	f := strings.Fields(rule)
	if len(f) != 3 || f[0] != "c" && f[0] != "a" || !strings.ContainsAny(f[2], "rw") {
		return r, false
	}
	major, minor, _ := strings.Cut(f[1], ":")
	number := func(s string) int64 {
		if n, err := strconv.ParseUint(s, 10, 32); err == nil && f[0] == "c" {
			return int64(n)
		}
		return Any
	}
	return Rule{Major: number(major), Minor: number(minor)}, true
}
