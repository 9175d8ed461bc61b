// SPDX-License-Identifier: Apache-2.0

//go:build !linux || !cgo || static_build || !journald

package daemon

import (
	"errors"
	"fmt"
	"os"

	"github.com/docker/docker/container"
	"github.com/docker/docker/daemon/logger"
)

// unreadableLogs returns the reason why there are no logs to show of a container
// with the driver journald, in a program that cannot read the journal. What is
// logged under this program is kept in a cache too, so there is none to give if
// that is there; without these words older logs would be shown as none at all.
func unreadableLogs(ctr *container.Container) error {
	config := ctr.HostConfig.LogConfig
	ctr.Lock()
	isNew := ctr.State.StartedAt.IsZero()
	ctr.Unlock()
	if config.Type != "journald" || isNew {
		return nil
	}
	if config.Config["cache-disabled"] != "true" {
		cached, err := ctr.GetRootResourcePath("container-cached.log")
		if err != nil {
			return err
		}
		if _, err := os.Stat(cached); !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return fmt.Errorf("%w: this dockerd is a static program and cannot load libsystemd, by which the journal is read; see journalctl CONTAINER_ID=%.12s", logger.ErrReadLogsNotSupported{}, ctr.ID)
}
