// SPDX-License-Identifier: Apache-2.0

// Command gpuload keeps a GPU busy for the tests: it opens the software engine
// of the test kernel (CONFIG_DRM_CGROUP_TEST), keeps jobs queued until it is
// killed, and says now and then what it got so far, one line each:
//
//	12340000 517 1034000
//
// These are the time on the monotonic clock, which all containers share, the
// number of finished jobs, and the time they had the engine; times in µs.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"
	"unsafe"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// Both as in drivers/gpu/drm/cgroup_test/cgroup_test.h.
type (
	submitArgs struct{ runUs, depth uint32 }
	statArgs   struct{ jobs, busyUs uint64 }
)

// DRM_IOW(DRM_COMMAND_BASE + 0, ...) and DRM_IOR(DRM_COMMAND_BASE + 1, ...).
const (
	ioctlSubmit = 1<<30 | unsafe.Sizeof(submitArgs{})<<16 | 'd'<<8 | 0x40
	ioctlStat   = 2<<30 | unsafe.Sizeof(statArgs{})<<16 | 'd'<<8 | 0x41
)

type options struct {
	node     string
	run      time.Duration
	depth    uint32
	files    int
	opened   int
	interval time.Duration
}

func main() {
	var o options
	cmd := &cobra.Command{
		Use:          "gpuload",
		Short:        "Keep the test engine busy and print what was got of it",
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE:         func(cmd *cobra.Command, _ []string) error { return o.load(cmd.OutOrStdout()) },
	}
	f := cmd.Flags()
	f.StringVar(&o.node, "node", "/dev/dri/renderD128", "render node of the engine")
	f.DurationVar(&o.run, "run", 2*time.Millisecond, "time a job takes, 1µs to 1s")
	f.Uint32Var(&o.depth, "depth", 256, "unfinished jobs per file, 1 to 1024")
	f.IntVar(&o.files, "files", 1, "how often to open the node; each file competes on its own")
	f.IntVar(&o.opened, "opened", 0, "take so many files that whoever started this has opened, from 3 on, instead of --files")
	f.DurationVar(&o.interval, "interval", 200*time.Millisecond, "time between two lines")
	if err := cmd.Execute(); err != nil {
		os.Exit(1)
	}
}

// load returns when something fails, and not before.
func (o options) load(out io.Writer) error {
	failed := make(chan error)
	var fds []int
	for i := range o.opened {
		fds = append(fds, 3+i)
	}
	for len(fds) < o.files {
		fd, err := unix.Open(o.node, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", o.node, err)
		}
		fds = append(fds, fd)
	}
	for _, fd := range fds {
		go func() {
			args := submitArgs{uint32(o.run.Microseconds()), o.depth}
			for {
				if err := ioctl(fd, ioctlSubmit, unsafe.Pointer(&args)); err != nil {
					failed <- fmt.Errorf("submit to %s: %w", o.node, err)
				}
			}
		}()
	}
	tick := time.NewTicker(o.interval)
	defer tick.Stop()
	for {
		select {
		case err := <-failed:
			return err
		case <-tick.C:
		}
		if err := report(out, fds); err != nil {
			return err
		}
	}
}

func report(out io.Writer, fds []int) error {
	var sum statArgs
	for _, fd := range fds {
		var s statArgs
		if err := ioctl(fd, ioctlStat, unsafe.Pointer(&s)); err != nil {
			return fmt.Errorf("stat: %w", err)
		}
		sum.jobs += s.jobs
		sum.busyUs += s.busyUs
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, now.Nano()/1000, sum.jobs, sum.busyUs)
	return err
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
		switch {
		case errno == 0:
			return nil
		case !errors.Is(errno, unix.EINTR):
			return errno
		}
	}
}
