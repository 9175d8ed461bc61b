// SPDX-License-Identifier: Apache-2.0

//go:build linux || freebsd

package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/containerd/containerd/v2/core/containers"
	coci "github.com/containerd/containerd/v2/pkg/oci"
	"github.com/docker/docker/api/types/backend"
	"github.com/docker/docker/api/types/blkiodev"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/container"
	"github.com/docker/docker/daemon/network"
	libcontainerdtypes "github.com/docker/docker/libcontainerd/types"
	"github.com/docker/docker/libnetwork/netlabel"
	"github.com/docker/docker/libnetwork/netlimit"
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

// verifyBlkio refuses rates of disks that nobody would enforce.
func verifyBlkio(daemonCfg *configStore, hostConfig *containertypes.HostConfig, sysInfo *sysinfo.SysInfo, update bool) error {
	r := hostConfig.Resources
	flags := limitFlags(blkioLimits(r))
	named := len(r.BlkioWeightDevice) + len(r.BlkioDeviceReadBps) + len(r.BlkioDeviceWriteBps) + len(r.BlkioDeviceReadIOps) + len(r.BlkioDeviceWriteIOps)
	if update && named > 0 && daemonCfg.IsRootless() {
		return errors.New("--device-read-bps and the like cannot be changed by a rootless daemon: no block I/O controller is delegated to it; run dockerd as root")
	}
	if sysInfo.CgroupUnified {
		if err := verifyDeviceRatesV2(r); err != nil {
			return err
		}
	}
	if flags == "" {
		return nil
	}
	if err := blkioObstacle(daemonCfg, sysInfo); err != nil {
		return fmt.Errorf("%s cannot be enforced: %w", flags, err)
	}
	return nil
}

// verifyDeviceRatesV2 refuses what the io controller answers with EINVAL.
func verifyDeviceRatesV2(r containertypes.Resources) error {
	for _, list := range []struct {
		flag    string
		devices []*blkiodev.ThrottleDevice
	}{
		{"--device-read-bps", r.BlkioDeviceReadBps},
		{"--device-write-bps", r.BlkioDeviceWriteBps},
		{"--device-read-iops", r.BlkioDeviceReadIOps},
		{"--device-write-iops", r.BlkioDeviceWriteIOps},
	} {
		for _, d := range list.devices {
			if d != nil && d.Rate == 1 {
				return fmt.Errorf("%s %s:1 cannot be enforced: cgroup v2 takes rates from 2 up, and 0 for no limit", list.flag, d.Path)
			}
		}
	}
	return nil
}

// blkioObstacle says why no disk can be limited on this host.
func blkioObstacle(daemonCfg *configStore, sysInfo *sysinfo.SysInfo) error {
	switch {
	case daemonCfg.IsRootless():
		return errors.New("the daemon is rootless, and no block I/O controller is delegated to it; run dockerd as root")
	case sysInfo.BlkioReadBpsDevice && sysInfo.BlkioWriteBpsDevice && sysInfo.BlkioReadIOpsDevice && sysInfo.BlkioWriteIOpsDevice:
		return nil
	case sysInfo.CgroupUnified:
		return errors.New("cgroup v2 has no io controller here: the kernel needs CONFIG_BLK_CGROUP and CONFIG_BLK_DEV_THROTTLING")
	default:
		return errors.New("there is no blkio hierarchy that throttles: the kernel needs CONFIG_BLK_DEV_THROTTLING, and `mount -t cgroup -o blkio blkio /sys/fs/cgroup/blkio` before dockerd starts")
	}
}

// blkioResourceLimits tells whether the disks behind a container can be limited.
func (daemon *Daemon) blkioResourceLimits() system.ResourceLimits {
	sysInfo := daemon.hostInfo()
	switch err := blkioObstacle(daemon.config(), sysInfo); {
	case err != nil:
		return system.ResourceLimits{Reason: err.Error()}
	case sysInfo.CgroupUnified:
		return system.ResourceLimits{Backend: "io controller of cgroup v2"}
	default:
		return system.ResourceLimits{Backend: "blkio controller of cgroup v1"}
	}
}

