// SPDX-License-Identifier: Apache-2.0

package types

import (
	"net/http"
	"slices"
	"strings"
)

// ResourceFeaturesHeader is the header of a ping response by which a daemon
// says that it knows resource limits beyond upstream's, and which kinds of
// them it can enforce at the moment, as a comma-separated list. The list may
// be empty. A daemon that does not send the header drops such limits from a
// request and reports success.
const ResourceFeaturesHeader = "Docker-Resource-Features"

// ResourceFeatureGPU stands for "gpu-memory" and "gpu-priority" together. A
// daemon from before there were the two says only this.
const ResourceFeatureGPU = "gpu"

// ResourceFeatures is what a daemon says in [ResourceFeaturesHeader].
type ResourceFeatures struct {
	// Known is whether the daemon sent the header at all. If it is false,
	// nothing is known about the limits, not even after a successful ping.
	Known bool

	// Names are the kinds of limits that the host can enforce, for example
	// "gpu-memory", in the daemon's order.
	Names []string
}

// Has reports whether the host can enforce limits of this kind.
func (f ResourceFeatures) Has(name string) bool {
	return slices.ContainsFunc(f.Names, func(said string) bool { return FeatureCovers(said, name) })
}

// FeatureCovers reports whether a daemon that says one kind of limits speaks of
// the other: of the same, or of [ResourceFeatureGPU] for a part of it.
func FeatureCovers(said, name string) bool {
	return said == name || said == ResourceFeatureGPU && (name == "gpu-memory" || name == "gpu-priority")
}

// String is the header's value.
func (f ResourceFeatures) String() string {
	return strings.Join(f.Names, ",")
}

// ParseResourceFeatures reads [ResourceFeaturesHeader] from the headers of a
// ping response. Several headers of that name count as one list.
func ParseResourceFeatures(header http.Header) ResourceFeatures {
	values := header.Values(ResourceFeaturesHeader)
	features := ResourceFeatures{Known: len(values) > 0}
	for _, name := range strings.Split(strings.Join(values, ","), ",") {
		if name = strings.TrimSpace(name); name != "" {
			features.Names = append(features.Names, name)
		}
	}
	return features
}
