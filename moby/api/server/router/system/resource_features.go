// SPDX-License-Identifier: Apache-2.0

package system

import (
	"net/http"
	"strings"
)

// resourceFeaturesHeader lists, in the answer to /_ping, the resources that
// this host can limit now beyond what every daemon can. A client that does not
// find it talks to a daemon that would drop such a limit in silence.
const resourceFeaturesHeader = "Docker-Resource-Features"

// resourceFeaturer is a backend that knows what the host can enforce.
type resourceFeaturer interface {
	ResourceFeatures() []string
}

func (s *systemRouter) setResourceFeatures(w http.ResponseWriter) {
	if b, ok := s.backend.(resourceFeaturer); ok {
		w.Header().Set(resourceFeaturesHeader, strings.Join(b.ResourceFeatures(), ","))
	}
}
