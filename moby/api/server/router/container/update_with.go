// SPDX-License-Identifier: Apache-2.0

package container

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/docker/docker/api/server/httputils"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/errdefs"
)

// resourcesUpdater is a backend that takes options with an update.
type resourcesUpdater interface {
	ContainerUpdateWith(name string, hostConfig *container.HostConfig, opts container.UpdateOptions) (container.UpdateResponse, error)
}

// update reads the options of an update from the request's query.
func (c *containerRouter) update(r *http.Request, name string, hostConfig *container.HostConfig) (container.UpdateResponse, error) {
	opts, err := updateOptions(r)
	if err != nil {
		return container.UpdateResponse{}, errdefs.InvalidParameter(err)
	}
	backend, ok := c.backend.(resourcesUpdater)
	switch {
	case ok:
		return backend.ContainerUpdateWith(name, hostConfig, opts)
	case opts.Replace != nil || opts.Version != 0:
		return container.UpdateResponse{}, errdefs.NotImplemented(errors.New("this daemon takes no options with an update"))
	default:
		return c.backend.ContainerUpdate(name, hostConfig)
	}
}

func updateOptions(r *http.Request) (opts container.UpdateOptions, _ error) {
	switch text := r.FormValue("replace"); text {
	case "", "0", "false":
		// Clients of before the first release say it so.
		if httputils.BoolValue(r, "exact") {
			opts.Replace = container.ReplaceAll
		}
	case "1", "true":
		opts.Replace = container.ReplaceAll
	default:
		opts.Replace = strings.Split(text, ",")
	}
	if text := r.FormValue("version"); text != "" {
		version, err := strconv.ParseUint(text, 10, 64)
		if err != nil || version == 0 {
			return opts, fmt.Errorf("invalid version %q: must be a ResourcesVersion, a number from 1 up", text)
		}
		opts.Version = version
	}
	return opts, nil
}
