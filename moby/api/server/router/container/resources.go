// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"net/http"

	"github.com/docker/docker/api/server/httputils"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/errdefs"
)

// resourcesReader is a backend that tells the resources of several containers.
type resourcesReader interface {
	ContainersResources(names []string) ([]container.CurrentResources, error)
}

// getContainersResources is what an update of many containers needs to know
// first: an inspect of each was half of the work of all.
func (c *containerRouter) getContainersResources(_ context.Context, w http.ResponseWriter, r *http.Request, _ map[string]string) error {
	if err := httputils.ParseForm(r); err != nil {
		return err
	}
	names := r.Form["container"]
	if len(names) == 0 {
		return errdefs.InvalidParameter(errors.New("no container is named: use the query parameter container"))
	}
	backend, ok := c.backend.(resourcesReader)
	if !ok {
		return errdefs.NotImplemented(errors.New("this daemon cannot tell the resources of several containers"))
	}
	found, err := backend.ContainersResources(names)
	if err != nil {
		return err
	}
	return httputils.WriteJSON(w, http.StatusOK, found)
}
