// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// The clients of the tests, as this train's interface wants them.

func response(i inspected) client.ContainerInspectResult {
	return client.ContainerInspectResult{Container: container.InspectResponse{ID: i.id, HostConfig: i.hostConfig, ResourcesVersion: i.version}}
}

func (c *limitClient) ContainerCreate(_ context.Context, options client.ContainerCreateOptions) (client.ContainerCreateResult, error) {
	return client.ContainerCreateResult{ID: c.create(options.HostConfig)}, nil
}

func (c *createdClient) ContainerCreate(ctx context.Context, options client.ContainerCreateOptions) (client.ContainerCreateResult, error) {
	*c.created = true
	return c.limitClient.ContainerCreate(ctx, options)
}

func (c *limitClient) ContainerInspect(_ context.Context, id string, _ client.ContainerInspectOptions) (client.ContainerInspectResult, error) {
	i, err := c.inspect(id)
	return response(i), err
}

func (c *limitClient) ContainerRemove(ctx context.Context, id string, options client.ContainerRemoveOptions) (client.ContainerRemoveResult, error) {
	return client.ContainerRemoveResult{}, c.remove(ctx, id, options.Force && options.RemoveVolumes)
}

func (c *limitClient) ContainerStart(_ context.Context, id string, _ client.ContainerStartOptions) (client.ContainerStartResult, error) {
	c.started = append(c.started, id)
	return client.ContainerStartResult{}, nil
}

func (*limitClient) ServerVersion(context.Context, client.ServerVersionOptions) (client.ServerVersionResult, error) {
	return client.ServerVersionResult{Version: "28.5.2"}, nil
}

func (c *updateClient) ContainerInspect(ctx context.Context, name string, _ client.ContainerInspectOptions) (client.ContainerInspectResult, error) {
	i, err := c.inspect(ctx, name)
	return response(i), err
}

func (c *updateClient) ContainerUpdate(ctx context.Context, id string, options client.ContainerUpdateOptions) (client.ContainerUpdateResult, error) {
	resp, err := c.update(ctx, id, container.UpdateConfig{Resources: *options.Resources, RestartPolicy: *options.RestartPolicy})
	return client.ContainerUpdateResult{Warnings: resp.Warnings}, err
}

func (*updateClient) ServerVersion(context.Context, client.ServerVersionOptions) (client.ServerVersionResult, error) {
	return client.ServerVersionResult{Version: "28.5.2"}, nil
}

func (askedClient) Ping(context.Context, client.PingOptions) (client.PingResult, error) {
	return client.PingResult{}, errors.New("no answer")
}

func (c askedClient) Info(context.Context, client.InfoOptions) (client.SystemInfoResult, error) {
	return client.SystemInfoResult{Info: c.info()}, nil
}

func fakeCreating(create func()) *fakeClient {
	return &fakeClient{
		createContainerFunc: func(client.ContainerCreateOptions) (client.ContainerCreateResult, error) {
			create()
			return client.ContainerCreateResult{}, nil
		},
	}
}
