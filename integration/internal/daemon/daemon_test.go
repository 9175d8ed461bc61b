// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"os"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"
)

// The test of the harness itself: a daemon runs a container, survives a
// restart, and leaves nothing behind.
func TestDaemonRunsAndLeavesNothing(t *testing.T) {
	d := New(t)
	assert.Equal(t, d.Must(t, "run", "--name", "one", "busybox", "echo", "hello"), "hello")
	assert.DeepEqual(t, d.Names(t), []string{"/one"})
	d.Must(t, "run", "-d", "--name", "two", "busybox", "sleep", "600")
	d.Restart(t)
	r := d.Docker(t, "exec", "two", "true")
	assert.Assert(t, r.Code != 0, "%+v", r)
	d.RemoveAll(t)
	assert.DeepEqual(t, d.Names(t), []string{})
	assert.NilError(t, d.Close())
	_, err := os.Stat(d.dir)
	assert.Assert(t, os.IsNotExist(err))
	for _, dir := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		left, err := filepath.Glob(dir + d.cgroupParent)
		assert.NilError(t, err)
		assert.Equal(t, len(left), 0, "%v", left)
	}
}

// The clean-up kills and unmounts by name, so a wrong name must not pass.
func TestOnlyOurNamesAreCleaned(t *testing.T) {
	for _, name := range []string{"", "/", ".", "..", "docker", "gpucg-", "gpucg-1/..", "/gpucg-1"} {
		assert.Assert(t, !ours.MatchString(name), "%q", name)
	}
	assert.Assert(t, ours.MatchString("gpucg-1234"))
}
