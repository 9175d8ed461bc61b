// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"fmt"
	"time"

	"github.com/docker/docker/client"
)

// CheckResource returns an error when the daemon does not say that it knows
// resource limits of ours. It must be asked before such a limit is sent,
// because any other daemon drops it and reports success. A failed ping counts
// as "does not know". The error starts with what, the limit that is wanted.
//
// It does not look at which limits the daemon can enforce: the daemon refuses
// those that it cannot, and has the reason.
func CheckResource(details interface{ ServerInfo() ServerInfo }, what string) error {
	info := details.ServerInfo()
	if info.ResourceFeatures.Known {
		return nil
	}
	// The type is in every answer; it is missing if there was none.
	if info.OSType == "" {
		return fmt.Errorf("%s needs a Docker daemon that supports it, and this one did not answer the ping: is the docker daemon running?", what)
	}
	return fmt.Errorf("%s is not supported by the Docker daemon%s, which cannot enforce it: use a dockerd that can", what, daemonVersion(details))
}

// versionTimeout is short because the version only completes an error message.
const versionTimeout = 5 * time.Second

func daemonVersion(details any) string {
	provider, ok := details.(interface{ Client() client.APIClient })
	if !ok {
		return ""
	}
	apiClient := provider.Client()
	if apiClient == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), versionTimeout)
	defer cancel()
	v, err := apiClient.ServerVersion(ctx)
	if err != nil || v.Version == "" {
		return ""
	}
	return " (version " + v.Version + ")"
}
