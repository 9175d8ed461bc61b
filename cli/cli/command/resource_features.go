// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"
)

// CheckResource returns an error when the daemon does not say that it knows
// limits of this kind, or, if feature is empty, that it knows any beyond
// upstream's. It must be asked before such a limit is sent, because any other
// daemon drops it and reports success. A failed ping counts as "does not know".
// The error starts with what, the limit that is wanted.
//
// A limit that the daemon knows and cannot enforce passes: the daemon refuses
// it, and has the reason.
func CheckResource(details interface{ ServerInfo() ServerInfo }, what, feature string) error {
	info := details.ServerInfo()
	features := info.ResourceFeatures
	// The type is in every answer; it is missing if there was none.
	if info.OSType == "" && !features.Known {
		var err error
		if features, err = pingAgain(details); err != nil {
			return fmt.Errorf("%s needs a Docker daemon that supports it, and this one did not answer the ping: %w", what, err)
		}
	}
	switch {
	case !features.Known:
		return fmt.Errorf("%s is not supported by the Docker daemon%s, which cannot enforce it: use a dockerd that can", what, daemonVersion(details))
	case feature == "" || features.Has(feature):
		return nil
	default:
		return checkKnown(details, what, feature)
	}
}

// pingAgain is for the reason why there was no answer, which nobody keeps.
func pingAgain(details any) (types.ResourceFeatures, error) {
	apiClient := clientOf(details)
	if apiClient == nil {
		return types.ResourceFeatures{}, errors.New("is the docker daemon running?")
	}
	ctx, cancel := context.WithTimeout(context.Background(), versionTimeout)
	defer cancel()
	features, err := pingFeatures(ctx, apiClient)
	if cerrdefs.IsPermissionDenied(err) || cerrdefs.IsUnauthorized(err) || cerrdefs.IsNotFound(err) {
		err = fmt.Errorf("%w: a proxy or plugin in front of the daemon has to let HEAD or GET /_ping pass", err)
	}
	return features, err
}

// checkKnown looks in GET /info for a kind of limits that the daemon does not
// say it can enforce: there are also those that it knows and cannot.
func checkKnown(details any, what, feature string) error {
	var (
		info system.Info
		err  = errors.New("no connection")
	)
	if apiClient := clientOf(details); apiClient != nil {
		ctx, cancel := context.WithTimeout(context.Background(), versionTimeout)
		defer cancel()
		info, err = daemonInfo(ctx, apiClient)
	}
	if err != nil {
		return fmt.Errorf("%s needs a Docker daemon that knows limits of the kind %q, and asking this one (GET /info) failed: %w", what, feature, err)
	}
	for _, known := range info.ResourceLimits {
		if types.FeatureCovers(known.Feature, feature) {
			return nil
		}
	}
	return fmt.Errorf("%s is not supported by the Docker daemon%s, which does not know limits of the kind %q: use a newer dockerd", what, daemonVersion(details), feature)
}

func clientOf(details any) client.APIClient {
	if provider, ok := details.(interface{ Client() client.APIClient }); ok {
		return provider.Client()
	}
	return nil
}

// versionTimeout is for questions that come before what the user wants, or only
// complete an error message.
const versionTimeout = 5 * time.Second

func daemonVersion(details any) string {
	apiClient := clientOf(details)
	if apiClient == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), versionTimeout)
	defer cancel()
	v, err := serverVersion(ctx, apiClient)
	if err != nil || v == "" {
		return ""
	}
	return " (version " + v + ")"
}
