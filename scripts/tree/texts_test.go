// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

var testFields = []field{
	{Name: "B", Flag: "b", Kind: "k", Unit: "bytes", Least: 1, Most: 1<<63 - 1, Default: -1, Help: "Bees"},
	{Name: "A", Flag: "a-list", UpdateKind: "k", IsList: true, Help: "As"},
	{Name: "Old", Ignored: true},
	{Name: "C", Flag: "c"},
}

func noFile(string) ([]byte, error) { return nil, errors.New("no such file") }

func TestTexts(t *testing.T) {
	for _, tc := range []struct{ doc, text, old, want, err string }{
		{doc: "after, before, replace", text: "@@ after\none\n@@ put\n1.5\n@@ end\nremark\n@@ before\none\n@@ put\n0.5\n@@ end\n@@ replace\ntwo\n@@ put\n@@ end\n",
			old: "one\ntwo\n", want: "0.5\none\n1.5\n"},
		{doc: "anchors are looked for in what upstream has", text: "@@ after\none\n@@ put\ntwo\n@@ end\n@@ after\ntwo\n@@ put\nthree\n@@ end\n", old: "one\ntwo\n", want: "one\ntwo\ntwo\nthree\n"},
		{doc: "whole lines", text: "@@ after\none\n@@ put\nx\n@@ end\n", old: "one two\nzone\none\n", want: "one two\nzone\none\nx\n"},
		{doc: "no newline at the end", text: "@@ replace\ntwo\n@@ put\n2\n@@ end\n", old: "one\ntwo", want: "one\n2"},
		{doc: "twice", text: "@@ after\none\n@@ put\nx\n@@ end\n", old: "one\none\n", err: "text:1: file: the anchor is there 2 times, must be once:\n  one"},
		{doc: "gone", text: "\n@@ after\none\n@@ put\nx\n@@ end\n", old: "zone\n", err: "text:2: file: the anchor is there 0 times"},
		{doc: "in each other's way", text: "@@ replace\na\nb\n@@ put\nx\n@@ end\n@@ replace\nb\nc\n@@ put\ny\n@@ end\n", old: "a\nb\nc\n", err: "text: two edits of file are in each other's way"},
		{doc: "table", text: "@@ table\nhere\n@@ put\n<%range limits%>| `--<%.Flag%>` | <%.Help%> |\n<%end%>| `-z`, `--aa` | `x\\|y` |\n@@ end\n",
			old:  "| Name | X |\n|:-----|:--|\n| `--x` | |\nhere\n\n| Name | X |\n|:-----|:--|\n| `--a` | é |\n| `--c` | |\n\nmore\n",
			want: "| Name | X |\n|:-----|:--|\n| `--x` | |\nhere\n\n| Name         | X      |\n|:-------------|:-------|\n| `--a`        | é      |\n| `-z`, `--aa` | `x\\|y` |\n| `--b`        | Bees   |\n| `--c`        |        |\n\nmore\n"},
		{doc: "no table", text: "@@ table\nhere\n@@ put\n| a |\n@@ end\n", old: "here\n", err: "no table after the anchor"},
		{doc: "a row of another table", text: "@@ table\nhere\n@@ put\n| a |\n@@ end\n", old: "here\n| A | B |\n|:--|:--|\n", err: "has 1 cells, the table 2"},
		{doc: "lists", text: "@@ file\n@@ put\n<%range updates%><%.Flag%>:<%.Type%> <%end%>\n<%fieldNames%>\n@@ end\n", want: "a-list:list b:bytes \nThe fields are `A`, `B`, and `C`.\n"},
		{doc: "rest", text: "@@ file\n@@ put\n--a-list=\n<%range rest \"--\" \"=\"%><%.Flag%> <%.Range%><%end%>\n@@ end\n", want: "--a-list=\nb At least `1`.\n"},
		{doc: "a column that is not there", text: "@@ file\n@@ put\n<%range limits%><%.Nix%><%end%>\n@@ end\n", err: "text:1: file: template"},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			text, err := parseText("text", "file", []byte(tc.text))
			assert.NilError(t, err)
			got, err := text.apply([]byte(tc.old), testFields, noFile)
			if tc.err != "" {
				assert.Check(t, is.ErrorContains(err, tc.err))
				return
			}
			assert.NilError(t, err)
			assert.Check(t, is.Equal(string(got), tc.want))
		})
	}
	for _, bad := range []string{"", "@@ after\n@@ put\nx\n@@ end\n", "@@ file\nx\n@@ put\n@@ end\n", "@@ put\n", "@@ after\nx\n@@ put\ny\n", "@@ nix\n", "@@ after\nx\n@@ after\n"} {
		_, err := parseText("text", "file", []byte(bad))
		assert.Check(t, err != nil, "%q", bad)
	}
}

func TestFieldsOfTheTable(t *testing.T) {
	src, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(resourceTable)))
	assert.NilError(t, err)
	fields, err := parseFields(src)
	assert.NilError(t, err)
	byName := map[string]field{}
	for _, f := range fields {
		byName[f.Name] = f
	}
	assert.Check(t, is.Equal(len(fields), strings.Count(string(src), "Name: \"")))
	iops := byName["BlkioReadIOpsLimit"]
	assert.Check(t, iops.Least == 2 && iops.Most == 1<<32-2 && iops.Default == -1 && iops.Unit == "operations per second", "%+v", iops)
	rate := byName["NetEgressRate"]
	assert.Check(t, rate.Most == 1e15 && rate.GoType == "int64", "%+v", rate)
	assert.Check(t, byName["NetPriorities"].IsList && byName["CgroupParent"].Fixed)
	assert.Check(t, is.Len(byName["BlkioReadLimit"].Aliases, 2))
}
