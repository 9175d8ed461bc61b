// SPDX-License-Identifier: Apache-2.0

// Package gpudevice tells which GPUs a container gets and whether the kernel
// keeps a limit on each of them.
//
// What a container gets is collected in a [Set]: nodes it has, rules that let it
// open nodes it may make itself, and requests whose nodes somebody else brings.
// [Host.Judge] asks the kernel about each GPU of a set; who keeps what is known in
// one place, kept, where a further back end plugs in.
package gpudevice

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Number is that of a character device.
type Number struct{ Major, Minor uint32 }

func (n Number) String() string { return fmt.Sprintf("%d:%d", n.Major, n.Minor) }

// Any is a number of a [Rule] that stands for all.
const Any = -1

// Node is a device node that a container has.
type Node struct {
	Number
	Path string // as the user or the container names it
}

// Rule lets a container open what it has no node of: by CAP_MKNOD it can make one.
type Rule struct {
	Major, Minor int64  // or Any
	By           string // what gave it, for errors
}

// Request is for GPUs of a vendor whose nodes are not known yet.
type Request struct{ Vendor, By string }

// NVIDIA is the only vendor whose driver keeps none of our limits and whose nodes
// come behind dockerd's back.
const NVIDIA = "NVIDIA"

// Set is what a container gets of a host's GPUs.
type Set struct {
	Nodes    []Node    `json:",omitempty"`
	Rules    []Rule    `json:",omitempty"`
	Requests []Request `json:",omitempty"`
}

// Add puts what more has into the set; what is there keeps its name.
func (s *Set) Add(more Set) {
	for _, n := range more.Nodes {
		if !slices.ContainsFunc(s.Nodes, func(has Node) bool { return has.Number == n.Number }) {
			s.Nodes = append(s.Nodes, n)
		}
	}
	for _, r := range more.Rules {
		if !slices.ContainsFunc(s.Rules, func(has Rule) bool { return has.Major == r.Major && has.Minor == r.Minor }) {
			s.Rules = append(s.Rules, r)
		}
	}
	for _, r := range more.Requests {
		if !slices.ContainsFunc(s.Requests, func(has Request) bool { return has.Vendor == r.Vendor }) {
			s.Requests = append(s.Requests, r)
		}
	}
}

// Empty tells whether the set has no GPU and no way to one.
func (s Set) Empty() bool { return len(s.Nodes)+len(s.Rules)+len(s.Requests) == 0 }

// Wants are limits, each as flag=value; "" is one that is not asked for.
type Wants struct {
	Memory, Priority string
	// Owner is what lets the container make cgroups below its own, "" if nothing
	// does. Where the time of a GPU is not divided down the tree of cgroups it could
	// take any share so.
	Owner string
}

// Host is where to look. The zero value is no host: use [New].
type Host struct {
	Dev, Sys, Proc string
	// Kernel is the kernel's gpu.devices. An earlier kernel has none, and neither
	// does a dockerd see it that runs in a container: then drivers is believed.
	Kernel string
}

// New is this host.
func New(kernel string) Host {
	return Host{Dev: "/dev", Sys: "/sys", Proc: "/proc", Kernel: kernel}
}

// Majors that are the same everywhere; the others are in /proc/devices.
const (
	majorNVIDIA = 195
	majorDRM    = 226
)

// Minors of NVIDIA's major that are no GPU: nvidiactl and nvidia-modeset.
const firstNVIDIAControl = 254

const kfdName = "kfd"

// Controller is what one driver runs: a GPU, or a display without one.
type Controller struct {
	Driver string
	Device string // BUS:NAME, or a folder of sysfs; "-" for AMD's compute node, which is for all its GPUs

	Memory, Priority bool
	Tree             bool // priorities are among siblings: a container's cgroups share what it has
	OutOfTree        bool
	// MemoryNone is a GPU without memory of its own: there is nothing to limit.
	MemoryNone bool

	nodes []Number // all that it has
}

// DisplayOnly tells whether programs can have nothing computed or drawn by it: it
// has a primary node and no render node, as a server's BMC.
func (c *Controller) DisplayOnly() bool {
	if c.Device == "-" {
		return false // which nodes belong together is not known
	}
	primary, render := false, false
	for _, n := range c.nodes {
		if n.Major != majorDRM {
			return false
		}
		primary = primary || n.Minor < 64
		render = render || n.Minor >= 128
	}
	return primary && !render
}

