// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"

	"github.com/containerd/containerd/v2/core/containers"
	coci "github.com/containerd/containerd/v2/pkg/oci"
	"github.com/docker/docker/container"
)

// limitKinds are all kinds, in the order in which errors of several count.
func (daemon *Daemon) limitKinds() []limitKind {
	return []limitKind{gpuKind{daemon}, blkioKind{daemon}, netKind{daemon}}
}

// withLimits puts the added limits into the spec, as far as they go there. It comes
// after all that brings devices.
func withLimits(daemon *Daemon, daemonCfg *configStore, c *container.Container) coci.SpecOpts {
	return func(ctx context.Context, _ coci.Client, _ *containers.Container, s *coci.Spec) error {
		if ctx.Value(limitsCheckedKey{}) == nil {
			if err := daemon.verifyLimits(daemonCfg, c.HostConfig, daemon.hostInfo(), false); err != nil {
				return err
			}
		}
		for _, kind := range daemon.limitKinds() {
			if err := kind.spec(daemonCfg, c, s); err != nil {
				return err
			}
		}
		return nil
	}
}
