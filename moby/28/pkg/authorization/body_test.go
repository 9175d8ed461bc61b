// SPDX-License-Identifier: Apache-2.0

package authorization

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	cerrdefs "github.com/containerd/errdefs"
	"gotest.tools/v3/assert"
)

// seer is a plugin that allows everything and keeps what it was shown.
type seer struct{ body string }

func (*seer) Name() string { return "seer" }

func (s *seer) AuthZRequest(r *Request) (*Response, error) {
	s.body = string(r.RequestBody)
	return &Response{Allow: true}, nil
}

func (*seer) AuthZResponse(*Request) (*Response, error) { return &Response{Allow: true}, nil }

// CVE-2026-34040: what dockerd acts on, the plugins have seen.
func TestNoBodyPassesUnseen(t *testing.T) {
	full := strings.Repeat("a", maxBodySize)
	for _, tc := range []struct {
		doc, body string
		length    int64
		encoding  []string
		refused   bool
	}{
		{doc: "as large as it may be", body: full, length: maxBodySize},
		{doc: "a byte more", body: full + "a", length: maxBodySize + 1, refused: true},
		{doc: "small, in chunks", body: "ab", length: -1, encoding: []string{"chunked"}},
		{doc: "a byte more, in chunks", body: full + "a", length: -1, encoding: []string{"chunked"}, refused: true},
		{doc: "small, of a length that HTTP/2 does not say", body: "ab", length: -1},
		{doc: "a byte more, of a length that HTTP/2 does not say", body: full + "a", length: -1, refused: true},
		{doc: "none"},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			plugin := &seer{}
			m := &Middleware{plugins: []Plugin{plugin}}
			var got string
			ran := false
			handler := m.WrapHandler(func(_ context.Context, _ http.ResponseWriter, r *http.Request, _ map[string]string) error {
				ran = true
				body, err := io.ReadAll(r.Body)
				got = string(body)
				return err
			})
			r := httptest.NewRequest(http.MethodPost, "/containers/create", strings.NewReader(tc.body))
			if tc.body == "" {
				r.Body = http.NoBody
			}
			r.Header.Set("Content-Type", "application/json")
			r.ContentLength, r.TransferEncoding = tc.length, tc.encoding
			err := handler(context.Background(), httptest.NewRecorder(), r, nil)
			assert.Check(t, plugin.body == got, "the plugin was shown %d bytes, dockerd acted on %d", len(plugin.body), len(got))
			if tc.refused {
				assert.ErrorContains(t, err, "larger than the 4194304 bytes")
				assert.Check(t, cerrdefs.IsPermissionDenied(err), "not an answer of 403: %v", err)
				assert.Check(t, !ran, "dockerd acted on it")
				return
			}
			assert.NilError(t, err)
			assert.Check(t, got == tc.body, "dockerd was shown %d bytes of %d", len(got), len(tc.body))
		})
	}
}
