// SPDX-License-Identifier: Apache-2.0

package opts

import (
	"strconv"
	"testing"

	"github.com/docker/docker/api/types/container"
)

var fuzzAmounts = []string{"", "-1", "0", "1", "10240", "1b", "1k", "1.5GiB", "9223372036854775807", "9223372036854775808", "8t", "0x10", "1e3", "+5", " 5", "１", "40mbit", "8bps", "7", "1.0000000000000000000000000000000000000001kibit"}

// fuzzNumber checks a parser of numbers: an error leaves nothing behind, a value
// is -1 for "-1" alone or from least up, plain digits mean what they say, and
// what String gives is read back as the same.
func fuzzNumber(f *testing.F, parse func(string) (int64, error), set func(string) (string, error), least int64) {
	for _, s := range fuzzAmounts {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parse(s)
		if err != nil {
			if n != 0 {
				t.Fatalf("%q: %d with the error %v", s, n, err)
			}
			if err.Error() == "" {
				t.Fatalf("%q: an error without words", s)
			}
			return
		}
		if n < least && (n != -1 || s != "-1") {
			t.Fatalf("%q gives %d", s, n)
		}
		if plain, err := strconv.ParseInt(s, 10, 64); err == nil && plain != n {
			t.Fatalf("%q gives %d", s, n)
		}
		text, err := set(s)
		if err != nil {
			t.Fatalf("%q parses, but Set says %v", s, err)
		}
		if again, err := parse(text); err != nil || again != n {
			t.Fatalf("%q gives %d, but its String %q gives %d, %v", s, n, text, again, err)
		}
	})
}

func FuzzGPUMemory(f *testing.F) {
	fuzzNumber(f, ParseGPUMemory, func(s string) (string, error) {
		var v GPUMemory
		err := v.Set(s)
		return v.String(), err
	}, 1)
}

func FuzzGPUPriority(f *testing.F) {
	for _, s := range append(fuzzAmounts, "-1024", "1024", "1025") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var p GPUPriority
		if err := p.Set(s); err != nil {
			if p.Value() != nil {
				t.Fatalf("%q: set with the error %v", s, err)
			}
			return
		}
		if v := *p.Value(); v < MinGPUPriority || v > MaxGPUPriority {
			t.Fatalf("%q gives %d", s, v)
		}
		var again GPUPriority
		if err := again.Set(p.String()); err != nil || *again.Value() != *p.Value() {
			t.Fatalf("%q: %q does not read back: %v", s, p.String(), err)
		}
	})
}

func FuzzBlkioBps(f *testing.F) {
	fuzzNumber(f, ParseBlkioBps, func(s string) (string, error) {
		var v BlkioBps
		err := v.Set(s)
		return v.String(), err
	}, minBlkioRate)
}

func FuzzBlkioIOps(f *testing.F) {
	fuzzNumber(f, ParseBlkioIOps, func(s string) (string, error) {
		var v BlkioIOps
		err := v.Set(s)
		return v.String(), err
	}, minBlkioRate)
}

func FuzzNetRate(f *testing.F) {
	fuzzNumber(f, ParseNetRate, func(s string) (string, error) {
		var v NetRate
		err := v.Set(s)
		return v.String(), err
	}, minNetRate)
}

func FuzzNetClassID(f *testing.F) {
	for _, s := range append(fuzzAmounts, "10:1", "10:", ":1", "ffff:ffff", "10000:1", "0xFFFFFFFF", "4294967296", "1:2:3", "+1:1") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseNetClassID(s)
		if err != nil {
			if n != 0 {
				t.Fatalf("%q: %d with the error %v", s, n, err)
			}
			return
		}
		if n < 0 || n > 1<<32-1 {
			t.Fatalf("%q gives %d", s, n)
		}
		if again, err := ParseNetClassID(FormatNetClassID(uint32(n))); err != nil || again != n {
			t.Fatalf("%q gives %d, its form %q gives %d, %v", s, n, FormatNetClassID(uint32(n)), again, err)
		}
	})
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
