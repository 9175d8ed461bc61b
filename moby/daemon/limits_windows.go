// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"

	containertypes "github.com/docker/docker/api/types/container"
)

// verifyLimits refuses every limit of ours: Windows has none of them.
func verifyLimits(r containertypes.Resources) error {
	if err := verifyGPU(r); err != nil {
		return err
	}
	if err := validateLimits(r); err != nil {
		return err
	}
	for _, limits := range []containertypes.Resources{blkioLimits(r), netLimits(r)} {
		if flags := limitFlags(limits); flags != "" {
			return fmt.Errorf("invalid option: Windows does not support %s", flags)
		}
	}
	return nil
}
