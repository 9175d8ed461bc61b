// SPDX-License-Identifier: Apache-2.0

//go:build linux || freebsd

package daemon

import (
	"fmt"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/container"
	libcontainerdtypes "github.com/docker/docker/libcontainerd/types"
	"github.com/docker/docker/pkg/sysinfo"
)

// verifyLimits refuses limits of ours that are out of range, and those that
// this host or the container's runtime cannot enforce. They are errors and not
// warnings because start-up throws warnings away.
func verifyLimits(daemonCfg *configStore, hostConfig *containertypes.HostConfig, sysInfo *sysinfo.SysInfo, update bool) error {
	if err := verifyGPU(daemonCfg, hostConfig, sysInfo, update); err != nil {
		return err
	}
	if err := validateLimits(hostConfig.Resources); err != nil {
		return err
	}
	if err := verifyBlkio(daemonCfg, hostConfig, sysInfo, update); err != nil {
		return err
	}
	return verifyNet(daemonCfg, hostConfig, sysInfo, update)
}

func verifyBlkio(_ *configStore, hostConfig *containertypes.HostConfig, _ *sysinfo.SysInfo, update bool) error {
	r := hostConfig.Resources
	if update && (r.BlkioWeightDevice != nil || r.BlkioDeviceReadBps != nil || r.BlkioDeviceWriteBps != nil || r.BlkioDeviceReadIOps != nil || r.BlkioDeviceWriteIOps != nil) {
		return fmt.Errorf("this dockerd cannot change --blkio-weight-device, --device-read-bps and the like of an existing container yet")
	}
	if flags := limitFlags(blkioLimits(hostConfig.Resources)); flags != "" {
		return fmt.Errorf("%s cannot be enforced: this dockerd does not support it yet; use --device-read-bps and the like, which name the disk", flags)
	}
	return nil
}

// startLimits applies and reads back the limits of a container whose init
// process exists but does not run the user's program yet.
func (daemon *Daemon) startLimits(ctr *container.Container, tsk libcontainerdtypes.Task) error {
	if err := verifyGPUStarted(ctr, tsk); err != nil {
		return err
	}
	return daemon.startNet(ctr, tsk)
}
