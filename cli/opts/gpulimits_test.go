// SPDX-License-Identifier: Apache-2.0

package opts

import (
	"math"
	"strconv"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func TestGPUPriority(t *testing.T) {
	var p GPUPriority
	assert.Check(t, is.Nil(p.Value()))
	assert.Check(t, is.Equal(p.String(), ""))

	for in, want := range map[string]int64{"0": 0, "50": 50, "-0": 0, "-1": -1, "1024": 1024, "-1024": -1024, "007": 7} {
		assert.NilError(t, p.Set(in), in)
		assert.Assert(t, p.Value() != nil, in)
		assert.Check(t, is.Equal(*p.Value(), want), in)
		assert.Check(t, is.Equal(p.String(), strconv.FormatInt(want, 10)), in)
	}

	assert.NilError(t, p.Set("7"))
	for _, in := range []string{"", " ", "abc", "1025", "-1025", "1.5", "1e2", "0x10", "5 ", "10m", "9223372036854775808", "NaN"} {
		assert.Check(t, is.ErrorContains(p.Set(in), "from -1024 to 1024"), in)
		assert.Check(t, is.Equal(*p.Value(), int64(7)), in)
	}
}

func TestGPUMemory(t *testing.T) {
	var m GPUMemory
	assert.Check(t, is.Nil(m.Value()))
	assert.Check(t, is.Equal(m.String(), ""))
	assert.Check(t, !m.LooksLikeMegabytes())

	for _, tc := range []struct {
		in        string
		want      int64
		megabytes bool
	}{
		{in: "10240", want: 10240, megabytes: true},
		{in: "1", want: 1, megabytes: true},
		{in: "1048575", want: 1<<20 - 1, megabytes: true},
		{in: "1048576", want: 1 << 20},
		{in: "10240b", want: 10240},
		{in: "10k", want: 10240},
		{in: "10K", want: 10240},
		{in: "10kb", want: 10240},
		{in: "10KiB", want: 10240},
		{in: "10240m", want: 10 << 30},
		{in: "10g", want: 10 << 30},
		{in: "2t", want: 2 << 40},
		{in: "1.5g", want: 3 << 29},
		{in: "0.5k", want: 512},
		{in: "0.3k", want: 307},
		{in: "-1", want: GPUMemoryUnlimited},
		// Not a multiple of what a float64 can hold.
		{in: "9007199254740993", want: 1<<53 + 1},
		{in: "9223372036854775807", want: math.MaxInt64},
		{in: "8388607t", want: 8388607 << 40},
	} {
		t.Run(tc.in, func(t *testing.T) {
			assert.NilError(t, m.Set(tc.in))
			assert.Assert(t, m.Value() != nil)
			assert.Check(t, is.Equal(*m.Value(), tc.want))
			assert.Check(t, is.Equal(m.String(), strconv.FormatInt(tc.want, 10)))
			assert.Check(t, is.Equal(m.LooksLikeMegabytes(), tc.megabytes))
		})
	}

	assert.NilError(t, m.Set("7"))
	for _, in := range []string{
		"", " ", "0", "00", "0m", "0.0000001k", "-5", "-1k", "-0", "+5", "1q", "1p", "1bb", "1ki", "k", "max", "inf", "NaN",
		"10.5.5m", "1.", ".5g", "1e3", "1e30", "0x10", "1_000", "1 000", "10 m", "10m ", "1,5g",
		"9223372036854775808", "18446744073709551615", "8388608t", strings.Repeat("9", 1000),
	} {
		assert.Check(t, is.ErrorContains(m.Set(in), "1 to 9223372036854775807 bytes"), in)
		assert.Check(t, is.Equal(*m.Value(), int64(7)), in)
	}
}
