// SPDX-License-Identifier: Apache-2.0

// Package updatepool updates many containers by one process of their runtime.
package updatepool

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

const (
	// idleFor is how long a runtime process waits for further updates.
	idleFor = 200 * time.Millisecond
	// earlyFor is how long one that was started early waits for its first.
	// A slow disk is in between.
	earlyFor = 2 * time.Second
)

// Deadline is how long the runtime may take for one container, who waits
// for nobody else's. It is long because memory that is to be freed may have to be
// written to a slow disk first.
var Deadline = time.Minute

// Timeout says so when it was longer.
func Timeout(runtime string, err error) error {
	return &timeoutError{fmt.Errorf("%s did not finish within %s: another program may hold the container's state, or its memory takes long to be freed: %w", runtime, Deadline, err)}
}

// timeoutError is one for which containerd's errdefs.IsDeadlineExceeded holds.
type timeoutError struct{ error }

func (e *timeoutError) Unwrap() error { return e.error }

func (*timeoutError) DeadlineExceeded() {}

// Pool has a Runtime for each Key that was ever used. Its zero value is ready.
type Pool struct{ runtimes sync.Map }

// Get returns the same Runtime for the same key.
func (p *Pool) Get(key Key) *Runtime {
	u, _ := p.runtimes.LoadOrStore(key, &Runtime{Key: key})
	return u.(*Runtime)
}

// Key is a runtime that answers requests: its program, its folder of containers, and the
// command that takes many updates.
type Key struct{ Binary, Root, Command string }

// Runtime runs updates, at most one process at a time.
type Runtime struct {
	Key

	mu   sync.Mutex
	proc *process // takes requests; nil if there is none
}

type process struct {
	requests *os.File
	waiting  map[string]chan<- error // by container ID; under Runtime.mu
	idle     *time.Timer
	kill     func()
}

// errAskAnother is the answer of a process that is ended for another container's
// sake: to update twice is the same as once.
var errAskAnother = errors.New("ended for another container's update")

// requestDeadline is how long a process may take to read a request. It reads them
// as they come, and there is room for many.
const requestDeadline = time.Second

// Update returns when the runtime has updated the container, or has failed. An error for
// which cerrdefs.IsDeadlineExceeded holds is that it did not answer within [Deadline].
func (u *Runtime) Update(id string, resources *specs.LinuxResources) error {
	request, err := json.Marshal(struct {
		ID        string                `json:"id"`
		Resources *specs.LinuxResources `json:"resources"`
	}{id, resources})
	if err != nil {
		return err
	}
	deadline := time.NewTimer(Deadline)
	defer deadline.Stop()
	for {
		done := make(chan error, 1)
		p, err := u.send(id, request, done)
		if err == nil {
			select {
			case err = <-done:
			case <-deadline.C:
				return u.giveUp(p, id, done)
			}
		}
		if !errors.Is(err, errAskAnother) {
			return err
		}
		select {
		case <-deadline.C:
			return Timeout(u.Binary, err)
		default:
		}
	}
}

// giveUp ends the process that does not finish a container's update: the update
// must not go on while it is rolled back. Whoever else waits for that process asks
// another one, which waits, for each container, until the old one has let go of it.
func (u *Runtime) giveUp(p *process, id string, done <-chan error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if p.waiting[id] == nil {
		return <-done // It was answered just now.
	}
	delete(p.waiting, id)
	u.abandon(p)
	return Timeout(u.Binary, context.DeadlineExceeded)
}

// abandon ends a process at once. Callers hold u.mu.
func (u *Runtime) abandon(p *process) {
	u.retire(p)
	p.kill()
	for id, done := range p.waiting {
		delete(p.waiting, id)
		done <- errAskAnother
	}
}

// Expect starts a process if there is none. An error is left to Update, which tries
// again and has someone to tell.
func (u *Runtime) Expect() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.proc == nil && u.start() != nil {
		return
	}
	if len(u.proc.waiting) == 0 {
		u.proc.idle.Reset(earlyFor)
	}
}

