// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package daemon

import (
	"context"
	"errors"
	"runtime"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/container"
	libcontainerdtypes "github.com/docker/docker/libcontainerd/types"
	"github.com/docker/docker/libnetwork"
	"github.com/docker/docker/pkg/sysinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Only Linux has these limits: they are refused, so that nothing is to be done later.

type (
	diskWatch  struct{}
	netState   struct{}
	updatePool struct{}

	noLimits struct {
		containertypes.ResourceFieldSet
	}
)

func (*Daemon) limitKinds() []limitKind {
	return []limitKind{noLimits{containertypes.ResourceFieldsOf("")}}
}

func (noLimits) name() string { return "" }

func (k noLimits) admit(_ *configStore, hostConfig *containertypes.HostConfig, _ *sysinfo.SysInfo, _ bool) error {
	if limits := k.Limits(hostConfig.Resources); k.Named(limits) {
		return refusal(k.ResourceFieldSet, limits, errors.New(runtime.GOOS+" does not support it"))
	}
	return nil
}

func (noLimits) admitNew(*configStore, *containertypes.Config, *containertypes.HostConfig, *network.NetworkingConfig) error {
	return nil
}

func (noLimits) admitUpdate(*container.Container, containertypes.Resources) error { return nil }

func (noLimits) spec(*configStore, *container.Container, *specs.Spec) error { return nil }

func (noLimits) started(context.Context, *container.Container, libcontainerdtypes.Task) error {
	return nil
}

func (noLimits) update(*container.Container, libcontainerdtypes.Task, *libcontainerdtypes.Resources, containertypes.Resources, containertypes.Resources, bool) (func() error, error) {
	return nothingToVerify, nil
}

func (noLimits) warnings(*container.Container) []string { return nil }

func (noLimits) updateWarnings(*container.Container, containertypes.Resources) []string { return nil }

func (k noLimits) mechanisms() (rows []system.ResourceLimits) {
	for _, feature := range k.Kinds() {
		rows = append(rows, system.ResourceLimits{Feature: feature, Reason: runtime.GOOS + " has no such limits"})
	}
	return rows
}

func (noLimits) reapply(*container.Container) map[lostOn]bool { return nil }

func (noLimits) restore(map[string]*container.Container) {}

// What upstream's code on every system calls for one kind alone.

func namesNet(containertypes.Resources) bool { return false }

func (*Daemon) limitEndpoint(context.Context, *container.Container, *libnetwork.Network, *libnetwork.Endpoint) error {
	return nil
}

func (*Daemon) limitPorts(*container.Container) {}

func (*Daemon) checkConnect(*container.Container, string) error { return nil }

func (*Daemon) hasEndpoint(*container.Container, string) bool { return false }

func (*Daemon) stopNet() {}

func (*Daemon) netLimitEndpoints(*container.Container) []containertypes.NetLimitEndpoint { return nil }

func (*Daemon) blkioLimitDisks(*container.Container) []containertypes.BlkioLimitDisk { return nil }
