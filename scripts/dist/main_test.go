// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

func TestKind(t *testing.T) {
	for text, want := range map[string]string{
		"                                 Apache License\n                           Version 2.0, January 2004": "Apache-2.0",
		"Permission is hereby granted, free of charge, to any person":                                           "MIT",
		"Redistributions in binary form must reproduce ... may be used to endorse\n// or promote products":      "BSD-2-Clause",
		"Redistributions in binary form must reproduce ... may be used to endorse or\npromote products":         "BSD-3-Clause",
		"Mozilla Public License, version 2.0":                                                                   "MPL-2.0",
		"All rights reserved.":                                                                                  "",
	} {
		assert.Equal(t, kind(text), want, text)
	}
}

// The test's own program is as good as any.
func TestSBOM(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	self, err := os.Executable()
	assert.NilError(t, err)
	var a, b bytes.Buffer
	assert.NilError(t, sbom(&a, []string{self}))
	assert.NilError(t, sbom(&b, []string{self}))
	assert.Equal(t, a.String(), b.String())
	var doc struct {
		BOMFormat  string `json:"bomFormat"`
		Components []struct {
			Ref  string `json:"bom-ref"`
			Purl string `json:"purl"`
		}
		Dependencies []struct {
			Ref       string
			DependsOn []string
		}
		Metadata struct{ Timestamp string }
	}
	assert.NilError(t, json.Unmarshal(a.Bytes(), &doc))
	assert.Equal(t, doc.BOMFormat, "CycloneDX")
	assert.Equal(t, doc.Metadata.Timestamp, "2023-11-14T22:13:20Z")
	refs := map[string]bool{}
	for _, c := range doc.Components {
		assert.Assert(t, !refs[c.Ref], "%s twice", c.Ref)
		refs[c.Ref] = true
	}
	assert.Equal(t, len(doc.Dependencies), 1)
	found := false
	for _, on := range doc.Dependencies[0].DependsOn {
		assert.Assert(t, refs[on], "%s is used, but no component", on)
		found = found || strings.HasPrefix(on, "pkg:golang/github.com/spf13/cobra@v")
	}
	assert.Assert(t, found, "what is linked is not in it: %v", doc.Dependencies)

	t.Setenv("SOURCE_DATE_EPOCH", "")
	assert.ErrorContains(t, sbom(&a, []string{self}), "SOURCE_DATE_EPOCH")
	assert.ErrorContains(t, licenses(&a, []string{"main.go"}), "main.go")
}
