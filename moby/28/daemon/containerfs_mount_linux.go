// SPDX-License-Identifier: Apache-2.0

//go:build go1.25

package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/sys/mount"
	"golang.org/x/sys/unix"
)

// mountTarget is a place in a container's file system on which a volume is about to be
// mounted, held by file descriptors. While dockerd looks, the container's processes can
// put symbolic links there, which lead anywhere on the host: so nothing goes by a path
// once it has been resolved.
type mountTarget struct {
	parent *os.File // directory of the container
	base   string   // name in it, of no symbolic link
	target *os.File // what has that name now
	top    *os.File // root of what mount has put on it
}

// openMountTarget opens dest, a resolved path below root, and makes it where it is
// missing. A link that has come there since it was resolved is followed within root,
// and an error if it leads out.
//
// Pass no other than a resolved path: [os.Root] takes each absolute link, such as
// /var/run → /run, for one that leads out.
func openMountTarget(root, dest string, isDir bool) (_ *mountTarget, retErr error) {
	name, err := filepath.Rel(root, dest)
	if err != nil {
		return nil, err
	}
	m := &mountTarget{base: filepath.Base(name)}
	defer func() {
		if retErr != nil {
			m.close()
			retErr = fmt.Errorf("mount on /%s in the container: %w", name, retErr)
		}
	}()
	if !filepath.IsLocal(name) || m.base == "." {
		return nil, errors.New("no place below the root of the container")
	}

	r, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	dir := filepath.Dir(name)
	if err := r.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	// As a directory, or a FIFO of the container's would be waited for.
	if m.parent, err = r.OpenFile(dir, unix.O_DIRECTORY, 0); err != nil {
		return nil, err
	}
	m.target, err = m.open()
	if errors.Is(err, unix.ENOENT) {
		if err := m.create(isDir); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, err
		}
		m.target, err = m.open()
	}
	return m, err
}

// open opens what is there now, without following a link and without doing to a device
// or a FIFO what open does.
func (m *mountTarget) open() (*os.File, error) {
	fd, err := unix.Openat(int(m.parent.Fd()), m.base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "openat", Path: m.base, Err: err}
	}
	f := os.NewFile(uintptr(fd), m.base)
	info, err := f.Stat()
	if err == nil && info.Mode()&os.ModeSymlink != 0 {
		err = fmt.Errorf("%s has become a symbolic link", m.base)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func (m *mountTarget) create(isDir bool) error {
	if isDir {
		return unix.Mkdirat(int(m.parent.Fd()), m.base, 0o755)
	}
	fd, err := unix.Openat(int(m.parent.Fd()), m.base, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o755)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// mount does what mount.Mount of a bind with a propagation does, and returns a path to
// what it has mounted, good until close.
func (m *mountTarget) mount(source, options string) (string, error) {
	bind, _, _ := strings.Cut(options, ",")
	if err := mount.Mount(source, fdPath(m.target), "", bind); err != nil {
		return "", err
	}
	// The descriptor of the target stays below what is mounted on it now, and flags are
	// set from above.
	var err error
	if m.top, err = m.open(); err != nil {
		return "", err
	}
	want, err := os.Stat(source)
	if err != nil {
		return "", err
	}
	got, err := m.top.Stat()
	if err != nil {
		return "", err
	}
	if !os.SameFile(got, want) {
		return "", fmt.Errorf("%s has become another file than the one mounted", m.base)
	}
	// Without a source this sets flags and propagation alone. On what is no mount it
	// is an error.
	return fdPath(m.top), mount.Mount("", fdPath(m.top), "", options)
}

func (m *mountTarget) close() {
	for _, f := range []*os.File{m.parent, m.target, m.top} {
		if f != nil {
			_ = f.Close()
		}
	}
}

func fdPath(f *os.File) string {
	return "/proc/self/fd/" + strconv.Itoa(int(f.Fd()))
}
