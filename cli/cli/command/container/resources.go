// SPDX-License-Identifier: Apache-2.0

package container

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/cli/opts"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-units"
	"github.com/spf13/pflag"
)

// resourceField is a field of [container.Resources].
type resourceField struct {
	name string // in the API and in a resources file
	flag string // that sets it

	// updatable is whether an existing container can change it.
	updatable bool

	// feature is the kind of limit that a daemon has to know, "" for those
	// that every daemon knows.
	feature string

	// updateFeature is the same for an update, if every daemon knows the
	// field in a new container.
	updateFeature string

	// parse checks a number as the flag does, and suffix says that it takes
	// more than plain numbers, such as example ("512m" if that is empty).
	parse   func(string) (int64, error)
	suffix  bool
	example string
}

// resourceFields are all fields but KernelMemory and KernelMemoryTCP, which
// daemons ignore since API 1.42.
var resourceFields = []resourceField{
	{name: "BlkioDeviceReadBps", flag: "device-read-bps", updatable: true, updateFeature: "blkio-limit", parse: units.RAMInBytes, suffix: true},
	{name: "BlkioDeviceReadIOps", flag: "device-read-iops", updatable: true, updateFeature: "blkio-limit"},
	{name: "BlkioDeviceWriteBps", flag: "device-write-bps", updatable: true, updateFeature: "blkio-limit", parse: units.RAMInBytes, suffix: true},
	{name: "BlkioDeviceWriteIOps", flag: "device-write-iops", updatable: true, updateFeature: "blkio-limit"},
	{name: "BlkioReadIOpsLimit", flag: "blkio-read-iops-limit", updatable: true, feature: "blkio-limit", parse: opts.ParseBlkioIOps},
	{name: "BlkioReadLimit", flag: "blkio-read-limit", updatable: true, feature: "blkio-limit", parse: opts.ParseBlkioBps, suffix: true},
	{name: "BlkioWeight", flag: "blkio-weight", updatable: true},
	{name: "BlkioWeightDevice", flag: "blkio-weight-device", updatable: true, updateFeature: "blkio-limit"},
	{name: "BlkioWriteIOpsLimit", flag: "blkio-write-iops-limit", updatable: true, feature: "blkio-limit", parse: opts.ParseBlkioIOps},
	{name: "BlkioWriteLimit", flag: "blkio-write-limit", updatable: true, feature: "blkio-limit", parse: opts.ParseBlkioBps, suffix: true},
	{name: "CgroupParent", flag: "cgroup-parent"},
	{name: "CpuCount", flag: "cpu-count"},
	{name: "CpuPercent", flag: "cpu-percent"},
	{name: "CpuPeriod", flag: "cpu-period", updatable: true},
	{name: "CpuQuota", flag: "cpu-quota", updatable: true},
	{name: "CpuRealtimePeriod", flag: "cpu-rt-period", updatable: true},
	{name: "CpuRealtimeRuntime", flag: "cpu-rt-runtime", updatable: true},
	{name: "CpuShares", flag: "cpu-shares", updatable: true},
	{name: "CpusetCpus", flag: "cpuset-cpus", updatable: true},
	{name: "CpusetMems", flag: "cpuset-mems", updatable: true},
	{name: "DeviceCgroupRules", flag: "device-cgroup-rule"},
	{name: "DeviceRequests", flag: "gpus"},
	{name: "Devices", flag: "device"},
	{name: "GPUMemory", flag: "gpu-memory", updatable: true, feature: "gpu-memory", parse: opts.ParseGPUMemory, suffix: true},
	{name: "GPUPriority", flag: "gpu-priority", updatable: true, feature: "gpu-priority", parse: parseGPUPriority},
	{name: "IOMaximumBandwidth", flag: "io-maxbandwidth", parse: units.RAMInBytes, suffix: true},
	{name: "IOMaximumIOps", flag: "io-maxiops"},
	{name: "Memory", flag: "memory", updatable: true, parse: units.RAMInBytes, suffix: true},
	{name: "MemoryReservation", flag: "memory-reservation", updatable: true, parse: units.RAMInBytes, suffix: true},
	{name: "MemorySwap", flag: "memory-swap", updatable: true, parse: parseMemorySwap, suffix: true},
	{name: "MemorySwappiness", flag: "memory-swappiness"},
	{name: "NanoCpus", flag: "cpus", updatable: true},
	{name: "NetClassID", flag: "net-classid", updatable: true, feature: "net-class", parse: opts.ParseNetClassID, suffix: true, example: "10:1"},
	{name: "NetEgressRate", flag: "net-egress-rate", updatable: true, feature: "net-rate", parse: opts.ParseNetRate, suffix: true, example: "20mbit"},
	{name: "NetIngressRate", flag: "net-ingress-rate", updatable: true, feature: "net-rate", parse: opts.ParseNetRate, suffix: true, example: "20mbit"},
	{name: "NetPriorities", flag: "net-prio", updatable: true, feature: "net-class"},
	{name: "OomKillDisable", flag: "oom-kill-disable"},
	{name: "PidsLimit", flag: "pids-limit", updatable: true},
	{name: "Ulimits", flag: "ulimit"},
}

