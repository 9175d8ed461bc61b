// SPDX-License-Identifier: Apache-2.0

// Package cgroupfs reads the cgroup files of a process as the kernel shows
// them. Files are named as on cgroup v2; on v1 the name and the word for "no
// limit" are translated, so that one test serves both.
package cgroupfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Max is "no limit" in every limit file, on v1 too.
const Max = "max"

// v1Names has the files that v1 calls otherwise.
var v1Names = map[string]string{
	"gpu.memory.max":     "gpu.max_mem_in_bytes",
	"gpu.memory.current": "gpu.usage_in_bytes",
	"gpu.memory.peak":    "gpu.max_usage_in_bytes",
	"memory.max":         "memory.limit_in_bytes",
}

// v1Max is what a v1 limit file shows for Max.
const v1Max = "18446744073709551615"

// mount is one mounted hierarchy.
type mount struct {
	v2          bool
	controllers []string // of a v1 hierarchy, with other mount options among them
	root        string   // the folder of the hierarchy that is mounted
	dir         string   // where
}

// Group is where one process stands in every mounted hierarchy.
type Group struct {
	mounts []mount
	v1     map[string]string // controller → path
	v2     string            // path in the cgroup2 hierarchy
}

// Of returns the cgroups of a process. They can be read after its end, as long
// as the folders are there.
func Of(pid int) (Group, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return Group{}, err
	}
	membership, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return Group{}, err
	}
	return parse(string(mounts), string(membership)), nil
}

func parse(mountinfo, membership string) Group {
	g := Group{mounts: parseMounts(mountinfo), v1: map[string]string{}}
	for line := range strings.Lines(membership) {
		// hierarchy-ID:controller-list:path; a path may contain colons
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 {
			continue
		}
		if f[0] == "0" && f[1] == "" {
			g.v2 = f[2]
			continue
		}
		for _, c := range strings.Split(f[1], ",") {
			g.v1[c] = f[2]
		}
	}
	return g
}

func parseMounts(text string) []mount {
	var found []mount
	for line := range strings.Lines(text) {
		// ID parent dev ROOT DIR options [tags...] - TYPE source OPTIONS
		left, right, ok := strings.Cut(line, " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 5 || len(r) < 3 {
			continue
		}
		switch r[0] {
		case "cgroup2":
			found = append(found, mount{v2: true, root: l[3], dir: l[4]})
		case "cgroup":
			found = append(found, mount{controllers: strings.Split(r[2], ","), root: l[3], dir: l[4]})
		}
	}
	return found
}

// Dir is the process's folder in the hierarchy that has the controller: its own
// on v1, else cgroup2.
func (g Group) Dir(controller string) (string, error) {
	dir, _, err := g.find(controller)
	return dir, err
}

func (g Group) find(controller string) (dir string, v2 bool, err error) {
	for _, m := range g.mounts {
		path, ok := g.v1[controller]
		if !m.v2 && ok && slices.Contains(m.controllers, controller) {
			return m.join(path), false, nil
		}
	}
	for _, m := range g.mounts {
		// In a hybrid layout a controller of v1 is not in cgroup2 as well.
		if _, taken := g.v1[controller]; m.v2 && g.v2 != "" && !taken {
			return m.join(g.v2), true, nil
		}
	}
	return "", false, fmt.Errorf("no mounted hierarchy has the controller %q", controller)
}

func (m mount) join(path string) string {
	if rel, err := filepath.Rel(m.root, path); err == nil && !strings.HasPrefix(rel, "..") {
		path = rel
	}
	return filepath.Join(m.dir, path)
}

// Path is where a file named as on v2 really is.
func (g Group) Path(file string) (string, error) {
	controller, _, ok := strings.Cut(file, ".")
	if !ok {
		return "", fmt.Errorf("%q is not the name of a controller's file", file)
	}
	dir, v2, err := g.find(controller)
	if err != nil {
		return "", err
	}
	if name, ok := v1Names[file]; ok && !v2 {
		file = name
	}
	return filepath.Join(dir, file), nil
}

// Read returns a file's text without the newline, "no limit" always as Max.
func (g Group) Read(file string) (string, error) {
	path, err := g.Path(file)
	if err != nil {
		return "", err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(raw))
	if text == v1Max {
		text = Max
	}
	return text, nil
}

// notSettings are files that are no settings although they can be written: what is
// counted and can be reset, who is in the group, and commands.
var notSettings = regexp.MustCompile(`usage|failcnt|peak|events|pressure|stat$|^cgroup\.|^tasks$|^notify_on_release$|force_empty|reset|clone_children|ifpriomap`)

// Settings reads every file that holds a setting of the group, in all
// hierarchies, and the rules for devices where a file shows them. The keys are
// "FOLDER/FILE", where the folder is that of the hierarchy.
func (g Group) Settings() (map[string]string, error) {
	all := map[string]string{}
	for _, m := range g.mounts {
		dir := m.join(g.v2)
		if !m.v2 {
			i := slices.IndexFunc(m.controllers, func(c string) bool { return g.v1[c] != "" })
			if i < 0 {
				continue
			}
			dir = m.join(g.v1[m.controllers[i]])
		} else if g.v2 == "" {
			continue
		}
		files, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			info, err := f.Info()
			if err != nil {
				return nil, err
			}
			both := info.Mode()&0o200 != 0 && info.Mode()&0o400 != 0 && !notSettings.MatchString(f.Name())
			if f.IsDir() || !both && f.Name() != "devices.list" {
				continue
			}
			text, err := os.ReadFile(filepath.Join(dir, f.Name()))
			if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EIO) {
				continue // not readable on this kernel, whatever its mode says
			}
			if err != nil {
				return nil, err
			}
			all[filepath.Base(m.dir)+"/"+f.Name()] = strings.TrimSpace(string(text))
		}
	}
	return all, nil
}

// Want fails the test, but does not end it, unless the file shows want.
func (g Group) Want(t testing.TB, file, want string) {
	t.Helper()
	got, err := g.Read(file)
	if err != nil {
		t.Errorf("%s: %v", file, err)
	} else if got != want {
		path, _ := g.Path(file)
		t.Errorf("%s: got %s, want %s", path, got, want)
	}
}

// WantSoon is Want for a value that changes when the kernel gets to it, such as
// the usage after the death of a process.
func (g Group) WantSoon(t testing.TB, file, want string, within time.Duration) {
	t.Helper()
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if got, err := g.Read(file); err == nil && got == want {
			return
		}
	}
	g.Want(t, file, want)
}

// Procs lists the processes in the group of the controller.
func (g Group) Procs(controller string) ([]int, error) {
	dir, err := g.Dir(controller)
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, f := range strings.Fields(string(raw)) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// Find returns the one process of the group whose command name is comm.
func (g Group) Find(controller, comm string) (int, error) {
	pids, err := g.Procs(controller)
	if err != nil {
		return 0, err
	}
	found := 0
	for _, pid := range pids {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if errors.Is(err, os.ErrNotExist) || strings.TrimSpace(string(raw)) != comm {
			continue
		}
		if found != 0 {
			return 0, fmt.Errorf("two processes are called %q: %d and %d", comm, found, pid)
		}
		found = pid
	}
	if found == 0 {
		return 0, fmt.Errorf("no process is called %q", comm)
	}
	return found, nil
}
