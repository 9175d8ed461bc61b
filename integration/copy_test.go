// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"archive/tar"
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"gotest.tools/v3/assert"
)

// put unpacks an archive at the root of a container.
func put(t *testing.T, d *daemon.Daemon, name, archive string) {
	t.Helper()
	r := d.API(t, http.MethodPut, "/containers/"+name+"/archive?path=/", archive)
	assert.Equal(t, r.Status, http.StatusOK, "%s", r.Body)
}

func tarOf(t *testing.T, text string, headers ...tar.Header) string {
	t.Helper()
	var b strings.Builder
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(text))
		}
		assert.NilError(t, w.WriteHeader(&h))
		if h.Typeflag == tar.TypeReg {
			_, err := w.Write([]byte(text))
			assert.NilError(t, err)
		}
	}
	assert.NilError(t, w.Close())
	return b.String()
}

// A tar with an empty file "unpacked", by gzip and by xz.
const (
	emptyGzip = "H4sIAAAAAAACA+3PzQpAUBAG0PsoHuES3kdYKeTn/d0sKVasztl8U9/UNPs4N+3Qd+FDManL8szkmvc5L6oihiyGH+zr1izp/DJN29PeW399DgAAAAAAAAAAAD50AFzzDb4AKAAA"
	emptyXz   = "/Td6WFoAAATm1rRGAgAhARwAAAAQz1jM4Cf/AGBdADqbimaa1C6F6GL+3e2mwTQVT1sGa97M8O9amfZvjLfkWxD8mDwzSjChfFb10/UIcJfvDpmZyIur5qT+QiNfw0zHAx6LBNlJhAIj5kc5uOdTffMPQ5PJZWFy4rARbKhXAACLRz0GYiA7wQABfIBQAAAAV6ZexbHEZ/sCAAAAAARZWg=="
)

// CVE-2026-41567: docker cp into a container unpacks with the host's programs, not with
// those of the container, which would run outside of it.
func TestACopyRunsNoProgramOfTheContainer(t *testing.T) {
	place.OnHost(t)
	d := setup(t)
	d.Must(t, "create", "--name=box", "busybox")
	var programs []tar.Header
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		for _, program := range []string{"xz", "unpigz"} {
			programs = append(programs, tar.Header{Name: strings.TrimPrefix(filepath.Join(dir, program), "/"), Typeflag: tar.TypeReg, Mode: 0o755})
		}
	}
	put(t, d, "box", tarOf(t, "#!/bin/busybox sh\necho \"$0\" > /ran\n", programs...))
	for _, packed := range []string{emptyGzip, emptyXz} {
		archive, err := base64.StdEncoding.DecodeString(packed)
		assert.NilError(t, err)
		// Without an xz on this host it is refused, which is as well.
		r := d.API(t, http.MethodPut, "/containers/box/archive?path=/", string(archive))
		t.Logf("answer %d %s", r.Status, r.Message())
		out := filepath.Join(t.TempDir(), "ran")
		if d.Docker(t, "cp", "box:/ran", out).Code == 0 {
			program, _ := os.ReadFile(out)
			t.Fatalf("dockerd ran a program of the container's: %s", program)
		}
	}
	d.Must(t, "cp", "box:/unpacked", t.TempDir())
}

// docker cp goes by the links of the container: /var/run is /run in almost every image.
func TestACopyToAVolumeBelowALink(t *testing.T) {
	place.OnHost(t)
	d := setup(t)
	d.Must(t, "create", "--name=linked", "busybox")
	put(t, d, "linked", tarOf(t, "",
		tar.Header{Name: "run/", Typeflag: tar.TypeDir, Mode: 0o755},
		tar.Header{Name: "var/", Typeflag: tar.TypeDir, Mode: 0o755},
		tar.Header{Name: "var/run", Typeflag: tar.TypeSymlink, Linkname: "/run"}))
	d.Must(t, "commit", "linked", "linked")
	t.Cleanup(func() {
		d.RemoveAll(t)
		d.Must(t, "rmi", "linked")
	})
	volume, here := t.TempDir(), t.TempDir()
	assert.NilError(t, os.WriteFile(filepath.Join(here, "in"), []byte("text"), 0o644))
	d.Must(t, "create", "--name=box", "-v", volume+":/var/run/x", "-v", volume+":/var/run/y:ro", "linked")
	d.Must(t, "cp", filepath.Join(here, "in"), "box:/var/run/x/in")
	got, err := os.ReadFile(filepath.Join(volume, "in"))
	assert.NilError(t, err)
	assert.Equal(t, string(got), "text")
	d.Must(t, "cp", "box:/var/run/y/in", filepath.Join(here, "out"))
	got, err = os.ReadFile(filepath.Join(here, "out"))
	assert.NilError(t, err)
	assert.Equal(t, string(got), "text")
	r := d.Docker(t, "cp", filepath.Join(here, "in"), "box:/var/run/y/in")
	assert.Assert(t, r.Code != 0, "written to a volume that is read-only")
}
