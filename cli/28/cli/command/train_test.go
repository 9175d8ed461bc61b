// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/system"
)

func (c *versionClient) Ping(context.Context) (types.Ping, error) {
	return types.Ping{ResourceFeatures: c.ping}, c.pingErr
}

func (c *versionClient) Info(context.Context) (system.Info, error) { return c.info() }

func (c *versionClient) ServerVersion(context.Context) (types.Version, error) {
	return types.Version{Version: c.version}, c.err
}
