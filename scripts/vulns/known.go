// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// known is a row of the list: vulnerabilities that stay for one reason. Each of its
// ids must be found in one of its programs, until a day.
type known struct {
	line     int
	ids      []string
	programs []string
	until    time.Time
	why      string
	tried    string // What came of the version that mends it, "" if none is released.
}

// readKnown reads the list. A row is a paragraph of lines "name: value"; a line that
// begins with a space goes on with the value before it, one with # is a comment.
func readKnown(file string) ([]known, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var (
		rows  []known
		row   map[string]string
		start int
		last  string
	)
	fail := func(line int, what string) error { return fmt.Errorf("%s:%d: %s", file, line, what) }
	end := func() error {
		if row == nil {
			return nil
		}
		k := known{line: start, ids: strings.Fields(row["ids"]), programs: strings.Fields(row["programs"]), why: row["why"], tried: row["tried"]}
		for _, name := range []string{"ids", "programs", "until", "why"} {
			if row[name] == "" {
				return fail(start, "the row has no "+name)
			}
		}
		var err error
		if k.until, err = time.Parse(time.DateOnly, row["until"]); err != nil {
			return fail(start, err.Error())
		}
		rows, row = append(rows, k), nil
		return nil
	}
	for i, line := range strings.Split(string(data)+"\n", "\n") {
		name, value, ok := strings.Cut(line, ":")
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.TrimSpace(line) == "":
			if err := end(); err != nil {
				return nil, err
			}
		case strings.HasPrefix(line, " ") && row != nil:
			row[last] += " " + strings.TrimSpace(line)
		case ok && slices.Contains([]string{"ids", "programs", "until", "why", "tried"}, name):
			if row == nil {
				row, start = map[string]string{}, i+1
			}
			row[name], last = strings.TrimSpace(value), name
		default:
			return nil, fail(i+1, "neither name: value nor the rest of one")
		}
	}
	return rows, nil
}

// compare returns what is wrong with the list, for what was found on a day.
func compare(found []finding, rows []known, day time.Time) []string {
	var faults []string
	seen := map[string]bool{} // "row id"
	for _, f := range found {
		i := slices.IndexFunc(rows, func(k known) bool {
			return slices.Contains(k.ids, f.id) && slices.Contains(k.programs, f.program)
		})
		mended := "no released version mends it"
		if f.fixed != "" {
			mended = f.fixed + " mends it"
		}
		what := fmt.Sprintf("%s in %s: %s %s (%s), %s", f.id, f.program, f.module, f.version, f.reach, mended)
		switch {
		case i < 0:
			faults = append(faults, what)
		case f.fixed != "" && rows[i].tried == "":
			faults = append(faults, what+": the row does not say what came of trying it")
		}
		if i >= 0 {
			seen[fmt.Sprint(i, f.id)], seen[fmt.Sprint(i, f.program)] = true, true
		}
	}
	for i, k := range rows {
		for _, name := range slices.Concat(k.ids, k.programs) {
			if !seen[fmt.Sprint(i, name)] {
				faults = append(faults, fmt.Sprintf("line %d: %s is not found any more", k.line, name))
			}
		}
		if !day.Before(k.until.AddDate(0, 0, 1)) {
			faults = append(faults, fmt.Sprintf("line %d: known until %s: look again", k.line, k.until.Format(time.DateOnly)))
		}
	}
	return faults
}

func sortFindings(list []finding) {
	slices.SortFunc(list, func(a, b finding) int {
		return cmp.Or(cmp.Compare(a.reach, b.reach), cmp.Compare(a.module, b.module), cmp.Compare(a.id, b.id))
	})
}

// table is what the document says.
func (c *checker) table(found []finding) (string, error) {
	type row struct {
		f        finding
		programs []string
	}
	var rows []*row
	for _, f := range found {
		i := slices.IndexFunc(rows, func(r *row) bool { return r.f.id == f.id && r.f.module == f.module })
		if i < 0 {
			rows, i = append(rows, &row{f: f}), len(rows)
		}
		rows[i].f.reach = min(rows[i].f.reach, f.reach)
		rows[i].programs = append(rows[i].programs, f.program)
	}
	if len(rows) == 0 {
		return "None.\n", nil
	}
	slices.SortStableFunc(rows, func(a, b *row) int {
		return cmp.Or(cmp.Compare(a.f.reach, b.f.reach), cmp.Compare(a.f.module, b.f.module), cmp.Compare(a.f.id, b.f.id))
	})
	var b strings.Builder
	fmt.Fprintln(&b, "| id | what | in | module | mended in | why it stays | until |")
	fmt.Fprintln(&b, "|---|---|---|---|---|---|---|")
	for _, r := range rows {
		e, err := c.entry(r.f.id)
		if err != nil {
			return "", err
		}
		id := r.f.id
		if cve := e.cve(); cve != "" {
			id += " " + cve
		}
		why, until := "**not listed**", ""
		for _, k := range c.known {
			if slices.Contains(k.ids, r.f.id) && slices.Contains(k.programs, r.programs[0]) {
				why, until = k.why, k.until.Format(time.DateOnly)
				if k.tried != "" {
					why += " Tried: " + k.tried
				}
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s (%s) | %s %s | %s | %s | %s |\n", id, strings.ReplaceAll(e.Summary, "|", "\\|"),
			strings.Join(r.programs, ", "), r.f.reach, r.f.module, r.f.version, cmp.Or(r.f.fixed, "–"), why, until)
	}
	return b.String(), nil
}
