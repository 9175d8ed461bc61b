// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/scripts/host/listing"
	"gotest.tools/v3/assert"
)

// target is a host's folder to install to, programs with text for contents.
type target struct {
	dest, from, completions, man, tmp string
	env                               []string
}

func newTarget(t *testing.T) *target {
	g := &target{dest: filepath.Join(t.TempDir(), "dest"), from: t.TempDir(), completions: t.TempDir(), man: t.TempDir(), tmp: t.TempDir()}
	assert.NilError(t, os.Mkdir(g.dest, 0o755))
	for _, p := range []string{"containerd", "containerd-shim-runc-v2", "docker", "docker-init", "docker-proxy", "dockerd", "runc"} {
		assert.NilError(t, os.WriteFile(filepath.Join(g.from, p), []byte("#!/bin/sh\necho new "+p+"\n"), 0o755))
	}
	for _, p := range []string{"bash/docker", "zsh/_docker", "fish/docker.fish"} {
		assert.NilError(t, os.MkdirAll(filepath.Join(g.completions, filepath.Dir(p)), 0o755))
		assert.NilError(t, os.WriteFile(filepath.Join(g.completions, p), []byte(p), 0o644))
	}
	for _, p := range []string{"man1/docker.1", "man8/runc.8"} {
		assert.NilError(t, os.MkdirAll(filepath.Join(g.man, filepath.Dir(p)), 0o755))
		assert.NilError(t, os.WriteFile(filepath.Join(g.man, p), []byte(p), 0o644))
	}
	return g
}

func (g *target) write(t *testing.T, name, text string, mode fs.FileMode) {
	t.Helper()
	full := filepath.Join(g.dest, name)
	assert.NilError(t, os.MkdirAll(filepath.Dir(full), 0o755))
	assert.NilError(t, os.WriteFile(full, []byte(text), mode))
	assert.NilError(t, os.Chmod(full, mode))
	old := time.Unix(1_500_000_000, 123456789)
	assert.NilError(t, os.Chtimes(full, old, old))
	assert.NilError(t, os.Chtimes(filepath.Dir(full), old, old))
}

// occupied is a host with another Docker.
func (g *target) occupied(t *testing.T) {
	g.write(t, "usr/local/bin/dockerd", "old dockerd", 0o4755)
	g.write(t, "usr/local/bin/other", "not ours", 0o700)
	g.write(t, "opt/runc", "old runc", 0o755)
	assert.NilError(t, os.Symlink("/opt/runc", filepath.Join(g.dest, "usr/local/bin/runc")))
	g.write(t, "usr/lib/systemd/system/docker.service", "[Service]\nExecStart=/usr/bin/dockerd -H fd://\n", 0o644)
	g.write(t, "etc/systemd/system/docker.service.d/gpu-cgroup.conf", "an older one", 0o600)
	g.write(t, "etc/systemd/system/docker.service.d/proxy.conf", "[Service]\n", 0o644)
	g.write(t, "etc/containerd/config.toml", "version = 2 # mine\n", 0o640)
	g.write(t, "var/lib/docker/engine-id", "x", 0o600)
}

func (g *target) cmd(args ...string) *exec.Cmd {
	cmd := exec.Command("./install.sh", args...)
	cmd.Env = append(os.Environ(), "DESTDIR="+g.dest, "FROM="+g.from, "COMPLETIONS="+g.completions, "MAN="+g.man, "TMPDIR="+g.tmp)
	cmd.Env = append(cmd.Env, g.env...)
	return cmd
}

func (g *target) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := g.cmd(args...).CombinedOutput()
	assert.NilError(t, err, "%s", out)
	return string(out)
}

func (g *target) refused(t *testing.T, want string, args ...string) {
	t.Helper()
	out, err := g.cmd(args...).CombinedOutput()
	assert.Assert(t, err != nil, "not refused: %s", out)
	assert.Assert(t, strings.Contains(string(out), want), "no %q in:\n%s", want, out)
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	assert.NilError(t, err)
	return string(data)
}

