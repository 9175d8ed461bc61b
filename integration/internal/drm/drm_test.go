// SPDX-License-Identifier: Apache-2.0

package drm

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

func TestDRMVersionIoctlNumber(t *testing.T) {
	// DRM_IOCTL_VERSION as strace shows it.
	assert.Equal(t, uint64(ioctlVersion), uint64(0xc0406400))
}

func TestDRMCardsAreFoundByTheirDriver(t *testing.T) {
	class := t.TempDir()
	file := func(path string) {
		t.Helper()
		full := filepath.Join(class, path)
		assert.NilError(t, os.MkdirAll(filepath.Dir(full), 0o755))
		assert.NilError(t, os.WriteFile(full, nil, 0o644))
	}
	file("card10/dev")
	file("card10/device/drm/card10/dev")
	file("card2/dev")
	file("card2/device/drm/renderD130/dev")
	file("card2-Virtual-1/status") // a connector
	file("renderD130/dev")
	got, err := cards(class, "/dev/dri", func(node string) (string, error) { return "driver of " + filepath.Base(node), nil })
	assert.NilError(t, err)
	assert.DeepEqual(t, got, []Card{
		{Driver: "driver of card2", Primary: "/dev/dri/card2", Render: "/dev/dri/renderD130"},
		{Driver: "driver of card10", Primary: "/dev/dri/card10"},
	})
	assert.DeepEqual(t, got[0].Nodes(), []string{"/dev/dri/card2", "/dev/dri/renderD130"})
	assert.DeepEqual(t, got[1].Nodes(), []string{"/dev/dri/card10"})
}

func TestDRMNamesNoDriverOfAnotherDevice(t *testing.T) {
	_, err := driver("/dev/null")
	assert.ErrorIs(t, err, unix.ENOTTY)
	_, err = driver("/dev/no-such-node")
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestDRMReadsWhatTheKernelSaysOfANode(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gpu.devices")
	assert.NilError(t, os.WriteFile(file, []byte("1:3 null - memory priority\n1:30 x -\n"), 0o644))
	words, listed, err := Says(file, "/dev/null")
	assert.NilError(t, err)
	assert.Assert(t, listed)
	assert.DeepEqual(t, words, []string{"memory", "priority"})
	_, listed, err = Says(file, "/dev/zero")
	assert.NilError(t, err)
	assert.Assert(t, !listed)
}