func (u *Runtime) send(id string, request []byte, done chan<- error) (*process, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.proc == nil {
		if err := u.start(); err != nil {
			return nil, fmt.Errorf("starting %s %s: %w", u.Binary, u.Command, err)
		}
	}
	p := u.proc
	p.idle.Stop()
	if p.waiting[id] != nil {
		return nil, fmt.Errorf("container %s is being updated", id)
	}
	p.waiting[id] = done
	_ = p.requests.SetWriteDeadline(time.Now().Add(requestDeadline))
	if _, err := p.requests.Write(append(request, '\n')); errors.Is(err, os.ErrDeadlineExceeded) {
		// It does not read: it was stopped, or the machine is out of memory.
		delete(p.waiting, id)
		u.abandon(p)
		return nil, errAskAnother
	} else if err != nil {
		// It is dying, and whoever waits for its end tells those that wait
		// for an answer. This one may still be lucky with the next.
		delete(p.waiting, id)
		u.retire(p)
		return nil, fmt.Errorf("asking %s %s: %w", u.Binary, u.Command, err)
	}
	return p, nil
}

// retire lets a process end when it has answered. Callers hold u.mu.
func (u *Runtime) retire(p *process) {
	_ = p.requests.Close()
	if u.proc == p {
		u.proc = nil
	}
}

// start is called with u.mu held.
func (u *Runtime) start() error {
	cmd := exec.Command(u.Binary, "--root", u.Root, u.Command)
	// An update must not go on while the next dockerd rolls it back.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	// A child that a wrapper leaves behind may hold the pipes open.
	cmd.WaitDelay = time.Second
	stderr := &tail{max: 2000}
	cmd.Stderr = stderr
	answers, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	// Not cmd.StdinPipe, whose kind of file is not told.
	stdin, requests, err := os.Pipe()
	if err != nil {
		return err
	}
	defer stdin.Close()
	cmd.Stdin = stdin
	p := &process{requests: requests, waiting: map[string]chan<- error{}, kill: func() { _ = cmd.Process.Kill() }}
	p.idle = time.AfterFunc(time.Hour, func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		if len(p.waiting) == 0 {
			u.retire(p)
		}
	})
	started := make(chan error)
	go func() {
		// The signal comes when the thread ends that started the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			readErr := u.read(p, answers)
			if readErr != nil {
				_ = cmd.Process.Kill() // It does not keep to the protocol.
			}
			u.ended(p, errors.Join(readErr, cmd.Wait()), stderr.String())
		}
	}()
	if err := <-started; err != nil {
		p.idle.Stop()
		_ = requests.Close()
		return err
	}
	u.proc = p
	return nil
}

// read passes answers on until there are no more.
func (u *Runtime) read(p *process, answers io.Reader) error {
	for in := json.NewDecoder(answers); ; {
		var a struct{ ID, Error string }
		if err := in.Decode(&a); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil
			}
			return err
		}
		u.mu.Lock()
		done := p.waiting[a.ID]
		delete(p.waiting, a.ID)
		if len(p.waiting) == 0 {
			p.idle.Reset(idleFor)
		}
		u.mu.Unlock()
		switch {
		case done == nil:
			return fmt.Errorf("answer for container %q, which was not asked for", a.ID)
		case a.Error != "":
			done <- errors.New(a.Error)
		default:
			done <- nil
		}
	}
}

// ended tells those that still wait that there will be no answer.
func (u *Runtime) ended(p *process, err error, stderr string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	p.idle.Stop()
	u.retire(p)
	if err == nil {
		err = errors.New("ended without an answer")
	}
	if stderr != "" {
		err = fmt.Errorf("%w: %s", err, stderr)
	}
	for _, done := range p.waiting {
		done <- fmt.Errorf("%s %s did not finish: %w", u.Binary, u.Command, err)
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	buf bytes.Buffer
	max int
}

func (t *tail) Write(data []byte) (int, error) {
	t.buf.Write(data)
	if over := t.buf.Len() - t.max; over > 0 {
		t.buf.Next(over)
	}
	return len(data), nil
}

func (t *tail) String() string { return strings.TrimSpace(t.buf.String()) }
