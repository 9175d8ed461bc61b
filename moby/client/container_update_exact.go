// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/json"
	"net/url"

	"github.com/docker/docker/api/types/container"
)

// ContainerUpdateExact sets all updatable resources and the restart policy of
// a container to what updateConfig says, where [Client.ContainerUpdate] only
// changes what it names: a field that is not set goes back to its default. It
// puts back what an inspect said before an update.
//
// Only a daemon that sends [types.ResourceFeaturesHeader] understands this.
// Any other would take it for a plain update, so do not call it without
// having seen the header.
func (cli *Client) ContainerUpdateExact(ctx context.Context, containerID string, updateConfig container.UpdateConfig) (container.UpdateResponse, error) {
	containerID, err := trimID("container", containerID)
	if err != nil {
		return container.UpdateResponse{}, err
	}

	resp, err := cli.post(ctx, "/containers/"+containerID+"/update", url.Values{"exact": {"1"}}, updateConfig, nil)
	defer ensureReaderClosed(resp)
	if err != nil {
		return container.UpdateResponse{}, err
	}

	var response container.UpdateResponse
	err = json.NewDecoder(resp.Body).Decode(&response)
	return response, err
}
