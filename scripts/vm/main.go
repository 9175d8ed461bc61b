// SPDX-License-Identifier: Apache-2.0

// Command vm runs a command in a throw-away machine with the patched kernel:
//
//	vm --mode v2 -- integration.test -test.v -test.run TestGPU
//	vm --mode v1 --shell
//
// The machine's root disk holds the programs under test, the guest programs of
// this repository and a few tools of the host; see image.go. Nothing the guest
// writes is kept. The console of the last run is .build/vm/console-MODE.log.
//
// What the command prints comes out on stdout as it is, what this tool has to
// say on stderr. Exit codes: the command's own; 3 when the machine failed
// (did not boot, or died before the command ended), 4 when the command ran out
// of time, 2 for wrong usage, 130 when interrupted. A command that itself ends
// with 2, 3 or 4 gives 1.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/scripts/vm/wire"
	"github.com/spf13/cobra"
)

const (
	codeFailed  = 1
	codeUsage   = 2
	codeMachine = 3
	codeTimeout = 4

	codeInterrupted = 130
)

type options struct {
	root    string // of the repository
	bin     string
	kernel  string
	mode    string
	accel   string
	memory  int
	cpus    int
	env     []string
	files   []string
	boot    time.Duration
	timeout time.Duration
	shell   bool
	image   bool
	args    []string
}

func (o options) work() string { return filepath.Join(o.root, ".build", "vm") }

func main() {
	// SIGHUP too: a closed terminal must not leave a machine behind.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	code := 0
	cmd := command(&code)
	cmd.SetContext(ctx)
	if err := cmd.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		code = exitCode(err)
		if ctx.Err() != nil {
			code = codeInterrupted
		}
	}
	stop()
	os.Exit(code)
}

func exitCode(err error) int {
	switch {
	case errors.As(err, new(*machineError)):
		return codeMachine
	case errors.Is(err, errTimeout):
		return codeTimeout
	case errors.As(err, new(usageError)):
		return codeUsage
	default:
		return codeFailed
	}
}

type usageError struct{ error }

func command(code *int) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:           "vm --mode v1|v2 [flags] -- COMMAND [ARG...]",
		Short:         "Run a command in a throw-away machine with the patched kernel",
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.args = args
			if err := o.check(); err != nil {
				return usageError{err}
			}
			var err error
			*code, err = run(cmd.Context(), o)
			return err
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	f := cmd.Flags()
	f.StringVar(&o.mode, "mode", "", "cgroup layout in the machine: v1 or v2")
	f.StringVar(&o.bin, "bin", "", "folder of the binaries to put into the machine (default .build/bin)")
	f.StringVar(&o.kernel, "kernel", "", "kernel image (default .build/kernel/bzImage)")
	f.StringVar(&o.accel, "accel", "auto", "auto, kvm or tcg; auto takes KVM where it really boots")
	f.IntVar(&o.memory, "memory", 2048, "memory of the machine in MiB")
	f.IntVar(&o.cpus, "cpus", 2, "processors of the machine")
	f.StringArrayVar(&o.env, "env", nil, "NAME=VALUE for the command, repeatable")
	f.StringArrayVar(&o.files, "file", nil, "HOST:GUEST, one more file for the machine, repeatable")
	f.DurationVar(&o.boot, "boot-timeout", 0, "time until the machine must be ready (default 60s under KVM, 2m emulated; then one more try)")
	f.DurationVar(&o.timeout, "timeout", 30*time.Minute, "time for everything")
	f.BoolVar(&o.shell, "shell", false, "run an interactive shell on this terminal; its exit ends the machine")
	f.BoolVar(&o.image, "image", false, "only build the root disk and print its path")
	return cmd
}

func (o *options) check() error {
	root, err := repository()
	if err != nil {
		return err
	}
	o.root = root
	if o.bin == "" {
		o.bin = filepath.Join(root, ".build", "bin")
	}
	if o.kernel == "" {
		o.kernel = filepath.Join(root, ".build", "kernel", "bzImage")
	}
	if o.image {
		return nil
	}
	if o.shell && len(o.args) == 0 {
		o.args = []string{"sh"}
	}
	switch {
	case o.mode != wire.V1 && o.mode != wire.V2:
		return fmt.Errorf("--mode must be v1 or v2, not %q", o.mode)
	case o.accel != "auto" && o.accel != "kvm" && o.accel != "tcg":
		return fmt.Errorf("--accel must be auto, kvm or tcg, not %q", o.accel)
	case len(o.args) == 0:
		return errors.New("no command given; put it after --, or use --shell")
	}
	return nil
}

// repository is the folder of the go.mod above the working directory.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.mod above the working directory; run this inside the repository")
		}
		dir = filepath.Dir(dir)
	}
}

func run(ctx context.Context, o options) (int, error) {
	began := time.Now()
	if err := os.MkdirAll(o.work(), 0o755); err != nil {
		return 0, err
	}
	sweep(o.work())
	image, err := buildImage(ctx, o)
	if err != nil {
		return 0, fmt.Errorf("root disk: %w", err)
	}
	defer image.Close()
	if o.image {
		fmt.Println(image.Name())
		return 0, nil
	}
	fmt.Fprintf(os.Stderr, "vm: root disk after %.1fs\n", time.Since(began).Seconds())

	m, err := newMachine(o, image.Name())
	if err != nil {
		return 0, err
	}
	defer m.close()
	code, err := m.run(ctx)
	if err != nil {
		return 0, err
	}
	return commandCode(code), nil
}

// sweep removes what a killed run left behind, and nothing that a running one
// may still use.
func sweep(dir string) {
	for _, pattern := range []string{"job-*", "stage-*"} {
		left, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, path := range left {
			if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > 24*time.Hour {
				_ = os.RemoveAll(path)
			}
		}
	}
}

// commandCode keeps the codes of this tool for this tool.
func commandCode(code int) int {
	switch code {
	case codeUsage, codeMachine, codeTimeout:
		fmt.Fprintf(os.Stderr, "vm: the command ended with %d\n", code)
		return codeFailed
	}
	return code
}
