// SPDX-License-Identifier: Apache-2.0

package libcontainer

import (
	"fmt"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer/configs"
)

// Update changes some resources of a running container, or none. change is what
// is written to the cgroups; config, which becomes the container's and goes into
// state.json, has to hold the same values. If anything fails, state.json
// included, each of back is written, even if another of them fails too, and the
// container keeps the config it had.
//
// Set, which is upstream's, writes every resource that config has, and if it
// fails stops at the first one that cannot be put back.
func (c *Container) Update(config configs.Config, change *cgroups.Resources, back []*cgroups.Resources) error {
	c.m.Lock()
	defer c.m.Unlock()
	status, err := c.currentStatus()
	if err != nil {
		return err
	}
	if status == Stopped {
		return ErrNotRunning
	}

	oldConfig, oldResources := c.config, c.config.Cgroups.Resources
	if err = c.cgroupManager.Set(change); err == nil {
		if change.Memory != 0 {
			// No limit for memory means none for swap, on cgroup v1.
			config.Cgroups.MemorySwap = change.MemorySwap
		}
		if c.intelRdtManager != nil {
			err = c.intelRdtManager.Set(&config)
		}
	}
	if err == nil {
		c.config = &config
		if _, err = c.updateState(nil); err == nil {
			return nil
		}
		err = fmt.Errorf("unable to save the container's state: %w", err)
	}

	c.config = oldConfig
	for _, r := range back {
		if backErr := c.cgroupManager.Set(r); backErr != nil {
			err = fmt.Errorf("%w; and unable to put back: %w", err, backErr)
		}
	}
	if c.intelRdtManager != nil {
		if backErr := c.intelRdtManager.Set(oldConfig); backErr != nil {
			err = fmt.Errorf("%w; and unable to put back: %w", err, backErr)
		}
	}
	// The cgroup v2 manager keeps what it set last, in the struct it was given.
	c.config.Cgroups.Resources = oldResources
	return err
}
