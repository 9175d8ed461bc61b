// SPDX-License-Identifier: Apache-2.0

package opts

import (
	"strconv"
	"testing"

	"github.com/docker/docker/api/types/container"
)

var fuzzAmounts = []string{"", "-1", "0", "1", "10240", "1b", "1k", "1.5GiB", "9223372036854775807", "9223372036854775808", "8t", "0x10", "1e3", "+5", " 5", "１", "40mbit", "8bps", "7", "1.0000000000000000000000000000000000000001kibit"}

// fuzzNumber checks what a field takes: an error leaves nothing behind, a value
// is -1 for "-1" alone or in range, plain digits mean what they say, and
// what String gives is read back as the same.
func fuzzNumber(f *testing.F, name string) {
	field := container.ResourceFieldNamed(name)
	for _, s := range fuzzAmounts {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseLimit(field, s)
		if err != nil {
			if n != 0 {
				t.Fatalf("%q: %d with the error %v", s, n, err)
			}
			if err.Error() == "" {
				t.Fatalf("%q: an error without words", s)
			}
			return
		}
		if (n < field.Least || n > field.Most) && (n != -1 || s != "-1") {
			t.Fatalf("%q gives %d", s, n)
		}
		if plain, err := strconv.ParseInt(s, 10, 64); err == nil && plain != n {
			t.Fatalf("%q gives %d", s, n)
		}
		v := NewLimit(field)
		if err := v.Set(s); err != nil {
			t.Fatalf("%q parses, but Set says %v", s, err)
		}
		if again, err := ParseLimit(field, v.String()); err != nil || again != n {
			t.Fatalf("%q gives %d, but its String %q gives %d, %v", s, n, v.String(), again, err)
		}
	})
}

func FuzzGPUMemory(f *testing.F) { fuzzNumber(f, "GPUMemory") }

func FuzzGPUPriority(f *testing.F) {
	for _, s := range []string{"-1024", "1024", "1025"} {
		f.Add(s)
	}
	fuzzNumber(f, "GPUPriority")
}

func FuzzBlkioBps(f *testing.F) { fuzzNumber(f, "BlkioReadLimit") }

func FuzzBlkioIOps(f *testing.F) { fuzzNumber(f, "BlkioReadIOpsLimit") }

func FuzzNetRate(f *testing.F) { fuzzNumber(f, "NetEgressRate") }

func FuzzNetClassID(f *testing.F) {
	for _, s := range []string{"10:1", "10:", ":1", "ffff:ffff", "10000:1", "0xFFFFFFFF", "4294967296", "1:2:3", "+1:1"} {
		f.Add(s)
	}
	fuzzNumber(f, "NetClassID")
}

func FuzzNetPriority(f *testing.F) {
	for _, s := range []string{"", ":", "eth0:5", "eth0:", ":5", "eth0:4294967296", "eth0:0x10", "a:b:5", "..:1", "sixteen-bytes-xx:1", "eth0:-1", "e\x00:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParseNetPriority(s)
		if err != nil {
			if p != (container.NetPriority{}) {
				t.Fatalf("%q: %v with the error %v", s, p, err)
			}
			return
		}
		text := FormatNetPriorities([]container.NetPriority{p})
		if again, err := ParseNetPriority(text); err != nil || again != p {
			t.Fatalf("%q gives %v, its form %q gives %v, %v", s, p, text, again, err)
		}
	})
}
