// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	cerrdefs "github.com/containerd/errdefs"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func TestContainersResources(t *testing.T) {
	client := mockClient(t, func(req *http.Request) (*http.Response, error) {
		assert.Check(t, is.Equal(req.Method, http.MethodGet))
		assert.Check(t, is.Equal(withoutVersion(req.URL.Path), "/containers/resources"))
		assert.Check(t, is.DeepEqual(req.URL.Query()["container"], []string{"web", "d&b"}))
		return &http.Response{
			StatusCode: http.StatusOK,
			Body: io.NopCloser(strings.NewReader(
				`[{"Name":"web","Id":"1","CpuShares":7,"GPUMemory":10240,"RestartPolicy":{"Name":"always"}},{"Name":"d&b","Id":"2"}]`)),
		}, nil
	})
	found, err := client.ContainersResources(context.Background(), []string{"web", "d&b"})
	assert.NilError(t, err)
	assert.Assert(t, is.Len(found, 2))
	assert.Check(t, is.Equal(found[0].ID, "1"))
	assert.Check(t, is.Equal(found[0].CPUShares, int64(7)))
	assert.Check(t, is.Equal(*found[0].GPUMemory, int64(10240)))
	assert.Check(t, is.Equal(string(found[0].RestartPolicy.Name), "always"))
	assert.Check(t, is.Equal(found[1].Name, "d&b"))

	client = mockClient(t, errorMock(http.StatusNotFound, "page not found"))
	_, err = client.ContainersResources(context.Background(), []string{"web"})
	assert.Check(t, is.ErrorType(err, cerrdefs.IsNotFound))
}
