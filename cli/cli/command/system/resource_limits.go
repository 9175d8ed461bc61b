// SPDX-License-Identifier: Apache-2.0

package system

import (
	"io"
	"strings"

	"github.com/docker/docker/api/types/system"
)

// printResourceLimits says by what the daemon's host enforces each kind of
// resource limits, or why it does not. A daemon that does not know them
// prints nothing.
func printResourceLimits(output io.Writer, limits []system.ResourceLimits) {
	if len(limits) == 0 {
		return
	}
	fprintln(output, " Resource Limits:")
	for _, l := range limits {
		backend := l.Backend
		if backend == "" {
			backend = "not enforced: " + l.Reason
		}
		fprintf(output, "  %s: %s\n", strings.Join(l.Fields, ", "), backend)
		if len(l.Devices) > 0 {
			fprintln(output, "   Devices: "+strings.Join(l.Devices, ", "))
		}
	}
}
