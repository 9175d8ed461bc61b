// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/image"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

func wantWords(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in: %s", w, text)
		}
	}
}

func TestABadValueIsRefusedByTheCLI(t *testing.T) {
	place.OneVM(t)
	d := setup(t)
	for _, flag := range []string{
		"--gpu-priority=1025", "--gpu-priority=-1025", "--gpu-priority=high",
		"--gpu-memory=0", "--gpu-memory=-5", "--gpu-memory=9223372036854775808", "--gpu-memory=1x",
	} {
		name, value, _ := strings.Cut(flag, "=")
		r := d.Docker(t, "create", flag, "busybox")
		if r.Code == 0 {
			t.Errorf("%s was taken", flag)
		}
		wantWords(t, r.Stderr, name, value)
	}
	assert.DeepEqual(t, d.Names(t), []string{})
}

func TestABadValueIsRefusedByTheAPI(t *testing.T) {
	place.OneVM(t)
	d := setup(t)
	for _, tc := range []struct{ limits, field, value string }{
		{`"GPUPriority":1025`, "GPUPriority", "1025"},
		{`"GPUPriority":-1025`, "GPUPriority", "-1025"},
		{`"GPUMemory":0`, "GPUMemory", "0"},
		{`"GPUMemory":-5`, "GPUMemory", "-5"},
		{`"GPUMemory":"10240"`, "GPUMemory", "string"},
		{`"GPUPriority":true`, "GPUPriority", "bool"},
		{`"GPUMemory":9223372036854775808`, "GPUMemory", "9223372036854775808"},
		{`"GPUMemory":[1]`, "GPUMemory", "array"},
	} {
		r := d.API(t, http.MethodPost, "/containers/create?name=bad", `{"Image":"busybox","HostConfig":{`+tc.limits+`}}`)
		if r.Status != http.StatusBadRequest {
			t.Errorf("%s: status %d, want 400: %s", tc.limits, r.Status, r.Body)
		}
		wantWords(t, r.Message(), tc.field, tc.value)
	}
	assert.DeepEqual(t, d.Names(t), []string{})
}

func TestALimitIsRefusedWithoutTheController(t *testing.T) {
	require.NoGPU(t)
	d := setup(t)
	for _, flag := range []string{"--gpu-memory=10240", "--gpu-priority=50"} {
		r := d.Docker(t, "create", flag, "busybox")
		if r.Code == 0 {
			t.Errorf("%s was taken", flag)
		}
		// The flag, the value, the reason and what to do.
		wantWords(t, r.Stderr, flag, "gpu cgroup controller", "CONFIG_CGROUP_GPU")
	}
	for _, limit := range []string{`"GPUMemory":10240`, `"GPUPriority":50`} {
		r := d.API(t, http.MethodPost, "/containers/create", `{"Image":"busybox","HostConfig":{`+limit+`}}`)
		if r.Status != http.StatusBadRequest {
			t.Errorf("%s: status %d, want 400: %s", limit, r.Status, r.Body)
		}
		wantWords(t, r.Message(), "CONFIG_CGROUP_GPU")
	}
	assert.DeepEqual(t, d.Names(t), []string{})
}

func TestAnUpdateIsRefusedWithoutTheController(t *testing.T) {
	require.NoGPU(t)
	d := setup(t)
	d.Must(t, "create", "--name=box", "busybox")
	for _, limit := range []string{`{"GPUMemory":10240}`, `{"GPUPriority":50}`} {
		r := d.API(t, http.MethodPost, "/containers/box/update", limit)
		if r.Status != http.StatusBadRequest {
			t.Errorf("%s: status %d, want 400: %s", limit, r.Status, r.Body)
		}
		wantWords(t, r.Message(), "CONFIG_CGROUP_GPU")
	}
	d.WantHostConfig(t, "box", nil, nil)
}

