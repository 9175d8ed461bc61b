// SPDX-License-Identifier: Apache-2.0

//go:build linux || freebsd

package daemon

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
	"strings"
	"sync"
	"syscall"
	"time"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/docker/docker/container"
	"github.com/docker/docker/errdefs"
	libcontainerdtypes "github.com/docker/docker/libcontainerd/types"
)

// updateManyFeature is the annotation in `<runtime> features` that has the name
// of the runtime's command for updating many containers in one process.
const updateManyFeature = "io.github.gpu-cgroup.update-many"

const (
	// updaterIdle is how long a runtime process waits for further updates.
	updaterIdle = 200 * time.Millisecond
	// updaterEarly is how long one that was started early waits for its first.
	// A slow disk is in between.
	updaterEarly = 2 * time.Second
)

// sendUpdate hands an update to the runtime: by way of containerd and the shim,
// which start a process for each, or to one process for all if the runtime
// offers that. It writes the same files and the same state either way, and
// nobody in between remembers the limits. Callers hold the container's update
// lock.
func (daemon *Daemon) sendUpdate(ctx context.Context, ctr *container.Container, tsk libcontainerdtypes.Task, resources *libcontainerdtypes.Resources) error {
	if u := daemon.updaterOf(ctr); u != nil {
		return u.update(ctr.ID, resources)
	}
	ctx, cancel := context.WithTimeout(ctx, updateDeadline)
	defer cancel()
	err := tsk.UpdateResources(ctx, resources)
	if err != nil && ctx.Err() != nil {
		err = updateTimeout(ctr.HostConfig.Runtime, err)
	}
	return err
}

// updateDeadline is how long the runtime may take for one container, who waits
// for nobody else's. It is long because memory that is to be freed may have to be
// written to a slow disk first.
var updateDeadline = time.Minute

// updateTimeout says so when it was longer.
func updateTimeout(runtime string, err error) error {
	return errdefs.Deadline(fmt.Errorf("%s did not finish within %s: another program may hold the container's state, or its memory takes long to be freed: %w", runtime, updateDeadline, err))
}

// expectUpdate starts the process that sendUpdate will need. That takes about as
// long as it takes to put the container's new settings on disk.
func (daemon *Daemon) expectUpdate(ctr *container.Container) {
	if u := daemon.updaterOf(ctr); u != nil {
		go u.expect()
	}
}

// updaterOf returns nil for a container whose runtime cannot be asked directly.
func (daemon *Daemon) updaterOf(ctr *container.Container) *updater {
	cfg := daemon.configStore.Load()
	if cfg == nil || cfg.Rootless {
		return nil
	}
	name := ctr.HostConfig.Runtime
	features := cfg.Runtimes.Features(name)
	if features == nil || features.Annotations[updateManyFeature] == "" {
		return nil
	}
	_, opts, err := cfg.Runtimes.Get(name)
	runc, ok := opts.(*runcoptions.Options)
	if err != nil || !ok {
		return nil
	}
	// The folder is the shim's choice. A container may be older than the
	// configuration, and containerd may see other folders than we do.
	root := filepath.Join(runc.Root, cfg.ContainerdNamespace)
	if _, err := os.Stat(filepath.Join(root, ctr.ID, "state.json")); err != nil {
		return nil
	}
	key := updaterKey{binary: runc.BinaryName, root: root, command: features.Annotations[updateManyFeature]}
	u, _ := updaters.LoadOrStore(key, &updater{updaterKey: key})
	return u.(*updater)
}

// updaters has an updater for each updaterKey that was ever used.
var updaters sync.Map

type updaterKey struct{ binary, root, command string }

// updater runs updates, at most one process at a time.
type updater struct {
	updaterKey

	mu   sync.Mutex
	proc *updaterProcess // takes requests; nil if there is none
}

type updaterProcess struct {
	requests *os.File
	waiting  map[string]chan<- error // by container ID; under updater.mu
	idle     *time.Timer
	kill     func()
}

// errAskAnother is the answer of a process that is ended for another container's
// sake: to update twice is the same as once.
var errAskAnother = errors.New("ended for another container's update")

// requestDeadline is how long a process may take to read a request. It reads them
// as they come, and there is room for many.
const requestDeadline = time.Second

// update returns when the runtime has updated the container, or has failed.
func (u *updater) update(id string, resources *libcontainerdtypes.Resources) error {
	request, err := json.Marshal(struct {
		ID        string                        `json:"id"`
		Resources *libcontainerdtypes.Resources `json:"resources"`
	}{id, resources})
	if err != nil {
		return err
	}
	deadline := time.NewTimer(updateDeadline)
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
			return updateTimeout(u.binary, err)
		default:
		}
	}
}

// giveUp ends the process that does not finish a container's update: the update
// must not go on while it is rolled back. Whoever else waits for that process asks
// another one, which waits, for each container, until the old one has let go of it.
func (u *updater) giveUp(p *updaterProcess, id string, done <-chan error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if p.waiting[id] == nil {
		return <-done // It was answered just now.
	}
	delete(p.waiting, id)
	u.abandon(p)
	return updateTimeout(u.binary, context.DeadlineExceeded)
}

// abandon ends a process at once. Callers hold u.mu.
func (u *updater) abandon(p *updaterProcess) {
	u.retire(p)
	p.kill()
	for id, done := range p.waiting {
		delete(p.waiting, id)
		done <- errAskAnother
	}
}

// expect starts a process if there is none. An error is left to send, which tries
// again and has someone to tell.
func (u *updater) expect() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.proc == nil && u.start() != nil {
		return
	}
	if len(u.proc.waiting) == 0 {
		u.proc.idle.Reset(updaterEarly)
	}
}

func (u *updater) send(id string, request []byte, done chan<- error) (*updaterProcess, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.proc == nil {
		if err := u.start(); err != nil {
			return nil, fmt.Errorf("starting %s %s: %w", u.binary, u.command, err)
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
		return nil, fmt.Errorf("asking %s %s: %w", u.binary, u.command, err)
	}
	return p, nil
}

// retire lets a process end when it has answered. Callers hold u.mu.
func (u *updater) retire(p *updaterProcess) {
	_ = p.requests.Close()
	if u.proc == p {
		u.proc = nil
	}
}

// start is called with u.mu held.
func (u *updater) start() error {
	cmd := exec.Command(u.binary, "--root", u.root, u.command)
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
	p := &updaterProcess{requests: requests, waiting: map[string]chan<- error{}, kill: func() { _ = cmd.Process.Kill() }}
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
func (u *updater) read(p *updaterProcess, answers io.Reader) error {
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
			p.idle.Reset(updaterIdle)
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
func (u *updater) ended(p *updaterProcess, err error, stderr string) {
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
		done <- fmt.Errorf("%s %s did not finish: %w", u.binary, u.command, err)
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
