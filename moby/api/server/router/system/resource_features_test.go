// SPDX-License-Identifier: Apache-2.0

package system

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

type stockBackend struct{ Backend }

type featureBackend struct {
	Backend
	features []string
}

func (b featureBackend) ResourceFeatures() []string { return b.features }

func TestPingResourceFeatures(t *testing.T) {
	for _, tc := range []struct {
		doc     string
		backend Backend
		want    []string
	}{
		{doc: "a backend that does not know", backend: stockBackend{}},
		{doc: "nothing can be enforced", backend: featureBackend{}, want: []string{""}},
		{doc: "one", backend: featureBackend{features: []string{"gpu"}}, want: []string{"gpu"}},
		{doc: "several", backend: featureBackend{features: []string{"gpu", "blkio-limit"}}, want: []string{"gpu,blkio-limit"}},
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			t.Run(method+" "+tc.doc, func(t *testing.T) {
				s := &systemRouter{backend: tc.backend, features: func() map[string]bool { return nil }}
				w := httptest.NewRecorder()
				assert.NilError(t, s.pingHandler(context.Background(), w, httptest.NewRequest(method, "/_ping", nil), nil))
				assert.Check(t, is.DeepEqual(w.Header().Values("Docker-Resource-Features"), tc.want))
			})
		}
	}
}
