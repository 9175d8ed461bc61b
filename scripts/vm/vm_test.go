// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/scripts/vm/wire"
	"gotest.tools/v3/assert"
)

func TestResultsPassesOutputAndTakesMarkersOut(t *testing.T) {
	var out bytes.Buffer
	r := newResults(&out)
	text := wire.Ready + " 2.31\nhello\n--- PASS\nno newline" + wire.Exit + " 7\n"
	for i := range len(text) { // in the smallest pieces
		_, err := r.Write([]byte{text[i]})
		assert.NilError(t, err)
	}
	assert.Equal(t, out.String(), "hello\n--- PASS\nno newline")
	assert.Equal(t, <-r.ready, "2.31")
	assert.Equal(t, <-r.exit, 7)
}

func TestResultsShowsAPromptAtOnce(t *testing.T) {
	var out bytes.Buffer
	_, err := newResults(&out).Write([]byte("# "))
	assert.NilError(t, err)
	assert.Equal(t, out.String(), "# ")
}

// fakeMachine runs a shell script in place of QEMU: descriptor 3 is the
// console, standard output the results port.
func fakeMachine(t *testing.T, script string) (*machine, *bytes.Buffer) {
	dir := t.TempDir()
	qemu := filepath.Join(dir, "qemu")
	assert.NilError(t, os.WriteFile(qemu, []byte("#!/bin/sh\n"+script), 0o700))
	var out bytes.Buffer
	o := options{root: dir, mode: wire.V1, accel: tcg, timeout: time.Minute}
	assert.NilError(t, os.MkdirAll(o.work(), 0o700))
	return &machine{o: o, qemu: qemu, console: filepath.Join(dir, "console"), stderr: filepath.Join(dir, "stderr"), stdout: &out, note: &out}, &out
}

const (
	sayBoot  = "echo [0.0] Linux version 6.1 >&3\n"
	sayReady = `printf '\001vm-ready 1\n'` + "\n"
	sayExit5 = `printf '\001vm-exit 5\n'` + "\n"
)

func TestTheCommandsCodeComesBack(t *testing.T) {
	m, out := fakeMachine(t, sayBoot+sayReady+"echo result\n"+sayExit5+"exec sleep 60\n")
	code, err := m.run(context.Background())
	assert.NilError(t, err)
	assert.Equal(t, code, 5)
	assert.Assert(t, strings.Contains(out.String(), "result\n"))
}

func TestAMachineThatFailsIsNotAFailedTest(t *testing.T) {
	for _, tc := range []struct{ name, script, want string }{
		{"ends early", sayBoot + "echo no such disk >&2\nexit 1\n", "before it was ready"},
		{"dies in the command", sayBoot + sayReady + "exit 0\n", "while the command ran"},
		{"never ready", sayBoot + "exec sleep 60\n", "not ready in"},
		{"silent twice", "exit 1\n", "before it was ready"},
		{"only the set-up code", "echo Probing EDD >&3\nexit 1\n", "before it was ready"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, out := fakeMachine(t, tc.script)
			m.o.boot = time.Second
			_, err := m.run(context.Background())
			assert.Assert(t, errors.As(err, new(*machineError)), "%v", err)
			assert.ErrorContains(t, err, tc.want)
			assert.Equal(t, exitCode(err), codeMachine)
			// Both logs are shown.
			assert.Assert(t, strings.Contains(out.String(), m.console), out.String())
			assert.Assert(t, strings.Contains(out.String(), m.stderr), out.String())
		})
	}
}

func TestAMachineThatIsNeverReadyGetsASecondTry(t *testing.T) {
	for _, first := range []string{"exit 1", "echo [0.0] Linux version 6.1 >&3; exec sleep 60"} {
		m, _ := fakeMachine(t, `[ -e "$0.tried" ] || { : > "$0.tried"; `+first+"; }\n"+sayBoot+sayReady+sayExit5)
		m.o.boot = time.Second
		code, err := m.run(context.Background())
		assert.NilError(t, err, first)
		assert.Equal(t, code, 5, first)
	}
}

func TestACommandThatHangsIsATimeout(t *testing.T) {
	m, _ := fakeMachine(t, sayBoot+sayReady+"exec sleep 60\n")
	m.o.timeout = time.Second
	_, err := m.run(context.Background())
	assert.Equal(t, exitCode(err), codeTimeout, "%v", err)
}

