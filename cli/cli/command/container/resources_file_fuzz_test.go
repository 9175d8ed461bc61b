// SPDX-License-Identifier: Apache-2.0

package container

import (
	"bytes"
	"encoding/json"
	"testing"
)

// What a file says must survive being written and read again.
func FuzzResourcesFile(f *testing.F) {
	for _, s := range []string{
		"Memory: 512m\n", "GPUMemory: 10240\nGPUPriority: -5\n", `{"CpuShares": 50}`, "NetClassID: 10:1\n", "NetPriorities:\n- {Interface: eth0, Priority: 5}\n",
		"BlkioDeviceReadBps: [{Path: /dev/sda, Rate: 1m}]\n", "BlkioWeightDevice: []\n", "Memory: null\n", "a: &a [*a]\n", "--- 1\n--- 2\n", "? [a]\n: b\n", "Memory: 1\nMemory: 2\n",
		"<<: {Memory: 1}\n", "CpusetCpus: \"0-3\"\n", "NanoCpus: 1.5\n", "GPUMemory: !!int \"7\"\n", "\xff\xfe",
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, update bool) {
		r, fields, err := parseResources(data, update)
		if err != nil {
			if len(fields) != 0 || err.Error() == "" {
				t.Fatalf("%d fields with the error %q", len(fields), err)
			}
			return
		}
		if len(fields) == 0 {
			t.Fatal("no field and no error")
		}
		if len(setUpdatable(&r)) == 0 {
			return // writes only a comment
		}
		var text bytes.Buffer
		if err := writeResources(&text, &r); err != nil {
			t.Fatalf("cannot be written: %v", err)
		}
		again, _, err := parseResources(text.Bytes(), false)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, &text)
		}
		for _, field := range setUpdatable(&r) {
			a, _ := json.Marshal(field.of(&r).Interface())
			b, _ := json.Marshal(field.of(&again).Interface())
			if !bytes.Equal(a, b) {
				t.Fatalf("%s is %s, and %s when read again from\n%s", field.Name, a, b, &text)
			}
		}
	})
}
