// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	containertypes "github.com/docker/docker/api/types/container"
	mounttypes "github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/container"
	"github.com/docker/docker/daemon/events"
	volumemounts "github.com/docker/docker/volume/mounts"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
	"gotest.tools/v3/skip"
)

// folderLayer is a container's file system that is a folder.
type folderLayer struct{ folder string }

func (l folderLayer) Mount(string) (string, error)       { return l.folder, nil }
func (folderLayer) Unmount() error                       { return nil }
func (folderLayer) Metadata() (map[string]string, error) { return nil, nil }

// inFolder returns a container whose file system is a new folder.
func inFolder(t *testing.T) (_ *Daemon, _ *container.Container, root string) {
	t.Helper()
	skip.If(t, os.Getuid() != 0, "mounts something")
	root = t.TempDir()
	ctr := container.NewBaseContainer("box", t.TempDir())
	ctr.Config = &containertypes.Config{}
	ctr.HostConfig = &containertypes.HostConfig{}
	ctr.RWLayer = folderLayer{root}
	return &Daemon{EventsService: events.New()}, ctr, root
}

func bindOf(source, destination string, rw bool) *volumemounts.MountPoint {
	return &volumemounts.MountPoint{Type: mounttypes.TypeBind, Source: source, Destination: destination, RW: rw}
}

func write(t *testing.T, text string, path ...string) string {
	t.Helper()
	name := filepath.Join(path...)
	assert.NilError(t, os.MkdirAll(filepath.Dir(name), 0o755))
	assert.NilError(t, os.WriteFile(name, []byte(text), 0o644))
	return name
}

// exchange puts b at the place of a, and a at that of b, again and again, as a process
// in the container can.
func exchange(t *testing.T, a, b string) {
	t.Helper()
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
			}
		}
	}()
	t.Cleanup(func() {
		close(done)
		<-ended
	})
}

// looks is how often a race is run. Upstream's 28.5.2 loses it about every tenth time.
const looks = 150

// CVE-2026-41568: what is missing for a mount is made in the container, whatever links its
// processes put there meanwhile.
func TestNothingIsMadeOutsideOfTheContainer(t *testing.T) {
	t.Parallel()
	d, ctr, root := inFolder(t)
	outside, source := t.TempDir(), t.TempDir()
	assert.NilError(t, os.Mkdir(filepath.Join(root, "d"), 0o755))
	assert.NilError(t, os.Symlink(outside, filepath.Join(root, "link")))
	exchange(t, filepath.Join(root, "d"), filepath.Join(root, "link"))
	opened := 0
	for i := range looks {
		name := fmt.Sprintf("/d/new%d", i)
		ctr.MountPoints = map[string]*volumemounts.MountPoint{name: bindOf(source, name, true)}
		if view, err := d.openContainerFS(ctr); err == nil {
			opened++
			assert.NilError(t, view.Close())
		}
		found, err := os.ReadDir(outside)
		assert.NilError(t, err)
		assert.Assert(t, is.Len(found, 0), "after %d looks", i+1)
	}
	assert.Assert(t, opened > 0)
}

// CVE-2026-42306: a volume is mounted in the container.
func TestNothingIsMountedOutsideOfTheContainer(t *testing.T) {
	t.Parallel()
	d, ctr, root := inFolder(t)
	outside := filepath.Dir(write(t, "the host's", t.TempDir(), "x"))
	source := write(t, "the volume's", t.TempDir(), "the-volume")
	write(t, "the container's", root, "d", "x")
	write(t, "the container's", root, outside, "x") // where the link leads in there
	assert.NilError(t, os.Symlink(outside, filepath.Join(root, "link")))
	exchange(t, filepath.Join(root, "d"), filepath.Join(root, "link"))
	ctr.MountPoints["/d/x"] = bindOf(source, "/d/x", true)
	opened := 0
	for i := range looks {
		view, err := d.openContainerFS(ctr)
		if err != nil {
			continue
		}
		opened++
		// Opening it left behind what is outside, with all that was mounted there.
		mounts := mountsOf(t, view)
		assert.NilError(t, view.Close())
		assert.Assert(t, is.Contains(mounts, "/the-volume "), "mounted outside, in look %d", i+1)
	}
	assert.Assert(t, opened > 0)
}

