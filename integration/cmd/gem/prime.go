// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// primeHandle is struct drm_prime_handle of include/uapi/drm/drm.h.
type primeHandle struct {
	handle, flags uint32
	fd            int32
}

// DRM_IOWR(0x2d) and (0x2e) of struct drm_prime_handle.
const (
	ioctlHandleToFD = 3<<30 | unsafe.Sizeof(primeHandle{})<<16 | 'd'<<8 | 0x2d
	ioctlFDToHandle = 3<<30 | unsafe.Sizeof(primeHandle{})<<16 | 'd'<<8 | 0x2e
)

// maxFDs is the kernel's limit for one message (SCM_MAX_FD).
const maxFDs = 253

// shareOn hands the objects as dma-bufs to each process that connects.
func shareOn(card int, handles []uint32, socket string) error {
	var fds []int
	for _, h := range handles {
		p := primeHandle{handle: h, flags: unix.O_CLOEXEC}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(card), ioctlHandleToFD, uintptr(unsafe.Pointer(&p))); errno != 0 {
			return errno
		}
		fds = append(fds, int(p.fd))
	}
	if len(fds) > maxFDs {
		return errors.New("more objects than one message can carry")
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			_, _, _ = c.WriteMsgUnix([]byte{0}, unix.UnixRights(fds...), nil)
			c.Close()
		}
	}()
	return nil
}

// importFrom imports all that is shared and returns how many objects that is.
func importFrom(node, socket string) (int, error) {
	card, err := open(node)
	if err != nil {
		return 0, err
	}
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	control := make([]byte, unix.CmsgSpace(4*maxFDs))
	_, n, _, _, err := c.ReadMsgUnix(make([]byte, 1), control)
	if err != nil {
		return 0, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return 0, err
	}
	count := 0
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return count, err
		}
		for _, fd := range fds {
			p := primeHandle{fd: int32(fd)}
			if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(card), ioctlFDToHandle, uintptr(unsafe.Pointer(&p))); errno != 0 {
				return count, errno
			}
			// The handle keeps the object; the descriptor is no longer needed.
			_ = unix.Close(fd)
			count++
		}
	}
	return count, nil
}
