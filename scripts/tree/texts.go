// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"unicode/utf8"
)

// A text is a file of ours that says how to write an upstream file anew, or a whole
// one: what is said of the limits comes from their table. It has the file's path below
// the folder that "texts" names, and consists of edits:
//
//	@@ after | before | replace     @@ table            @@ file
//	lines that are there once       a line before it    (no anchor)
//	@@ put                          @@ put              @@ put
//	lines                           rows                lines
//	@@ end                          @@ end              @@ end
//
// Where trains differ, an anchor has alternatives, parted by "@@ or": the one that is there
// once counts, and the line "@@ same FILE" stands for what the first edit in another text
// puts. Lines are templates between <% and %>. Rows are merged into the first Markdown table
// after the anchor by the names of their first cells, and its columns get as wide as they
// must be: so upstream's generator of such pages writes them, too.
type text struct {
	name  string // below the root
	path  string // in the tree
	data  []byte
	edits []textEdit
}

type textEdit struct {
	line         int
	verb         string
	anchor, body string
	others       []string // alternatives to the anchor
}

// resourceTable is the table of limits, as a file of the moby tree.
const resourceTable = "moby/api/types/container/resource_table.go"

// texts reads the texts of a tree, and what they are made of.
func (p *project) texts(r row) (list []*text, fields []field, err error) {
	for _, s := range r.prepare {
		if s.verb != "texts" {
			continue
		}
		base := filepath.Join(p.root, filepath.FromSlash(s.args[0]))
		err := filepath.WalkDir(base, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || editorFile(d.Name()) {
				return err
			}
			rel, err := filepath.Rel(base, name)
			if err != nil {
				return err
			}
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			rel = filepath.ToSlash(rel)
			if data, err = p.withSame(data); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			t, err := parseText(path.Join(s.args[0], rel), rel, data)
			if err != nil {
				return err
			}
			list = append(list, t)
			return nil
		})
		if err != nil {
			return nil, nil, err
		}
		data, err := os.ReadFile(filepath.Join(p.root, filepath.FromSlash(resourceTable)))
		if err != nil {
			return nil, nil, err
		}
		if fields, err = parseFields(data); err != nil {
			return nil, nil, err
		}
	}
	return list, fields, nil
}

// sameLine stands for what the first edit of another text puts, as in another train.
var sameLine = regexp.MustCompile(`(?m)^@@ same (\S+)\n`)

func (p *project) withSame(data []byte) ([]byte, error) {
	var errs []error
	out := sameLine.ReplaceAllFunc(data, func(line []byte) []byte {
		name := string(sameLine.FindSubmatch(line)[1])
		other, err := os.ReadFile(filepath.Join(p.root, filepath.FromSlash(name)))
		if err != nil {
			errs = append(errs, err)
			return nil
		}
		t, err := parseText(name, name, other)
		if err != nil {
			errs = append(errs, err)
			return nil
		}
		return []byte(t.edits[0].body)
	})
	return out, errors.Join(errs...)
}

func parseText(name, in string, data []byte) (*text, error) {
	t := &text{name: name, path: in, data: data}
	var e *textEdit
	inBody := false
	for i, line := range strings.SplitAfter(string(data), "\n") {
		fail := func(what string) (*text, error) { return nil, fmt.Errorf("%s:%d: %s", name, i+1, what) }
		verb, isMark := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "@@ ")
		switch {
		case !isMark && e == nil:
			// Between edits is room for comments.
		case !isMark && inBody:
			e.body += line
		case !isMark:
			e.anchor += line
		case verb == "or" && e != nil && !inBody && e.anchor != "":
			e.others = append(e.others, e.anchor)
			e.anchor = ""
		case verb == "put" && e != nil && !inBody:
			inBody = true
			if (e.anchor == "") != (e.verb == "file") {
				return fail("want an anchor, but for @@ file")
			}
		case verb == "end" && inBody:
			t.edits = append(t.edits, *e)
			e, inBody = nil, false
		case e == nil && slices.Contains([]string{"after", "before", "replace", "table", "file"}, verb):
			e = &textEdit{line: i + 1, verb: verb}
		default:
			return fail("@@ " + verb + " is out of place")
		}
	}
	if e != nil || len(t.edits) == 0 {
		return nil, fmt.Errorf("%s: want edits, each up to @@ end", name)
	}
	return t, nil
}

