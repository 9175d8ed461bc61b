// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"github.com/docker/docker/api/types"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	libcontainerdtypes "github.com/docker/docker/libcontainerd/types"
	"github.com/docker/docker/pkg/sysinfo"
)

// What is called in another way in each train; moby/29 has the same.

type versionResponse = types.Version

// hostInfo returns what the host can do.
func (daemon *Daemon) hostInfo() *sysinfo.SysInfo { return daemon.RawSysInfo() }

// containerdResources returns what the runtime gets for an update, without the lists of
// devices, which blkioUpdate adds.
func containerdResources(update containertypes.Resources) (*libcontainerdtypes.Resources, error) {
	return toContainerdResources(update), nil
}

func swarmNetwork(cluster Cluster, name string) (network.Inspect, error) {
	return cluster.GetNetwork(name)
}
