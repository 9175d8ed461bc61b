// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"

	"github.com/containerd/log"
	containertypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"
	libcontainerdtypes "github.com/moby/moby/v2/daemon/internal/libcontainerd/types"
	"github.com/moby/moby/v2/pkg/sysinfo"
)

// What is called in another way in each train; moby/28 has the same.

type versionResponse = system.VersionResponse

// hostInfo returns what the host can do: nothing, so that limits are refused, where
// dockerd cannot look (rootless, if its network namespace cannot be entered).
func (daemon *Daemon) hostInfo() *sysinfo.SysInfo {
	info, err := daemon.RawSysInfo()
	if err != nil {
		log.G(context.TODO()).WithError(err).Error("what this host can limit is not known")
		return &sysinfo.SysInfo{}
	}
	return info
}

// containerdResources returns what the runtime gets for an update, without the lists of
// devices, which blkioUpdate adds: upstream's would be there twice.
func containerdResources(update containertypes.Resources) (*libcontainerdtypes.Resources, error) {
	update.BlkioWeightDevice = nil
	update.BlkioDeviceReadBps, update.BlkioDeviceWriteBps = nil, nil
	update.BlkioDeviceReadIOps, update.BlkioDeviceWriteIOps = nil, nil
	return toContainerdResources(update)
}

func swarmNetwork(cluster Cluster, name string) (network.Inspect, error) {
	return cluster.GetNetwork(name, false)
}
