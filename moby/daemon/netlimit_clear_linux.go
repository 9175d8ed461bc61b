// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"os"

	"github.com/docker/docker/libnetwork/netlimit"
	"github.com/moby/sys/reexec"
)

// clearCommand is dockerd's name when it is run to take away what network limits left
// on a host that it is uninstalled from: see scripts/host/limits.sh.
const clearCommand = "docker-limits-clear"

func init() {
	reexec.Register(clearCommand, func() {
		if err := netlimit.RemoveAll(); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", clearCommand, err)
			os.Exit(1)
		}
	})
}
