// SPDX-License-Identifier: Apache-2.0

// Command gem allocates GPU memory for the tests: it opens a DRM node, creates
// GEM objects and says what happened, one line each:
//
//	allocated 8 of 8
//	allocated 8 of 9: ENOMEM
//
// It exits with 0 in the first case and with 1 in the second. With --hold it
// keeps the objects until it is killed, in both cases.
//
// With --share it hands the objects (PRIME) to who asks on a Unix socket, and
// "gem import" is who asks: it prints "imported 5" and, with --hold, keeps them.
//
// The node may be any of the software GPU of the test kernel. With other drivers
// it must be a card node: there gem makes "dumb buffers", as every driver with a
// display can, and the kernel refuses these on a render node with EACCES. Without
// --node it takes the first card that it sees, else the first render node.
package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/drm"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// dumbArgs is struct drm_mode_create_dumb of include/uapi/drm/drm_mode.h.
type dumbArgs struct {
	height, width, bpp, flags uint32
	handle, pitch             uint32 // out
	size                      uint64 // out, bytes
}

// ioctlCreateDumb is DRM_IOWR(0xB2, struct drm_mode_create_dumb).
const ioctlCreateDumb = 3<<30 | unsafe.Sizeof(dumbArgs{})<<16 | 'd'<<8 | 0xB2

// softArgs is struct drm_cgroup_test_create of drivers/gpu/drm/cgroup_test/cgroup_test.h.
type softArgs struct {
	size   uint64 // bytes
	handle uint32 // out
	pad    uint32
}

// ioctlCreateSoft is DRM_IOWR(DRM_COMMAND_BASE + 2, struct drm_cgroup_test_create).
const ioctlCreateSoft = 3<<30 | unsafe.Sizeof(softArgs{})<<16 | 'd'<<8 | 0x42

func main() {
	if err := command().Execute(); err != nil {
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var node, size, share string
	var count int
	var hold bool
	wait := func() {
		// As PID 1 of a container it must catch SIGTERM itself, or stop waits
		// for its time-out.
		done := make(chan os.Signal, 1)
		signal.Notify(done, unix.SIGTERM, unix.SIGINT)
		<-done
	}
	alloc := &cobra.Command{
		Use:           "alloc",
		Short:         "Create GEM objects",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			each, err := bytes(size)
			if err != nil {
				cmd.PrintErrln("gem:", err)
				return err
			}
			failed := alloc(cmd, node, share, each, count)
			if hold {
				wait()
			}
			return failed
		},
	}
	f := alloc.Flags()
	f.StringVar(&node, "node", "", "node to open (default: the first)")
	f.StringVar(&size, "size", "1m", "bytes per object, a multiple of 4096; suffix k or m")
	f.IntVar(&count, "count", 1, "number of objects")
	f.BoolVar(&hold, "hold", false, "keep the objects until SIGTERM")
	f.StringVar(&share, "share", "", "Unix socket to hand the objects out on, all at once; needs --hold")
	take := &cobra.Command{
		Use:           "import SOCKET",
		Short:         "Import what another process shares",
		Args:          cobra.ExactArgs(1),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := importFrom(node, args[0])
			if err != nil {
				fmt.Fprintf(cmd.OutOrStdout(), "imported %d: %s\n", n, name(err))
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "imported %d\n", n)
			if hold {
				wait()
			}
			return nil
		},
	}
	take.Flags().StringVar(&node, "node", "", "node to open (default: the first)")
	take.Flags().BoolVar(&hold, "hold", false, "keep the objects until SIGTERM")
	root := &cobra.Command{Use: "gem", Short: "Allocate GPU memory"}
	root.AddCommand(alloc, take)
	return root
}

// open opens a node, the first one if none is named.
func open(node string) (fd int, err error) {
	if node == "" {
		node = first("/dev/dri")
	}
	return unix.Open(node, unix.O_RDWR|unix.O_CLOEXEC, 0)
}

func first(dir string) string {
	for _, kind := range []string{"card", "renderD"} {
		// Sorted by name, which is not always by number, but always the same.
		if found, _ := filepath.Glob(filepath.Join(dir, kind+"*")); len(found) > 0 {
			return found[0]
		}
	}
	return filepath.Join(dir, "card0")
}

func alloc(cmd *cobra.Command, node, share string, size uint64, count int) error {
	fd, err := open(node)
	if err != nil {
		fmt.Fprintf(cmd.OutOrStdout(), "open %s: %s\n", node, name(err))
		return err
	}
	create := createDumb
	if driver, err := drm.Driver(fd, node); err == nil && strings.HasPrefix(driver, drm.Both) {
		create = createSoft
	}
	// The objects live as long as the file; it is closed by exit only.
	var handles []uint32
	for i := range count {
		handle, err := create(fd, size)
		if err != nil {
			fmt.Fprintf(cmd.OutOrStdout(), "allocated %d of %d: %s\n", i, count, name(err))
			return err
		}
		handles = append(handles, handle)
	}
	if share != "" {
		if err := shareOn(fd, handles, share); err != nil {
			fmt.Fprintf(cmd.OutOrStdout(), "share: %s\n", name(err))
			return err
		}
	}
	fmt.Fprintf(cmd.OutOrStdout(), "allocated %d of %d\n", count, count)
	return nil
}

// createSoft works on the render node of the software GPU as well.
func createSoft(fd int, size uint64) (handle uint32, err error) {
	c := softArgs{size: size}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), ioctlCreateSoft, uintptr(unsafe.Pointer(&c))); errno != 0 {
		return 0, errno
	}
	return c.handle, nil
}

func createDumb(fd int, size uint64) (handle uint32, err error) {
	// 1024 pixels of 4 bytes make rows of one page, which no driver pads.
	d := dumbArgs{width: 1024, height: uint32(size / 4096), bpp: 32}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), ioctlCreateDumb, uintptr(unsafe.Pointer(&d)))
	if errno != 0 {
		return 0, errno
	}
	if d.size != size {
		return 0, fmt.Errorf("asked for %d bytes, the driver made %d", size, d.size)
	}
	return d.handle, nil
}

func bytes(s string) (uint64, error) {
	digits, unit := strings.ToLower(s), uint64(1)
	switch {
	case strings.HasSuffix(digits, "k"):
		digits, unit = digits[:len(digits)-1], 1<<10
	case strings.HasSuffix(digits, "m"):
		digits, unit = digits[:len(digits)-1], 1<<20
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || n == 0 || n*unit%4096 != 0 || n*unit/4096 > math.MaxUint32 {
		return 0, fmt.Errorf("--size %q: want a positive multiple of 4096 bytes, such as 64k or 1m", s)
	}
	return n * unit, nil
}

// name gives the errno as the manuals spell it.
func name(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		if n := unix.ErrnoName(errno); n != "" {
			return n
		}
	}
	return err.Error()
}
