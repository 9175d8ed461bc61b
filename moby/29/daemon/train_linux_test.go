// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	networktypes "github.com/moby/moby/api/types/network"
	libcontainerdtypes "github.com/moby/moby/v2/daemon/internal/libcontainerd/types"
)

func (s *fakeSwarm) GetNetwork(name string, _ bool) (networktypes.Inspect, error) {
	return s.network(name)
}

func pidsOf(r *libcontainerdtypes.Resources) int64 { return *r.Pids.Limit }
