// SPDX-License-Identifier: Apache-2.0

package devices

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestQueryFitsTheKernel: kernels 6.17 to 7.1 write the last field of the attribute of
// BPF_PROG_QUERY, 64 bytes in all, whatever size they are told. With a shorter struct
// that is memory of somebody else (mended in Linux by 21c4b99b27f3). The struct is local
// to its function, so its size is read from the source.
func TestQueryFitsTheKernel(t *testing.T) {
	const full = 64 // offsetofend(union bpf_attr, query.revision), include/uapi/linux/bpf.h
	size := localStructSize(t, "ebpf_linux.go", "bpfAttrQuery")
	if size < full {
		t.Errorf("bpfAttrQuery has %d bytes, the kernel may write %d", size, full)
	}

	dir := t.TempDir()
	if err := unix.Mount("none", dir, "cgroup2", 0, ""); err != nil {
		t.Fatalf("mount cgroup2: %v", err)
	}
	defer func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)

	canary := bytes.Repeat([]byte{0xa5}, 64)
	attr := make([]uint64, (size+len(canary))/8) // aligned as the struct is
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&attr[0])), len(attr)*8)
	copy(raw[size:], canary)
	*(*uint32)(unsafe.Pointer(&raw[0])) = uint32(fd)
	*(*uint32)(unsafe.Pointer(&raw[4])) = unix.BPF_CGROUP_DEVICE
	// No room for programs: only their number is asked for.
	if _, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_QUERY, uintptr(unsafe.Pointer(&raw[0])), uintptr(size)); errno != 0 {
		t.Fatalf("BPF_PROG_QUERY: %v", errno)
	}
	if !bytes.Equal(raw[size:], canary) {
		t.Errorf("the kernel wrote behind the %d bytes of the struct: % x", size, raw[size:])
	}
}

func localStructSize(t *testing.T, file, name string) int {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var found *ast.StructType
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.TypeSpec); ok && s.Name.Name == name {
			found, _ = s.Type.(*ast.StructType)
		}
		return found == nil
	})
	if found == nil {
		t.Fatalf("%s has no struct %s", file, name)
	}
	// Its fields have basic types, so no import is needed.
	conf := types.Config{Error: func(error) {}}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	_, _ = conf.Check("p", fset, []*ast.File{f}, info)
	return int(types.SizesFor("gc", "amd64").Sizeof(info.Types[found].Type))
}