func TestInstallAndUninstallLeaveNoTrace(t *testing.T) {
	for _, prefix := range []string{"/usr/local", "/usr"} {
		for _, occupied := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s occupied=%v", strings.ReplaceAll(prefix[1:], "/", "-"), occupied), func(t *testing.T) {
				t.Parallel()
				g := newTarget(t)
				g.env = []string{"PREFIX=" + prefix}
				if occupied {
					g.occupied(t)
				}
				before := listing.Of(t, g.dest, true)
				g.run(t, "install")
				for _, p := range []string{"man1/docker.1", "man8/runc.8"} {
					assert.Equal(t, read(t, filepath.Join(g.dest, prefix, "share/man", p)), p)
				}
				for _, p := range []string{"dockerd", "runc", "containerd"} {
					name := filepath.Join(g.dest, prefix, "bin", p)
					assert.Equal(t, read(t, name), "#!/bin/sh\necho new "+p+"\n")
					info, err := os.Lstat(name)
					assert.NilError(t, err)
					assert.Equal(t, info.Mode(), fs.FileMode(0o755))
				}
				unit := read(t, filepath.Join(g.dest, prefix, "lib/systemd/system/docker.service"))
				assert.Assert(t, strings.Contains(unit, "ExecStart="+prefix+"/bin/dockerd "))
				assert.Assert(t, !strings.Contains(unit, "@"))
				dropIn := read(t, filepath.Join(g.dest, "etc/systemd/system/docker.service.d/gpu-cgroup.conf"))
				assert.Assert(t, strings.Contains(dropIn, "ExecStart=\nExecStart="+prefix+"/bin/dockerd "), dropIn)
				if occupied {
					assert.Equal(t, read(t, filepath.Join(g.dest, "etc/containerd/config.toml")), "version = 2 # mine\n")
					assert.Equal(t, read(t, filepath.Join(g.dest, "opt/runc")), "old runc", "a link was written through")
				}
				after := listing.Of(t, g.dest, true)
				assert.Assert(t, after != before)
				g.run(t, "status")
				g.run(t, "uninstall")
				assert.Equal(t, listing.Of(t, g.dest, true), before)
				g.refused(t, "nothing is installed", "uninstall")
			})
		}
	}
}

// A second installation keeps what was there before the first.
func TestInstallTwice(t *testing.T) {
	t.Parallel()
	g := newTarget(t)
	g.occupied(t)
	before := listing.Of(t, g.dest, true)
	g.run(t, "install")
	assert.NilError(t, os.WriteFile(filepath.Join(g.from, "dockerd"), []byte("newer"), 0o755))
	g.run(t, "install")
	assert.Equal(t, read(t, filepath.Join(g.dest, "usr/local/bin/dockerd")), "newer")
	g.run(t, "uninstall")
	assert.Equal(t, listing.Of(t, g.dest, true), before)
}

func TestUninstallKeepsChanges(t *testing.T) {
	t.Parallel()
	g := newTarget(t)
	g.occupied(t)
	before := listing.Of(t, g.dest, true)
	g.run(t, "install")
	drop := filepath.Join(g.dest, "etc/systemd/system/docker.service.d/gpu-cgroup.conf")
	assert.NilError(t, os.WriteFile(drop, []byte("edited"), 0o644))
	assert.NilError(t, os.Remove(filepath.Join(g.dest, "usr/local/bin/docker")))
	installed := listing.Of(t, g.dest, true)
	g.refused(t, "gpu-cgroup.conf was changed", "uninstall")
	g.refused(t, "bin/docker is gone", "uninstall")
	g.refused(t, "was changed", "install")
	g.refused(t, "was changed", "status")
	assert.Equal(t, listing.Of(t, g.dest, true), installed)
	g.env = []string{"FORCE=1"}
	g.run(t, "uninstall")
	assert.Equal(t, listing.Of(t, g.dest, true), before)
}

