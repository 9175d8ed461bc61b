// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

func TestTheNumbersOfTheIoctls(t *testing.T) {
	// What gcc makes of cgroup_test.h.
	assert.Equal(t, uint64(ioctlSubmit), uint64(0x40086440))
	assert.Equal(t, uint64(ioctlStat), uint64(0x80106441))
}

func TestAnotherDeviceIsAnError(t *testing.T) {
	o := options{node: "/dev/null", run: time.Millisecond, depth: 1, files: 1, interval: time.Minute}
	assert.ErrorIs(t, o.load(io.Discard), unix.ENOTTY)
	o.node = "/dev/no-such-node"
	assert.ErrorIs(t, o.load(io.Discard), unix.ENOENT)
}
