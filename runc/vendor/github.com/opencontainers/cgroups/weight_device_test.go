// SPDX-License-Identifier: Apache-2.0

package cgroups

import "testing"

// The kernel's bfq answers ERANGE to a weight of 0.
func TestWeightStringTakesAWeightOff(t *testing.T) {
	for weight, want := range map[uint16]string{0: "8:16 default", 1: "8:16 1", 1000: "8:16 1000"} {
		if got := NewWeightDevice(8, 16, weight, 0).WeightString(); got != want {
			t.Errorf("weight %d: %q, want %q", weight, got, want)
		}
	}
}
