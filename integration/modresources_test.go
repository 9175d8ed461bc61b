// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"gotest.tools/v3/assert"
)

func TestModresourcesChangesAllContainersOrNone(t *testing.T) {
	d := setup(t)
	d.Must(t, "run", "-d", "--name=one", "--pids-limit=100", "busybox", "sleep", "600")
	d.Must(t, "run", "-d", "--name=two", "busybox", "sleep", "600")
	want := func(one, two string) {
		t.Helper()
		d.Cgroup(t, "one").Want(t, "pids.max", one)
		d.Cgroup(t, "two").Want(t, "pids.max", two)
	}

	d.Must(t, "modresources", "--dry-run", "--pids-limit=133", "one", "two")
	want("100", "max")
	d.Must(t, "modresources", "--pids-limit=133", "--container=one", "two")
	want("133", "133")

	r := d.Docker(t, "modresources", "--pids-limit=144", "one", "missing")
	assert.Assert(t, r.Code != 0)
	wantWords(t, r.Stderr, "missing")
	want("133", "133")

	if require.Has("gpu") {
		d.Must(t, "modresources", "--gpu-memory=10240", "--gpu-priority=50", "one", "two")
		wantLimits(t, d, "one", 50, 10240)
		wantLimits(t, d, "two", 50, 10240)
	} else {
		r := d.Docker(t, "modresources", "--pids-limit=155", "--gpu-memory=10240", "one", "two")
		assert.Assert(t, r.Code != 0)
		wantWords(t, r.Stderr, "--gpu-memory=10240", "CONFIG_CGROUP_GPU")
	}
	want("133", "133")
}
