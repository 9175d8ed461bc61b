// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"
)

func TestWrite(t *testing.T) {
	_, err := exec.LookPath("busybox")
	assert.NilError(t, err)
	bin := t.TempDir()
	assert.NilError(t, os.WriteFile(filepath.Join(bin, "gem"), []byte("a program"), 0o700))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	var archive bytes.Buffer
	assert.NilError(t, Write(&archive))

	found := map[string]*tar.Header{}
	for r := tar.NewReader(&archive); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		assert.NilError(t, err)
		found[h.Name] = h
	}
	assert.Equal(t, found["bin/sh"].Linkname, "busybox")
	assert.Equal(t, found["bin/busybox"].Mode, int64(0o755))
	assert.Equal(t, found["bin/gem"].Size, int64(len("a program")))
	assert.Equal(t, found["tmp/"].Mode, int64(0o1777))
}
