// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"

	"github.com/moby/moby/client"
)

func (c *versionClient) Ping(context.Context, client.PingOptions) (client.PingResult, error) {
	return client.PingResult{ResourceFeatures: c.ping}, c.pingErr
}

func (c *versionClient) Info(context.Context, client.InfoOptions) (client.SystemInfoResult, error) {
	info, err := c.info()
	return client.SystemInfoResult{Info: info}, err
}

func (c *versionClient) ServerVersion(context.Context, client.ServerVersionOptions) (client.ServerVersionResult, error) {
	return client.ServerVersionResult{Version: c.version}, c.err
}
