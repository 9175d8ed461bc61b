// SPDX-License-Identifier: Apache-2.0

package types

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

func FuzzResourceFeatures(f *testing.F) {
	for _, s := range []string{"", "gpu", "gpu,blkio", " gpu , ,net", ",,,", "gpu\tx"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		h := http.Header{ResourceFeaturesHeader: {a, b}}
		got := ParseResourceFeatures(h)
		if !got.Known {
			t.Fatal("a header that is there is not known")
		}
		for _, name := range got.Names {
			if name == "" || strings.TrimSpace(name) != name || strings.Contains(name, ",") || !got.Has(name) {
				t.Fatalf("%q, %q give the name %q", a, b, name)
			}
		}
		again := ParseResourceFeatures(http.Header{ResourceFeaturesHeader: {got.String()}})
		if !slices.Equal(again.Names, got.Names) {
			t.Fatalf("%q is read back as %q", got.Names, again.Names)
		}
	})
}
