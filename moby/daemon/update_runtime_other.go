// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package daemon

import (
	"context"

	"github.com/docker/docker/container"
	libcontainerdtypes "github.com/docker/docker/libcontainerd/types"
)

func (daemon *Daemon) sendUpdate(ctx context.Context, _ *container.Container, tsk libcontainerdtypes.Task, resources *libcontainerdtypes.Resources) error {
	return tsk.UpdateResources(ctx, resources)
}

func (*Daemon) expectUpdate(*container.Container) {}
