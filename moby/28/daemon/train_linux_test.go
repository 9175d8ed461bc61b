// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	networktypes "github.com/docker/docker/api/types/network"
	libcontainerdtypes "github.com/docker/docker/libcontainerd/types"
)

func (s *fakeSwarm) GetNetwork(name string) (networktypes.Inspect, error) { return s.network(name) }

func pidsOf(r *libcontainerdtypes.Resources) int64 { return r.Pids.Limit }
