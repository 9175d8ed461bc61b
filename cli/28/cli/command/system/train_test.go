// SPDX-License-Identifier: Apache-2.0

package system

import (
	"github.com/docker/cli/cli/command"
	"github.com/docker/cli/internal/test"
	"github.com/docker/docker/api/types"
)

func engineWith(details map[string]string) versionInfo {
	return versionInfo{Server: &types.Version{Components: []types.ComponentVersion{{Name: "Engine", Version: "28.5.2", Details: details}}}}
}

func printerOf(cli *test.FakeCli) command.Cli { return cli }
