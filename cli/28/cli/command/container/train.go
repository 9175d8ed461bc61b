// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"

	"github.com/docker/cli/cli/command"
	"github.com/docker/cli/cli/command/completion"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/spf13/cobra"
)

// What each train's client does in another way.

func inspectContainer(ctx context.Context, apiClient client.APIClient, name string) (i inspected, _ error) {
	ctr, err := apiClient.ContainerInspect(ctx, name)
	if err == nil && ctr.ContainerJSONBase != nil {
		i = inspected{id: ctr.ID, hostConfig: ctr.HostConfig, version: ctr.ResourcesVersion}
	}
	return i, err
}

func updateContainer(ctx context.Context, apiClient client.APIClient, id string, config container.UpdateConfig) (container.UpdateResponse, error) {
	return apiClient.ContainerUpdate(ctx, id, config)
}

func removeWithVolumes(ctx context.Context, apiClient client.APIClient, id string) error {
	return apiClient.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
}

func serverVersion(ctx context.Context, apiClient client.APIClient) (string, error) {
	v, err := apiClient.ServerVersion(ctx)
	return v.Version, err
}

var fileNames = completion.FileNames

// NewModresourcesCommand creates a new cobra.Command for `docker modresources`
func NewModresourcesCommand(dockerCLI command.Cli) *cobra.Command {
	return newModresourcesCommand(dockerCLI)
}