func (c *Controller) nvidia() bool {
	return c.Driver == "nvidia" || strings.HasPrefix(c.Driver, "nvidia-")
}

// drivers are the DRM drivers of Linux 6.1 that differ from what all the others
// there do: charge their buffers, and know no priority. It is for a kernel that
// does not say so itself.
var drivers = map[string]Controller{
	"amdgpu": {Memory: true, Priority: true}, "etnaviv": {Memory: true, Priority: true}, "i915": {Memory: true, Priority: true},
	"lima": {Memory: true, Priority: true}, "msm": {Memory: true, Priority: true}, "panfrost": {Memory: true, Priority: true},
	"v3d": {Memory: true, Priority: true},
	// Of a kernel that old it has an engine and no buffers.
	"cgroup_test": {Priority: true, MemoryNone: true},
	// Without GEM.
	"i810": {}, "mga": {}, "r128": {}, "savage": {}, "sis": {}, "tdfx": {}, "via": {},
}

// Controllers are all that the host has now, but for NVIDIA's.
func (h Host) Controllers() ([]*Controller, error) {
	text, err := os.ReadFile(h.Kernel)
	if err == nil {
		return parse(text)
	}
	if !errors.Is(err, os.ErrNotExist) && h.Kernel != "" {
		return nil, err
	}
	return h.controllersBySysfs()
}

// parse reads gpu.devices: MAJOR:MINOR DRIVER DEVICE [WORD...].
func parse(text []byte) ([]*Controller, error) {
	var all []*Controller
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		f := strings.Split(line, " ")
		n, err := parseNumber(f[0])
		if err != nil || len(f) < 3 {
			return nil, fmt.Errorf("gpu.devices has the line %q, which is not MAJOR:MINOR DRIVER DEVICE", line)
		}
		c := &Controller{Driver: unescape(f[1]), Device: unescape(f[2])}
		for _, word := range f[3:] {
			switch word {
			case "memory":
				c.Memory = true
			case "priority":
				c.Priority = true
			case "tree":
				c.Tree = true
			case "out-of-tree":
				c.OutOfTree = true
			}
		}
		all = join(all, c, n)
	}
	return all, nil
}

// join adds a node to its controller. Of several nodes the weakest says what the
// controller keeps.
func join(all []*Controller, c *Controller, n Number) []*Controller {
	if i := slices.IndexFunc(all, func(a *Controller) bool { return a.Device == c.Device && a.Driver == c.Driver }); i >= 0 && c.Device != "-" {
		a := all[i]
		a.Memory, a.Priority, a.Tree, a.OutOfTree = a.Memory && c.Memory, a.Priority && c.Priority, a.Tree && c.Tree, a.OutOfTree || c.OutOfTree
		a.nodes = append(a.nodes, n)
		return all
	}
	c.nodes = []Number{n}
	return append(all, c)
}

func parseNumber(s string) (n Number, err error) {
	major, minor, ok := strings.Cut(s, ":")
	a, err1 := strconv.ParseUint(major, 10, 32)
	b, err2 := strconv.ParseUint(minor, 10, 32)
	if !ok || err1 != nil || err2 != nil {
		return n, fmt.Errorf("%q is not MAJOR:MINOR", s)
	}
	return Number{uint32(a), uint32(b)}, nil
}

// unescape undoes the kernel's \ooo.
func unescape(s string) string {
	var b strings.Builder
	for ; s != ""; s = s[1:] {
		if len(s) >= 4 && s[0] == '\\' {
			if v, err := strconv.ParseUint(s[1:4], 8, 8); err == nil {
				b.WriteByte(byte(v))
				s = s[3:]
				continue
			}
		}
		b.WriteByte(s[0])
	}
	return b.String()
}