// isNew tells a whole file from edits of one of upstream's.
func (t *text) isNew() bool { return t.edits[0].verb == "file" }

// apply makes the new contents of a file. read gives other files of upstream's.
func (t *text) apply(old []byte, fields []field, read func(string) ([]byte, error)) ([]byte, error) {
	type cut struct {
		from, to int
		by       string
	}
	var cuts []cut
	was, end := string(old), ""
	if was != "" && !strings.HasSuffix(was, "\n") {
		was, end = was+"\n", "\n" // which is taken off again
	}
	for _, e := range t.edits {
		fail := func(err error) error { return fmt.Errorf("%s:%d: %s: %w", t.name, e.line, t.path, err) }
		body, err := t.fill(e.body, fields, read)
		if err != nil {
			return nil, fail(err)
		}
		if e.verb == "file" {
			was = body
			continue
		}
		// All anchors are looked for in what upstream has.
		places := placesOf(was, e.anchor)
		for _, other := range e.others {
			if len(places) != 1 {
				e.anchor, places = other, placesOf(was, other)
			}
		}
		if len(places) != 1 {
			return nil, fail(fmt.Errorf("the anchor is there %d times, must be once:\n%s", len(places), indent(e.anchor)))
		}
		from, to := places[0], places[0]+len(e.anchor)
		switch e.verb {
		case "after":
			from = to
		case "before":
			to = from
		case "table":
			from = to
			var length int
			if body, length, err = mergeRows(was[from:], body); err != nil {
				return nil, fail(err)
			}
			to = from + length
		}
		cuts = append(cuts, cut{from, to, body})
	}
	slices.SortStableFunc(cuts, func(a, b cut) int { return a.from - b.from })
	var b strings.Builder
	at := 0
	for _, c := range cuts {
		if c.from < at {
			return nil, fmt.Errorf("%s: two edits of %s are in each other's way", t.name, t.path)
		}
		b.WriteString(was[at:c.from] + c.by)
		at = c.to
	}
	b.WriteString(was[at:])
	return []byte(strings.TrimSuffix(b.String(), end)), nil
}

// placesOf returns where whole lines are. Those that follow each other at once count
// each, which strings.Count does not do.
func placesOf(text, lines string) (places []int) {
	for at := 0; at < len(text); {
		if strings.HasPrefix(text[at:], lines) {
			places = append(places, at)
		}
		next := strings.IndexByte(text[at:], '\n')
		if next < 0 {
			break
		}
		at += next + 1
	}
	return places
}

