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
	*container.ResourceField

	// parse checks a number as the flag does, and example is one of more than plain
	// numbers that it takes, if it does.
	parse   func(string) (int64, error)
	example string
}

// resourceFields are all fields but those which daemons ignore, by name.
var resourceFields = func() (fields []resourceField) {
	for _, field := range container.ResourceFields {
		if field.Ignored {
			continue
		}
		f := resourceField{ResourceField: field}
		if f.IsNumber() {
			f.parse = func(s string) (int64, error) { return opts.ParseLimit(field, s) }
		}
		switch f.Unit {
		case container.UnitSize:
			f.parse, f.example = units.RAMInBytes, "512m"
		case container.UnitSizeOrNone:
			f.parse, f.example = parseMemorySwap, "512m"
		case container.UnitBytes, container.UnitBytesPerSecond:
			f.example = "512m"
		case container.UnitBitsPerSecond:
			f.example = "20mbit"
		case container.UnitClass:
			f.example = "10:1"
		}
		fields = append(fields, f)
	}
	slices.SortFunc(fields, func(a, b resourceField) int { return strings.Compare(a.Name, b.Name) })
	return fields
}()

func parseMemorySwap(s string) (int64, error) {
	var m opts.MemSwapBytes
	err := m.Set(s)
	return m.Value(), err
}

// of returns the field in r, to read or to set.
func (f resourceField) of(r *container.Resources) reflect.Value {
	return reflect.ValueOf(f.Ref(r)).Elem()
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
	case f.Unit == container.UnitClass:
		return opts.FormatNetClassID(uint32(v.Uint()))
	case f.Name == "NetPriorities":
		return opts.FormatNetPriorities(r.NetPriorities)
	case v.Kind() == reflect.Slice:
		// Disks, which know how to spell themselves.
		texts := make([]string, v.Len())
		for i := range texts {
			texts[i] = fmt.Sprint(v.Index(i).Interface())
		}
		return strings.Join(texts, ",")
	case f.Name == "NanoCpus":
		return strconv.FormatFloat(float64(v.Int())/1e9, 'f', -1, 64)
	case f.Name == "PidsLimit" && v.Int() <= 0:
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
		names[i] = f.Flag
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
		if f.Fixed || !flags.Changed(f.Flag) && !options.limits.file.has(f.Name) {
			continue
		}
		if f.of(&r).IsZero() {
			return container.Resources{}, nil, keepsError(fmt.Sprintf("--%s=%s", f.Flag, flags.Lookup(f.Flag).Value))
		}
		fields = append(fields, f)
	}
	slices.SortFunc(fields, func(a, b resourceField) int { return strings.Compare(a.Flag, b.Flag) })
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
		if !f.Fixed && f.isSet(r) {
			fields = append(fields, f)
		}
	}
	return fields
}
