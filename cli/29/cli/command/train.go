// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"

	"github.com/moby/moby/api/types"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/client"
)

// pingFeatures, daemonInfo and serverVersion ask the daemon. Each train's client does it
// in another way.
func pingFeatures(ctx context.Context, apiClient client.APIClient) (types.ResourceFeatures, error) {
	ping, err := apiClient.Ping(ctx, client.PingOptions{})
	return ping.ResourceFeatures, err
}

func daemonInfo(ctx context.Context, apiClient client.APIClient) (system.Info, error) {
	result, err := apiClient.Info(ctx, client.InfoOptions{})
	return result.Info, err
}

func serverVersion(ctx context.Context, apiClient client.APIClient) (string, error) {
	v, err := apiClient.ServerVersion(ctx, client.ServerVersionOptions{})
	return v.Version, err
}
