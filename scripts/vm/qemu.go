// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/scripts/vm/wire"
)

const (
	kvm = "kvm"
	tcg = "tcg"

	// The kernel's first message. A KVM that opens but cannot run the guest (seen
	// nested) makes QEMU sit there without an error, and may even get through the
	// kernel's 16-bit set-up code, which prints a line of its own.
	aliveText = "Linux version"
	aliveKVM  = 15 * time.Second
	aliveTCG  = time.Minute

	bootKVM = time.Minute
	bootTCG = 2 * time.Minute

	tailBytes = 6000
)

// machineError says that the machine failed, not the command in it.
type machineError struct {
	reason string
	// The kernel never spoke, or hung on its way up, which an emulated one on a
	// loaded host was once seen to do: worth another try.
	again bool
}

func (e *machineError) Error() string { return "machine: " + e.reason }

var errTimeout = errors.New("the command did not end in time")

type machine struct {
	o       options
	qemu    string
	image   string
	job     string
	console string
	stderr  string
	stdin   io.Reader
	stdout  io.Writer
	note    io.Writer
}

func newMachine(o options, image string) (*machine, error) {
	if _, err := os.Stat(o.kernel); err != nil {
		return nil, fmt.Errorf("kernel: %w; build it first, or name one with --kernel", err)
	}
	qemu, err := lookTool("qemu-system-x86_64", "qemu-system-x86")
	if err != nil {
		return nil, err
	}
	job, err := writeJob(o)
	if err != nil {
		return nil, err
	}
	m := &machine{
		o: o, qemu: qemu, image: image, job: job,
		console: filepath.Join(o.work(), "console-"+o.mode+".log"),
		stderr:  filepath.Join(o.work(), "qemu-"+o.mode+".log"),
		stdout:  os.Stdout, note: os.Stderr,
	}
	if o.shell {
		m.stdin = os.Stdin
	}
	return m, nil
}

func (m *machine) close() { _ = os.Remove(m.job) }

// writeJob makes the second disk: JSON, padded with zeros to whole sectors.
func writeJob(o options) (string, error) {
	text, err := json.Marshal(wire.Job{Mode: o.mode, Args: o.args, Env: o.env, Shell: o.shell})
	if err != nil {
		return "", err
	}
	const sector = 4096
	text = append(text, make([]byte, sector-len(text)%sector)...)
	f, err := os.CreateTemp(o.work(), "job-*.img")
	if err != nil {
		return "", err
	}
	if _, err := f.Write(text); err != nil {
		f.Close()
		return "", err
	}
	return f.Name(), f.Close()
}

// run boots the machine and returns the exit code of its command.
func (m *machine) run(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, m.o.timeout, errTimeout)
	defer cancel()
	verdict := filepath.Join(m.o.work(), "accel")
	accel := m.o.accel
	if accel == "auto" {
		accel = chooseAccel("/dev/kvm", verdict)
	}
	code, err := m.boot(ctx, accel)
	var failure *machineError
	if !errors.As(err, &failure) || !failure.again {
		return code, err
	}
	if m.o.accel == "auto" && accel == kvm {
		fmt.Fprintln(m.note, "vm: KVM does not run the guest here:", failure.reason+"; emulating instead")
		accel = tcg
		if err := os.WriteFile(verdict, []byte(tcg+" "+bootID()+"\n"), 0o644); err != nil {
			fmt.Fprintln(m.note, "vm:", err)
		}
	} else {
		fmt.Fprintln(m.note, "vm: "+failure.reason+"; one more try")
	}
	return m.boot(ctx, accel)
}

// chooseAccel says KVM if the device opens, unless it was found not to work
// since this host was started.
func chooseAccel(device, verdict string) string {
	if text, err := os.ReadFile(verdict); err == nil && strings.TrimSpace(string(text)) == tcg+" "+bootID() {
		return tcg
	}
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return tcg
	}
	f.Close()
	return kvm
}

