// SPDX-License-Identifier: Apache-2.0

//go:build pins

// Package pins keeps the requires of the upstream modules in go.mod. Nothing is
// linked from here: each import is a leaf package, so that "go mod tidy" keeps
// the pins and go.sum stays short. The trees are made from the pinned modules
// by scripts/tree.
package pins

import (
	_ "github.com/containerd/containerd/v2/version"
	_ "github.com/docker/cli/cli/version"
	_ "github.com/docker/docker/api"
	_ "github.com/opencontainers/cgroups/devices/config"
	_ "github.com/opencontainers/runc/types/features"
)
