// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// overNFS mounts the empty folder of an NFS server, which is this process: RFC
// 1813 as far as a mount and a look into the folder need it.
func overNFS(t *testing.T) string {
	t.Helper()
	require.NFS(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	assert.NilError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serveNFS(c)
		}
	}()
	dir, port := t.TempDir(), l.Addr().(*net.TCPAddr).Port
	options := fmt.Sprintf("vers=3,proto=tcp,port=%d,mountvers=3,mountproto=tcp,mountport=%d,addr=127.0.0.1,mountaddr=127.0.0.1,nolock,soft,timeo=100", port, port)
	assert.NilError(t, unix.Mount("127.0.0.1:/", dir, "nfs", 0, options))
	t.Cleanup(func() { assert.Check(t, unix.Unmount(dir, 0)) })
	return dir
}

func serveNFS(c net.Conn) {
	defer c.Close()
	for {
		var head [4]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		call := make([]byte, binary.BigEndian.Uint32(head[:])&^(1<<31)) // the kernel sends each in one fragment
		if _, err := io.ReadFull(c, call); err != nil || len(call) < 24 {
			return
		}
		word := func(i int) uint32 { return binary.BigEndian.Uint32(call[4*i:]) }
		answer := words(word(0), 1, 0, 0, 0) // accepted, without a verifier
		if results := nfsResults(word(3), word(5)); results != nil {
			answer = append(append(answer, words(0)...), results...)
		} else {
			answer = append(answer, words(3)...) // no such procedure
		}
		if _, err := c.Write(append(words(1<<31|uint32(len(answer))), answer...)); err != nil {
			return
		}
	}
}

// nfsResults is what a procedure of a program answers to whatever it is asked.
func nfsResults(program, procedure uint32) []byte {
	const mount, nfs, size = 100005, 100003, 65536
	const ok, noAttributes = 0, 0
	long := func(v uint32) []uint32 { return []uint32{0, v} }
	switch {
	case procedure == 0, program == mount && procedure == 3: // nothing, unmount
		return []byte{}
	case program == mount && procedure == 1: // a handle, and who one may be
		return words(ok, 4, 1, 1, 1)
	case program != nfs:
		return nil
	}
	switch procedure {
	case 1: // attributes: a folder
		a := []uint32{ok, 2, 0o755, 2, 0, 0}
		for _, v := range []uint32{4096, 4096, 0, 7, 1} { // size, used, device, file system, inode
			a = append(a, long(v)...)
		}
		return words(append(a, 1, 0, 1, 0, 1, 0)...) // times
	case 3: // no such file
		return words(2, noAttributes)
	case 4: // all access
		return words(ok, noAttributes, 0x3f)
	case 18: // free space
		return words(ok, noAttributes, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	case 19: // limits
		return words(ok, noAttributes, size, size, 512, size, size, 512, size, 0, 1<<31-1, 0, 1, 0x1b)
	case 20: // limits of names
		return words(ok, noAttributes, 255, 255, 1, 1, 0, 1)
	}
	return nil
}

func words(w ...uint32) (b []byte) {
	for _, v := range w {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}
