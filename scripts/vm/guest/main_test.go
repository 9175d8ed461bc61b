// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/scripts/vm/wire"
	"gotest.tools/v3/assert"
)

func TestEnabledControllers(t *testing.T) {
	got := enabledControllers("#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t0\t1\t1\nmemory\t0\t1\t0\ngpu\t0\t1\t1\n")
	assert.DeepEqual(t, got, []string{"cpuset", "gpu"})
}

func TestReadJob(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	want := wire.Job{Mode: wire.V1, Args: []string{"sh", "-c", "echo \"x\" \u2028 y"}, Env: []string{"A=b=c"}}
	text, err := json.Marshal(want)
	assert.NilError(t, err)
	assert.NilError(t, os.WriteFile(disk, append(text, make([]byte, 4096)...), 0o600))
	got, err := readJob(disk)
	assert.NilError(t, err)
	assert.DeepEqual(t, got, want)

	assert.NilError(t, os.WriteFile(disk, make([]byte, 4096), 0o600))
	_, err = readJob(disk)
	assert.ErrorContains(t, err, disk)
}