func parseGPUPriority(s string) (int64, error) {
	var p opts.GPUPriority
	if err := p.Set(s); err != nil {
		return 0, err
	}
	return *p.Value(), nil
}

func parseMemorySwap(s string) (int64, error) {
	var m opts.MemSwapBytes
	err := m.Set(s)
	return m.Value(), err
}

// of returns the field in r, to read or to set.
func (f resourceField) of(r *container.Resources) reflect.Value {
	return jsonField(reflect.ValueOf(r).Elem(), f.name)
}

// isSet reports whether the field has a value in r. An empty list is none: in
// a request it clears, and the CLI makes it for each new container.
func (f resourceField) isSet(r *container.Resources) bool {
	v := f.of(r)
	return !v.IsZero() && (v.Kind() != reflect.Slice || v.Len() > 0)
}

// jsonField returns the field of a struct that has this name in JSON, or the
// zero Value.
func jsonField(v reflect.Value, name string) reflect.Value {
	for i := range v.NumField() {
		if jsonName(v.Type().Field(i)) == name {
			return v.Field(i)
		}
	}
	return reflect.Value{}
}

func jsonName(f reflect.StructField) string {
	if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
		return name
	}
	return f.Name
}

// unsetResource is shown for a resource that a container has no value for.
const unsetResource = "unset"

// text spells the field of r as its flag takes it, in full precision.
func (f resourceField) text(r *container.Resources) string {
	if !f.isSet(r) {
		return unsetResource
	}
	v := reflect.Indirect(f.of(r))
	switch {
	case f.name == "NetClassID":
		return opts.FormatNetClassID(uint32(v.Uint()))
	case f.name == "NetPriorities":
		return opts.FormatNetPriorities(r.NetPriorities)
	case v.Kind() == reflect.Slice:
		// Disks, which know how to spell themselves.
		texts := make([]string, v.Len())
		for i := range texts {
			texts[i] = fmt.Sprint(v.Index(i).Interface())
		}
		return strings.Join(texts, ",")
	case f.name == "NanoCpus":
		return strconv.FormatFloat(float64(v.Int())/1e9, 'f', -1, 64)
	case f.name == "PidsLimit" && v.Int() <= 0:
		// The daemon stores "unlimited" as 0.
		return "-1"
	default:
		return fmt.Sprint(v.Interface())
	}
}

// flagNames lists fields as the flags that set them.
func flagNames(fields []resourceField) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.flag
	}
	return strings.Join(names, ", ")
}

// addResourceFlags adds the flags of "docker update" that set a resource. They
// are made by the same code, so that the two commands cannot differ.
func (options *updateOptions) addResourceFlags(flags *pflag.FlagSet) {
	all := pflag.NewFlagSet("", pflag.ContinueOnError)
	options.addFlags(all)
	acceptLimitAliases(flags)
	all.VisitAll(func(f *pflag.Flag) {
		if f.Name != "restart" {
			flags.AddFlag(f)
		}
	})
}

// named returns the resources that were named by a flag or in the resources
// file, and their values. Everything else is zero, which is "keep" in the API.
// That is why a zero cannot be asked for, except for those fields that can tell
// zero from absent; it is an error here, where "docker update" ignores it.
func (options *updateOptions) named() (container.Resources, []resourceField, error) {
	flags := options.limits.flags
	if flags.Changed("kernel-memory") {
		return container.Resources{}, nil, fmt.Errorf("--kernel-memory is no longer supported: daemons ignore it")
	}
	r := container.Resources{
		BlkioWeight:        options.blkioWeight,
		CPUPeriod:          options.cpuPeriod,
		CPUQuota:           options.cpuQuota,
		CPURealtimePeriod:  options.cpuRealtimePeriod,
		CPURealtimeRuntime: options.cpuRealtimeRuntime,
		CPUShares:          options.cpuShares,
		CpusetCpus:         options.cpusetCpus,
		CpusetMems:         options.cpusetMems,
		Memory:             options.memory.Value(),
		MemoryReservation:  options.memoryReservation.Value(),
		MemorySwap:         options.memorySwap.Value(),
		NanoCPUs:           options.cpus.Value(),
	}
	if flags.Changed("pids-limit") {
		r.PidsLimit = &options.pidsLimit
	}
	options.limits.apply(&r)

	var fields []resourceField
	for _, f := range resourceFields {
		if !f.updatable || !flags.Changed(f.flag) && !options.limits.file.has(f.name) {
			continue
		}
		if f.of(&r).IsZero() {
			return container.Resources{}, nil, keepsError(fmt.Sprintf("--%s=%s", f.flag, flags.Lookup(f.flag).Value))
		}
		fields = append(fields, f)
	}
	slices.SortFunc(fields, func(a, b resourceField) int { return strings.Compare(a.flag, b.flag) })
	return r, fields, nil
}

// keepsError is for a value that a daemon takes as "keep what there is".
func keepsError(what string) error {
	return fmt.Errorf("%s would change nothing: an update cannot set this resource to zero or nothing; give another value", what)
}

// setUpdatable returns the updatable resources that have a value in r.
func setUpdatable(r *container.Resources) []resourceField {
	var fields []resourceField
	for _, f := range resourceFields {
		if f.updatable && f.isSet(r) {
			fields = append(fields, f)
		}
	}
	return fields
}