// fill executes a template.
func (t *text) fill(body string, fields []field, read func(string) ([]byte, error)) (string, error) {
	byFlag := func(keep func(field) bool) (out []field) {
		for _, f := range fields {
			if keep(f) {
				out = append(out, f)
			}
		}
		slices.SortFunc(out, func(a, b field) int { return strings.Compare(a.Flag, b.Flag) })
		return out
	}
	tmpl, err := template.New("").Delims("<%", "%>").Funcs(template.FuncMap{
		// The flags of a new container that are ours, and of an update.
		"limits":  func() []field { return byFlag(func(f field) bool { return f.Kind != "" }) },
		"updates": func() []field { return byFlag(func(f field) bool { return f.Kind != "" || f.UpdateKind != "" }) },
		"fields":  func() []field { return fields },
		"ours": func() (out []field) { // in the order of the table
			for _, f := range fields {
				if f.Kind != "" {
					out = append(out, f)
				}
			}
			return out
		},
		"doc": func(margin int, f field) string {
			left := strings.Repeat(" ", margin)
			return left + strings.ReplaceAll(wrap(f.describe(), 78-margin), "\n", "\n"+left)
		},
		"zsh":  func(s string) string { return strings.ReplaceAll(s, ":", `\:`) },
		"join": strings.Join,
		// Those of ours of which the text says nothing else: BEFORE FLAG AFTER is not in it.
		"rest": func(before, after string) []field {
			return byFlag(func(f field) bool {
				return f.Kind != "" && !bytes.Contains(t.data, []byte(before+f.Flag+after))
			})
		},
		// A flag in the first cell of a page's table; it is a link to the section about it.
		"flag": func(name string) string {
			if bytes.Contains(t.data, fmt.Appendf(nil, `<a name="%s"></a>`, name)) {
				return fmt.Sprintf("[`--%s`](#%s)", name, name)
			}
			return "`--" + name + "`"
		},
		// The fields that a file with resources can have.
		"fieldNames": func() (string, error) {
			var names []string
			for _, f := range fields {
				if !f.Ignored {
					names = append(names, f.Name)
				}
			}
			slices.Sort(names)
			if len(names) < 2 {
				return "", errors.New("a list of fewer than two fields")
			}
			last := len(names) - 1
			return wrap("The fields are `"+strings.Join(names[:last], "`, `")+"`, and `"+names[last]+"`.", 80), nil
		},
		// The rows of the first table in a page of upstream's, but for one.
		"rowsOf": func(name, but string) (string, error) {
			data, err := read(name)
			if err != nil {
				return "", err
			}
			_, _, rows, _, err := findTable(string(data))
			rows = slices.DeleteFunc(rows, func(r []string) bool { return rowKey(r) == but })
			return formatRows(rows, nil), err
		},
	}).Parse(body)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	err = tmpl.Execute(&b, nil)
	return b.String(), err
}

// wrap breaks a text into lines.
func wrap(text string, width int) string {
	var b strings.Builder
	at := 0
	for i, word := range strings.Fields(text) {
		switch {
		case i > 0 && at+1+len(word) > width:
			b.WriteByte('\n')
			at = 0
		case i > 0:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += len(word)
	}
	return b.String()
}

// findTable takes the first Markdown table apart: what is before and behind it, its
// rows without the line below the head.
func findTable(s string) (before string, head []string, rows [][]string, after string, err error) {
	lines := strings.SplitAfter(s, "\n")
	first := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "| ") })
	if first < 0 || first+1 >= len(lines) || !strings.HasPrefix(lines[first+1], "|:") {
		return "", nil, nil, "", errors.New("no table after the anchor")
	}
	i := first
	for ; i < len(lines) && strings.HasPrefix(lines[i], "|"); i++ {
		if i != first+1 {
			rows = append(rows, cells(lines[i]))
		}
	}
	return strings.Join(lines[:first], ""), rows[0], rows[1:], strings.Join(lines[i:], ""), nil
}

// cells splits a row at the bars that are not escaped.
func cells(line string) (out []string) {
	line = strings.TrimSuffix(strings.TrimSpace(line), "|")
	cell := ""
	for i := 1; i < len(line); i++ {
		if line[i] == '|' && line[i-1] != '\\' {
			out = append(out, strings.TrimSpace(cell))
			cell = ""
			continue
		}
		cell += line[i : i+1]
	}
	return append(out, strings.TrimSpace(cell))
}

// rowKey is the last name in the first cell: that of a flag with its short form before.
func rowKey(row []string) string {
	key := row[0]
	if parts := strings.Split(key, "`"); len(parts) > 2 {
		key = parts[len(parts)-2]
	}
	return strings.TrimLeft(key, "-")
}

// mergeRows merges rows into the first table of s, and returns that with what is before
// it, and how long it was.
func mergeRows(s, more string) (_ string, length int, _ error) {
	before, head, rows, after, err := findTable(s)
	if err != nil {
		return "", 0, err
	}
	for _, line := range strings.Split(more, "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		row := cells(line)
		if len(row) != len(head) {
			return "", 0, fmt.Errorf("the row %q has %d cells, the table %d", line, len(row), len(head))
		}
		at := slices.IndexFunc(rows, func(r []string) bool { return rowKey(r) >= rowKey(row) })
		switch {
		case at < 0:
			at = len(rows)
		case rowKey(rows[at]) == rowKey(row): // ours is in place of it
			rows = slices.Delete(rows, at, at+1)
		}
		rows = slices.Insert(rows, at, row)
	}
	return before + formatRows(rows, head), len(s) - len(after), nil
}

