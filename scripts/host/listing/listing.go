// SPDX-License-Identifier: Apache-2.0

// Package listing compares folders before and after, for tests.
package listing

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"gotest.tools/v3/assert"
)

// Of describes every file below dir: type, mode, owner, time and contents, one
// a line; without times, those of folders are left out.
func Of(t testing.TB, dir string, times bool) string {
	t.Helper()
	var b strings.Builder
	assert.NilError(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, name)
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&b, "%s %v %d:%d", rel, info.Mode(), st.Uid, st.Gid)
		if times || !d.IsDir() {
			fmt.Fprintf(&b, " %d", info.ModTime().UnixNano())
		}
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(name)
			fmt.Fprintf(&b, " -> %s\n", target)
			return err
		case info.Mode().IsRegular():
			data, err := os.ReadFile(name)
			fmt.Fprintf(&b, " %x\n", sha256.Sum256(data))
			return err
		}
		b.WriteString("\n")
		return nil
	}))
	return b.String()
}
