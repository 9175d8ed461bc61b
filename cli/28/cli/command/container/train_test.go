// SPDX-License-Identifier: Apache-2.0

package container

import (
	"context"
	"errors"
	"testing"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/system"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gotest.tools/v3/assert"
)

// The clients of the tests, as this train's interface wants them.

func response(i inspected) container.InspectResponse {
	if i.hostConfig == nil {
		return container.InspectResponse{}
	}
	return container.InspectResponse{ContainerJSONBase: &container.ContainerJSONBase{ID: i.id, HostConfig: i.hostConfig, ResourcesVersion: i.version}}
}

func (c *limitClient) ContainerCreate(_ context.Context, _ *container.Config, hostConfig *container.HostConfig, _ *network.NetworkingConfig, _ *ocispec.Platform, _ string) (container.CreateResponse, error) {
	return container.CreateResponse{ID: c.create(hostConfig)}, nil
}

func (c *createdClient) ContainerCreate(ctx context.Context, config *container.Config, hostConfig *container.HostConfig, networking *network.NetworkingConfig, platform *ocispec.Platform, name string) (container.CreateResponse, error) {
	*c.created = true
	return c.limitClient.ContainerCreate(ctx, config, hostConfig, networking, platform, name)
}

func (c *limitClient) ContainerInspect(_ context.Context, id string) (container.InspectResponse, error) {
	i, err := c.inspect(id)
	return response(i), err
}

func (c *limitClient) ContainerRemove(ctx context.Context, id string, options container.RemoveOptions) error {
	return c.remove(ctx, id, options.Force && options.RemoveVolumes)
}

func (c *limitClient) ContainerStart(_ context.Context, id string, _ container.StartOptions) error {
	c.started = append(c.started, id)
	return nil
}

func (*limitClient) ServerVersion(context.Context) (types.Version, error) {
	return types.Version{Version: "28.5.2"}, nil
}

func (c *updateClient) ContainerInspect(ctx context.Context, name string) (container.InspectResponse, error) {
	i, err := c.inspect(ctx, name)
	return response(i), err
}

func (c *updateClient) ContainerUpdate(ctx context.Context, id string, config container.UpdateConfig) (container.UpdateResponse, error) {
	return c.update(ctx, id, config)
}

func (*updateClient) ServerVersion(context.Context) (types.Version, error) {
	return types.Version{Version: "28.5.2"}, nil
}

func (askedClient) Ping(context.Context) (types.Ping, error) {
	return types.Ping{}, errors.New("no answer")
}

func (c askedClient) Info(context.Context) (system.Info, error) { return c.info(), nil }

func fakeCreating(create func()) *fakeClient {
	return &fakeClient{
		createContainerFunc: func(*container.Config, *container.HostConfig, *network.NetworkingConfig, *ocispec.Platform, string) (container.CreateResponse, error) {
			create()
			return container.CreateResponse{}, nil
		},
	}
}

// fakeListing is asked for running containers.
func fakeListing(t *testing.T, running ...container.Summary) *fakeClient {
	t.Helper()
	return &fakeClient{containerListFunc: func(options container.ListOptions) ([]container.Summary, error) {
		assert.Check(t, !options.All)
		return running, nil
	}}
}

func (*emptyInspectClient) ContainerInspect(context.Context, string) (container.InspectResponse, error) {
	return container.InspectResponse{}, nil
}
