// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// measured is a figure as one run of "make bench" left it.
type measured struct {
	Figure string
	On     string // date, commit, machine, load
	Series []series
}

// series has values in the order of the turns: the third of one series was
// taken right beside the third of the others.
type series struct {
	Name   string
	Values []float64
}

type results []measured

func load() (results, error) {
	data, err := os.ReadFile(stored)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var r results
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", stored, err)
	}
	return r, nil
}

// save writes one figure a line, so that a new run is one changed line.
func (r results) save() error {
	b := bytes.NewBufferString("[\n")
	for i, m := range r {
		line, err := json.Marshal(m)
		if err != nil {
			return err
		}
		b.Write(line)
		if i < len(r)-1 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
	}
	b.WriteString("]\n")
	if err := os.MkdirAll(filepath.Dir(stored), 0o755); err != nil {
		return err
	}
	return os.WriteFile(stored, b.Bytes(), 0o644)
}

func (r results) of(figure string) (measured, bool) {
	for _, m := range r {
		if m.Figure == figure {
			return m, true
		}
	}
	return measured{}, false
}

// with replaces a figure, and keeps the order of figures.
func (r results) with(m measured) results {
	out := slices.DeleteFunc(slices.Clone(r), func(o measured) bool { return o.Figure == m.Figure })
	out = append(out, m)
	slices.SortStableFunc(out, func(a, b measured) int { return place(a.Figure) - place(b.Figure) })
	return out
}

func (r results) value(figure, name string, v float64) results {
	i := slices.IndexFunc(r, func(m measured) bool { return m.Figure == figure })
	if i < 0 {
		r, i = append(r, measured{Figure: figure}), len(r)
	}
	m := &r[i]
	j := slices.IndexFunc(m.Series, func(s series) bool { return s.Name == name })
	if j < 0 {
		m.Series, j = append(m.Series, series{Name: name}), len(m.Series)
	}
	m.Series[j].Values = append(m.Series[j].Values, v)
	return r
}

func (m measured) named(name string) (series, bool) {
	for _, s := range m.Series {
		if s.Name == name {
			return s, true
		}
	}
	return series{}, false
}

// spread is what the page tells of a series.
type spread struct {
	n                              int
	least, low, median, high, most float64 // low and high are the quartiles
}

func spreadOf(values []float64) spread {
	v := slices.Sorted(slices.Values(values))
	if len(v) == 0 {
		return spread{}
	}
	return spread{len(v), v[0], quantile(v, 0.25), quantile(v, 0.5), quantile(v, 0.75), v[len(v)-1]}
}

// quantile goes in a straight line between neighbours of sorted values.
func quantile(v []float64, q float64) float64 {
	at := q * float64(len(v)-1)
	i := int(math.Floor(at))
	if i+1 >= len(v) {
		return v[len(v)-1]
	}
	return v[i] + (at-float64(i))*(v[i+1]-v[i])
}

// ratios divides turn by turn, so that a load that comes and goes is in both.
func ratios(s, base series) []float64 {
	var out []float64
	for i := range min(len(s.Values), len(base.Values)) {
		out = append(out, s.Values[i]/base.Values[i])
	}
	return out
}
