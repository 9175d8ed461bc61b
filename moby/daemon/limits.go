// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/blkiodev"
	containertypes "github.com/docker/docker/api/types/container"
)

// unlimited is the value of a rate that removes the limit.
const unlimited = -1

// Ranges of the rates. Cgroup v2 refuses a disk rate of 1. Operations per second are
// 32 bits in the kernel, which wraps what is above and takes the largest of them for no
// limit. A network rate must save up a whole frame of 1500 bytes in the four seconds
// that a bucket can hold (links with larger frames need more: see checkNetRates), and
// above a million gigabits the kernel's clock is too coarse for a bucket.
const (
	minBlkioRate = 2
	maxBlkioIOps = 1<<32 - 2
	minNetRate   = 6072
	maxNetRate   = 1e15
)

// maxInterfaceName is IFNAMSIZ without the zero at the end, in bytes.
const maxInterfaceName = 15

// validateLimits checks the ranges of the limits of ours that a request names,
// but for those of the GPU. It knows nothing of the host, so that it gives the
// same answer for create, start and update.
func validateLimits(r containertypes.Resources) error {
	for _, rate := range []struct {
		name, flag, unit string
		value            *int64
		least, most      int64
	}{
		{"BlkioReadLimit", "--blkio-read-limit", "bytes per second", r.BlkioReadLimit, minBlkioRate, 1<<63 - 1},
		{"BlkioWriteLimit", "--blkio-write-limit", "bytes per second", r.BlkioWriteLimit, minBlkioRate, 1<<63 - 1},
		{"BlkioReadIOpsLimit", "--blkio-read-iops-limit", "operations per second", r.BlkioReadIOpsLimit, minBlkioRate, maxBlkioIOps},
		{"BlkioWriteIOpsLimit", "--blkio-write-iops-limit", "operations per second", r.BlkioWriteIOpsLimit, minBlkioRate, maxBlkioIOps},
		{"NetEgressRate", "--net-egress-rate", "bits per second", r.NetEgressRate, minNetRate, maxNetRate},
		{"NetIngressRate", "--net-ingress-rate", "bits per second", r.NetIngressRate, minNetRate, maxNetRate},
	} {
		if v := rate.value; v != nil && *v != unlimited && (*v < rate.least || *v > rate.most) {
			return fmt.Errorf("invalid %s (%s) %d: must be %d to %d %s, or -1 for no limit", rate.name, rate.flag, *v, rate.least, rate.most, rate.unit)
		}
	}
	// A null in a list would end in a panic, in upstream's code too.
	if slices.Contains(r.BlkioWeightDevice, nil) {
		return errors.New("invalid BlkioWeightDevice (--blkio-weight-device): null is not a device")
	}
	for _, list := range []struct {
		name, flag string
		devices    []*blkiodev.ThrottleDevice
	}{
		{"BlkioDeviceReadBps", "--device-read-bps", r.BlkioDeviceReadBps},
		{"BlkioDeviceWriteBps", "--device-write-bps", r.BlkioDeviceWriteBps},
		{"BlkioDeviceReadIOps", "--device-read-iops", r.BlkioDeviceReadIOps},
		{"BlkioDeviceWriteIOps", "--device-write-iops", r.BlkioDeviceWriteIOps},
	} {
		if slices.Contains(list.devices, nil) {
			return fmt.Errorf("invalid %s (%s): null is not a device", list.name, list.flag)
		}
	}
	for _, devices := range [][]*blkiodev.ThrottleDevice{r.BlkioDeviceReadIOps, r.BlkioDeviceWriteIOps} {
		for _, d := range devices {
			if d.Rate > maxBlkioIOps {
				return fmt.Errorf("invalid rate %d of %s (--device-read-iops, --device-write-iops): must be at most %d operations per second", d.Rate, d.Path, int64(maxBlkioIOps))
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
func blkioLimits(r containertypes.Resources) (limits containertypes.Resources) {
	limits.BlkioReadLimit = limiting(r.BlkioReadLimit)
	limits.BlkioWriteLimit = limiting(r.BlkioWriteLimit)
	limits.BlkioReadIOpsLimit = limiting(r.BlkioReadIOpsLimit)
	limits.BlkioWriteIOpsLimit = limiting(r.BlkioWriteIOpsLimit)
	return limits
}

// netLimits returns only those network fields of r that do something.
func netLimits(r containertypes.Resources) (limits containertypes.Resources) {
	if r.NetClassID != nil && *r.NetClassID != 0 {
		limits.NetClassID = r.NetClassID
	}
	if len(r.NetPriorities) > 0 {
		limits.NetPriorities = r.NetPriorities
	}
	limits.NetEgressRate = limiting(r.NetEgressRate)
	limits.NetIngressRate = limiting(r.NetIngressRate)
	return limits
}

func limiting(rate *int64) *int64 {
	if rate == nil || *rate == unlimited {
		return nil
	}
	return rate
}

// limitFlags spells the limits of r, but for those of the GPU and upstream's
// own, as the flags that set them, for errors. It is empty if there is none.
func limitFlags(r containertypes.Resources) string {
	var flags []string
	number := func(flag string, v *int64) {
		if v != nil {
			flags = append(flags, fmt.Sprintf("%s=%d", flag, *v))
		}
	}
	number("--blkio-read-limit", r.BlkioReadLimit)
	number("--blkio-write-limit", r.BlkioWriteLimit)
	number("--blkio-read-iops-limit", r.BlkioReadIOpsLimit)
	number("--blkio-write-iops-limit", r.BlkioWriteIOpsLimit)
	if c := r.NetClassID; c != nil {
		flags = append(flags, fmt.Sprintf("--net-classid=%x:%x", *c>>16, *c&0xffff))
	}
	for _, p := range r.NetPriorities {
		flags = append(flags, fmt.Sprintf("--net-prio=%s:%d", p.Interface, p.Priority))
	}
	number("--net-egress-rate", r.NetEgressRate)
	number("--net-ingress-rate", r.NetIngressRate)
	return strings.Join(flags, " ")
}

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
