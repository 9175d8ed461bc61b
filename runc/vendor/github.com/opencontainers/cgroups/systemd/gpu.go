// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"errors"

	"github.com/opencontainers/cgroups"
)

// checkGPU returns an error if r has a GPU limit and paths no gpu hierarchy.
// Unlike the fs manager, the legacy manager passes over subsystems that have
// no path, and the limit would be gone without a word.
func checkGPU(r *cgroups.Resources, paths map[string]string) error {
	if r == nil || r.GPUPriority == nil && r.GPUMemory == nil || paths["gpu"] != "" {
		return nil
	}
	return errors.New("cannot set gpu limit: the container has no gpu cgroup (is the gpu hierarchy mounted, and was it when the container was created?)")
}
