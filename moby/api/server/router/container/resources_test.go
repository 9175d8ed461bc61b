// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/errdefs"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

type resourcesBackend struct{ Backend }

func (resourcesBackend) ContainersResources(names []string) ([]container.CurrentResources, error) {
	if slices.Contains(names, "gone") {
		return nil, errdefs.NotFound(errors.New("No such container: gone"))
	}
	var all []container.CurrentResources
	for _, name := range names {
		all = append(all, container.CurrentResources{Name: name, ID: "id-" + name})
	}
	return all, nil
}

func getResources(backend Backend, query string) (*httptest.ResponseRecorder, error) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/containers/resources"+query, http.NoBody)
	return w, (&containerRouter{backend: backend}).getContainersResources(context.Background(), w, r, nil)
}

func TestGetContainersResources(t *testing.T) {
	w, err := getResources(resourcesBackend{}, "?container=web&container=db")
	assert.NilError(t, err)
	assert.Check(t, is.Contains(w.Body.String(), `{"Name":"web","Id":"id-web",`))
	assert.Check(t, is.Contains(w.Body.String(), `{"Name":"db","Id":"id-db",`))

	_, err = getResources(resourcesBackend{}, "")
	assert.Check(t, cerrdefs.IsInvalidArgument(err), "%v", err)
	_, err = getResources(resourcesBackend{}, "?container=web&container=gone")
	assert.Check(t, cerrdefs.IsNotFound(err), "%v", err)
	_, err = getResources(&updateBackend{}, "?container=web")
	assert.Check(t, cerrdefs.IsNotImplemented(err), "%v", err)
}