// withLimits puts limits of ours into the spec, as far as they go there.
func withLimits(daemon *Daemon, daemonCfg *configStore, c *container.Container) coci.SpecOpts {
	gpu, net := withGPU(daemon, daemonCfg, c), withNet(daemon, daemonCfg, c)
	return func(ctx context.Context, client coci.Client, ctr *containers.Container, s *coci.Spec) error {
		// Also when a restart policy starts it: see withGPU.
		if err := verifyLimits(daemonCfg, c.HostConfig, daemon.hostInfo(), false); err != nil {
			return err
		}
		if err := gpu(ctx, client, ctr, s); err != nil {
			return err
		}
		if err := net(ctx, client, ctr, s); err != nil {
			return err
		}
		return daemon.withThrottles(c, s.Linux.Resources.BlockIO)
	}
}

// verifyCreated refuses what only the parts of a request together tell. config has
// got what the image says.
func (daemon *Daemon) verifyCreated(params backend.ContainerCreateConfig) error {
	config, hostConfig := params.Config, params.HostConfig
	if err := verifyHasNetwork(config, hostConfig); err != nil {
		return err
	}
	hostConfig.ResourcesVersion = firstResourcesVersion
	daemonCfg := daemon.config()
	limits := netLimits(hostConfig.Resources)
	if flags := limitFlags(limits); flags != "" {
		var networks []string
		if mode := hostConfig.NetworkMode; isDefaultBridge(mode) {
			networks = []string{network.DefaultNetwork}
		} else if mode.IsUserDefined() {
			networks = []string{mode.NetworkName()}
		}
		if params.NetworkingConfig != nil {
			networks = slices.AppendSeq(networks, maps.Keys(params.NetworkingConfig.EndpointsConfig))
		}
		if err := daemon.checkNetworks(networks, limits); err != nil {
			return fmt.Errorf("%s cannot be enforced: %w", flags, err)
		}
	}
	return daemon.verifyGPUDevices(daemonCfg, config, hostConfig)
}

// checkNetRates refuses a rate that is too low for the frames of a bridge network, by
// the options that it was made with and dockerd's --mtu.
func checkNetRates(options map[string]string, mtu int, limits containertypes.Resources) error {
	if own, err := strconv.Atoi(options[netlabel.DriverMTU]); err == nil && own > 0 {
		mtu = own
	}
	least := netlimit.MinRate(max(mtu, 0))
	for _, rate := range []*int64{limits.NetEgressRate, limits.NetIngressRate} {
		if rate != nil && *rate < least {
			return fmt.Errorf("with an MTU of %d the least rate is %d bits per second", mtu, least)
		}
	}
	return nil
}

// startLimits applies and reads back what is not in the spec, or not believed,
// before the user's program runs.
func (daemon *Daemon) startLimits(ctx context.Context, ctr *container.Container, tsk libcontainerdtypes.Task) error {
	if err := daemon.startGPU(ctx, ctr, tsk); err != nil {
		return err
	}
	if err := daemon.startBlkio(ctx, ctr, tsk); err != nil {
		return err
	}
	return daemon.startNet(ctr, tsk)
}

// createWarnings says what the limits of a new container do not cover.
func (daemon *Daemon) createWarnings(ctr *container.Container) []string {
	return slices.Concat(daemon.blkioWarnings(ctr, 0), daemon.gpuWarnings(ctr), netWarnings(ctr.HostConfig.Resources), forwardWarnings(ctr.HostConfig))
}

// updateWarnings says the same of a container that was updated.
func (daemon *Daemon) updateWarnings(name string, update *containertypes.HostConfig) []string {
	if update == nil || limitFlags(blkioLimits(update.Resources)) == "" && !namesGPU(gpuLimits(update.Resources)) && len(update.NetPriorities) == 0 {
		return nil
	}
	ctr, err := daemon.GetContainer(name)
	if err != nil {
		return nil
	}
	ctr.Lock()
	defer ctr.Unlock()
	var warnings []string
	if limitFlags(blkioLimits(update.Resources)) != "" {
		warnings = daemon.blkioWarnings(ctr, ctr.Pid)
	}
	if limits := gpuLimits(update.Resources); namesGPU(limits) {
		more, _ := daemon.judgeGPUUpdate(ctr, ctr.Pid, limits)
		warnings = append(warnings, more...)
	}
	return append(warnings, netWarnings(update.Resources)...)
}
