// SPDX-License-Identifier: Apache-2.0

package container

import "math"

// ResourceUnit is what the numbers of a field count. How a flag spells them and how
// the range is put into words hang on it.
type ResourceUnit string

// Units. One that nothing else knows is a plain number to flags: "must be 1 to 9 UNIT".
const (
	UnitPlain          ResourceUnit = ""
	UnitSize           ResourceUnit = "size" // Of upstream's own flags.
	UnitSizeOrNone     ResourceUnit = "size or -1"
	UnitBytes          ResourceUnit = "bytes"
	UnitBytesPerSecond ResourceUnit = "bytes per second"
	UnitIOPerSecond    ResourceUnit = "operations per second"
	UnitBitsPerSecond  ResourceUnit = "bits per second"
	UnitPackets        ResourceUnit = "packets per second"
	UnitPriority       ResourceUnit = "priority"
	UnitClass          ResourceUnit = "class"
)

// ResourceField says all that there is to say of a field of [Resources]. What can be
// made of it is made of it: validation, flags, completion, merging, what an update
// keeps and how it is undone, the pages about it (scripts/tree reads this file).
type ResourceField struct {
	Name string // In JSON, and in a resources file.
	Flag string // That sets it, without dashes.

	// Fixed is a field that no update changes, Ignored one that daemons ignore since
	// API 1.42. A field must be either in an update or Fixed: see [ResourceFields].
	Fixed, Ignored bool

	// Kind is the kind of limit that a daemon has to know, "" if every daemon does;
	// UpdateKind is the same for an update, if every daemon knows it in a new container.
	Kind, UpdateKind string

	// Group is the same for fields that depend on each other: they are put back
	// together or not at all. Those without one stand alone.
	Group string

	Unit        ResourceUnit
	Least, Most int64 // Of a number that limits.
	Default     int64 // Of a number: what a container has that was given none; "no limit".

	Aliases []string // Other names of the flag, which no page names.
	Values  []string // To offer when the flag is completed; [ResourceField.Default] if none.
	Help    string   // Of the flag, if it is none of upstream's.
	Doc     string   // More, for the reference of the API.

	at access
}

// Ranges. Cgroup v2 refuses a disk rate of 1. Operations per second are 32 bits in
// the kernel, which wraps what is above and takes the largest of them for no limit. A
// network rate must save up a whole frame of 1500 bytes in the four seconds that a bucket
// can hold (links with larger frames need more, which dockerd says), and above a million
// gigabits the kernel's clock is too coarse for a bucket. Up to ten million packets it
// keeps a rate within one per cent.
const (
	minBlkioRate = 2
	maxBlkioIOps = 1<<32 - 2
	minNetRate   = 6072
	maxNetRate   = 1e15
	maxNetPPS    = 10_000_000
)

