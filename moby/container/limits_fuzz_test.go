// SPDX-License-Identifier: Apache-2.0

package container

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	containertypes "github.com/docker/docker/api/types/container"
)

// Bodies of two updates: a field that the second names is the second's, all
// others stay, and neither body is edited.
func FuzzMergeLimits(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"GPUMemory":10240,"GPUPriority":-1}`, `{"BlkioReadLimit":-1,"NetClassID":1048577}`, `{"NetPriorities":[]}`,
		`{"NetPriorities":[{"Interface":"eth0","Priority":5}],"NetEgressRate":8}`, `{"BlkioDeviceReadBps":[{"Path":"/dev/sda","Rate":1}]}`, `{"BlkioWeightDevice":[null]}`,
	} {
		f.Add([]byte(s), []byte(`{"GPUMemory":1,"BlkioDeviceReadBps":[]}`))
		f.Add([]byte(`{"GPUPriority":7,"NetIngressRate":9}`), []byte(s))
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var base, update, was containertypes.Resources
		if json.Unmarshal(first, &base) != nil || json.Unmarshal(second, &update) != nil || json.Unmarshal(first, &was) != nil {
			return
		}
		asked, _ := json.Marshal(update)
		mergeLimits(&base, update)
		if now, _ := json.Marshal(update); !bytes.Equal(now, asked) {
			t.Fatalf("the update was edited: %s, was %s", now, asked)
		}
		for _, f := range containertypes.ResourceFields {
			if f.Kind == "" && f.UpdateKind == "" {
				continue
			}
			field := func(r containertypes.Resources) reflect.Value { return reflect.ValueOf(f.Ref(&r)).Elem() }
			want := field(was)
			if !field(update).IsNil() {
				want = field(update)
			}
			if !reflect.DeepEqual(field(base).Interface(), want.Interface()) {
				t.Fatalf("%s of %s over %s is wrong", f.Name, second, first)
			}
		}
	})
}
