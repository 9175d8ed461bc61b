// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func TestContainerUpdateWithError(t *testing.T) {
	client := mockClient(t, errorMock(http.StatusInternalServerError, "Server error"))
	_, err := client.ContainerUpdateWith(context.Background(), "nothing", container.UpdateConfig{}, container.UpdateOptions{})
	assert.Check(t, is.ErrorType(err, cerrdefs.IsInternal))
	assert.Check(t, is.ErrorContains(err, "Server error"))

	for _, id := range []string{"", "    "} {
		_, err = client.ContainerUpdateWith(context.Background(), id, container.UpdateConfig{}, container.UpdateOptions{})
		assert.Check(t, is.ErrorType(err, cerrdefs.IsInvalidArgument))
		assert.Check(t, is.ErrorContains(err, "value is empty"))
	}
}

func TestContainerUpdateWith(t *testing.T) {
	memory := int64(10240)
	sent := container.UpdateConfig{
		Resources:     container.Resources{CPUShares: 512, GPUMemory: &memory},
		RestartPolicy: container.RestartPolicy{Name: "always"},
	}
	for query, options := range map[string]container.UpdateOptions{
		"":                              {},
		"version=7":                     {Version: 7},
		"replace=1&version=7":           {Replace: container.ReplaceAll, Version: 7},
		"replace=CpuShares%2CGPUMemory": {Replace: []string{"CpuShares", "GPUMemory"}},
	} {
		client := mockClient(t, func(req *http.Request) (*http.Response, error) {
			assert.Check(t, is.Equal(req.Method, http.MethodPost))
			assert.Check(t, is.Equal(withoutVersion(req.URL.Path), "/containers/container_id/update"))
			assert.Check(t, is.Equal(req.URL.RawQuery, query))

			var got container.UpdateConfig
			assert.Check(t, json.NewDecoder(req.Body).Decode(&got))
			assert.Check(t, is.DeepEqual(got, sent))

			return &http.Response{
				StatusCode: http.StatusOK,
				Body:       io.NopCloser(strings.NewReader(`{"Warnings":["mind the gap"],"ResourcesVersion":8}`)),
			}, nil
		})
		resp, err := client.ContainerUpdateWith(context.Background(), "container_id", sent, options)
		assert.NilError(t, err)
		assert.Check(t, is.DeepEqual(resp, container.UpdateResponse{Warnings: []string{"mind the gap"}, ResourcesVersion: 8}))
	}
}

// TestPingResourceFeatures asks with HEAD, with GET after HEAD failed, and of
// a daemon that is unwell.
func TestPingResourceFeatures(t *testing.T) {
	known := types.ResourceFeatures{Known: true, Names: []string{"gpu"}}
	for _, tc := range []struct {
		doc       string
		header    http.Header
		status    int
		headFails bool
		exp       types.ResourceFeatures
		expErr    bool
	}{
		{doc: "head", header: http.Header{types.ResourceFeaturesHeader: {"gpu"}}, status: http.StatusOK, exp: known},
		{doc: "get", header: http.Header{types.ResourceFeaturesHeader: {"gpu"}}, status: http.StatusOK, headFails: true, exp: known},
		{doc: "other daemon", header: http.Header{"Ostype": {"linux"}}, status: http.StatusOK},
		{doc: "nothing to enforce with", header: http.Header{types.ResourceFeaturesHeader: {""}}, status: http.StatusOK, exp: types.ResourceFeatures{Known: true}},
		{doc: "unwell", header: http.Header{types.ResourceFeaturesHeader: {"gpu"}}, status: http.StatusInternalServerError, exp: known, expErr: true},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			client := mockDaemon(t, func(req *http.Request) (*http.Response, error) {
				if tc.headFails && req.Method == http.MethodHead {
					return &http.Response{StatusCode: http.StatusMethodNotAllowed, Body: http.NoBody}, nil
				}
				return &http.Response{StatusCode: tc.status, Header: tc.header, Body: http.NoBody}, nil
			})
			ping, err := pingOnce(client)
			assert.Check(t, is.Equal(err != nil, tc.expErr), "%v", err)
			assert.Check(t, is.DeepEqual(ping.ResourceFeatures, tc.exp))
		})
	}
}
