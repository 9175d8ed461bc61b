// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"

	"github.com/docker/docker/api/types/backend"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/container"
	libcontainerdtypes "github.com/docker/docker/libcontainerd/types"
)

// verifyLimits refuses every limit of ours: Windows has none of them.
func verifyLimits(r containertypes.Resources) error {
	if err := verifyGPU(r); err != nil {
		return err
	}
	if err := validateLimits(r); err != nil {
		return err
	}
	for _, limits := range []containertypes.Resources{blkioLimits(r), netLimits(r)} {
		if flags := limitFlags(limits); flags != "" {
			return fmt.Errorf("invalid option: Windows does not support %s", flags)
		}
	}
	return nil
}

func (daemon *Daemon) blkioResourceLimits() system.ResourceLimits {
	return system.ResourceLimits{Reason: "Windows has no limits for the disks behind a container"}
}

// blkioUpdate has nothing to add: verifyLimits refuses before it is called.
func (daemon *Daemon) blkioUpdate(*container.Container, int, *libcontainerdtypes.Resources, containertypes.Resources, containertypes.Resources, bool) (func() error, error) {
	return func() error { return nil }, nil
}

func (daemon *Daemon) verifyCreated(params backend.ContainerCreateConfig) error {
	config, hostConfig := params.Config, params.HostConfig
	hostConfig.ResourcesVersion = firstResourcesVersion
	return verifyHasNetwork(config, hostConfig)
}

func (daemon *Daemon) createWarnings(*container.Container) []string { return nil }

func (daemon *Daemon) updateWarnings(string, *containertypes.HostConfig) []string { return nil }

func (daemon *Daemon) blkioLimitDisks(*container.Container) []containertypes.BlkioLimitDisk {
	return nil
}

// restoreDisks has nothing to look at.
func (daemon *Daemon) restoreDisks(map[string]*container.Container) {}
