// SPDX-License-Identifier: Apache-2.0

package container

import (
	"reflect"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// jsonFields has the index of each field of Resources by its name in JSON.
func jsonFields() map[string]int {
	fields := map[string]int{}
	all := reflect.TypeFor[Resources]()
	for i := range all.NumField() {
		name, _, _ := strings.Cut(all.Field(i).Tag.Get("json"), ",")
		if name == "" {
			name = all.Field(i).Name
		}
		fields[name] = i
	}
	return fields
}

// TestEachFieldHasOneRow walks the struct: a field without a row is known to nobody,
// and would be dropped by an update in silence.
func TestEachFieldHasOneRow(t *testing.T) {
	fields := jsonFields()
	seen := map[string]bool{}
	for _, f := range ResourceFields {
		assert.Check(t, !seen[f.Name], "%s has two rows", f.Name)
		seen[f.Name] = true
		i, ok := fields[f.Name]
		if assert.Check(t, ok, "there is no field %s", f.Name) {
			var r Resources
			at := reflect.ValueOf(&r).Elem().Field(i).Addr().Interface()
			assert.Check(t, f.Ref(&r) == at, "the row %s is for another field", f.Name)
		}
	}
	for name := range fields {
		assert.Check(t, seen[name], "%s has no row in ResourceFields: is it changed by an update, or Fixed?", name)
	}
}

func TestRowsAreComplete(t *testing.T) {
	flags := map[string]string{}
	for _, f := range ResourceFields {
		for _, flag := range append([]string{f.Flag}, f.Aliases...) {
			if f.Ignored {
				assert.Check(t, is.Equal(flag, ""), f.Name)
				continue
			}
			assert.Check(t, flag != "" && flags[flag] == "", "--%s of %s is that of %q", flag, f.Name, flags[flag])
			flags[flag] = f.Name
		}
		ours := f.Kind != "" || f.UpdateKind != ""
		assert.Check(t, is.Equal(f.Help != "", ours), "help of %s", f.Name)
		assert.Check(t, !f.Fixed || !ours && f.Group == "", f.Name)
		if f.IsNumber() {
			assert.Check(t, f.Least < f.Most && f.Unit != UnitPlain, f.Name)
			for n, want := range map[int64]bool{f.Least: true, f.Default: true, f.Least - 1: f.Least-1 == f.Default} {
				assert.Check(t, is.Equal(f.Allows(n), want), "%s %d", f.Name, n)
			}
		}
	}
}

func TestFieldOfEachType(t *testing.T) {
	for name, i := range jsonFields() {
		f := ResourceFieldNamed(name)
		var full, none Resources
		v := reflect.ValueOf(&full).Elem().Field(i)
		switch v.Kind() {
		case reflect.Pointer:
			v.Set(reflect.New(v.Type().Elem()))
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		case reflect.String:
			v.SetString("x")
		case reflect.Int64:
			v.SetInt(7)
		default:
			v.SetUint(7)
		}
		assert.Check(t, f.Named(&full) && !f.Named(&none), name)
		var other Resources
		f.Copy(&other, &full)
		assert.Check(t, is.DeepEqual(other, full), name)
		f.Assign(&none, &other)
		assert.Check(t, is.DeepEqual(none, full), name)

		if f.Kind != "" {
			var undo Resources
			f.Assign(&undo, &Resources{})
			assert.Check(t, f.Named(&undo), "nothing undoes %s", name)
			assert.Check(t, !f.Limits(&undo), "what undoes %s is a limit", name)
			assert.Check(t, f.Check(&undo), name)
		}
	}
}

// The words and what they stand for are a promise to clients.
func TestFieldsOfEachKind(t *testing.T) {
	for kind, want := range map[string][]string{
		"gpu-memory":   {"GPUMemory"},
		"gpu-priority": {"GPUPriority"},
		"blkio-limit":  {"BlkioReadIOpsLimit", "BlkioReadLimit", "BlkioWriteIOpsLimit", "BlkioWriteLimit"},
		"net-class":    {"NetClassID", "NetPriorities"},
		"net-rate":     {"NetEgressRate", "NetIngressRate"},
		"net-pps":      {"NetEgressPPS", "NetIngressPPS"},
	} {
		assert.Check(t, is.DeepEqual(ResourceFieldsOf(kind).Names(), want), kind)
	}
	assert.Check(t, is.Len(ResourceFieldsOf("").Kinds(), 6))
}

// What the kernel or the runtime couples is put back together: a rate of all disks and
// one of a disk go into the same files, a class stands in for a priority.
func TestFieldsOfEachGroup(t *testing.T) {
	got, memory := map[string][]string{}, []string{"Memory", "MemorySwap", "MemoryReservation"}
	if _, ok := reflect.TypeFor[Resources]().FieldByName("KernelMemory"); ok { // Docker 28
		memory = append(memory, "KernelMemory")
	}
	for _, f := range ResourceFields {
		if f.Group != "" {
			got[f.Group] = append(got[f.Group], f.Name)
		}
	}
	for group, want := range map[string][]string{
		"blkio": {
			"BlkioReadLimit", "BlkioWriteLimit", "BlkioReadIOpsLimit", "BlkioWriteIOpsLimit",
			"BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps",
		},
		"net-class": {"NetClassID", "NetPriorities"},
		"memory":    memory,
		"cpu":       {"NanoCpus", "CpuPeriod", "CpuQuota"},
		"cpu-rt":    {"CpuRealtimePeriod", "CpuRealtimeRuntime"},
	} {
		assert.Check(t, is.DeepEqual(got[group], want), group)
		delete(got, group)
	}
	assert.Check(t, is.Len(got, 0))
}
