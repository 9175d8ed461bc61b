// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/server/httputils"
	"github.com/docker/docker/api/types/container"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// updateBackend remembers what it was asked for.
type updateBackend struct {
	Backend
	calls []string
	last  *container.HostConfig
}

func (b *updateBackend) ContainerUpdate(name string, hostConfig *container.HostConfig) (container.UpdateResponse, error) {
	b.calls, b.last = append(b.calls, "update "+name), hostConfig
	return container.UpdateResponse{Warnings: []string{"careful"}}, nil
}

type withBackend struct {
	updateBackend
	opts container.UpdateOptions
}

func (b *withBackend) ContainerUpdateWith(name string, hostConfig *container.HostConfig, opts container.UpdateOptions) (container.UpdateResponse, error) {
	b.calls, b.last, b.opts = append(b.calls, "with "+name), hostConfig, opts
	return container.UpdateResponse{ResourcesVersion: 8}, nil
}

func postUpdate(backend Backend, apiVersion, query, body string) (*httptest.ResponseRecorder, error) {
	r := httptest.NewRequest(http.MethodPost, "/containers/web/update"+query, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	ctx := context.WithValue(context.Background(), httputils.APIVersionKey{}, apiVersion)
	w := httptest.NewRecorder()
	err := (&containerRouter{backend: backend}).postContainerUpdate(ctx, w, r, map[string]string{"name": "web"})
	return w, err
}

func TestPostContainerUpdate(t *testing.T) {
	for query, opts := range map[string]container.UpdateOptions{
		"": {}, "?replace=0": {}, "?replace=false": {}, "?exact=0": {},
		"?replace=1": {Replace: container.ReplaceAll}, "?replace=true": {Replace: container.ReplaceAll}, "?exact=1": {Replace: container.ReplaceAll},
		"?replace=CpuShares,RestartPolicy": {Replace: []string{"CpuShares", "RestartPolicy"}},
		"?version=7":                       {Version: 7},
	} {
		backend := &withBackend{}
		w, err := postUpdate(backend, "1.51", query, `{"GPUMemory":10240}`)
		assert.NilError(t, err)
		assert.Check(t, is.DeepEqual(backend.calls, []string{"with web"}), query)
		assert.Check(t, is.DeepEqual(backend.opts, opts), query)
		assert.Check(t, is.Equal(w.Code, http.StatusOK))
		var resp container.UpdateResponse
		assert.NilError(t, json.Unmarshal(w.Body.Bytes(), &resp))
		assert.Check(t, is.Equal(resp.ResourcesVersion, uint64(8)))
	}
	for _, query := range []string{"?version=0", "?version=-1", "?version=seven"} {
		_, err := postUpdate(&withBackend{}, "1.51", query, `{}`)
		assert.Check(t, cerrdefs.IsInvalidArgument(err), "%s: %v", query, err)
	}

	// A backend that takes no options.
	backend := &updateBackend{}
	_, err := postUpdate(backend, "1.51", "", `{}`)
	assert.NilError(t, err)
	assert.Check(t, is.DeepEqual(backend.calls, []string{"update web"}))
	for _, query := range []string{"?replace=1", "?version=7"} {
		_, err := postUpdate(&updateBackend{}, "1.51", query, `{}`)
		assert.Check(t, cerrdefs.IsNotImplemented(err), "%s: %v", query, err)
	}
}

// The limits beyond upstream's do not depend on the version of the API: a
// client tells by Docker-Resource-Features that the daemon knows them.
func TestPostContainerUpdateGPU(t *testing.T) {
	for _, apiVersion := range []string{"1.24", "1.39", "1.44", "1.51"} {
		backend := &withBackend{}
		_, err := postUpdate(backend, apiVersion, "", `{"GPUMemory":-1,"GPUPriority":0}`)
		assert.NilError(t, err)
		r := backend.last.Resources
		assert.Assert(t, r.GPUMemory != nil && *r.GPUMemory == -1, apiVersion)
		assert.Assert(t, r.GPUPriority != nil && *r.GPUPriority == 0, apiVersion)

		_, err = postUpdate(backend, apiVersion, "", `{"GPUMemory":null,"Memory":1}`)
		assert.NilError(t, err)
		assert.Check(t, is.Nil(backend.last.Resources.GPUMemory), "absent and null mean keep")
		assert.Check(t, is.Nil(backend.last.Resources.GPUPriority))
	}
	for _, body := range []string{`{"GPUMemory":"1g"}`, `{"GPUPriority":1.5}`, `{"GPUMemory":9223372036854775808}`} {
		backend := &withBackend{}
		_, err := postUpdate(backend, "1.51", "", body)
		assert.Check(t, cerrdefs.IsInvalidArgument(err), "%s: %v", body, err)
		assert.Check(t, is.Len(backend.calls, 0), body)
	}
}
