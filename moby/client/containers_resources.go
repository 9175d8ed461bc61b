// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/json"
	"net/url"

	"github.com/docker/docker/api/types/container"
)

// ContainersResources returns the resources and restart policies of containers,
// in the order in which they are named, by names, IDs or how an ID begins. It
// fails if one of them is not there. A daemon that does not send
// [types.ResourceFeaturesHeader] answers that there is no such page.
func (cli *Client) ContainersResources(ctx context.Context, containers []string) ([]container.CurrentResources, error) {
	resp, err := cli.get(ctx, "/containers/resources", url.Values{"container": containers}, nil)
	defer ensureReaderClosed(resp)
	if err != nil {
		return nil, err
	}

	var response []container.CurrentResources
	err = json.NewDecoder(resp.Body).Decode(&response)
	return response, err
}