func bootID() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id))
}

func (m *machine) args(accel string) []string {
	cpu := "host"
	if accel == tcg {
		// All processors in one thread of the host, so that the code made for one needs
		// no atomic instructions and nobody spins for a lock: a quarter less work for a
		// docker run than with a thread each.
		accel, cpu = "tcg,thread=single", "max"
	}
	return []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "q35", "-accel", accel, "-cpu", cpu,
		"-smp", strconv.Itoa(m.o.cpus), "-m", strconv.Itoa(m.o.memory),
		"-kernel", m.o.kernel,
		"-append", "root=/dev/vda rw console=ttyS0 earlyprintk=serial,ttyS0,115200 init=/init panic=-1 oops=panic random.trust_cpu=on tsc=reliable",
		// snapshot: writes go to an unlinked file and are gone afterwards.
		"-drive", "file=" + m.image + ",if=none,id=root,format=raw,snapshot=on",
		"-device", "virtio-blk-pci,drive=root",
		"-drive", "file=" + m.job + ",if=none,id=job,format=raw,readonly=on",
		"-device", "virtio-blk-pci,drive=job",
		"-device", "virtio-rng-pci",
		// Cards whose drivers back their buffers themselves (TTM), unlike vgem and
		// vkms; qxl has video memory to be pushed out of, and several heads.
		"-device", "bochs-display",
		"-device", "qxl",
		"-chardev", "file,id=console,path=/dev/fd/3",
		"-serial", "chardev:console",
		"-chardev", "stdio,id=results,signal=off",
		"-serial", "chardev:results",
	}
}

// boot starts QEMU once and follows it to its end.
func (m *machine) boot(ctx context.Context, accel string) (int, error) {
	began := time.Now()
	patience, bootLimit := aliveTCG, bootTCG
	if accel == kvm {
		patience, bootLimit = aliveKVM, bootKVM
	}
	if m.o.boot > 0 {
		bootLimit = m.o.boot
	}
	console, err := os.Create(m.console)
	if err != nil {
		return 0, err
	}
	defer console.Close()
	stderr, err := os.Create(m.stderr)
	if err != nil {
		return 0, err
	}
	defer stderr.Close()
	consoleOut, consoleIn, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer consoleOut.Close()
	resultsOut, resultsIn, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer resultsOut.Close()

	cmd := exec.Command(m.qemu, m.args(accel)...)
	cmd.Stdin = m.stdin
	cmd.Stdout = resultsIn
	cmd.Stderr = stderr
	cmd.ExtraFiles = []*os.File{consoleIn}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: m.stdin == nil}
	ended := make(chan error, 1)
	started := make(chan error, 1)
	go func() {
		// Pdeathsig fires when the starting *thread* ends, not the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	err = <-started
	consoleIn.Close()
	resultsIn.Close()
	if err != nil {
		return 0, err
	}
	stop := sync.OnceFunc(func() {
		if m.o.shell {
			// QEMU gives the terminal back as it found it only when asked to end.
			_ = cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-ended:
				return
			case <-time.After(5 * time.Second):
			}
		}
		_ = cmd.Process.Kill()
	})
	defer stop()

	alive := make(chan struct{})
	consoleDone := make(chan struct{})
	go func() {
		defer close(consoleDone)
		copyNoting(console, consoleOut, alive)
	}()
	r := newResults(m.stdout)
	resultsDone := make(chan struct{})
	go func() {
		defer close(resultsDone)
		_, _ = io.Copy(r, resultsOut)
	}()

	silence, slow := time.After(patience), time.After(bootLimit)
	readySeen := r.ready
	fail := func(again bool, format string, a ...any) error {
		stop()
		<-consoleDone
		<-resultsDone
		err := &machineError{fmt.Sprintf(format, a...), again}
		if !again || accel == tcg || m.o.accel == kvm { // no fall-back left
			m.dump()
		}
		return err
	}
	for {
		select {
		case <-alive:
			alive, silence = nil, nil
		case uptime := <-readySeen:
			readySeen, slow, silence = nil, nil, nil
			fmt.Fprintf(m.note, "vm: %s, %s: ready after %.1fs (guest uptime %ss)\n", m.o.mode, accel, time.Since(began).Seconds(), uptime)
		case code := <-r.exit:
			stop()
			<-resultsDone
			fmt.Fprintf(m.note, "vm: done after %.1fs\n", time.Since(began).Seconds())
			return code, nil
		case <-silence:
			return 0, fail(true, "not a word from the kernel in %s", patience)
		case <-slow:
			return 0, fail(true, "not ready in %s", bootLimit)
		case <-ctx.Done():
			stop()
			<-consoleDone
			<-resultsDone
			cause := context.Cause(ctx)
			if errors.Is(cause, errTimeout) {
				m.dump()
				if readySeen != nil {
					return 0, &machineError{reason: "not ready within --timeout"}
				}
			}
			return 0, cause
		case err := <-ended:
			<-consoleDone
			<-resultsDone
			select {
			case code := <-r.exit:
				return code, nil
			default:
			}
			when := "before it was ready"
			if readySeen == nil || len(r.ready) > 0 {
				when = "while the command ran"
			}
			text, _ := os.ReadFile(m.console)
			return 0, fail(!bytes.Contains(text, []byte(aliveText)), "it ended %s (QEMU: %s)", when, state(err))
		}
	}
}

