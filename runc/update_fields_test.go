// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// fixedFields are those of cgroups.Resources that "runc update" does not change, and
// why they may be left out.
var fixedFields = map[string]string{
	"Devices":          "dockerd sends none in an update",
	"SkipDevices":      "how to apply, not what",
	"SkipFreezeOnSet":  "how to apply, not what",
	"Freezer":          "runc pause",
	"HugetlbLimit":     "no option of runc update",
	"OomKillDisable":   "no option of runc update",
	"MemorySwappiness": "no option of runc update",
	"Rdma":             "no option of runc update",
}

// TestUpdateCopiesEachField walks the resources: one that no part of an update copies,
// and that is not fixed, would be stored and never reach the kernel.
func TestUpdateCopiesEachField(t *testing.T) {
	var named specs.LinuxResources
	body := `{
		"memory": {"limit": 1, "swap": 1, "reservation": 1},
		"cpu": {"shares": 1, "idle": 1, "period": 1, "quota": 1, "burst": 1, "realtimePeriod": 1, "realtimeRuntime": 1, "cpus": "0", "mems": "0"},
		"pids": {"limit": 1},
		"blockIO": {
			"weight": 1, "leafWeight": 1, "weightDevice": [{"major": 1, "minor": 2}],
			"throttleReadBpsDevice": [{"major": 1, "minor": 2}], "throttleWriteBpsDevice": [{"major": 1, "minor": 2}],
			"throttleReadIOPSDevice": [{"major": 1, "minor": 2}], "throttleWriteIOPSDevice": [{"major": 1, "minor": 2}]
		},
		"network": {"classID": 1, "priorities": [{"name": "eth0", "priority": 1}]},
		"unified": {"gpu.priority": "1", "gpu.memory.max": "1"}
	}`
	if err := json.Unmarshal([]byte(body), &named); err != nil {
		t.Fatal(err)
	}
	full := &cgroups.Resources{}
	fillFields(reflect.ValueOf(full).Elem())
	full.NetClsClassid = 0 // what NetClsClear comes of
	full.Unified = named.Unified
	full.NetPrioIfpriomap[0].Interface = "eth0"
	for _, list := range throttles(full) {
		*list = []*cgroups.ThrottleDevice{cgroups.NewThrottleDevice(1, 2, 7)}
	}
	full.BlkioWeightDevice = []*cgroups.WeightDevice{cgroups.NewWeightDevice(1, 2, 7, 7)}

	copied := map[string]bool{}
	copyAll := func() {
		for _, v2 := range []bool{false, true} {
			dst := &cgroups.Resources{}
			for _, p := range namedParts(&named, full, v2, func(string, string) string { return "0" }) {
				p(dst, full)
			}
			eachField(reflect.ValueOf(dst).Elem(), func(name string, v reflect.Value) { copied[name] = copied[name] || !v.IsZero() })
		}
	}
	copyAll()
	full.NetClsClassid = 7
	copyAll()
	seen := map[string]bool{}
	eachField(reflect.ValueOf(full).Elem(), func(name string, _ reflect.Value) {
		seen[name] = true
		if fixed := fixedFields[name] != ""; copied[name] == fixed {
			t.Errorf("%s: copied by an update is %v, fixed is %v", name, copied[name], fixed)
		}
	})
	for name := range fixedFields {
		if !seen[name] {
			t.Errorf("there is no field %s", name)
		}
	}
}

func eachField(v reflect.Value, each func(name string, v reflect.Value)) {
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.Anonymous {
			eachField(v.Field(i), each)
		} else {
			each(f.Name, v.Field(i))
		}
	}
}

// fillFields gives all fields a value that is not their zero.
func fillFields(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fillFields(v.Field(i))
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillFields(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fillFields(v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
	case reflect.String:
		v.SetString("7")
	case reflect.Bool:
		v.SetBool(true)
	default:
		if v.CanInt() {
			v.SetInt(7)
		} else if v.CanUint() {
			v.SetUint(7)
		}
	}
}