// Whoever goes back to another Docker is told what is lost.
func TestUninstallNamesContainersWithLimits(t *testing.T) {
	t.Parallel()
	for _, root := range []string{"", "/srv/docker data"} {
		g := newTarget(t)
		data := "var/lib/docker"
		if root != "" {
			data = root[1:]
			g.write(t, "etc/docker/daemon.json", "{\n  \"live-restore\": true,\n  \"data-root\": \""+root+"\"\n}\n", 0o644)
		}
		id, other := strings.Repeat("0a", 32), strings.Repeat("0b", 32)
		g.write(t, data+"/containers/"+id+"/config.v2.json", `{"ID":"`+id+`","Config":{"Image":"busybox"},"Name":"/web","RestartCount":0}`, 0o600)
		g.write(t, data+"/containers/"+id+"/limits.json", `{"Format":1,"ID":"`+id+`","Limits":{"NetClassID":7,"NetPriorities":[{"Interface":"eth0","Priority":5}]}}`+"\n", 0o600)
		g.write(t, data+"/containers/"+other+"/config.v2.json", `{"ID":"`+other+`","Name":"/plain"}`, 0o600)
		before := listing.Of(t, g.dest, true)
		g.run(t, "install")
		installed := listing.Of(t, g.dest, true)
		want := "  web (0a0a0a0a0a0a): NetClassID:7,NetPriorities:[{Interface:eth0,Priority:5}]\n"
		g.refused(t, want, "uninstall")
		g.refused(t, "FORCE=1", "uninstall")
		assert.Equal(t, listing.Of(t, g.dest, true), installed)
		g.run(t, "install") // A newer version keeps the limits.
		g.env = []string{"FORCE=1"}
		out := g.run(t, "uninstall")
		assert.Assert(t, strings.Contains(out, want), out)
		assert.Assert(t, !strings.Contains(out, "plain"), out)
		assert.Equal(t, listing.Of(t, g.dest, true), before)
	}
}

// Somebody else's file in a folder that we made stays, and so does the folder.
func TestUninstallKeepsOthersFiles(t *testing.T) {
	t.Parallel()
	g := newTarget(t)
	g.run(t, "install")
	g.write(t, "usr/local/bin/other", "x", 0o755)
	out := g.run(t, "uninstall")
	assert.Assert(t, strings.Contains(out, "keeping /usr/local/bin"), out)
	assert.Equal(t, read(t, filepath.Join(g.dest, "usr/local/bin/other")), "x")
}

func TestInstallThatFailsIsTakenBack(t *testing.T) {
	t.Parallel()
	g := newTarget(t)
	g.occupied(t)
	assert.NilError(t, os.Mkdir(filepath.Join(g.dest, "usr/local/bin/runc2"), 0o755))
	// A folder where one of the last files has to go.
	assert.NilError(t, os.MkdirAll(filepath.Join(g.dest, "usr/local/share/zsh/vendor-completions/_docker"), 0o755))
	before := listing.Of(t, g.dest, true)
	g.refused(t, "is a folder, a file has to go there", "install")
	assert.Equal(t, listing.Of(t, g.dest, true), before)

	assert.NilError(t, os.Remove(filepath.Join(g.from, "runc")))
	g.refused(t, "run make first", "install")
	assert.Equal(t, listing.Of(t, g.dest, true), before)

	g.env = []string{"PREFIX=usr"}
	g.refused(t, "want an absolute path", "install")
	assert.Equal(t, listing.Of(t, g.dest, true), before)
}

// Killed at any moment, an installation can be taken back.
func TestInstallKilled(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	g := newTarget(t)
	g.occupied(t)
	before := listing.Of(t, g.dest, false)
	began := time.Now()
	g.run(t, "install")
	whole := time.Since(began)
	g.run(t, "uninstall")
	partial := 0
	for range 8 {
		cmd := g.cmd("install")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		assert.NilError(t, cmd.Start())
		time.Sleep(time.Duration(rnd.Int64N(int64(whole))))
		assert.NilError(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL))
		_ = cmd.Wait()
		if _, err := os.Stat(filepath.Join(g.dest, "var/lib/gpu-cgroup/install")); err == nil {
			partial++
			g.env = []string{"FORCE=1"}
			g.run(t, "uninstall")
			g.env = nil
		}
		assert.Equal(t, listing.Of(t, g.dest, false), before)
	}
	t.Logf("%d of 8 were killed half way", partial)
	assert.Assert(t, partial > 0, "never killed half way: the test tests nothing")
}
