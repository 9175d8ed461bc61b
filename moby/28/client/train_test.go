// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/http"
	"testing"

	"github.com/docker/docker/api/types"
)

func mockClient(_ *testing.T, answer func(*http.Request) (*http.Response, error)) *Client {
	return &Client{client: newMockClient(answer)}
}

func mockDaemon(t *testing.T, answer func(*http.Request) (*http.Response, error)) *Client {
	t.Helper()
	return mockClient(t, answer)
}

func pingOnce(client *Client) (types.Ping, error) { return client.Ping(context.Background()) }

func withoutVersion(path string) string { return path }
