// SPDX-License-Identifier: Apache-2.0

package authorization

import (
	"bytes"
	"fmt"
	"io"
	"net/http"

	"github.com/docker/docker/pkg/ioutils"
)

// wholeBody returns a request's body, and leaves it to be read again. One that is too
// large for the plugins is refused: they would judge a request that they do not see.
//
// How long the body is says the body alone. Length and encoding in the header are what
// the client likes, and HTTP/2 needs neither.
func wholeBody(r *http.Request) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	rest := r.Body
	body, err := io.ReadAll(io.LimitReader(rest, maxBodySize+1))
	if err != nil {
		return nil, err
	}
	r.Body = ioutils.NewReadCloserWrapper(io.MultiReader(bytes.NewReader(body), rest), rest.Close)
	if len(body) > maxBodySize {
		return nil, authorizationError{fmt.Errorf("authorization denied: the body is larger than the %d bytes that authorization plugins are shown", maxBodySize)}
	}
	return body, nil
}
