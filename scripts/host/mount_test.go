// SPDX-License-Identifier: Apache-2.0

package host

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

// With a mount(8) that only notes what it is asked for.
func TestMountV1(t *testing.T) {
	for _, tc := range []struct {
		name, cgroups, mounts string
		want, said            string
	}{
		{name: "v1", cgroups: withGPU, mounts: v1, want: "-t cgroup -o nosuid,nodev,noexec,gpu gpu ROOT/sys/fs/cgroup/gpu\n"},
		{name: "no controller", cgroups: noGPU, mounts: v1, said: "no gpu controller"},
		{name: "switched off", cgroups: strings.Replace(withGPU, "gpu\t0\t1\t1", "gpu\t0\t1\t0", 1), mounts: v1, said: "no gpu controller"},
		{name: "mounted", cgroups: withGPU, mounts: v1gpu, said: "mounted already"},
		{name: "mounted elsewhere", cgroups: withGPU, mounts: v1 + "x /mnt cgroup rw,gpu 0 0\n", said: "mounted already"},
		{name: "v2", cgroups: withGPU, mounts: v2, said: "nothing to mount"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t, map[string]string{"proc/cgroups": tc.cgroups, "proc/mounts": tc.mounts}, map[string]string{"mount": `echo "$*" >> $ROOT/asked`})
			assert.NilError(t, os.MkdirAll(filepath.Join(h.root, "sys/fs/cgroup"), 0o755))
			cmd := exec.Command("/bin/sh", "mount-v1.sh")
			cmd.Env = []string{"ROOT=" + h.root, "PATH=" + h.bin + ":/usr/bin:/bin"}
			out, err := cmd.CombinedOutput()
			assert.NilError(t, err, "%s", out)
			assert.Assert(t, strings.Contains(string(out), tc.said), "%s", out)
			asked, err := os.ReadFile(filepath.Join(h.root, "asked"))
			if tc.want == "" {
				assert.Assert(t, os.IsNotExist(err), "%s", asked)
				return
			}
			assert.Equal(t, string(asked), strings.ReplaceAll(tc.want, "ROOT", h.root))
		})
	}
}
