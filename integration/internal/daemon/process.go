// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/netns"
	"golang.org/x/sys/unix"
)

// process is a server started by the tests: known by its pid, logging to a
// file, and killed by the kernel when the test binary dies.
type process struct {
	name  string
	pid   int
	done  chan struct{} // closed when it has ended
	state *os.ProcessState
}

// It is started in the network namespace ns, nil for that of the test.
func startProcess(ns *netns.NS, logPath string, env []string, path string, args ...string) (*process, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(path, args...)
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	p := &process{name: filepath.Base(path), done: make(chan struct{})}
	started := make(chan error, 1)
	run := func() error {
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			_ = cmd.Wait()
			p.state = cmd.ProcessState
			close(p.done)
		}
		return nil
	}
	go func() {
		// Pdeathsig fires when the starting thread ends: keep it.
		if ns != nil {
			if err := ns.Do(run); err != nil {
				started <- err
			}
			return
		}
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		_ = run()
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// stop asks with SIGTERM, and with SIGKILL after the time is over.
func (p *process) stop(within time.Duration) error {
	if p == nil {
		return nil
	}
	_ = unix.Kill(p.pid, unix.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(within):
		p.kill()
		return fmt.Errorf("%s did not end within %s after SIGTERM", p.name, within)
	}
}

func (p *process) kill() {
	if p == nil {
		return
	}
	_ = unix.Kill(p.pid, unix.SIGKILL)
	<-p.done
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// killShims ends the shims that were started for our containerd. They leave its
// process group, so its socket in their command line is what tells them.
func killShims(socket string) {
	killProcesses("containerd-shim", func(args []string) bool { return slices.Contains(args, socket) })
}

// findProcesses lists the processes whose program's name begins with name and
// whose command line is ours.
func findProcesses(name string, ours func(args []string) bool) (pids []int) {
	list, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range list {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		args := strings.Split(string(raw), "\x00")
		if !strings.HasPrefix(filepath.Base(args[0]), name) || !ours(args) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// killProcesses kills what findProcesses finds, and returns how many those are.
func killProcesses(name string, ours func(args []string) bool) int {
	pids := findProcesses(name, ours)
	for _, pid := range pids {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	return len(pids)
}

// ours matches the names this package makes. Everything below that kills, unmounts
// or removes by name asks it first: with an empty name each of them would hit
// the whole machine.
var ours = regexp.MustCompile(`^gpucg-[0-9]+$`)

// removeCgroups kills what is left below our cgroup parent and removes the
// folders, in every hierarchy.
func removeCgroups(parent string) {
	if !ours.MatchString(parent) {
		panic(fmt.Sprintf("%q is not a cgroup of the tests", parent))
	}
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*/" + parent)
	dirs = append(dirs, "/sys/fs/cgroup/"+parent)
	for _, top := range dirs {
		for range 50 {
			if clearCgroup(top) {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

func clearCgroup(dir string) bool {
	list, err := os.ReadDir(dir)
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	for _, e := range list {
		if e.IsDir() {
			clearCgroup(filepath.Join(dir, e.Name()))
		}
	}
	raw, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	for _, f := range strings.Fields(string(raw)) {
		if pid, err := strconv.Atoi(f); err == nil && pid > 1 {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	return unix.Rmdir(dir) == nil
}

// unmountBelow undoes the mounts a killed daemon leaves in its folder.
func unmountBelow(dir string) {
	if !ours.MatchString(filepath.Base(dir)) {
		panic(fmt.Sprintf("%q is not a folder of the tests", dir))
	}
	raw, _ := os.ReadFile("/proc/self/mountinfo")
	var targets []string
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			targets = append(targets, f[4])
		}
	}
	slices.Reverse(targets)
	for _, target := range targets {
		_ = unix.Unmount(target, unix.MNT_DETACH)
	}
}
