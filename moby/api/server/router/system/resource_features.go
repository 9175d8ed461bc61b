// SPDX-License-Identifier: Apache-2.0

package system

import (
	"net/http"

	"github.com/docker/docker/api/types"
)

// resourceFeaturer is a backend that knows what the host can enforce now.
type resourceFeaturer interface {
	ResourceFeatures() []string
}

// setResourceFeatures writes the header of a ping, empty if nothing can be
// enforced: the client learns that this daemon refuses rather than drops.
func (s *systemRouter) setResourceFeatures(w http.ResponseWriter) {
	if b, ok := s.backend.(resourceFeaturer); ok {
		features := types.ResourceFeatures{Known: true, Names: b.ResourceFeatures()}
		w.Header().Set(types.ResourceFeaturesHeader, features.String())
	}
}
