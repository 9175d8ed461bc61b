// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package daemon

import (
	"context"
	"fmt"
	"runtime"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/container"
	libcontainerdtypes "github.com/docker/docker/libcontainerd/types"
	"github.com/docker/docker/libnetwork"
	"github.com/docker/docker/pkg/sysinfo"
)

type netState struct{}

// verifyNet refuses every network limit: only Linux has them.
func verifyNet(_ *configStore, hostConfig *containertypes.HostConfig, _ *sysinfo.SysInfo, _ bool) error {
	if flags := limitFlags(netLimits(hostConfig.Resources)); flags != "" {
		return fmt.Errorf("%s cannot be enforced: %s does not support it", flags, runtime.GOOS)
	}
	return nil
}

func (*Daemon) checkNetUpdate(*container.Container, containertypes.Resources) error { return nil }

func (*Daemon) limitEndpoint(context.Context, *container.Container, *libnetwork.Network, *libnetwork.Endpoint) error {
	return nil
}

func (*Daemon) limitPorts(*container.Container) {}

func (*Daemon) checkConnect(*container.Container, string) error { return nil }

func (*Daemon) netLimitEndpoints(*container.Container) []containertypes.NetLimitEndpoint { return nil }

func (*Daemon) startNet(*container.Container, libcontainerdtypes.Task) error { return nil }

func (*Daemon) updateNet(*container.Container, libcontainerdtypes.Task, containertypes.Resources, *libcontainerdtypes.Resources, bool) error {
	return nil
}

func namesNet(containertypes.Resources) bool { return false }

func (*Daemon) hasEndpoint(*container.Container, string) bool { return false }

func (*Daemon) verifyNetApplied(*container.Container, libcontainerdtypes.Task, containertypes.Resources) error {
	return nil
}

func (*Daemon) restoreNet(map[string]*container.Container) {}

func (*Daemon) stopNet() {}

func (*Daemon) netResourceLimits() (class, rate system.ResourceLimits) {
	none := system.ResourceLimits{Reason: runtime.GOOS + " has no such limits"}
	return none, none
}
