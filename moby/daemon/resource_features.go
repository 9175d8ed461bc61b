// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"slices"
	"strings"

	"github.com/docker/docker/api/types"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/system"
)

// resourceLimits lists the kinds of limits that this daemon knows beyond
// upstream's, and whether the host can enforce them now with the default
// runtime.
func (daemon *Daemon) resourceLimits() (all []system.ResourceLimits) {
	for _, kind := range daemon.limitKinds() {
		for _, row := range kind.mechanisms() {
			row.Fields = containertypes.ResourceFieldsOf(row.Feature).Names()
			all = append(all, row)
		}
	}
	return all
}

// ResourceFeatures names the kinds of limits that this host can enforce now
// with the default runtime, beyond what every daemon can: "gpu-memory" for
// GPUMemory, "gpu-priority" for GPUPriority, "blkio-limit" for BlkioReadLimit
// and its like, "net-class" for NetClassID and NetPriorities, "net-rate" for
// NetEgressRate and NetIngressRate. Beside the first two, if both hold, stands
// "gpu", which was their one name before. It may be empty.
func (daemon *Daemon) ResourceFeatures() []string {
	return enforced(daemon.resourceLimits())
}

func enforced(limits []system.ResourceLimits) []string {
	features := []string{}
	for _, l := range limits {
		if l.Backend != "" {
			features = append(features, l.Feature)
		}
	}
	if slices.Contains(features, "gpu-memory") && slices.Contains(features, "gpu-priority") {
		features = append(features, types.ResourceFeatureGPU)
	}
	return features
}

// fillResourceInfo is the part of /info that tells what /_ping does, and why,
// and of what is not in force though it should be.
func (daemon *Daemon) fillResourceInfo(v *system.Info) {
	v.ResourceLimits = daemon.resourceLimits()
	v.ResourceFeatures = enforced(v.ResourceLimits)
	v.Warnings = append(v.Warnings, daemon.lostWarnings()...)
}

// fillResourceVersion gives the engine in /version the list of /_ping.
func (daemon *Daemon) fillResourceVersion(v *versionResponse) {
	v.Components[0].Details["ResourceFeatures"] = strings.Join(daemon.ResourceFeatures(), ",")
}
