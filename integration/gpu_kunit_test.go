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

// Of the controller itself: what a priority means where there is one order of all.
func TestTheUnitTestsOfTheControllerPassed(t *testing.T) { kunitPassed(t, "gpu_cgroup") }

// Of who pays for a buffer.
func TestTheUnitTestsOfChargesPassed(t *testing.T) { kunitPassed(t, "drm_gem_cgroup") }

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
}
