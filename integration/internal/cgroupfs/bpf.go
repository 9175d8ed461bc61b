// SPDX-License-Identifier: Apache-2.0

package cgroupfs

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// From the kernel's linux/bpf.h.
const (
	bpfProgQuery    = 16
	bpfCgroupDevice = 6
)

// DevicePrograms returns the IDs of the BPF programs that decide about devices
// in a group of cgroup2, where no file shows the rules. A program that is
// replaced, even by the same, has a new ID.
func DevicePrograms(dir string) ([]uint32, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	ids := make([]uint32, 64)
	attr := struct {
		targetFD, attachType, queryFlags, attachFlags uint32
		ids                                           uint64
		count                                         uint32
		_                                             [60]byte
	}{
		targetFD:   uint32(f.Fd()),
		attachType: bpfCgroupDevice,
		ids:        uint64(uintptr(unsafe.Pointer(&ids[0]))),
		count:      uint32(len(ids)),
	}
	_, _, errno := unix.Syscall(unix.SYS_BPF, bpfProgQuery, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	runtime.KeepAlive(ids)
	if errno != 0 {
		return nil, errno
	}
	return ids[:attr.count], nil
}
