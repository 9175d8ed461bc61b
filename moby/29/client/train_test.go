// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

// mockClient has its pings answered.
func mockClient(t *testing.T, answer func(*http.Request) (*http.Response, error)) *Client {
	t.Helper()
	return newMock(t, WithMockClient(answer))
}

// mockDaemon answers pings, too.
func mockDaemon(t *testing.T, answer func(*http.Request) (*http.Response, error)) *Client {
	t.Helper()
	return newMock(t, WithBaseMockClient(answer))
}

func newMock(t *testing.T, opt Opt) *Client {
	t.Helper()
	client, err := New(opt)
	assert.NilError(t, err)
	return client
}

func pingOnce(client *Client) (PingResult, error) {
	return client.Ping(context.Background(), PingOptions{})
}

func withoutVersion(path string) string { return strings.TrimPrefix(path, defaultAPIPath) }
