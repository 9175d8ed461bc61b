// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"

	"github.com/opencontainers/cgroups"
)

// gpuUnifiedV1 asks the cgroups package, so the annotation cannot promise
// what the linked managers do not do.
func gpuUnifiedV1() string {
	return strings.Join(cgroups.GPUUnifiedKeys(), ",")
}