func (h Host) controllersBySysfs() ([]*Controller, error) {
	dirs, err := filepath.Glob(filepath.Join(h.Sys, "dev/char", strconv.Itoa(majorDRM)+":*"))
	if err != nil {
		return nil, err
	}
	var all []*Controller
	for _, dir := range dirs {
		n, err := parseNumber(filepath.Base(dir))
		if err != nil {
			return nil, err
		}
		device, err := filepath.EvalSymlinks(filepath.Join(dir, "device"))
		if errors.Is(err, os.ErrNotExist) {
			device = dir // on no bus, or gone meanwhile
		} else if err != nil {
			return nil, err
		}
		// A device without a driver of its bus (vgem, vkms) has the driver's name.
		driver := strings.TrimRight(filepath.Base(device), "0123456789.")
		if link, err := filepath.EvalSymlinks(filepath.Join(device, "driver")); err == nil {
			driver = filepath.Base(link)
		}
		all = join(all, h.byTable(driver, device), n)
	}
	if major, ok := h.majors()[kfdName]; ok {
		c := h.byTable("amdgpu", "-")
		c.Driver, c.Priority = kfdName, false
		all = join(all, c, Number{major, 0})
	}
	slices.SortFunc(all, func(a, b *Controller) int {
		return cmp.Or(cmp.Compare(a.nodes[0].Major, b.nodes[0].Major), cmp.Compare(a.nodes[0].Minor, b.nodes[0].Minor))
	})
	return all, nil
}

func (h Host) byTable(driver, device string) *Controller {
	c, known := drivers[driver]
	if !known {
		c.Memory = true
	}
	if h.outOfTree(driver, device) {
		c = Controller{OutOfTree: true}
	}
	c.Driver, c.Device = driver, device
	return &c
}

// outOfTree tells whether the module behind a driver is not of the kernel's tree.
func (h Host) outOfTree(driver, device string) bool {
	modules := []string{filepath.Join(h.Sys, "module", strings.ReplaceAll(driver, "-", "_"))}
	if link, err := filepath.EvalSymlinks(filepath.Join(device, "driver/module")); err == nil {
		modules = append(modules, link)
	}
	for _, m := range modules {
		if taint, err := os.ReadFile(filepath.Join(m, "taint")); err == nil && bytes.ContainsAny(taint, "OP") {
			return true
		}
	}
	return false
}

// majors are the character devices of /proc/devices by name.
func (h Host) majors() map[string]uint32 {
	text, err := os.ReadFile(filepath.Join(h.Proc, "devices"))
	if err != nil {
		return nil
	}
	found := map[string]uint32{}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) == 2 && f[0] == "Block" {
			break
		}
		if len(f) != 2 {
			continue
		}
		if major, err := strconv.ParseUint(f[0], 10, 32); err == nil {
			found[f[1]] = uint32(major)
		}
	}
	return found
}

// GPUs leaves in the set what is about GPUs. NVIDIA's control nodes (nvidiactl,
// nvidia-uvm, nvidia-caps) are not: nothing can be done with them alone.
func (h Host) GPUs(s Set) Set {
	majors := h.majors()
	kfd, hasKFD := majors[kfdName]
	gpu := func(major int64) bool {
		return major == majorDRM || major == majorNVIDIA || hasKFD && major == int64(kfd)
	}
	control := func(major, minor int64) bool { return major == majorNVIDIA && minor >= firstNVIDIAControl }
	s.Nodes = slices.DeleteFunc(slices.Clone(s.Nodes), func(n Node) bool {
		return !gpu(int64(n.Major)) || control(int64(n.Major), int64(n.Minor))
	})
	s.Rules = slices.DeleteFunc(slices.Clone(s.Rules), func(r Rule) bool {
		return r.Major != Any && !gpu(r.Major) || control(r.Major, r.Minor)
	})
	return s
}

// hasNVIDIA tells whether the host has NVIDIA's driver or a node for it.
func (h Host) hasNVIDIA() bool {
	for _, major := range h.majors() {
		if major == majorNVIDIA {
			return true
		}
	}
	if _, err := os.Stat(filepath.Join(h.Proc, "driver/nvidia")); err == nil {
		return true
	}
	nodes, _ := filepath.Glob(filepath.Join(h.Dev, "nvidia[0-9]*"))
	return len(nodes) > 0
}

// subject is one GPU of a set, or one way to some.
type subject struct {
	*Controller        // nil for NVIDIA's own driver, and where the host has none by that number
	how, name   string // "the container gets", and what
	nvidia      bool
	display     bool
}

