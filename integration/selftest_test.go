// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// What test_gpu may skip on cgroup v1, where there is no such thing. On v2 it
// skips nothing.
var onlyOnV2 = []string{
	"test_gpu_events_notify",
	"test_gpu_subtree_control",
	"test_gpu_threaded",
	"test_gpu_nsdelegate",
}

// What needs a machine on which nobody else has cgroups: see
// TestKernelSelftestAlone.
var onlyAlone = []string{"test_gpu_hierarchy_moves"}

// tapResult is a line of kselftest's TAP: "ok 3 test_x", "ok 5 # SKIP test_y".
var tapResult = regexp.MustCompile(`^(ok|not ok) \d+ (# SKIP )?(\w+)`)

// The kernel's own selftest of the controller (kernel/tools/testing/selftests/
// cgroup/test_gpu.c): each of its tests is a subtest here.
func TestKernelSelftest(t *testing.T) {
	require.GPU(t)
	require.DRM(t)
	path, err := exec.LookPath("test_gpu")
	if err != nil {
		t.Fatalf("%v; in the VM it lies beside the kernel: make kernel", err)
	}
	out, runErr := exec.Command(path).CombinedOutput()
	var cgroups unix.Statfs_t
	assert.NilError(t, unix.Statfs("/sys/fs/cgroup", &cgroups))
	v1 := cgroups.Type != unix.CGROUP2_SUPER_MAGIC

	plan, seen := "", 0
	var notes []string
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		line := lines.Text()
		m := tapResult.FindStringSubmatch(line)
		if m == nil {
			if p, ok := strings.CutPrefix(line, "1.."); ok {
				plan = p
			}
			notes = append(notes, line)
			continue
		}
		seen++
		if m[2] != "" && slices.Contains(onlyAlone, m[3]) {
			notes = nil
			continue
		}
		t.Run(m[3], func(t *testing.T) {
			switch {
			case m[1] != "ok":
				t.Errorf("%s\n%s", line, strings.Join(notes, "\n"))
			case m[2] != "" && v1 && slices.Contains(onlyOnV2, m[3]):
				require.CgroupV2(t)
			case m[2] != "":
				t.Errorf("skipped, which nothing here explains:\n%s", strings.Join(notes, "\n"))
			}
		})
		notes = nil
	}
	if seen == 0 || plan != strconv.Itoa(seen) {
		t.Errorf("planned %q, ran %d tests:\n%s", plan, seen, out)
	}
	if runErr != nil {
		t.Errorf("test_gpu: %v; last: %s", runErr, strings.Join(notes, "\n"))
	}
}

// The same, for what needs a machine of its own: the kernel boots with nothing but
// the selftest.
func TestKernelSelftestAlone(t *testing.T) {
	place.OnHost(t)
	require.Kernel(t)
	for _, mount := range []string{
		"mount -t cgroup2 none /sys/fs/cgroup",
		"mount -t tmpfs none /sys/fs/cgroup && mkdir /sys/fs/cgroup/gpu && mount -t cgroup -o gpu none /sys/fs/cgroup/gpu",
	} {
		script := filepath.Join(t.TempDir(), "script")
		assert.NilError(t, os.WriteFile(script, []byte(mount+"\ntest_gpu "+strings.Join(onlyAlone, " ")+"\n"), 0o600))
		cmd := exec.Command(filepath.Join(require.Repository(), "scripts/kernel/guest.sh"), filepath.Join(require.KernelDir(), "bzImage"),
			filepath.Join(t.TempDir(), "console"), script, filepath.Join(require.KernelDir(), "test_gpu"))
		cmd.Env = append(os.Environ(), "LIMIT=600")
		out, err := cmd.CombinedOutput()
		assert.NilError(t, err, "%s", out)
		for _, name := range onlyAlone {
			passed := slices.ContainsFunc(strings.Split(string(out), "\n"), func(line string) bool {
				m := tapResult.FindStringSubmatch(strings.TrimSpace(line))
				return m != nil && m[1] == "ok" && m[2] == "" && m[3] == name
			})
			assert.Check(t, passed, "%s: %s", name, out)
		}
	}
}
