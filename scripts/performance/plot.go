// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Sizes of a picture, in the units of its viewBox.
const (
	width     = 860
	labels    = 300 // room for the names
	right     = 90  // and for the medians
	top       = 56
	rowHeight = 34
	bottom    = 54
)

// axis maps values to places.
type axis struct {
	from, to float64
	log      bool
	ticks    []float64
}

func (a axis) at(v float64) float64 {
	from, to := a.from, a.to
	if a.log {
		from, to, v = math.Log10(from), math.Log10(to), math.Log10(v)
	}
	return labels + (v-from)/(to-from)*(width-labels-right)
}

// axisFor covers all values with a few round ticks. Times begin at 0, so that
// lengths can be compared; what is around 0 or 1 does not.
func axisFor(values []float64, log, fromZero bool) axis {
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		lo, hi = min(lo, v), max(hi, v)
	}
	if log {
		a := axis{from: math.Pow(10, math.Floor(math.Log10(max(lo, 1e-9)))), to: math.Pow(10, math.Ceil(math.Log10(max(hi, 1e-9)))), log: true}
		if a.from == a.to {
			a.to *= 10
		}
		for t := a.from; t <= a.to*1.001; t *= 10 {
			a.ticks = append(a.ticks, t)
		}
		return a
	}
	if fromZero {
		lo = min(lo, 0)
	}
	if hi-lo < 1e-9 {
		lo, hi = lo-1, hi+1
	}
	step := math.Pow(10, math.Floor(math.Log10((hi-lo)/5)))
	for _, m := range []float64{1, 2, 5, 10} {
		if (hi-lo)/(step*m) <= 7 {
			step *= m
			break
		}
	}
	first, last := math.Floor(lo/step+1e-9), math.Ceil(hi/step-1e-9)
	a := axis{from: first * step, to: last * step}
	for i := first; i <= last; i++ {
		a.ticks = append(a.ticks, i*step)
	}
	return a
}

// plot draws a row for each series.
func (f figure) plot(m measured) []byte {
	var all []float64
	for _, s := range m.Series {
		all = append(all, s.Values...)
	}
	var goals []float64
	switch {
	case f.base != "": // it is for a ratio, which the table has
	case f.goalSide == within:
		goals = []float64{-f.goal, f.goal}
	case f.goalSide != noGoal:
		goals = []float64{f.goal}
	}
	a := axisFor(append(all, goals...), f.log, f.base != "")
	height := top + rowHeight*len(m.Series) + bottom
	floor := float64(height - bottom)
	b := &bytes.Buffer{}
	p := func(format string, args ...any) { fmt.Fprintf(b, format+"\n", args...) }

	var said []string
	for _, s := range m.Series {
		sp := spreadOf(s.Values)
		said = append(said, fmt.Sprintf("%s: median "+f.format+", "+f.format+" to "+f.format, s.Name, sp.median, sp.least, sp.most))
	}
	p(`<?xml version="1.0" encoding="UTF-8"?>`)
	p(`<!-- SPDX-License-Identifier: Apache-2.0 -->`)
	p(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="14" role="img" aria-labelledby="t d">`, width, height)
	p(`<title id="t">%s</title>`, text(f.title))
	p(`<desc id="d">%s; %s</desc>`, text(f.unit), text(strings.Join(said, "; ")))
	p(`<style>.g{stroke:#ddd}.x{text-anchor:middle;font-size:12px;fill:#555}.n{text-anchor:end}.q{fill:#9cc3f0}.d{fill:#1a4f8a;fill-opacity:.45}.m{stroke:#0b2e55;stroke-width:3}.v{font-weight:bold}.goal{stroke:#b02a2a;stroke-dasharray:5 4}.r{fill:#b02a2a;font-size:12px;text-anchor:middle}</style>`)
	p(`<rect width="%d" height="%d" fill="#fff"/>`, width, height)
	p(`<text x="16" y="26" font-size="16" font-weight="bold">%s</text>`, text(f.title))
	for _, t := range a.ticks {
		p(`<line class="g" x1="%.1f" y1="%d" x2="%.1f" y2="%.1f"/>`, a.at(t), top, a.at(t), floor)
		p(`<text class="x" x="%.1f" y="%.1f">%s</text>`, a.at(t), floor+18, text(tick(t)))
	}
	p(`<text class="x" x="%d" y="%.1f">%s</text>`, (labels+width-right)/2, floor+40, text(f.unit))
	for i, s := range m.Series {
		sp := spreadOf(s.Values)
		y := float64(top + rowHeight*i + rowHeight/2)
		p(`<text class="n" x="%d" y="%.1f">%s</text>`, labels-14, y+5, text(s.Name))
		p(`<rect class="q" x="%.1f" y="%.1f" width="%.1f" height="18" rx="2"/>`, a.at(sp.low), y-9, max(a.at(sp.high)-a.at(sp.low), 1))
		for j, v := range s.Values {
			// Apart from each other, the same in each run.
			p(`<circle class="d" cx="%.1f" cy="%.1f" r="3"/>`, a.at(v), y+float64(j*5%11-5))
		}
		p(`<line class="m" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`, a.at(sp.median), y-11, a.at(sp.median), y+11)
		p(`<text class="v" x="%d" y="%.1f">%s</text>`, width-right+14, y+5, text(fmt.Sprintf(f.format, sp.median)))
	}
	for _, g := range goals {
		p(`<line class="goal" x1="%.1f" y1="%d" x2="%.1f" y2="%.1f"/>`, a.at(g), top-6, a.at(g), floor)
		p(`<text class="r" x="%.1f" y="%d">goal %s</text>`, a.at(g), top-10, text(tick(g)))
	}
	p(`</svg>`)
	return b.Bytes()
}

// tick writes a number of the axis without what adding up leaves behind.
func tick(v float64) string {
	return strconv.FormatFloat(math.Round(v*1e6)/1e6, 'f', -1, 64)
}

func text(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s)) // a bytes.Buffer takes all
	return b.String()
}
