// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/http"
	"net/url"
)

// postJSON sends a body. The order of post's last two arguments is that of the train.
func (cli *Client) postJSON(ctx context.Context, path string, query url.Values, body any) (*http.Response, error) {
	return cli.post(ctx, path, query, body, nil)
}
