// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// Upstream's packages have the graph driver for btrfs: a data-root that was made
// with them has to go on with ours, and its disk can be limited.
func TestBtrfsAsGraphDriver(t *testing.T) {
	require.Btrfs(t)
	disk := backedLoop(t, 512)
	out, err := exec.Command("mkfs.btrfs", "-q", "-f", disk).CombinedOutput()
	assert.NilError(t, err, string(out))
	dataRoot := t.TempDir()
	assert.NilError(t, unix.Mount(disk, dataRoot, "btrfs", 0, ""))
	t.Cleanup(func() { assert.Check(t, unix.Unmount(dataRoot, unix.MNT_DETACH)) })

	d := daemon.New(t, "--data-root="+dataRoot, "--storage-driver=btrfs")
	assert.Equal(t, d.Must(t, "info", "--format", "{{.Driver}}"), "btrfs")
	d.Must(t, "run", "-d", "--name=box", "--blkio-write-limit=5m", "busybox", "sleep", "inf")
	wantRates(t, d, "box", map[string]diskRates{number(t, disk): {0, 5 * mib, 0, 0}})
	d.Must(t, "exec", "box", "sh", "-c", "echo kept >/file")
	d.Must(t, "update", "--blkio-write-limit=6m", "box")
	wantRates(t, d, "box", map[string]diskRates{number(t, disk): {0, 6 * mib, 0, 0}})
	d.Must(t, "restart", "-t0", "box")
	assert.Equal(t, d.Must(t, "exec", "box", "cat", "/file"), "kept")

	volumes, err := os.ReadDir(filepath.Join(dataRoot, "btrfs", "subvolumes"))
	assert.NilError(t, err)
	assert.Assert(t, len(volumes) > 1, "%v", volumes)
	// Without a word of the configuration it is found again.
	d.Must(t, "stop", "-t0", "box")
	d.Restart(t, "--data-root="+dataRoot)
	assert.Equal(t, d.Must(t, "info", "--format", "{{.Driver}}"), "btrfs")
	d.Must(t, "start", "box")
	assert.Equal(t, d.Must(t, "exec", "box", "cat", "/file"), "kept")
}
