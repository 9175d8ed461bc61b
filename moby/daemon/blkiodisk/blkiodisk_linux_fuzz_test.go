// SPDX-License-Identifier: Apache-2.0

package blkiodisk

import (
	"slices"
	"strings"
	"testing"
)

func FuzzParse(f *testing.F) {
	for _, s := range []string{"8:0", "", ":", "8", "8:", "-1:0", "4294967296:0", "8:0:1", "+8:0", "8:0 rbps=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := Parse(s)
		if err != nil {
			if d != (Disk{}) {
				t.Fatalf("%q: %v with the error %v", s, d, err)
			}
			return
		}
		if again, err := Parse(d.String()); err != nil || again != d {
			t.Fatalf("%q gives %v, which is read as %v, %v", s, d, again, err)
		}
	})
}

// What overlay and mountinfo do to the names of folders must be undone exactly.
func FuzzLayers(f *testing.F) {
	for _, s := range []string{"/a", "/a b", `/a\040b`, "/a:b", `/a\`, `\134`, "/ä,=\n\t", `\\:`, "/x\\:y"} {
		f.Add(s, "/lower")
		f.Add("/lower", s)
	}
	overlay := strings.NewReplacer(`\`, `\\`, ":", `\:`)
	mountinfo := strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`, ",", `\054`)
	f.Fuzz(func(t *testing.T, a, b string) {
		given := []string{a, b}
		line := mountinfo.Replace(overlay.Replace(a) + ":" + overlay.Replace(b))
		var got []string
		for _, part := range splitEscaped(line, ':') {
			got = append(got, unescape(part))
		}
		if !slices.Equal(got, given) {
			t.Fatalf("%q is shown as %q, which gives %q", given, line, got)
		}
	})
}

// Whatever stands there, it does not go wrong.
func FuzzUnescape(f *testing.F) {
	for _, s := range []string{`\`, `\0`, `\04`, `\040`, `\777`, `\\`, `\134040`, `:\:`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := unescape(s); len(got) > len(s) {
			t.Fatalf("%q grows to %q", s, got)
		}
		n := 0
		for _, part := range splitEscaped(s, ':') {
			n += len(part) + 1
		}
		if n > len(s)+1 {
			t.Fatalf("%q: the parts are longer than the whole", s)
		}
	})
}
