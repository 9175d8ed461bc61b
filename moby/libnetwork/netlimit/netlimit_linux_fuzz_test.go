// SPDX-License-Identifier: Apache-2.0

package netlimit

import (
	"testing"
)

func FuzzShape(f *testing.F) {
	for _, bits := range []int64{0, 7, 8, 1000, 20e6, 1 << 40, 1<<63 - 1} {
		f.Add(bits, 1500)
		f.Add(bits, 65536)
	}
	f.Fuzz(func(t *testing.T, bits int64, mtu int) {
		if mtu < 68 || mtu > 65536 || bits < 0 {
			return
		}
		s, err := shapeFor(bits, mtu)
		if (err == nil) != (bits >= MinRate(mtu)) {
			t.Fatalf("%d bit/s at MTU %d: %v, the least is %d", bits, mtu, err, MinRate(mtu))
		}
		if err == nil && (s.rate != uint64(bits)/8 || uint64(s.burst) < uint64(mtu) || s.limit < s.burst) {
			t.Fatalf("%d bit/s at MTU %d: %+v", bits, mtu, s)
		}
	})
}
