// SPDX-License-Identifier: Apache-2.0

package types

import (
	"net/http"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func TestParseResourceFeatures(t *testing.T) {
	for _, tc := range []struct {
		doc    string
		header http.Header
		exp    ResourceFeatures
	}{
		{doc: "no header", header: http.Header{"Ostype": {"linux"}}},
		{doc: "nil header"},
		{doc: "empty", header: http.Header{ResourceFeaturesHeader: {""}}, exp: ResourceFeatures{Known: true}},
		{doc: "one", header: http.Header{ResourceFeaturesHeader: {"gpu"}}, exp: ResourceFeatures{Known: true, Names: []string{"gpu"}}},
		{doc: "blanks and gaps", header: http.Header{ResourceFeaturesHeader: {" gpu , ,net-rate,"}}, exp: ResourceFeatures{Known: true, Names: []string{"gpu", "net-rate"}}},
		{doc: "two headers", header: http.Header{ResourceFeaturesHeader: {"gpu", "net-rate"}}, exp: ResourceFeatures{Known: true, Names: []string{"gpu", "net-rate"}}},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			got := ParseResourceFeatures(tc.header)
			assert.Check(t, is.DeepEqual(got, tc.exp))
			for _, name := range []string{"gpu", "gpu-memory", "gpu-priority", "net-rate", "", "gp", "gpu-"} {
				isGPU := name == "gpu" || name == "gpu-memory" || name == "gpu-priority"
				exp := (isGPU || name == "net-rate") && len(tc.exp.Names) > 0 && (isGPU || len(tc.exp.Names) > 1)
				assert.Check(t, is.Equal(got.Has(name), exp), name)
			}

			header := http.Header{}
			if got.Known {
				header.Set(ResourceFeaturesHeader, got.String())
			}
			assert.Check(t, is.DeepEqual(ParseResourceFeatures(header), tc.exp), "a round trip must not change it")
		})
	}
}

func TestResourceFeaturesApart(t *testing.T) {
	f := ResourceFeatures{Known: true, Names: []string{"gpu-memory"}}
	assert.Check(t, f.Has("gpu-memory"))
	assert.Check(t, !f.Has("gpu-priority"))
	assert.Check(t, !f.Has("gpu"), "one half is not both")
}