// mountsOf returns the mountinfo of a view.
func mountsOf(t *testing.T, view *containerFSView) string {
	t.Helper()
	var tid int
	assert.NilError(t, view.RunInFS(context.Background(), func() error {
		tid = unix.Gettid()
		return nil
	}))
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/mountinfo", tid))
	assert.NilError(t, err)
	return string(text)
}

// A mount that dockerd is told of is there, in the container's own terms: below links of
// all kinds, on what cannot be opened, in another volume.
func TestMountsOfAView(t *testing.T) {
	d, ctr, root := inFolder(t)
	volume := t.TempDir()
	write(t, "below a link", volume, "f")
	assert.NilError(t, os.Mkdir(filepath.Join(volume, "inner"), 0o755))
	file := write(t, "a file", t.TempDir(), "file")
	fixed := t.TempDir()
	write(t, "fixed", fixed, "f")
	write(t, "", fixed, "here")

	assert.NilError(t, os.MkdirAll(filepath.Join(root, "run"), 0o755))
	assert.NilError(t, os.MkdirAll(filepath.Join(root, "var"), 0o755))
	assert.NilError(t, os.Symlink("/run", filepath.Join(root, "var", "run")))
	assert.NilError(t, os.Symlink("../../../../run", filepath.Join(root, "var", "up")))
	assert.NilError(t, os.Symlink("/nowhere/yet", filepath.Join(root, "dangling")))
	assert.NilError(t, unix.Mkfifo(filepath.Join(root, "fifo"), 0o644))
	for destination, source := range map[string]string{
		"/var/run/x":       volume,
		"/var/run/x/inner": fixed,
		"/var/up/y":        volume,
		"/dangling":        file,
		"/fifo":            file,
		"/new/deep/file":   file,
		"/fixed":           fixed,
		"/fixed/here":      file, // a place on a file system that is read-only by then
	} {
		ctr.MountPoints[destination] = bindOf(source, destination, source != fixed)
	}
	view, err := d.openContainerFS(ctr)
	assert.NilError(t, err)
	defer view.Close()
	assert.NilError(t, view.RunInFS(context.Background(), func() error {
		for name, want := range map[string]string{
			"/run/x/f":       "below a link",
			"/var/run/x/f":   "below a link",
			"/run/x/inner/f": "fixed",
			"/run/y/f":       "below a link",
			"/nowhere/yet":   "a file",
			"/fifo":          "a file",
			"/new/deep/file": "a file",
			"/fixed/f":       "fixed",
			"/fixed/here":    "a file",
		} {
			got, err := os.ReadFile(name)
			assert.Check(t, is.Nil(err))
			assert.Check(t, is.Equal(string(got), want), name)
		}
		assert.Check(t, is.Nil(os.WriteFile("/run/x/written", nil, 0o644)))
		assert.Check(t, is.ErrorIs(os.WriteFile("/fixed/written", nil, 0o644), unix.EROFS))
		assert.Check(t, is.ErrorIs(os.WriteFile("/run/x/inner/written", nil, 0o644), unix.EROFS))
		return nil
	}))
	_, err = os.Stat(filepath.Join(volume, "written"))
	assert.NilError(t, err)
	// What is unmounted in the view is not unmounted on the host.
	assert.Check(t, !strings.Contains(mountsOf(t, view), "master:"))

	// The root itself is no place for a mount, by whatever name; runc says so too.
	assert.NilError(t, os.Symlink("/", filepath.Join(root, "all")))
	ctr.MountPoints = map[string]*volumemounts.MountPoint{"/all": bindOf(volume, "/all", true)}
	_, err = d.openContainerFS(ctr)
	assert.ErrorContains(t, err, "no place below the root")
}

