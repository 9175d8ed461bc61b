// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/blkiodev"
	containertypes "github.com/docker/docker/api/types/container"
)

// unlimited is the value of a rate that removes the limit.
const unlimited = -1

// The added limits, which upstream does not know, by what enforces them. The rows say
// all that is to be said of a field by itself.
var (
	addedFields = containertypes.ResourceFieldsOf("")
	gpuFields   = containertypes.ResourceFieldsOf("gpu-")
	blkioFields = containertypes.ResourceFieldsOf("blkio-")
	netFields   = containertypes.ResourceFieldsOf("net-")

	ratesFields   = containertypes.ResourceFieldsOf("net-rate")
	packetsFields = containertypes.ResourceFieldsOf("net-pps")
)

// maxInterfaceName is IFNAMSIZ without the zero at the end, in bytes.
const maxInterfaceName = 15

// validateLimits checks the ranges of the added limits that a request names. It knows
// nothing of the host, so that it gives the same answer for create, start and update.
func validateLimits(r containertypes.Resources) error {
	if err := addedFields.Check(r); err != nil {
		return err
	}
	for _, f := range containertypes.ResourceFields {
		// A null in a list would end in a panic, in upstream's code too.
		switch list := f.Ref(&r).(type) {
		case *[]*blkiodev.WeightDevice:
			if slices.Contains(*list, nil) {
				return fmt.Errorf("invalid %s (--%s): null is not a device", f.Name, f.Flag)
			}
		case *[]*blkiodev.ThrottleDevice:
			if slices.Contains(*list, nil) {
				return fmt.Errorf("invalid %s (--%s): null is not a device", f.Name, f.Flag)
			}
			for _, d := range *list {
				if f.Most != 0 && d.Rate > uint64(f.Most) {
					return fmt.Errorf("invalid rate %d of %s (--device-read-iops, --device-write-iops): must be at most %d operations per second", d.Rate, d.Path, f.Most)
				}
			}
		}
	}
	seen := map[string]bool{}
	for _, p := range r.NetPriorities {
		name := p.Interface
		if name == "" || len(name) > maxInterfaceName || name == "." || name == ".." || strings.ContainsAny(name, "/ \t\n,") {
			return fmt.Errorf("invalid NetPriorities (--net-prio): %q is not the name of a network interface: must be 1 to %d characters without blanks, slashes and commas", name, maxInterfaceName)
		}
		if seen[name] {
			return fmt.Errorf("invalid NetPriorities (--net-prio): interface %s has two priorities", name)
		}
		seen[name] = true
	}
	return nil
}

// blkioLimits returns only those rates of r that limit the disks behind a
// container. -1 asks for what every container has anyway.
func blkioLimits(r containertypes.Resources) containertypes.Resources { return blkioFields.Limits(r) }

// netLimits returns only those network fields of r that do something.
func netLimits(r containertypes.Resources) containertypes.Resources { return netFields.Limits(r) }

func limiting(rate *int64) *int64 {
	if rate == nil || *rate == unlimited {
		return nil
	}
	return rate
}

// limitFlags spells the added limits of r as the flags that set them, for errors. It is
// empty if there is none.
func limitFlags(r containertypes.Resources) string { return addedFields.Flags(r) }

// verifyHasNetwork refuses network limits of a container that the API made without
// any network; verifyNet sees only the HostConfig, which does not say so.
func verifyHasNetwork(config *containertypes.Config, hostConfig *containertypes.HostConfig) error {
	if config == nil || hostConfig == nil || !config.NetworkDisabled {
		return nil
	}
	if flags := limitFlags(netLimits(hostConfig.Resources)); flags != "" {
		return fmt.Errorf("%s cannot be enforced: the container has no network (NetworkDisabled)", flags)
	}
	return nil
}
