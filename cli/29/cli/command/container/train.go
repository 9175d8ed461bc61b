// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"

	"github.com/docker/cli/cli/command/completion"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// What each train's client does in another way.

func inspectContainer(ctx context.Context, apiClient client.APIClient, name string) (i inspected, _ error) {
	result, err := apiClient.ContainerInspect(ctx, name, client.ContainerInspectOptions{})
	if err == nil {
		ctr := result.Container
		i = inspected{id: ctr.ID, hostConfig: ctr.HostConfig, version: ctr.ResourcesVersion}
	}
	return i, err
}

func updateContainer(ctx context.Context, apiClient client.APIClient, id string, config container.UpdateConfig) (container.UpdateResponse, error) {
	result, err := apiClient.ContainerUpdate(ctx, id, client.ContainerUpdateOptions{Resources: &config.Resources, RestartPolicy: &config.RestartPolicy})
	return container.UpdateResponse{Warnings: result.Warnings}, err
}

func removeWithVolumes(ctx context.Context, apiClient client.APIClient, id string) error {
	_, err := apiClient.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	return err
}

func serverVersion(ctx context.Context, apiClient client.APIClient) (string, error) {
	v, err := apiClient.ServerVersion(ctx, client.ServerVersionOptions{})
	return v.Version, err
}

var fileNames = completion.FileNames()
