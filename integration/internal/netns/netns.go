// SPDX-License-Identifier: Apache-2.0

// Package netns makes network namespaces for tests: a daemon in one has bridges,
// qdiscs and firewall rules of its own, and all of it goes with the namespace.
package netns

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// NS is a network namespace. It lives as long as the test, and what runs in it.
type NS struct{ file *os.File }

// New makes an empty one, with lo up.
func New(t testing.TB) *NS {
	t.Helper()
	ns := Keep(t)
	t.Cleanup(func() { ns.file.Close() })
	return ns
}

// Keep is New for what several tests share: it stays until the process ends.
func Keep(t testing.TB) *NS {
	t.Helper()
	ns := &NS{}
	err := onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		ns.file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ns.Must(t, "ip", "link", "set", "lo", "up")
	return ns
}

// Current is the namespace that the test itself is in.
func Current(t testing.TB) *NS { t.Helper(); return Of(t, os.Getpid()) }

// Of is the namespace that a process is in.
func Of(t testing.TB, pid int) *NS {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &NS{f}
}

// Path names the namespace to other processes.
func (ns *NS) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.file.Fd()) }

// Do calls f on a thread in the namespace. What f starts or opens stays there.
func (ns *NS) Do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(ns.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("setns: %w", err)
		}
		return f()
	})
}

// The process counts as being where its first thread is, for Current as well, and
// that thread does not end. Nobody but main may have it.
func init() { runtime.LockOSThread() }

// onThread calls f on a thread that ends with it.
func onThread(f func() error) error {
	res := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock
		res <- f()
	}()
	return <-res
}

// Run runs a program in the namespace and returns what it wrote.
func (ns *NS) Run(args ...string) (string, error) {
	var out []byte
	err := ns.Do(func() (err error) {
		out, err = exec.Command(args[0], args[1:]...).CombinedOutput()
		return err
	})
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// Must is Run for what may not fail.
func (ns *NS) Must(t testing.TB, args ...string) string {
	t.Helper()
	out, err := ns.Run(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
