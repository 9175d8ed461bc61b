// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"gotest.tools/v3/assert"
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

// Ping answers that of run and create, which do nothing without, and not the one that asks
// for the reason and does not wait for ever.
func (askedClient) Ping(ctx context.Context, _ client.PingOptions) (client.PingResult, error) {
	if _, again := ctx.Deadline(); !again {
		return client.PingResult{OSType: "linux"}, nil
	}
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

// fakeListing is asked for running containers.
func fakeListing(t *testing.T, running ...container.Summary) *fakeClient {
	t.Helper()
	return &fakeClient{containerListFunc: func(options client.ContainerListOptions) (client.ContainerListResult, error) {
		assert.Check(t, !options.All)
		return client.ContainerListResult{Items: running}, nil
	}}
}

func (*emptyInspectClient) ContainerInspect(context.Context, string, client.ContainerInspectOptions) (client.ContainerInspectResult, error) {
	return client.ContainerInspectResult{}, nil
}
