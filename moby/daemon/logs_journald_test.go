// SPDX-License-Identifier: Apache-2.0

//go:build !linux || !cgo || static_build || !journald

package daemon

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/container"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func TestLogsOfJournaldSayWhyThereAreNone(t *testing.T) {
	ctr := container.NewBaseContainer("0123456789abcdef", t.TempDir())
	ctr.HostConfig = &containertypes.HostConfig{LogConfig: containertypes.LogConfig{Type: "journald", Config: map[string]string{}}}
	assert.Check(t, unreadableLogs(ctr), "it has never run")

	ctr.State.StartedAt = time.Now()
	err := unreadableLogs(ctr)
	assert.Check(t, is.Error(err, "configured logging driver does not support reading: this dockerd is a static program and cannot load libsystemd, by which the journal is read; see journalctl CONTAINER_ID=0123456789ab"))
	assert.Check(t, cerrdefs.IsNotImplemented(err))

	assert.NilError(t, os.WriteFile(filepath.Join(ctr.Root, "container-cached.log"), nil, 0o600))
	assert.Check(t, unreadableLogs(ctr), "there is a cache")
	ctr.HostConfig.LogConfig.Config["cache-disabled"] = "true"
	assert.Check(t, is.ErrorContains(unreadableLogs(ctr), "cannot load libsystemd"))
	ctr.HostConfig.LogConfig.Type = "json-file"
	assert.Check(t, unreadableLogs(ctr))
}
