// SPDX-License-Identifier: Apache-2.0

// Command guest is PID 1 of the test machine. It mounts what dockerd expects to
// find, runs one command and reports its exit code.
//
// The first serial port is the console (kernel messages and this program's own),
// the second carries results only: a ready line, the output of the command, an
// exit line. Package wire defines both lines; scripts/vm reads them.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/scripts/vm/wire"
	"golang.org/x/sys/unix"
)

const (
	jobDisk     = "/dev/vdb"
	resultsPort = "/dev/ttyS1"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest: I am the init of a test machine and do nothing elsewhere")
		os.Exit(2)
	}
	if err := run(); err != nil {
		// The host sees a machine that never said exit and shows this console.
		fmt.Fprintln(os.Stderr, "guest:", err)
	}
	powerOff()
}

func run() error {
	os.Setenv("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	os.Setenv("HOME", "/root")
	os.Setenv("TMPDIR", "/tmp")
	os.Setenv("GPU_CGROUP_BIN", "/usr/local/bin")
	if err := mountBasics(); err != nil {
		return err
	}
	job, err := readJob(jobDisk)
	if err != nil {
		return err
	}
	results, err := openRaw(resultsPort)
	if err != nil {
		return err
	}
	if err := mountCgroups(job.Mode); err != nil {
		return err
	}
	if err := network(); err != nil {
		return err
	}
	chooseIptables()
	for _, e := range job.Env {
		name, value, _ := strings.Cut(e, "=")
		os.Setenv(name, value)
	}
	fmt.Fprintf(results, "%s %s\n", wire.Ready, uptime())
	code, failure := execute(job, results)
	if job.Shell {
		// The kernel hung the port up when the shell, which owned it, ended.
		if results, err = openRaw(resultsPort); err != nil {
			return err
		}
	}
	if failure != nil {
		fmt.Fprintln(results, "guest:", failure)
	}
	_, err = fmt.Fprintf(results, "%s %d\n", wire.Exit, code)
	drain(results)
	return err
}

type mountPoint struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

func mountBasics() error {
	points := []mountPoint{
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"sysfs", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
		{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "ptmxmode=0666,mode=0620,gid=5"},
		{"shm", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"mqueue", "/dev/mqueue", "mqueue", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
		{"securityfs", "/sys/kernel/security", "securityfs", 0, ""},
		{"debugfs", "/sys/kernel/debug", "debugfs", 0, ""},
		{"bpf", "/sys/fs/bpf", "bpf", 0, ""},
	}
	needed := map[string]bool{"/proc": true, "/sys": true, "/dev": true, "/dev/pts": true, "/dev/shm": true, "/run": true}
	for _, p := range points {
		if err := p.mount(); err != nil && needed[p.target] {
			return err
		}
	}
	return nil
}

func (p mountPoint) mount() error {
	// sysfs and proc refuse mkdir; there the mount says what is wrong.
	_ = os.MkdirAll(p.target, 0o755)
	err := unix.Mount(p.source, p.target, p.fstype, p.flags, p.data)
	if err != nil && !errors.Is(err, unix.EBUSY) { // EBUSY: the kernel mounted devtmpfs itself
		return fmt.Errorf("mount %s on %s: %w", p.fstype, p.target, err)
	}
	return nil
}

// mountCgroups gives dockerd one of the two layouts it knows. In v1 mode every
// controller must be mounted, each alone: one that is active but not mounted
// breaks the stats of containerd and its shim.
func mountCgroups(mode string) error {
	const root = "/sys/fs/cgroup"
	if mode == wire.V2 {
		return mountPoint{"cgroup2", root, "cgroup2", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "nsdelegate"}.mount()
	}
	if mode != wire.V1 {
		return fmt.Errorf("unknown cgroup mode %q", mode)
	}
	if err := (mountPoint{"tmpfs", root, "tmpfs", 0, "mode=0755"}).mount(); err != nil {
		return err
	}
	table, err := os.ReadFile("/proc/cgroups")
	if err != nil {
		return err
	}
	for _, name := range enabledControllers(string(table)) {
		p := mountPoint{"cgroup", filepath.Join(root, name), "cgroup", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, name}
		if err := p.mount(); err != nil {
			return err
		}
	}
	return nil
}

// enabledControllers reads the names out of /proc/cgroups.
func enabledControllers(table string) []string {
	var names []string
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) == 4 && !strings.HasPrefix(f[0], "#") && f[3] == "1" {
			names = append(names, f[0])
		}
	}
	return names
}

