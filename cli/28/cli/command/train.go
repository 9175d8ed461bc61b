// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"
)

// pingFeatures, daemonInfo and serverVersion ask the daemon. Each train's client does it
// in another way.
func pingFeatures(ctx context.Context, apiClient client.APIClient) (types.ResourceFeatures, error) {
	ping, err := apiClient.Ping(ctx)
	return ping.ResourceFeatures, err
}

func daemonInfo(ctx context.Context, apiClient client.APIClient) (system.Info, error) {
	return apiClient.Info(ctx)
}

func serverVersion(ctx context.Context, apiClient client.APIClient) (string, error) {
	v, err := apiClient.ServerVersion(ctx)
	return v.Version, err
}
