// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/urfave/cli"
	"golang.org/x/sys/unix"
)

// updateManyCommand is "runc update" for as many containers as its caller asks
// for. Starting the process is most of what an update costs.
//
// Standard input has requests, {"id": "…", "resources": {…}}, one after the
// other; each is answered on standard output when it is done, in any order, by
// {"id": "…"} or {"id": "…", "error": "…"}. It ends with its input. A caller
// asks for a container again only after it was answered.
var updateManyCommand = cli.Command{
	Name:   "update-many",
	Usage:  "update containers as standard input asks for",
	Hidden: true,
	Action: func(context *cli.Context) error {
		if err := checkArgs(context, 0, exactArgs); err != nil {
			return err
		}
		return updateMany(context, os.Stdin, os.Stdout)
	},
}

type updateRequest struct {
	ID        string          `json:"id"`
	Resources json.RawMessage `json:"resources"`
}

type updateAnswer struct {
	ID    string `json:"id"`
	Error string `json:"error,omitempty"`
}

func updateMany(context *cli.Context, requests io.Reader, answers io.Writer) error {
	var (
		in   = json.NewDecoder(requests)
		out  = json.NewEncoder(answers)
		lock sync.Mutex
		wg   sync.WaitGroup
	)
	defer wg.Wait()
	// What an update leaves behind is small, and the process does not get old:
	// collecting it as it comes would be a fifth of the work.
	debug.SetGCPercent(800)
	for {
		var req updateRequest
		if err := in.Decode(&req); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		// At the same time, as an update can take long: memory that is to be
		// freed may have to be written to disk first.
		wg.Add(1)
		go func() {
			defer wg.Done()
			answer := updateAnswer{ID: req.ID}
			if err := updateOne(context, req); err != nil {
				answer.Error = err.Error()
			}
			lock.Lock()
			defer lock.Unlock()
			_ = out.Encode(answer) // The caller is gone; what it asked for is done all the same.
		}()
	}
}

// updateOne runs updateCommand, as if by its command line.
func updateOne(context *cli.Context, req updateRequest) error {
	fd, err := unix.MemfdCreate("resources", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("unable to pass the resources on: %w", err)
	}
	resources := os.NewFile(uintptr(fd), "resources")
	defer resources.Close()
	if _, err := resources.Write(req.Resources); err != nil {
		return fmt.Errorf("unable to pass the resources on: %w", err)
	}

	flags := flag.NewFlagSet(updateCommand.Name, flag.ContinueOnError)
	for _, f := range updateCommand.Flags {
		f.Apply(flags)
	}
	if err := flags.Parse([]string{fmt.Sprintf("--resources=/proc/self/fd/%d", fd), "--", req.ID}); err != nil {
		return err
	}
	defer unlockContainer(req.ID)
	return updateCommand.Action.(func(*cli.Context) error)(cli.NewContext(context.App, flags, context))
}

// containerLocks has the open, locked state folders of the containers that are
// being updated here, by ID.
var containerLocks sync.Map

// lockContainer returns the container once no other process is updating it. An
// update reads the container's state, changes it and writes it back, and who
// asked for it may be gone, and come back, while it is under way.
func lockContainer(context *cli.Context) (*libcontainer.Updatable, error) {
	root, id := context.GlobalString("root"), context.Args().First()
	if id == "" {
		return nil, errEmptyID
	}
	if filepath.Base(id) != id {
		return libcontainer.LoadForUpdate(root, id) // It has the words for that.
	}
	dir, err := os.Open(filepath.Join(root, id))
	if err != nil {
		return libcontainer.LoadForUpdate(root, id)
	}
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Flock(int(dir.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		dir.Close()
		return nil, fmt.Errorf("unable to lock the container's state: %w", err)
	}
	containerLocks.Store(id, dir)
	return libcontainer.LoadForUpdate(root, id)
}

// unlockContainer is for a process that goes on after an update.
func unlockContainer(id string) {
	if dir, ok := containerLocks.LoadAndDelete(id); ok {
		dir.(*os.File).Close()
	}
}