// ResourceFields are all fields of [Resources], each with a row of its own. The order
// of those that have a Kind is that in which errors name their flags.
var ResourceFields = []*ResourceField{
	{
		Name: "GPUPriority", Flag: "gpu-priority", Kind: "gpu-priority",
		Unit: UnitPriority, Least: -1024, Most: 1024, Default: 0, Values: []string{"-1024", "-512", "0", "512", "1024"},
		Help: "GPU scheduling priority (-1024 to 1024)",
		Doc:  "GPU scheduling priority of the container, `gpu.priority` of its cgroup. A higher one gets more of a busy GPU's time.",
		at:   pointer(func(r *Resources) **int64 { return &r.GPUPriority }),
	},
	{
		Name: "GPUMemory", Flag: "gpu-memory", Kind: "gpu-memory",
		Unit: UnitBytes, Least: 1, Most: math.MaxInt64, Default: -1,
		Help: "GPU memory limit (-1 for no limit)",
		Doc:  "GPU memory limit in bytes, `gpu.max_mem_in_bytes` (cgroup v1) or `gpu.memory.max` (cgroup v2) of the container's cgroup.",
		at:   pointer(func(r *Resources) **int64 { return &r.GPUMemory }),
	},
	{
		Name: "BlkioReadLimit", Flag: "blkio-read-limit", Kind: "blkio-limit", Group: "blkio",
		Unit: UnitBytesPerSecond, Least: minBlkioRate, Most: math.MaxInt64, Default: -1,
		Aliases: []string{"blkio-read-bps", "blkio-reed-limit"}, // The last is how the flag was once spelled.
		Help:    "Limit read rate (bytes per second) of each disk behind the container (-1 for no limit)",
		Doc:     "Limit read rate (bytes per second) of the container on each disk behind its root filesystem and its mounts. An entry for a disk in `BlkioDevice*` wins.",
		at:      pointer(func(r *Resources) **int64 { return &r.BlkioReadLimit }),
	},
	{
		Name: "BlkioWriteLimit", Flag: "blkio-write-limit", Kind: "blkio-limit", Group: "blkio",
		Unit: UnitBytesPerSecond, Least: minBlkioRate, Most: math.MaxInt64, Default: -1,
		Aliases: []string{"blkio-write-bps"},
		Help:    "Limit write rate (bytes per second) of each disk behind the container (-1 for no limit)",
		Doc:     "Limit write rate (bytes per second) of the container on each disk behind its root filesystem and its mounts. An entry for a disk in `BlkioDevice*` wins.",
		at:      pointer(func(r *Resources) **int64 { return &r.BlkioWriteLimit }),
	},
	{
		Name: "BlkioReadIOpsLimit", Flag: "blkio-read-iops-limit", Kind: "blkio-limit", Group: "blkio",
		Unit: UnitIOPerSecond, Least: minBlkioRate, Most: maxBlkioIOps, Default: -1,
		Aliases: []string{"blkio-read-iops"},
		Help:    "Limit read rate (IO per second) of each disk behind the container (-1 for no limit)",
		Doc:     "Limit read rate (IO per second) of the container on each disk behind its root filesystem and its mounts. An entry for a disk in `BlkioDevice*` wins.",
		at:      pointer(func(r *Resources) **int64 { return &r.BlkioReadIOpsLimit }),
	},
	{
		Name: "BlkioWriteIOpsLimit", Flag: "blkio-write-iops-limit", Kind: "blkio-limit", Group: "blkio",
		Unit: UnitIOPerSecond, Least: minBlkioRate, Most: maxBlkioIOps, Default: -1,
		Aliases: []string{"blkio-write-iops"},
		Help:    "Limit write rate (IO per second) of each disk behind the container (-1 for no limit)",
		Doc:     "Limit write rate (IO per second) of the container on each disk behind its root filesystem and its mounts. An entry for a disk in `BlkioDevice*` wins.",
		at:      pointer(func(r *Resources) **int64 { return &r.BlkioWriteIOpsLimit }),
	},
	{
		Name: "NetClassID", Flag: "net-classid", Kind: "net-class", Group: "net-class",
		Unit: UnitClass, Least: 0, Most: math.MaxUint32, Default: 0,
		Help: "Traffic class of sent packets (MAJOR:MINOR in hexadecimal, 0 for none)",
		Doc:  "Traffic class of the packets that the container sends, `0xAAAABBBB` for class `AAAA:BBBB` of the host's queueing disciplines.",
		at:   pointer(func(r *Resources) **uint32 { return &r.NetClassID }),
	},
	{
		Name: "NetPriorities", Flag: "net-prio", Kind: "net-class", Group: "net-class",
		Help: "Priority of sent packets by interface of the host (IFACE:PRIO)",
		Doc:  "Priorities of the packets that the container sends, by the host's interface.",
		at:   list(func(r *Resources) *[]NetPriority { return &r.NetPriorities }),
	},
	{
		Name: "NetEgressRate", Flag: "net-egress-rate", Kind: "net-rate",
		Unit: UnitBitsPerSecond, Least: minNetRate, Most: maxNetRate, Default: -1,
		Help: "Limit rate (bits per second) from the container (-1 for no limit)",
		Doc:  "Limit the rate (bits per second) of traffic from the container.",
		at:   pointer(func(r *Resources) **int64 { return &r.NetEgressRate }),
	},
	{
		Name: "NetIngressRate", Flag: "net-ingress-rate", Kind: "net-rate",
		Unit: UnitBitsPerSecond, Least: minNetRate, Most: maxNetRate, Default: -1,
		Help: "Limit rate (bits per second) to the container (-1 for no limit)",
		Doc:  "Limit the rate (bits per second) of traffic to the container.",
		at:   pointer(func(r *Resources) **int64 { return &r.NetIngressRate }),
	},

	{
		Name: "NetEgressPPS", Flag: "net-egress-pps", Kind: "net-pps",
		Unit: UnitPackets, Least: 1, Most: maxNetPPS, Default: -1,
		Help: "Limit rate (packets per second) from the container (-1 for no limit)",
		Doc:  "Limit the rate (packets per second) of traffic from the container; what is above is dropped.",
		at:   pointer(func(r *Resources) **int64 { return &r.NetEgressPPS }),
	},
	{
		Name: "NetIngressPPS", Flag: "net-ingress-pps", Kind: "net-pps",
		Unit: UnitPackets, Least: 1, Most: maxNetPPS, Default: -1,
		Help: "Limit rate (packets per second) to the container (-1 for no limit)",
		Doc:  "Limit the rate (packets per second) of traffic to the container; what is above is dropped.",
		at:   pointer(func(r *Resources) **int64 { return &r.NetIngressPPS }),
	},

	// Upstream's, but its update ignores them.
	{
		Name: "BlkioWeightDevice", Flag: "blkio-weight-device", UpdateKind: "blkio-limit",
		Help: "Block IO weight (relative device weight, empty to clear the list)",
		at:   list(func(r *Resources) *[]weightDevice { return &r.BlkioWeightDevice }),
	},
	{
		Name: "BlkioDeviceReadBps", Flag: "device-read-bps", UpdateKind: "blkio-limit", Group: "blkio", Unit: UnitSize,
		Help: "Limit read rate (bytes per second) from a device (empty to clear the list)",
		at:   list(func(r *Resources) *[]throttleDevice { return &r.BlkioDeviceReadBps }),
	},
	{
		Name: "BlkioDeviceWriteBps", Flag: "device-write-bps", UpdateKind: "blkio-limit", Group: "blkio", Unit: UnitSize,
		Help: "Limit write rate (bytes per second) to a device (empty to clear the list)",
		at:   list(func(r *Resources) *[]throttleDevice { return &r.BlkioDeviceWriteBps }),
	},
	{
		Name: "BlkioDeviceReadIOps", Flag: "device-read-iops", UpdateKind: "blkio-limit", Group: "blkio", Most: maxBlkioIOps,
		Help: "Limit read rate (IO per second) from a device (empty to clear the list)",
		at:   list(func(r *Resources) *[]throttleDevice { return &r.BlkioDeviceReadIOps }),
	},
	{
		Name: "BlkioDeviceWriteIOps", Flag: "device-write-iops", UpdateKind: "blkio-limit", Group: "blkio", Most: maxBlkioIOps,
		Help: "Limit write rate (IO per second) to a device (empty to clear the list)",
		at:   list(func(r *Resources) *[]throttleDevice { return &r.BlkioDeviceWriteIOps }),
	},

	// Upstream's.
	{Name: "Memory", Flag: "memory", Group: "memory", Unit: UnitSize, Default: -1, at: value(func(r *Resources) *int64 { return &r.Memory })},
	{Name: "MemorySwap", Flag: "memory-swap", Group: "memory", Unit: UnitSizeOrNone, Default: -1, at: value(func(r *Resources) *int64 { return &r.MemorySwap })},
	{Name: "MemoryReservation", Flag: "memory-reservation", Group: "memory", Unit: UnitSize, Default: -1, at: value(func(r *Resources) *int64 { return &r.MemoryReservation })},
	{Name: "NanoCpus", Flag: "cpus", Group: "cpu", at: value(func(r *Resources) *int64 { return &r.NanoCPUs })},
	{Name: "CpuPeriod", Flag: "cpu-period", Group: "cpu", Default: 100000, at: value(func(r *Resources) *int64 { return &r.CPUPeriod })},
	{Name: "CpuQuota", Flag: "cpu-quota", Group: "cpu", Default: -1, at: value(func(r *Resources) *int64 { return &r.CPUQuota })},
	{Name: "CpuRealtimePeriod", Flag: "cpu-rt-period", Group: "cpu-rt", at: value(func(r *Resources) *int64 { return &r.CPURealtimePeriod })},
	{Name: "CpuRealtimeRuntime", Flag: "cpu-rt-runtime", Group: "cpu-rt", at: value(func(r *Resources) *int64 { return &r.CPURealtimeRuntime })},
	{Name: "CpuShares", Flag: "cpu-shares", Default: 1024, at: value(func(r *Resources) *int64 { return &r.CPUShares })},
	{Name: "CpusetCpus", Flag: "cpuset-cpus", at: value(func(r *Resources) *string { return &r.CpusetCpus })},
	{Name: "CpusetMems", Flag: "cpuset-mems", at: value(func(r *Resources) *string { return &r.CpusetMems })},
	{Name: "PidsLimit", Flag: "pids-limit", Default: -1, at: pointer(func(r *Resources) **int64 { return &r.PidsLimit })},
	{Name: "BlkioWeight", Flag: "blkio-weight", at: value(func(r *Resources) *uint16 { return &r.BlkioWeight })},

	{Name: "CgroupParent", Flag: "cgroup-parent", Fixed: true, at: value(func(r *Resources) *string { return &r.CgroupParent })},
	{Name: "CpuCount", Flag: "cpu-count", Fixed: true, at: value(func(r *Resources) *int64 { return &r.CPUCount })},
	{Name: "CpuPercent", Flag: "cpu-percent", Fixed: true, at: value(func(r *Resources) *int64 { return &r.CPUPercent })},
	{Name: "DeviceCgroupRules", Flag: "device-cgroup-rule", Fixed: true, at: list(func(r *Resources) *[]string { return &r.DeviceCgroupRules })},
	{Name: "DeviceRequests", Flag: "gpus", Fixed: true, at: list(func(r *Resources) *[]DeviceRequest { return &r.DeviceRequests })},
	{Name: "Devices", Flag: "device", Fixed: true, at: list(func(r *Resources) *[]DeviceMapping { return &r.Devices })},
	{Name: "IOMaximumBandwidth", Flag: "io-maxbandwidth", Fixed: true, Unit: UnitSize, at: value(func(r *Resources) *uint64 { return &r.IOMaximumBandwidth })},
	{Name: "IOMaximumIOps", Flag: "io-maxiops", Fixed: true, at: value(func(r *Resources) *uint64 { return &r.IOMaximumIOps })},
	{Name: "MemorySwappiness", Flag: "memory-swappiness", Fixed: true, at: pointer(func(r *Resources) **int64 { return &r.MemorySwappiness })},
	{Name: "OomKillDisable", Flag: "oom-kill-disable", Fixed: true, at: pointer(func(r *Resources) **bool { return &r.OomKillDisable })},
	{Name: "Ulimits", Flag: "ulimit", Fixed: true, at: list(func(r *Resources) *[]*Ulimit { return &r.Ulimits })},
}
