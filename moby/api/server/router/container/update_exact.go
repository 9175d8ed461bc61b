// SPDX-License-Identifier: Apache-2.0

package container

import (
	"errors"
	"net/http"

	"github.com/docker/docker/api/server/httputils"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/errdefs"
)

// exactUpdater is a backend that can also update with "absent = default".
type exactUpdater interface {
	ContainerUpdateExact(name string, hostConfig *container.HostConfig) (container.UpdateResponse, error)
}

// update chooses by the request's query between keeping what the request does
// not name (the default) and setting it back to its default (exact=1).
func (c *containerRouter) update(r *http.Request, name string, hostConfig *container.HostConfig) (container.UpdateResponse, error) {
	if !httputils.BoolValue(r, "exact") {
		return c.backend.ContainerUpdate(name, hostConfig)
	}
	backend, ok := c.backend.(exactUpdater)
	if !ok {
		return container.UpdateResponse{}, errdefs.NotImplemented(errors.New("this daemon cannot update exactly"))
	}
	return backend.ContainerUpdateExact(name, hostConfig)
}
