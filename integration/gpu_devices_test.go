// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"os"
	"strings"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/drm"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"gotest.tools/v3/assert"
)

// wantKept compares what the kernel says of each node of a card.
func wantKept(t *testing.T, card drm.Card, want ...string) {
	t.Helper()
	for _, node := range card.Nodes() {
		words, listed, err := drm.Says(drm.KernelFile(), node)
		assert.NilError(t, err)
		if !listed || strings.Join(words, " ") != strings.Join(want, " ") {
			t.Errorf("%s of %s: listed %t, %q; want %q", node, card.Driver, listed, words, want)
		}
	}
}

// The kernel says of each GPU which limits its driver keeps.
func TestGPUDevicesSayWhatTheyKeep(t *testing.T) {
	require.GPU(t)
	require.DRM(t)
	wantKept(t, drm.Of(t, drm.Both), "memory", "priority", "tree")
	wantKept(t, drm.Of(t, drm.MemoryOnly), "memory")
	wantKept(t, drm.Of(t, drm.DisplayOnly), "memory")
	assert.Equal(t, drm.Of(t, drm.Both).Render, require.FirstRender)
}

// The very same driver, built outside of the tree, promises nothing: what such a
// module does inside is its own affair.
func TestGPUDevicesPromiseNothingForAModuleFromOutside(t *testing.T) {
	require.GPU(t)
	require.DRM(t)
	card := drm.LoadOutOfTree(t)
	taint, err := os.ReadFile("/sys/module/" + drm.OutOfTree + "/taint")
	assert.NilError(t, err)
	assert.Assert(t, strings.Contains(string(taint), "O"), "%s", taint)
	wantKept(t, card, "out-of-tree")
	wantKept(t, drm.Of(t, drm.Both), "memory", "priority", "tree")

	// And it is gone with its device.
	assert.NilError(t, drm.UnbindOutOfTree())
	text, err := os.ReadFile(drm.KernelFile())
	assert.NilError(t, err)
	assert.Assert(t, !strings.Contains(string(text), drm.OutOfTree), "%s", text)
}