func TestNoMachineIsLeftWhenInterrupted(t *testing.T) {
	m, _ := fakeMachine(t, sayBoot+sayReady+`echo $$ > "$0.pid"`+"\nexec sleep 60\n")
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(time.Second, cancel)
	_, err := m.run(ctx)
	assert.Assert(t, errors.Is(err, context.Canceled), "%v", err)
	pid, err := os.ReadFile(m.qemu + ".pid")
	assert.NilError(t, err)
	for range 50 {
		if _, err = os.Stat("/proc/" + strings.TrimSpace(string(pid))); err != nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	assert.Assert(t, os.IsNotExist(err), "pid %s is still there", pid)
}

func TestTheVerdictOnKVMIsForThisBootOnly(t *testing.T) {
	dir := t.TempDir()
	device, verdict := filepath.Join(dir, "kvm"), filepath.Join(dir, "accel")
	assert.Equal(t, chooseAccel(device, verdict), tcg, "no device")
	assert.NilError(t, os.WriteFile(device, nil, 0o600))
	assert.Equal(t, chooseAccel(device, verdict), kvm)
	assert.NilError(t, os.WriteFile(verdict, []byte(tcg+" "+bootID()+"\n"), 0o600))
	assert.Equal(t, chooseAccel(device, verdict), tcg)
	assert.NilError(t, os.WriteFile(verdict, []byte(tcg+" another boot\n"), 0o600))
	assert.Equal(t, chooseAccel(device, verdict), kvm)
}

func TestTheDigestSeesEveryChange(t *testing.T) {
	host := filepath.Join(t.TempDir(), "program")
	assert.NilError(t, os.WriteFile(host, []byte("one"), 0o700))
	base := func() tree {
		t := tree{}
		t.dir("etc", 0o755)
		t.write("etc/hosts", "127.0.0.1 a\n")
		t.link("bin", "usr/bin")
		t.program("init", host)
		return t
	}
	digest := func(tr tree) string {
		sum, _, err := tr.digest()
		assert.NilError(t, err)
		return sum
	}
	first := digest(base())
	assert.Equal(t, digest(base()), first)
	for name, change := range map[string]func(tree){
		"text":   func(tr tree) { tr.write("etc/hosts", "127.0.0.1 b\n") },
		"mode":   func(tr tree) { tr.dir("etc", 0o700) },
		"target": func(tr tree) { tr.link("bin", "usr/sbin") },
		"path":   func(tr tree) { tr.program("init2", host) },
	} {
		tr := base()
		change(tr)
		assert.Assert(t, digest(tr) != first, name)
	}
	assert.NilError(t, os.WriteFile(host, []byte("two"), 0o700)) // same size
	assert.Assert(t, digest(base()) != first, "content")
}

func TestADiskInUseIsNotRemoved(t *testing.T) {
	dir := t.TempDir()
	disk := func(hosts string) *os.File {
		t.Helper()
		tr := tree{}
		tr.dir("etc", 0o755)
		tr.write("etc/hosts", hosts)
		f, err := tr.image(t.Context(), dir)
		assert.NilError(t, err)
		t.Cleanup(func() { f.Close() })
		return f
	}
	disks := func() int {
		t.Helper()
		left, err := filepath.Glob(filepath.Join(dir, "*"))
		assert.NilError(t, err)
		return len(left)
	}
	first, again, other := disk("a"), disk("a"), disk("b")
	assert.Equal(t, first.Name(), again.Name())
	assert.Assert(t, other.Name() != first.Name())
	assert.Equal(t, disks(), 2)

	assert.NilError(t, first.Close())
	disk("b")
	assert.Equal(t, disks(), 2) // the second run of "a" goes on

	assert.NilError(t, again.Close())
	disk("b")
	assert.Equal(t, disks(), 1)
	assert.Assert(t, fileExists(other.Name()))
}

func TestSweepTakesOnlyOldLeftOvers(t *testing.T) {
	dir := t.TempDir()
	old := time.Now().Add(-48 * time.Hour)
	for name, when := range map[string]time.Time{"job-1.img": old, "job-2.img": time.Now(), "root-1.img": old} {
		path := filepath.Join(dir, name)
		assert.NilError(t, os.WriteFile(path, nil, 0o600))
		assert.NilError(t, os.Chtimes(path, when, when))
	}
	sweep(dir)
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	assert.NilError(t, err)
	assert.DeepEqual(t, left, []string{filepath.Join(dir, "job-2.img"), filepath.Join(dir, "root-1.img")})
}

func TestLibraries(t *testing.T) {
	got := libraries("\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x2)\n\t/lib64/ld-linux-x86-64.so.2 (0x3)\n")
	assert.DeepEqual(t, got, []string{"/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"})
}

func TestCommandCodesDoNotLookLikeOurs(t *testing.T) {
	for code, want := range map[int]int{0: 0, 1: 1, 2: 1, 3: 1, 4: 1, 5: 5, 127: 127} {
		assert.Equal(t, commandCode(code), want)
	}
}
