// SPDX-License-Identifier: Apache-2.0

package libcontainer

import (
	"bytes"
	"encoding/json"
	"testing"
)

// FuzzJSONMember compares with the json package what is found in a valid file.
func FuzzJSONMember(f *testing.F) {
	for _, seed := range []string{
		`{"id":"x","config":{"a":[1,{"seccomp":2}],"seccomp":{"b":"}\"{","c":[[]]},"d":-1.5e3},"e":true}`,
		` { "config" : { "seccomp" : null } } `,
		`{"config":{"seccomp":"text\\","x":{}}}`,
		`{"config":{"x":"\"seccomp\":1","seccomp":[]}}`,
		`{"config":{"secomp":1}}`, `{"config":[{"seccomp":1}]}`, `{"config":"seccomp"}`, `{}`, `[]`, `7`, ``,
		`{"seccomp":1,"config":{}}`, `{"config":{},"seccomp":1}`, `{"config":{"seccomp":7}`, `{"config":{"seccomp":`,
		`{"config":{"seccomp":{"a\`, `{"config":{"seccomp"`, `{"config`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		from, to := jsonMember(data, "config", "seccomp")
		if from < 0 || to < from || to > len(data) {
			t.Fatalf("%d to %d of %d", from, to, len(data))
		}
		// The json package's own output has each member once, and no escapes
		// in the names in question.
		var object map[string]any
		if json.Unmarshal(data, &object) != nil {
			return // It says so when what is left is decoded.
		}
		data, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		want := json.RawMessage(data)
		for _, name := range []string{"config", "seccomp"} {
			var members map[string]json.RawMessage
			_ = json.Unmarshal(want, &members)
			want = members[name]
		}
		from, to = jsonMember(data, "config", "seccomp")
		if !bytes.Equal(data[from:to], want) {
			t.Fatalf("found %q, want %q in %s", data[from:to], want, data)
		}
	})
}