func formatRows(rows [][]string, head []string) string {
	if head != nil {
		rows = slices.Concat([][]string{head}, rows)
	}
	width := map[int]int{}
	for _, r := range rows {
		for i, c := range r {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	for n, r := range rows {
		for i, c := range r {
			fmt.Fprintf(&b, "| %s%s ", c, strings.Repeat(" ", width[i]-utf8.RuneCountInString(c)))
		}
		b.WriteString("|\n")
		if n == 0 && head != nil {
			for i := range r {
				b.WriteString("|:" + strings.Repeat("-", width[i]+1))
			}
			b.WriteString("|\n")
		}
	}
	return b.String()
}

// field is a row of the table of limits, as far as texts need it.
type field struct {
	Name, Flag, Kind, UpdateKind, Group, Unit, Help, Doc string
	Fixed, Ignored                                       bool
	Least, Most, Default                                 int64
	Aliases, Values                                      []string
	IsList                                               bool
	GoType, Elem                                         string
}

// parseFields reads the rows from their source: to import it, the tree would have to
// be there. Constants are as the compiler has them.
func parseFields(src []byte) (fields []field, err error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, resourceTable, src, 0)
	if err != nil {
		return nil, err
	}
	consts := types.NewPackage("table", "table")
	consts.Scope().Insert(types.NewConst(token.NoPos, consts, "MaxInt64", types.Typ[types.UntypedInt], constant.MakeInt64(1<<63-1)))
	consts.Scope().Insert(types.NewConst(token.NoPos, consts, "MaxUint32", types.Typ[types.UntypedInt], constant.MakeInt64(1<<32-1)))
	eval := func(e ast.Expr) (constant.Value, error) {
		from, to := set.Position(e.Pos()).Offset, set.Position(e.End()).Offset
		v, err := types.Eval(token.NewFileSet(), consts, token.NoPos, strings.ReplaceAll(string(src[from:to]), "math.", ""))
		if err != nil || v.Value == nil {
			return nil, fmt.Errorf("%s: %s is no constant: %v", set.Position(e.Pos()), src[from:to], err)
		}
		return v.Value, nil
	}
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST && g.Tok != token.VAR {
			continue
		}
		for _, s := range g.Specs {
			v, ok := s.(*ast.ValueSpec)
			if !ok || len(v.Values) != 1 {
				continue
			}
			if g.Tok == token.CONST {
				value, err := eval(v.Values[0])
				if err != nil {
					return nil, err
				}
				consts.Scope().Insert(types.NewConst(token.NoPos, consts, v.Names[0].Name, types.Default(untyped(value)), value))
				continue
			}
			list, ok := v.Values[0].(*ast.CompositeLit)
			if !ok || v.Names[0].Name != "ResourceFields" {
				continue
			}
			for _, e := range list.Elts {
				f, err := parseField(e.(*ast.CompositeLit), eval)
				if err != nil {
					return nil, err
				}
				fields = append(fields, f)
			}
		}
	}
	if len(fields) == 0 {
		return nil, fmt.Errorf("%s: no rows of ResourceFields", resourceTable)
	}
	return fields, nil
}

func untyped(v constant.Value) types.Type {
	switch v.Kind() {
	case constant.String:
		return types.Typ[types.UntypedString]
	case constant.Float:
		return types.Typ[types.UntypedFloat]
	default:
		return types.Typ[types.UntypedInt]
	}
}