// A link that has come since a place was resolved is not followed out of the container.
func TestMountTargetBehindALink(t *testing.T) {
	_, _, root := inFolder(t)
	outside := t.TempDir()
	assert.NilError(t, os.Symlink(outside, filepath.Join(root, "d")))
	assert.NilError(t, os.Symlink("../../../../../../../../../.."+outside, filepath.Join(root, "up")))
	assert.NilError(t, os.Symlink("x", filepath.Join(root, "last")))
	for _, name := range []string{"d", "d/new", "d/new/file", "up/new", "up/new/file", "last"} {
		for _, isDir := range []bool{true, false} {
			_, err := openMountTarget(root, filepath.Join(root, name), isDir)
			assert.Check(t, is.ErrorContains(err, "mount on /"+name), "directory: %v", isDir)
		}
	}
	found, err := os.ReadDir(outside)
	assert.NilError(t, err)
	assert.Assert(t, is.Len(found, 0))
}

// Flags are of what was mounted, also on a kernel without mount_setattr.
func TestMountTargetFlags(t *testing.T) {
	_, _, root := inFolder(t)
	source, place := t.TempDir(), filepath.Join(root, "a")
	m, err := openMountTarget(root, place, true)
	assert.NilError(t, err)
	defer m.close()
	_, err = m.mount(source, "rbind,ro,rprivate")
	assert.NilError(t, err)
	t.Cleanup(func() { _ = unix.Unmount(place, unix.MNT_DETACH) })
	assert.ErrorIs(t, os.WriteFile(filepath.Join(place, "f"), nil, 0o644), unix.EROFS)
	write(t, "", source, "f")
}

// Once it is opened, a target stays the same, and what comes to its name later is not
// given the flags of the mount, be it a mount itself.
func TestMountTargetIsExchanged(t *testing.T) {
	for _, mounted := range []bool{false, true} {
		t.Run(fmt.Sprintf("mounted=%v", mounted), func(t *testing.T) {
			_, _, root := inFolder(t)
			a, b := filepath.Join(root, "a"), filepath.Join(root, "b")
			assert.NilError(t, os.Mkdir(a, 0o755))
			assert.NilError(t, os.Mkdir(b, 0o755))
			t.Cleanup(func() {
				_ = unix.Unmount(a, unix.MNT_DETACH)
				_ = unix.Unmount(b, unix.MNT_DETACH)
			})
			m, err := openMountTarget(root, a, true)
			assert.NilError(t, err)
			defer m.close()
			if mounted {
				assert.NilError(t, unix.Mount(t.TempDir(), b, "", unix.MS_BIND, ""))
				m.base = "b" // in this namespace no name of a mount is exchanged
			} else {
				assert.NilError(t, unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE))
			}
			_, err = m.mount(t.TempDir(), "rbind,ro,rprivate")
			assert.ErrorContains(t, err, "another file than the one mounted")
		})
	}
}

// CVE-2026-41567: what unpacks an archive is the host's program. This one is of no format
// that can be run, so that trying is an error.
func TestNoProgramOfTheContainerUnpacks(t *testing.T) {
	d, ctr, root := inFolder(t)
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		name := write(t, "not a program\x00", root, dir, "unpigz")
		assert.NilError(t, os.Chmod(name, 0o755))
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	assert.NilError(t, w.WriteHeader(&tar.Header{Name: "f", Mode: 0o644, Size: 4}))
	_, err := w.Write([]byte("text"))
	assert.NilError(t, err)
	assert.NilError(t, w.Close())
	assert.NilError(t, z.Close())
	assert.NilError(t, d.containerExtractToDir(ctr, "/", false, false, &b))
	got, err := os.ReadFile(filepath.Join(root, "f"))
	assert.NilError(t, err)
	assert.Equal(t, string(got), "text")
}