func state(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// copyNoting closes alive when the kernel has spoken.
func copyNoting(w io.Writer, r io.Reader, alive chan struct{}) {
	buf := make([]byte, 4096)
	var head []byte // only until then
	for {
		n, err := r.Read(buf)
		_, _ = w.Write(buf[:n])
		if alive != nil {
			head = append(head, buf[:n]...)
			if bytes.Contains(head, []byte(aliveText)) {
				close(alive)
				alive, head = nil, nil
			}
		}
		if err != nil {
			return
		}
	}
}

// dump shows the ends of both logs: what the guest said and what QEMU said.
func (m *machine) dump() {
	for _, log := range []string{m.console, m.stderr} {
		text, err := os.ReadFile(log)
		if err != nil {
			continue
		}
		fmt.Fprintf(m.note, "---- %s (%d bytes)\n", log, len(text))
		if len(text) > tailBytes {
			text = text[len(text)-tailBytes:]
		}
		_, _ = m.note.Write(append(bytes.TrimRight(text, "\r\n"), '\n'))
	}
	fmt.Fprintln(m.note, "----")
}

// results passes the output of the command on and takes the marker lines out.
type results struct {
	out     io.Writer
	pending []byte // an unfinished line that may become a marker
	ready   chan string
	exit    chan int
}

func newResults(out io.Writer) *results {
	return &results{out: out, ready: make(chan string, 1), exit: make(chan int, 1)}
}

func (r *results) Write(p []byte) (int, error) {
	r.pending = append(r.pending, p...)
	for {
		i := bytes.IndexByte(r.pending, '\n')
		if i < 0 {
			break
		}
		line := r.pending[:i+1]
		r.line(string(line))
		r.pending = r.pending[i+1:]
	}
	// Text that cannot become a marker goes out at once: a prompt has no newline.
	if bytes.IndexByte(r.pending, '\x01') < 0 {
		_, _ = r.out.Write(r.pending)
		r.pending = r.pending[:0]
	}
	return len(p), nil
}

func (r *results) line(line string) {
	before, kind, value, ok := wire.Marker(line)
	if !ok {
		_, _ = io.WriteString(r.out, line)
		return
	}
	_, _ = io.WriteString(r.out, before)
	switch kind {
	case wire.Ready:
		select {
		case r.ready <- value:
		default:
		}
	case wire.Exit:
		code, err := wire.Code(value)
		if err != nil {
			code = codeFailed
		}
		select {
		case r.exit <- code:
		default:
		}
	}
}
