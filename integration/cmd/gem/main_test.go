// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

func TestBytes(t *testing.T) {
	for text, want := range map[string]uint64{"4096": 4096, "64k": 64 << 10, "1m": 1 << 20, "1M": 1 << 20} {
		got, err := bytes(text)
		assert.NilError(t, err)
		assert.Equal(t, got, want, text)
	}
	for _, text := range []string{"", "0", "1", "4097", "-4096", "1g", "m", "4294967295m"} {
		_, err := bytes(text)
		assert.ErrorContains(t, err, "--size", text)
	}
}

func TestGEMIoctlNumbers(t *testing.T) {
	// DRM_IOCTL_MODE_CREATE_DUMB as strace shows it.
	assert.Equal(t, uint64(ioctlCreateDumb), uint64(0xc02064b2))
	// What gcc makes of cgroup_test.h.
	assert.Equal(t, uint64(ioctlCreateSoft), uint64(0xc0106442))
}

func TestGEMTakesTheFirstCardElseTheFirstRenderNode(t *testing.T) {
	dir := t.TempDir()
	assert.Equal(t, first(dir), filepath.Join(dir, "card0"))
	for _, node := range []string{"renderD129", "renderD128", "card2", "card1"} {
		assert.NilError(t, os.WriteFile(filepath.Join(dir, node), nil, 0o600))
		assert.Equal(t, first(dir), filepath.Join(dir, node)) // the newest, in this order
	}
}

func TestName(t *testing.T) {
	assert.Equal(t, name(unix.ENOMEM), "ENOMEM")
	assert.Equal(t, name(unix.EACCES), "EACCES")
}
