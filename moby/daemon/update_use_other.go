// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package daemon

import (
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/container"
	libcontainerdtypes "github.com/docker/docker/libcontainerd/types"
)

func (*Daemon) belowUse(*container.Container, int, containertypes.Resources) error { return nil }

func checkBeforeLowering(*container.Container, int, *libcontainerdtypes.Resources) {}
