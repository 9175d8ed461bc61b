// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"testing"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/client"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

type infoOnly ServerInfo

func (i infoOnly) ServerInfo() ServerInfo { return ServerInfo(i) }

type infoAndClient struct {
	infoOnly
	apiClient client.APIClient
}

func (i infoAndClient) Client() client.APIClient { return i.apiClient }

type versionClient struct {
	client.Client
	version string
	err     error
}

func (c *versionClient) ServerVersion(context.Context) (types.Version, error) {
	return types.Version{Version: c.version}, c.err
}

func TestCheckResource(t *testing.T) {
	stock := infoOnly{OSType: "linux"}
	for _, tc := range []struct {
		doc     string
		details interface{ ServerInfo() ServerInfo }
		expErr  string
	}{
		{doc: "known", details: infoOnly{OSType: "linux", ResourceFeatures: types.ResourceFeatures{Known: true}}},
		{doc: "no client", details: stock, expErr: "X is not supported by the Docker daemon, which cannot enforce it: use a dockerd that can"},
		{doc: "nil client", details: infoAndClient{infoOnly: stock}, expErr: "X is not supported by the Docker daemon, which cannot enforce it: use a dockerd that can"},
		{doc: "version", details: infoAndClient{stock, &versionClient{version: "27.0.1"}}, expErr: "X is not supported by the Docker daemon (version 27.0.1), which cannot enforce it: use a dockerd that can"},
		{doc: "no version", details: infoAndClient{stock, &versionClient{err: errors.New("denied")}}, expErr: "X is not supported by the Docker daemon, which cannot enforce it: use a dockerd that can"},
		{doc: "no ping", details: infoAndClient{infoOnly{HasExperimental: true}, &versionClient{version: "27.0.1"}}, expErr: "X needs a Docker daemon that supports it, and this one did not answer the ping: is the docker daemon running?"},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			err := CheckResource(tc.details, "X")
			if tc.expErr == "" {
				assert.NilError(t, err)
				return
			}
			assert.Check(t, is.Error(err, tc.expErr))
		})
	}
}