// How a container comes to a GPU.
const (
	gets    = "the container gets "
	mayOpen = "the container may open "
)

func (sub subject) what() string { return sub.how + sub.name }

// Judge says why limits cannot be enforced on what a container gets; without an
// error it says what they do not limit there. Every GPU has to keep every limit.
func (h Host) Judge(s Set, w Wants) (warnings []string, _ error) {
	if w.Memory == "" && w.Priority == "" {
		return nil, nil
	}
	s = h.GPUs(s)
	controllers, err := h.Controllers()
	if err != nil {
		return nil, fmt.Errorf("%s cannot be enforced: it cannot be told which GPUs keep it: %w", w.flags(), err)
	}
	subjects := h.subjects(s, controllers)
	var refusals []string
	gpus := 0
	for _, sub := range subjects {
		if sub.display {
			warnings = append(warnings, sub.displayWarning(w)...)
			continue
		}
		gpus++
		memory, priority := kept(sub, w.Owner)
		if sub.Controller != nil && sub.MemoryNone && w.Memory != "" && !sub.OutOfTree {
			warnings = append(warnings, fmt.Sprintf("%s limits nothing of %s, which has no memory of its own.", w.Memory, sub.name))
			memory = ""
		}
		refusals = append(refusals, w.refuse(memory, priority)...)
	}
	if len(refusals) > 0 {
		slices.Sort(refusals)
		return nil, errors.New(strings.Join(slices.Compact(refusals), "; "))
	}
	if gpus == 0 {
		warnings = append(warnings, w.flags()+" limits nothing yet: the container has no GPU. Give it one by --device.")
	}
	return warnings, nil
}

func (w Wants) flags() string { return strings.TrimSpace(w.Priority + " " + w.Memory) }

// refuse spells why each limit is not kept. A reason of both is said once.
func (w Wants) refuse(memory, priority string) (refusals []string) {
	const cannot = " cannot be enforced: "
	if w.Memory != "" && w.Priority != "" && memory != "" && memory == priority {
		return []string{w.flags() + cannot + memory}
	}
	if w.Memory != "" && memory != "" {
		refusals = append(refusals, w.Memory+cannot+memory)
	}
	if w.Priority != "" && priority != "" {
		refusals = append(refusals, w.Priority+cannot+priority)
	}
	return refusals
}

func (sub subject) displayWarning(w Wants) []string {
	var not Wants
	if !sub.Memory {
		not.Memory = w.Memory
	}
	if !sub.Priority {
		not.Priority = w.Priority
	}
	if not.flags() == "" {
		return nil
	}
	return []string{fmt.Sprintf("%s does not limit %s, a display without a GPU.", not.flags(), sub.name)}
}

// kept says why memory and priority of a GPU are not limited, "" where they are. owner
// is that of [Wants].
func kept(sub subject, owner string) (memory, priority string) {
	switch c := sub.Controller; {
	case sub.nvidia:
		return sub.what() + ", whose memory NVIDIA's driver does not charge to the gpu controller; leave out the GPU or the limit",
			sub.what() + ", and NVIDIA's driver takes no priority from a cgroup; leave out the GPU or the limit, or see the client priority of NVIDIA's MPS"
	case c == nil:
		both := sub.what() + ", of which the kernel knows no driver that keeps limits; load the driver, or leave out the device"
		return both, both
	case c.OutOfTree:
		both := fmt.Sprintf("%s, and a driver from outside the kernel's tree need not keep limits; use the kernel's own %s, or leave out the device", sub.what(), c.Driver)
		return both, both
	default:
		if !c.Memory {
			memory = sub.what() + ", whose driver does not charge its memory to the gpu controller; leave out the device or the limit"
		}
		switch {
		case c.Priority && !c.Tree && owner != "":
			priority = fmt.Sprintf("%s: with %s the container can make cgroups of its own, and this kernel gives each of them a share as large as the container's; leave out one of the two, or use a kernel whose gpu.devices says \"tree\"", sub.what(), owner)
		case !c.Priority:
			priority = sub.what() + ", which does its work without a scheduler that knows priorities; leave out the device or the limit"
		}
		return memory, priority
	}
}

