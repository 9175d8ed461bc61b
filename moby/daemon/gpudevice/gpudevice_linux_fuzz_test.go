// SPDX-License-Identifier: Apache-2.0

package gpudevice

import (
	"fmt"
	"strings"
	"testing"
)

// Names of drivers and devices are undone exactly, and no line makes a GPU keep more
// than its words say.
func FuzzDevicesFile(f *testing.F) {
	for _, s := range []string{"vgem", "a b", `a\b`, "\t", "", "ä", `\040`} {
		f.Add(uint32(226), uint32(128), s, s, "memory priority")
	}
	escape := strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`)
	f.Fuzz(func(t *testing.T, major, minor uint32, driver, device, words string) {
		if strings.Contains(words, "\n") {
			return
		}
		line := fmt.Sprintf("%d:%d %s %s %s", major, minor, escape.Replace(driver), escape.Replace(device), words)
		all, err := parse([]byte(line + "\n"))
		if err != nil || len(all) != 1 {
			t.Fatalf("%q: %v, %v", line, all, err)
		}
		c := all[0]
		if c.Driver != driver || c.Device != device || c.nodes[0] != (Number{major, minor}) {
			t.Fatalf("%q is read as %+v", line, c)
		}
		if !strings.Contains(words, "memory") && c.Memory || !strings.Contains(words, "priority") && c.Priority {
			t.Fatalf("%q keeps %+v", line, c)
		}
	})
}

// Anything else is read or refused, and does not end dockerd.
func FuzzDevicesText(f *testing.F) {
	f.Add("226:0 vgem platform:vgem memory\n", "c 195:* rw")
	f.Add("226:0\n\n", "c -95:* rw")
	f.Fuzz(func(t *testing.T, text, rule string) {
		_, _ = parse([]byte(text))
		if r, ok := ParseRule(rule); ok && (r.Major < Any || r.Minor < Any) {
			t.Fatalf("%q is read as %+v", rule, r)
		}
	})
}