func TestContainersWithoutALimitNeedNoController(t *testing.T) {
	require.NoGPU(t)
	d := setup(t)
	assert.Equal(t, d.Must(t, "run", "--rm", "busybox", "echo", "fine"), "fine")
}

// A container with limits meets a host that lost the controller.
func TestAStartIsRefusedWhereTheControllerIsGone(t *testing.T) {
	require.GPU(t)
	require.CgroupV1(t)
	d := setup(t)
	d.Must(t, "run", "-d", "--name=box", "--gpu-memory=10240", "busybox", "sleep", "600")
	d.Must(t, "stop", "box")

	const hierarchy = "/sys/fs/cgroup/gpu"
	d.Stop(t)
	assert.NilError(t, unix.Unmount(hierarchy, 0))
	t.Cleanup(func() {
		d.Stop(t)
		assert.NilError(t, unix.Mount("cgroup", hierarchy, "cgroup", 0, "gpu"))
		d.StartAgain(t)
		d.Must(t, "start", "box")
		wantKernel(t, d, "box", 0, 10240)
	})
	d.StartAgain(t)
	r := d.Docker(t, "start", "box")
	assert.Assert(t, r.Code != 0, "it was started")
	wantWords(t, r.Stderr, "--gpu-memory=10240", "not mounted", "mount -t cgroup")
	assert.Assert(t, !d.Inspect(t, "box").State.Running)
	d.WantHostConfig(t, "box", nil, ptr(10240))
}

func TestAStockRuntimeIsRefusedOnV1(t *testing.T) {
	require.GPU(t)
	require.CgroupV1(t)
	d := setup(t)
	for _, flag := range []string{"--gpu-memory=10240", "--gpu-priority=50"} {
		r := d.Docker(t, "run", "-d", "--runtime", stockRuntime, flag, "busybox", "sleep", "600")
		assert.Assert(t, r.Code != 0, "%s was taken", flag)
		wantWords(t, r.Stderr, flag, stockRuntime)
	}
	assert.DeepEqual(t, d.Names(t), []string{})

	t.Run("on update too", func(t *testing.T) {
		d.Must(t, "run", "-d", "--name=box", "--runtime", stockRuntime, "busybox", "sleep", "600")
		r := d.API(t, http.MethodPost, "/containers/box/update", `{"GPUMemory":10240}`)
		assert.Equal(t, r.Status, http.StatusBadRequest, "%s", r.Body)
		wantWords(t, r.Message(), "--gpu-memory=10240", stockRuntime)
		d.WantHostConfig(t, "box", nil, nil)
	})
}

// On v2 a stock runc can write the files. It may be refused, but a limit that
// is taken must be in the kernel.
func TestAStockRuntimeNeverDropsALimitOnV2(t *testing.T) {
	require.GPU(t)
	require.CgroupV2(t)
	d := setup(t)
	r := d.Docker(t, "run", "-d", "--name=box", "--runtime", stockRuntime, "--gpu-memory=10240", "--gpu-priority=50", "busybox", "sleep", "600")
	if r.Code != 0 {
		wantWords(t, r.Stderr, "--gpu-memory", stockRuntime)
		return
	}
	wantLimits(t, d, "box", 50, 10240)
	u := d.API(t, http.MethodPost, "/containers/box/update", `{"GPUMemory":20480}`)
	if u.Status == http.StatusOK {
		wantLimits(t, d, "box", 50, 20480)
	} else {
		wantLimits(t, d, "box", 50, 10240)
	}
}

// liar is a runtime that says yes to every update and does nothing, and, while
// the file PATH.lie exists, leaves the limits out of what it creates.
const liar = `#!/bin/sh
for arg; do
	[ "$previous" = --bundle ] && bundle=$arg
	previous=$arg
	case $arg in
	create) create=1 ;;
	update) cat >/dev/null; exit 0 ;;
	update-many)
		while read -r request; do
			echo "$request" | sed 's/^{"id":"\([^"]*\)".*/{"id":"\1"}/'
		done
		exit 0 ;;
	esac
done
if [ -n "$create" ] && [ -e "$0.lie" ]; then
	sed -i 's/"unified":{[^}]*}/"unified":{}/' "$bundle/config.json"
fi
exec %s "$@"
`

