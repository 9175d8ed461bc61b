// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
)

// ContainerUpdateWith is [Client.ContainerUpdate] with options. A container whose
// version is another one than options ask for is a conflict.
//
// Only a daemon whose inspect has a ResourcesVersion understands options. Any other
// would take it for a plain update, so do not use them without having seen that.
func (cli *Client) ContainerUpdateWith(ctx context.Context, containerID string, updateConfig container.UpdateConfig, options container.UpdateOptions) (container.UpdateResponse, error) {
	containerID, err := trimID("container", containerID)
	if err != nil {
		return container.UpdateResponse{}, err
	}
	query := url.Values{}
	switch {
	case slices.Equal(options.Replace, container.ReplaceAll):
		query.Set("replace", "1")
	case len(options.Replace) > 0:
		query.Set("replace", strings.Join(options.Replace, ","))
	}
	if options.Version != 0 {
		query.Set("version", strconv.FormatUint(options.Version, 10))
	}

	resp, err := cli.postJSON(ctx, "/containers/"+containerID+"/update", query, updateConfig)
	defer ensureReaderClosed(resp)
	if err != nil {
		return container.UpdateResponse{}, err
	}

	var response container.UpdateResponse
	err = json.NewDecoder(resp.Body).Decode(&response)
	return response, err
}
