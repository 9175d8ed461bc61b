// SPDX-License-Identifier: Apache-2.0

package system

import (
	"io"

	"github.com/docker/cli/internal/test"
	"github.com/moby/moby/api/types/system"
)

func engineWith(details map[string]string) versionInfo {
	return versionInfo{Server: &serverVersion{Components: []system.ComponentVersion{{Name: "Engine", Version: "29.8.1", Details: details}}}}
}

func printerOf(cli *test.FakeCli) io.Writer { return cli.Out() }