// subjects are the GPUs and displays of a set, each once.
func (h Host) subjects(s Set, controllers []*Controller) (all []subject) {
	of := map[Number]*Controller{}
	for _, c := range controllers {
		for _, n := range c.nodes {
			of[n] = c
		}
	}
	paths := map[*Controller][]string{}
	for _, n := range s.Nodes {
		switch c := of[n.Number]; {
		case c != nil:
			paths[c] = append(paths[c], n.Path)
		case n.Major == majorNVIDIA:
			all = append(all, subject{nvidia: true, how: gets, name: fmt.Sprintf("NVIDIA GPU %d (%s)", n.Minor, n.Path)})
		default:
			all = append(all, subject{how: gets, name: fmt.Sprintf("%s (device %s)", n.Path, n.Number)})
		}
	}
	for _, c := range controllers {
		if len(paths[c]) > 0 {
			all = append(all, c.subject(gets, strings.Join(paths[c], " and ")))
		}
	}
	for _, r := range s.Requests {
		all = append(all, subject{nvidia: r.Vendor == NVIDIA, how: gets, name: fmt.Sprintf("%s GPUs (%s)", r.Vendor, r.By)})
	}
	for _, r := range s.Rules {
		// A rule by number means the GPU of that number, there or not; one for
		// everything, what the host has.
		if (r.Major == majorNVIDIA || r.Major == Any && h.hasNVIDIA()) && !(r.Minor != Any && has(s.Nodes, r)) {
			all = append(all, subject{nvidia: true, how: mayOpen, name: fmt.Sprintf("any NVIDIA GPU (%s)", r.By)})
			if r.Minor != Any {
				all[len(all)-1].name = fmt.Sprintf("NVIDIA GPU %d (%s)", r.Minor, r.By)
			}
		}
		found := false
		for _, c := range controllers {
			if i := slices.IndexFunc(c.nodes, r.covers); i >= 0 {
				found = true
				if len(paths[c]) == 0 {
					paths[c] = []string{r.By}
					all = append(all, c.subject(mayOpen, fmt.Sprintf("%s (%s)", h.name(c.nodes[i]), r.By)))
				}
			}
		}
		if !found && r.Major == majorDRM && r.Minor != Any && !has(s.Nodes, r) {
			all = append(all, subject{how: mayOpen, name: fmt.Sprintf("device %d:%d (%s)", r.Major, r.Minor, r.By)})
		}
	}
	return all
}

func (c *Controller) subject(how, name string) subject {
	s := subject{Controller: c, how: how, nvidia: c.nvidia(), display: c.DisplayOnly() && !c.nvidia()}
	if s.nvidia {
		s.name = fmt.Sprintf("%s, an NVIDIA GPU (driver %s, %s)", name, c.Driver, c.Device)
	} else {
		s.name = fmt.Sprintf("%s (driver %s, %s)", name, c.Driver, c.Device)
	}
	return s
}

func has(nodes []Node, r Rule) bool {
	return slices.ContainsFunc(nodes, func(n Node) bool { return r.covers(n.Number) })
}

func (r Rule) covers(n Number) bool {
	return (r.Major == Any || r.Major == int64(n.Major)) && (r.Minor == Any || r.Minor == int64(n.Minor))
}

// name is what the host calls a device.
func (h Host) name(n Number) string {
	text, _ := os.ReadFile(filepath.Join(h.Sys, "dev/char", n.String(), "uevent"))
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME="); ok {
			return filepath.Join("/dev", strings.TrimPrefix(name, "/dev/"))
		}
	}
	return "device " + n.String()
}

// Summary names what keeps memory and what keeps priority: a node and its driver,
// for people.
func (h Host) Summary() (memory, priority []string, err error) {
	controllers, err := h.Controllers()
	if err != nil {
		return nil, nil, err
	}
	for _, c := range controllers {
		if c.nvidia() || c.OutOfTree {
			continue
		}
		what := fmt.Sprintf("%s (%s)", h.name(slices.MaxFunc(c.nodes, func(a, b Number) int { return cmp.Compare(a.Minor, b.Minor) })), c.Driver)
		if c.Memory {
			memory = append(memory, what)
		}
		if c.Priority {
			priority = append(priority, what)
		}
	}
	return memory, priority, nil
}