func network() error {
	if err := unix.Sethostname([]byte("vm")); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	req.SetUint16(req.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("lo up: %w", err)
	}
	return nil
}

// chooseIptables points the iptables names at the variant this kernel can run.
func chooseIptables() {
	for _, variant := range []string{"nft", "legacy"} {
		multi := "/usr/sbin/xtables-" + variant + "-multi"
		cmd := exec.Command(multi, "iptables", "-t", "nat", "-S")
		out, err := cmd.CombinedOutput()
		if err != nil {
			fmt.Fprintf(os.Stderr, "guest: iptables-%s: %v: %s\n", variant, err, bytes.TrimSpace(out))
			continue
		}
		for _, name := range []string{"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"} {
			link := "/usr/sbin/" + name
			_ = os.Remove(link)
			if err := os.Symlink(multi, link); err != nil {
				fmt.Fprintln(os.Stderr, "guest:", err)
			}
		}
		return
	}
	fmt.Fprintln(os.Stderr, "guest: no working iptables; start dockerd with --iptables=false")
}

// readJob reads the JSON document at the start of a raw disk; the rest is zeros.
func readJob(disk string) (wire.Job, error) {
	var job wire.Job
	raw, err := os.ReadFile(disk)
	if err != nil {
		return job, err
	}
	if err := json.Unmarshal(bytes.TrimRight(raw, "\x00"), &job); err != nil {
		return job, fmt.Errorf("job on %s: %w", disk, err)
	}
	if len(job.Args) == 0 {
		return job, fmt.Errorf("job on %s names no command", disk)
	}
	return job, nil
}

// openRaw opens a serial port that passes bytes through unchanged.
func openRaw(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200
	t.Ispeed, t.Ospeed = unix.B115200, unix.B115200
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, t); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// execute runs the job and, as PID 1 must, reaps every orphan meanwhile.
// A command killed by a signal gives 128 + signal, one not found 127.
func execute(job wire.Job, results *os.File) (int, error) {
	path, err := exec.LookPath(job.Args[0])
	if err != nil {
		return 127, err
	}
	attr := &os.ProcAttr{
		Dir:   "/root",
		Env:   os.Environ(),
		Files: []*os.File{nil, results, results},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	}
	if job.Shell {
		attr.Files[0] = results
		cookTerminal(results)
		attr.Sys.Setctty = true // a shell wants job control on the port
	} else {
		null, err := os.Open(os.DevNull)
		if err != nil {
			return 127, err
		}
		defer null.Close()
		attr.Files[0] = null
	}
	p, err := os.StartProcess(path, job.Args, attr)
	if err != nil {
		return 127, err
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 127, fmt.Errorf("wait: %w", err)
		case pid != p.Pid:
			continue
		case status.Signaled():
			return 128 + int(status.Signal()), nil
		default:
			return status.ExitStatus(), nil
		}
	}
}

// cookTerminal turns the echo and line editing of the port on again.
func cookTerminal(f *os.File) {
	t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return
	}
	t.Iflag |= unix.ICRNL
	t.Oflag |= unix.OPOST | unix.ONLCR
	t.Lflag |= unix.ISIG | unix.ICANON | unix.ECHO | unix.ECHOE | unix.ECHOK | unix.IEXTEN
	t.Cc[unix.VINTR], t.Cc[unix.VERASE], t.Cc[unix.VEOF] = 3, 127, 4
	_ = unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, t)
}

func uptime() string {
	raw, _ := os.ReadFile("/proc/uptime")
	first, _, _ := strings.Cut(string(raw), " ")
	return first
}

// drain waits until the port has sent everything, or the last lines are lost
// when the machine stops.
func drain(f *os.File) {
	_ = unix.IoctlSetInt(int(f.Fd()), unix.TCSBRK, 1)
	time.Sleep(50 * time.Millisecond)
}

func powerOff() {
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	// Without ACPI the machine halts instead of powering off; a restart ends
	// QEMU too, because it runs with -no-reboot.
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	select {}
}