// dockerd reads the kernel's files back, so that what inspect shows is true
// even with a runtime that is not.
func TestARuntimeThatDropsALimitIsFoundOut(t *testing.T) {
	place.OneVM(t)
	require.GPU(t)
	d := setup(t)
	path := filepath.Join(t.TempDir(), "liar")
	assert.NilError(t, os.WriteFile(path, fmt.Appendf(nil, liar, d.Binary("runc")), 0o755))
	d.AddRuntime(t, "liar", path)

	t.Run("on update", func(t *testing.T) {
		d.Must(t, "run", "-d", "--name=honest", "--runtime=liar", "--gpu-priority=50", "--gpu-memory=10240", "busybox", "sleep", "600")
		r := d.API(t, http.MethodPost, "/containers/honest/update", `{"GPUMemory":20480}`)
		assert.Assert(t, r.Status >= 400, "%d %s", r.Status, r.Body)
		wantWords(t, r.Message(), "--gpu-memory=20480", "10240")
		wantLimits(t, d, "honest", 50, 10240)
	})
	t.Run("on start", func(t *testing.T) {
		assert.NilError(t, os.WriteFile(path+".lie", nil, 0o600))
		r := d.Docker(t, "run", "-d", "--name=lied", "--runtime=liar", "--gpu-memory=10240", "busybox", "sleep", "600")
		assert.Assert(t, r.Code != 0, "it was started")
		wantWords(t, r.Stderr, "--gpu-memory=10240 was not applied")
		assert.Assert(t, !d.Inspect(t, "lied").State.Running)
	})
}

// The wire is chosen for this: a runtime that does not know the keys fails
// instead of leaving them out.
func TestStockRuncRefusesTheWireOnV1(t *testing.T) {
	require.Daemon(t)
	require.CgroupV1(t)
	bundle := t.TempDir()
	rootfs := filepath.Join(bundle, "rootfs")
	assert.NilError(t, os.Mkdir(rootfs, 0o755))
	tarball := filepath.Join(bundle, "rootfs.tar")
	f, err := os.Create(tarball)
	assert.NilError(t, err)
	assert.NilError(t, image.Write(f))
	assert.NilError(t, f.Close())
	out, err := exec.Command("tar", "-x", "-f", tarball, "-C", rootfs).CombinedOutput()
	assert.NilError(t, err, "%s", out)

	runc := filepath.Join(require.Bin(), "runc-stock")
	spec := exec.Command(runc, "spec", "--bundle", bundle)
	out, err = spec.CombinedOutput()
	assert.NilError(t, err, "%s", out)

	run := func(unified map[string]string) (string, error) {
		path := filepath.Join(bundle, "config.json")
		raw, err := os.ReadFile(path)
		assert.NilError(t, err)
		var config map[string]any
		assert.NilError(t, json.Unmarshal(raw, &config))
		process := config["process"].(map[string]any)
		process["terminal"] = false
		process["args"] = []string{"echo", "it ran"}
		config["linux"].(map[string]any)["resources"].(map[string]any)["unified"] = unified
		raw, err = json.Marshal(config)
		assert.NilError(t, err)
		assert.NilError(t, os.WriteFile(path, raw, 0o600))
		out, err := exec.Command(runc, "--root", filepath.Join(bundle, "state"), "run", "--bundle", bundle, filepath.Base(filepath.Dir(bundle))).CombinedOutput()
		return string(out), err
	}
	text, err := run(nil)
	assert.NilError(t, err, "%s", text)
	assert.Equal(t, text, "it ran\n")
	text, err = run(map[string]string{"gpu.memory.max": "10240", "gpu.priority": "50"})
	assert.Assert(t, err != nil, "%s", text)
	wantWords(t, text, "unified")
}
