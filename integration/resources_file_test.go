// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"gotest.tools/v3/assert"
)

// resourcesFile writes a file with limits, of the GPU too where there are any.
func resourcesFile(t *testing.T, name, text, gpu string) string {
	t.Helper()
	if require.Has("gpu") {
		text += gpu
	}
	path := filepath.Join(t.TempDir(), name)
	assert.NilError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// wantFile checks the kernel's files for what the files below ask for.
func wantFile(t *testing.T, d *daemon.Daemon, name, pids, memory string) {
	t.Helper()
	g := d.Cgroup(t, name)
	g.Want(t, "pids.max", pids)
	g.Want(t, "memory.max", memory)
	if require.Has("gpu") {
		wantLimits(t, d, name, -7, 10<<20)
	}
}

func TestResourcesFileOfEachCommand(t *testing.T) {
	place.OnHost(t)
	d := setup(t)
	yaml := resourcesFile(t, "limits.yaml", "# a comment\nPidsLimit: 111\nMemory: 64m\nMemorySwap: 128m\n", "GPUMemory: 10m\nGPUPriority: -7\n")
	const json = `{"PidsLimit": 122, "Memory": 100663296, "MemorySwap": 201326592`
	asJSON := resourcesFile(t, "limits.json", json, `, "GPUMemory": 10485760, "GPUPriority": -7`)
	f, err := os.OpenFile(asJSON, os.O_APPEND|os.O_WRONLY, 0)
	assert.NilError(t, err)
	_, err = f.WriteString("}\n")
	assert.NilError(t, err)
	assert.NilError(t, f.Close())

	t.Run("run", func(t *testing.T) {
		d.Must(t, "run", "-d", "--name=run", "--resources-file", yaml, "busybox", "sleep", "600")
		wantFile(t, d, "run", "111", "67108864")
	})
	t.Run("create, and a flag wins", func(t *testing.T) {
		d.Must(t, "create", "--name=create", "--pids-limit=99", "--resources-file", yaml, "busybox", "sleep", "600")
		d.Must(t, "start", "create")
		wantFile(t, d, "create", "99", "67108864")
	})
	for _, command := range []string{"update", "modresources"} {
		t.Run(command, func(t *testing.T) {
			d.Must(t, "run", "-d", "--name", command, "busybox", "sleep", "600")
			d.Must(t, command, "--resources-file", asJSON, command)
			wantFile(t, d, command, "122", "100663296")
			d.Must(t, command, "--resources-file", yaml, "--pids-limit=98", command)
			wantFile(t, d, command, "98", "67108864")
		})
	}
	t.Run("an unknown key", func(t *testing.T) {
		bad := resourcesFile(t, "bad.yaml", "Memory: 32m\nPidsLimt: 5\n", "")
		for _, args := range [][]string{
			{"run", "--name=bad"}, {"create", "--name=bad"}, {"update", "run"}, {"modresources", "run"},
		} {
			command := append([]string{args[0], "--resources-file", bad}, args[1:]...)
			if args[0] == "run" || args[0] == "create" {
				command = append(command, "busybox")
			}
			r := d.Docker(t, command...)
			assert.Assert(t, r.Code != 0, "%v was taken", command)
			wantWords(t, r.Stderr, "line 2", `"PidsLimt"`)
		}
		wantFile(t, d, "run", "111", "67108864")
		assert.Assert(t, !strings.Contains(strings.Join(d.Names(t), " "), "bad"))
	})
}

func TestShowCanBeFedBack(t *testing.T) {
	place.OnHost(t)
	d := setup(t)
	args := []string{"run", "-d", "--name=one", "--pids-limit=111", "--memory=64m", "--memory-swap=128m", "--memory-reservation=32m", "--cpu-shares=512", "--cpus=0.3", "--cpuset-cpus=0"}
	if require.Has("gpu") {
		args = append(args, "--gpu-memory=10m", "--gpu-priority=-7")
	}
	d.Must(t, append(args, "busybox", "sleep", "600")...)
	d.Must(t, "run", "-d", "--name=two", "busybox", "sleep", "600")
	shown := d.Must(t, "modresources", "--show", "one")
	wantWords(t, shown, "PidsLimit: 111", "Memory: 67108864", "NanoCpus: 300000000")

	path := filepath.Join(t.TempDir(), "shown.yaml")
	assert.NilError(t, os.WriteFile(path, []byte(shown), 0o600))
	d.Must(t, "modresources", "--resources-file", path, "two")
	assert.Equal(t, d.Must(t, "modresources", "--show", "two"), shown)
	d.Must(t, "run", "-d", "--name=three", "--resources-file", path, "busybox", "sleep", "600")
	assert.Equal(t, d.Must(t, "modresources", "--show", "three"), shown)

	// From one container to the next without a file.
	d.Must(t, "run", "-d", "--name=four", "busybox", "sleep", "600")
	pipe := fmt.Sprintf("%s -H unix://%s modresources --show one | %[1]s -H unix://%[2]s modresources --resources-file - four", d.Binary("docker"), d.Socket())
	out, err := exec.Command("sh", "-c", pipe).CombinedOutput()
	assert.NilError(t, err, "%s", out)
	assert.Equal(t, d.Must(t, "modresources", "--show", "four"), shown)

	one := settingsOf(t, d.Cgroup(t, "one"))
	for _, name := range []string{"two", "three", "four"} {
		assert.DeepEqual(t, differing(one, settingsOf(t, d.Cgroup(t, name))), []string{})
		wantFile(t, d, name, "111", "67108864")
	}
}

// completions asks the CLI what a shell would offer for the last word.
func completions(t *testing.T, d *daemon.Daemon, words ...string) []string {
	t.Helper()
	// The last line is the directive for the shell.
	lines := strings.Split(d.Must(t, append([]string{"__complete"}, words...)...), "\n")
	return lines[:len(lines)-1]
}

func TestCompletionAsksTheDaemon(t *testing.T) {
	place.OnHost(t)
	d := setup(t)
	d.Must(t, "run", "-d", "--name=runs", "--pids-limit=100", "--cpus=0.5", "busybox", "sleep", "600")
	d.Must(t, "create", "--name=stopped", "busybox")
	current := []string{"-1", "-1024"}
	if require.Has("gpu") {
		d.Must(t, "modresources", "--gpu-memory=10240", "--gpu-priority=77", "runs")
		current = []string{"10240", "77"}
	}
	for _, tc := range []struct {
		words []string
		first string
	}{
		{[]string{"modresources", ""}, "runs"},
		{[]string{"container", "modresources", ""}, "runs"},
		{[]string{"modresources", "--container", ""}, "runs"},
		{[]string{"modresources", "runs", "--pids-limit", ""}, "100"},
		{[]string{"modresources", "--container=runs", "--cpus", ""}, "0.5"},
		{[]string{"modresources", "runs", "--gpu-memory", ""}, current[0]},
		{[]string{"modresources", "runs", "--gpu-priority", ""}, current[1]},
		{[]string{"modresources", "--gpu-priority", ""}, "-1024"},
		{[]string{"update", "--gpu-memory", ""}, "-1"},
		{[]string{"run", "--gpu-memory", ""}, "-1"},
	} {
		got := completions(t, d, tc.words...)
		assert.Assert(t, len(got) > 0, "%q offers nothing: %s", tc.words, d.Docker(t, append([]string{"__complete"}, tc.words...)...))
		assert.Check(t, got[0] == tc.first, "%q offers %q, want %q first", tc.words, got, tc.first)
		if tc.first == "runs" {
			assert.Check(t, len(got) == 1, "%q offers %q, want running containers only", tc.words, got)
		}
	}
}
