// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"gotest.tools/v3/assert"
)

// The kernel ran its unit tests at boot: who gets the GPU next, what a priority means
// where there is one order of all, who pays for a buffer.
func TestTheUnitTestsOfTheKernelPassed(t *testing.T) {
	for _, suite := range []string{"drm_sched_cgroup", "gpu_cgroup", "drm_gem_cgroup"} {
		t.Run(suite, func(t *testing.T) { kunitPassed(t, suite) })
	}
}

func kunitPassed(t *testing.T, suite string) {
	t.Helper()
	require.KUnit(t)
	file := filepath.Join(filepath.Dir(filepath.Dir(require.KUnitResults)), suite, "results")
	raw, err := os.ReadFile(file)
	assert.NilError(t, err)
	passed := 0
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "not ok"), strings.Contains(line, "# SKIP"):
			t.Error(line)
		case strings.HasPrefix(line, "ok"):
			passed++
		}
	}
	if t.Failed() || passed < 2 {
		t.Fatalf("%s says:\n%s", file, raw)
	}
	t.Logf("%d lines of ok", passed)
}