func parseField(lit *ast.CompositeLit, eval func(ast.Expr) (constant.Value, error)) (f field, err error) {
	strs := map[string]*string{"Name": &f.Name, "Flag": &f.Flag, "Kind": &f.Kind, "UpdateKind": &f.UpdateKind, "Group": &f.Group, "Unit": &f.Unit, "Help": &f.Help, "Doc": &f.Doc}
	nums := map[string]*int64{"Least": &f.Least, "Most": &f.Most, "Default": &f.Default}
	bools := map[string]*bool{"Fixed": &f.Fixed, "Ignored": &f.Ignored}
	lists := map[string]*[]string{"Aliases": &f.Aliases, "Values": &f.Values}
	for _, e := range lit.Elts {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok {
			return f, fmt.Errorf("%s: a row without names", resourceTable)
		}
		key := kv.Key.(*ast.Ident).Name
		if to, ok := lists[key]; ok {
			for _, item := range kv.Value.(*ast.CompositeLit).Elts {
				v, err := eval(item)
				if err != nil {
					return f, err
				}
				*to = append(*to, constant.StringVal(v))
			}
			continue
		}
		if key == "at" {
			call, ok := kv.Value.(*ast.CallExpr)
			if !ok {
				return f, fmt.Errorf("%s: %s: at must be a call", resourceTable, f.Name)
			}
			f.IsList = call.Fun.(*ast.Ident).Name == "list"
			if fn, ok := call.Args[0].(*ast.FuncLit); ok {
				f.GoType = strings.TrimLeft(types.ExprString(fn.Type.Results.List[0].Type), "*")
				f.Elem = strings.TrimPrefix(f.GoType, "[]")
			}
			continue
		}
		v, err := eval(kv.Value)
		if err != nil {
			return f, err
		}
		switch {
		case strs[key] != nil:
			*strs[key] = constant.StringVal(v)
		case bools[key] != nil:
			*bools[key] = constant.BoolVal(v)
		case nums[key] != nil:
			n, ok := constant.Int64Val(constant.ToInt(v))
			if !ok {
				return f, fmt.Errorf("%s: %s of %s is no number", resourceTable, key, f.Name)
			}
			*nums[key] = n
		default:
			return f, fmt.Errorf("%s: %s: texts do not know the column %s", resourceTable, f.Name, key)
		}
	}
	return f, nil
}

// IsNumber is as in the table's own package.
func (f field) IsNumber() bool { return f.Kind != "" && f.Most != f.Least }

// Type is what the flag calls its value; the docs suite compares.
func (f field) Type() string {
	switch {
	case f.IsList:
		return "list"
	case f.Unit == "bytes" || f.Unit == "bytes per second":
		return "bytes"
	case f.Unit == "bits per second":
		return "rate"
	case f.Unit == "class":
		return "classid"
	default:
		return "int"
	}
}

// Arg is what a synopsis calls the value.
func (f field) Arg() string {
	switch {
	case f.IsList:
		return "[]"
	case f.Unit == "class":
		return "CLASS"
	case f.Unit == "priority":
		return "PRIORITY"
	case f.Unit == "bytes":
		return "LIMIT"
	default:
		return "RATE"
	}
}

// describe is what the reference of the API says of a field of ours.
func (f field) describe() string {
	words := []string{f.Doc}
	if f.IsNumber() && f.Unit != "class" {
		words = append(words, f.Range())
	}
	switch {
	case f.IsList:
		words = append(words, "Set `[]` for none, or `null` to not change.")
	case f.Default < 0:
		words = append(words, fmt.Sprintf("Set `%d` for unlimited, or `null` to not change.", f.Default))
	case f.Unit == "class":
		words = append(words, fmt.Sprintf("Set `%d` for none, or `null` to not change.", f.Default))
	default:
		words = append(words, fmt.Sprintf("Set `%d` for the default, or `null` to not change.", f.Default))
	}
	return strings.Join(append(words, "Refused if it cannot be enforced."), " ")
}

// Minimum is the least number that a request may have, "" if it is not a number.
func (f field) Minimum() string {
	if !f.IsNumber() {
		return ""
	}
	return strconv.FormatInt(min(f.Least, f.Default), 10)
}

// Maximum is the most, "" if the type has it.
func (f field) Maximum() string {
	if !f.IsNumber() || f.Most == 1<<63-1 {
		return ""
	}
	return strconv.FormatInt(f.Most, 10)
}

// Range puts the range into words, in Markdown.
func (f field) Range() string {
	if f.Most == 1<<63-1 {
		return fmt.Sprintf("At least `%d`.", f.Least)
	}
	return fmt.Sprintf("`%d` to `%d`.", f.Least, f.Most)
}
