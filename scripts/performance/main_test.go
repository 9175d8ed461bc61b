// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

func TestParseTakesOnlyWholeLines(t *testing.T) {
	r, err := parse(strings.NewReader("words\nbench,run,upstream's,1.5\n  bench,run,upstream's,2\nbench,gem,time, 1 thread,0.99\n"))
	assert.NilError(t, err)
	m, ok := r.of("run")
	assert.Assert(t, ok)
	assert.DeepEqual(t, m.Series, []series{{"upstream's", []float64{1.5, 2}}})
	m, ok = r.of("gem")
	assert.Assert(t, ok)
	assert.DeepEqual(t, m.Series, []series{{"time, 1 thread", []float64{0.99}}})
	for _, bad := range []string{"bench,run,x", "bench,run,x,y", "bench,unknown,x,1", "bench,run,,1"} {
		_, err := parse(strings.NewReader(bad))
		assert.Assert(t, err != nil, bad)
	}
}

func TestANewRunReplacesOnlyItsFigure(t *testing.T) {
	r := results{{Figure: "run", On: "then"}, {Figure: "gem", On: "then"}}
	r = r.with(measured{Figure: "run", On: "now"}).with(measured{Figure: "net", On: "now"})
	var got []string
	for _, m := range r {
		got = append(got, m.Figure+" "+m.On)
	}
	assert.DeepEqual(t, got, []string{"run now", "net now", "gem then"})
}

func TestSpread(t *testing.T) {
	assert.Equal(t, spreadOf([]float64{4, 1, 3, 2, 5}), spread{5, 1, 2, 3, 4, 5})
	assert.Equal(t, spreadOf([]float64{1, 2}), spread{2, 1, 1.25, 1.5, 1.75, 2})
	assert.Equal(t, spreadOf([]float64{7}), spread{1, 7, 7, 7, 7, 7})
	// Turn by turn: the load of the second turn is in both.
	assert.DeepEqual(t, ratios(series{Values: []float64{2, 20}}, series{Values: []float64{1, 10, 5}}), []float64{2, 2})
}

func sample(figure string, mine float64) measured {
	return measured{figure, "then and there", []series{{stock, []float64{1, 2, 3}}, {"ours, all limits", []float64{mine, 2 * mine, 3 * mine}}}}
}

func TestThePageSaysWhetherTheGoalIsReached(t *testing.T) {
	f, _ := figureOf("run")
	assert.Assert(t, strings.HasSuffix(f.verdict(sample("run", 1.02)), "; reached."), f.verdict(sample("run", 1.02)))
	assert.Assert(t, strings.Contains(f.verdict(sample("run", 1.03)), "**not reached** (ours, all limits: 1.030)"), f.verdict(sample("run", 1.03)))
	assert.Assert(t, strings.HasSuffix(f.verdict(measured{}), "; not measured."))

	text := string(writePage(results{sample("run", 1.03)}))
	for _, want := range []string{"| upstream's | 2.000 | 1.500 to 2.500 | 1.000 to 3.000 | 3 | 1 |  |", "| 3 | 1.030 | 1.030 to 1.030 |", "(performance/run.svg)", "then and there."} {
		assert.Assert(t, strings.Contains(text, want), "no %q in\n%s", want, text)
	}
	assert.Equal(t, strings.Count(text, "Not measured yet."), len(figures)-1)

	net, _ := figureOf("net")
	off := func(v float64) measured { return measured{Series: []series{{"8 Mbit/s out", []float64{v}}}} }
	assert.Assert(t, strings.HasSuffix(net.verdict(off(-2.9)), "; reached."))
	assert.Assert(t, strings.Contains(net.verdict(off(-3.1)), "**not reached**"))
	gem, _ := figureOf("gem")
	assert.Assert(t, strings.Contains(gem.verdict(off(0.97)), "**not reached**"))
}

func TestPictures(t *testing.T) {
	for _, f := range figures {
		m := sample(f.id, 1.5)
		m.Series[0].Name = "a < b & c"
		svg := string(f.plot(m))
		dec := xml.NewDecoder(strings.NewReader(svg))
		for {
			_, err := dec.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			assert.NilError(t, err, f.id)
		}
		assert.Equal(t, strings.Count(svg, "<circle"), 6, f.id)
		assert.Equal(t, strings.Count(svg, `class="m"`), 2, f.id)
		assert.Assert(t, strings.Contains(svg, "a &lt; b &amp; c"), f.id)
	}
}

func TestAxis(t *testing.T) {
	for _, tc := range []struct {
		values        []float64
		log, fromZero bool
		ticks         []float64
	}{
		{[]float64{0.31, 0.47}, false, true, []float64{0, 0.1, 0.2, 0.3, 0.4, 0.5}},
		{[]float64{-3, 3}, false, false, []float64{-3, -2, -1, 0, 1, 2, 3}},
		{[]float64{5, 5}, false, false, []float64{4, 4.5, 5, 5.5, 6}},
		{[]float64{0.02, 40}, true, false, []float64{0.01, 0.1, 1, 10, 100}},
		{[]float64{1}, true, false, []float64{1, 10}},
	} {
		a := axisFor(tc.values, tc.log, tc.fromZero)
		var got, want []string
		for _, v := range a.ticks {
			got = append(got, tick(v))
		}
		for _, v := range tc.ticks {
			want = append(want, tick(v))
		}
		assert.DeepEqual(t, got, want)
		for _, v := range tc.values {
			assert.Assert(t, a.at(v) >= labels && a.at(v) <= width-right, "%g at %g", v, a.at(v))
		}
	}
}
