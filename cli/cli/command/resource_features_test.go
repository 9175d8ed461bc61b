// SPDX-License-Identifier: Apache-2.0

package command

import (
	"errors"
	"testing"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/system"
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

	ping    types.ResourceFeatures
	pingErr error
	kinds   []string
	infoErr error
}

func (c *versionClient) info() (system.Info, error) {
	var info system.Info
	for _, kind := range c.kinds {
		info.ResourceLimits = append(info.ResourceLimits, system.ResourceLimits{Feature: kind, Reason: "not today"})
	}
	return info, c.infoErr
}

func TestCheckResource(t *testing.T) {
	stock := infoOnly{OSType: "linux"}
	says := func(names ...string) infoOnly {
		return infoOnly{OSType: "linux", ResourceFeatures: types.ResourceFeatures{Known: true, Names: names}}
	}
	const (
		silent  = "X needs a Docker daemon that supports it, and this one did not answer the ping: "
		unknown = `X is not supported by the Docker daemon (version 28.5.2), which does not know limits of the kind "gpu-memory": use a newer dockerd`
	)
	knows := func(kinds ...string) *versionClient { return &versionClient{version: "28.5.2", kinds: kinds} }
	for _, tc := range []struct {
		doc     string
		details interface{ ServerInfo() ServerInfo }
		feature string
		expErr  string
	}{
		{doc: "known", details: says()},
		{doc: "enforced", details: says("gpu-memory"), feature: "gpu-memory"},
		{doc: "one of the two is enforced", details: infoAndClient{says("gpu-memory"), knows("gpu-memory")}, feature: "gpu-priority", expErr: `X is not supported by the Docker daemon (version 28.5.2), which does not know limits of the kind "gpu-priority": use a newer dockerd`},
		{doc: "both under the name they once had", details: says("gpu"), feature: "gpu-memory"},
		{doc: "the other under that name", details: says("gpu"), feature: "gpu-priority"},
		{doc: "known, not enforced", details: infoAndClient{says("net-rate"), knows("gpu-memory", "gpu-priority")}, feature: "gpu-memory"},
		{doc: "known by the old name, not enforced", details: infoAndClient{says("net-rate"), knows("gpu", "net-rate")}, feature: "gpu-memory"},
		{doc: "older than the limit", details: infoAndClient{says("net-rate"), knows("net-rate")}, feature: "gpu-memory", expErr: unknown},
		{doc: "info is refused", details: infoAndClient{says(), &versionClient{infoErr: errors.New("denied")}}, feature: "gpu-memory", expErr: `X needs a Docker daemon that knows limits of the kind "gpu-memory", and asking this one (GET /info) failed: denied`},
		{doc: "a second ping is answered", details: infoAndClient{infoOnly{}, &versionClient{ping: types.ResourceFeatures{Known: true, Names: []string{"gpu-memory"}}}}, feature: "gpu-memory"},
		{doc: "a second ping is answered by another", details: infoAndClient{infoOnly{}, &versionClient{version: "27.0.1"}}, feature: "gpu-memory", expErr: "X is not supported by the Docker daemon (version 27.0.1), which cannot enforce it: use a dockerd that can"},
		{doc: "the ping is forbidden", details: infoAndClient{infoOnly{}, &versionClient{pingErr: cerrdefs.ErrPermissionDenied.WithMessage("Forbidden")}}, expErr: silent + "Forbidden: a proxy or plugin in front of the daemon has to let HEAD or GET /_ping pass"},
		{doc: "the daemon is down", details: infoAndClient{infoOnly{}, &versionClient{pingErr: errors.New("Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?")}}, expErr: silent + "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?"},
		{doc: "no client", details: stock, expErr: "X is not supported by the Docker daemon, which cannot enforce it: use a dockerd that can"},
		{doc: "nil client", details: infoAndClient{infoOnly: stock}, expErr: "X is not supported by the Docker daemon, which cannot enforce it: use a dockerd that can"},
		{doc: "version", details: infoAndClient{stock, &versionClient{version: "27.0.1"}}, expErr: "X is not supported by the Docker daemon (version 27.0.1), which cannot enforce it: use a dockerd that can"},
		{doc: "no version", details: infoAndClient{stock, &versionClient{err: errors.New("denied")}}, expErr: "X is not supported by the Docker daemon, which cannot enforce it: use a dockerd that can"},
		{doc: "no ping, no client", details: infoOnly{HasExperimental: true}, expErr: silent + "is the docker daemon running?"},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			err := CheckResource(tc.details, "X", tc.feature)
			if tc.expErr == "" {
				assert.NilError(t, err)
				return
			}
			assert.Check(t, is.Error(err, tc.expErr))
		})
	}
}
