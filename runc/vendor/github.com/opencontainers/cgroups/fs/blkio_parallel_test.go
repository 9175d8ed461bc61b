// SPDX-License-Identifier: Apache-2.0

package fs

import (
	"sync"
	"testing"

	"github.com/opencontainers/cgroups"
)

// The group is one for all containers, and "runc update-many" sets several at
// once. What it finds out at the first Set is what the race detector looks at
// (make race).
func TestBlkioSetInParallel(t *testing.T) {
	group := &BlkioGroup{}
	paths := make([]string, 20)
	for i := range paths {
		paths[i] = tempDir(t, "blkio")
		writeFileContents(t, paths[i], map[string]string{"blkio.bfq.weight": "100"})
	}
	var all sync.WaitGroup
	for _, path := range paths {
		all.Add(1)
		go func() {
			defer all.Done()
			if err := group.Set(path, &cgroups.Resources{BlkioWeight: 500}); err != nil {
				t.Error(err)
			}
		}()
	}
	all.Wait()
}
