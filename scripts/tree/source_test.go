// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/zip"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/dirhash"
	"gotest.tools/v3/assert"
)

// moduleRepo is a repository that pins example.com/up, served by a module
// proxy in a folder.
func moduleRepo(t *testing.T) (root, cache, zipFile string) {
	top := t.TempDir()
	root, cache = filepath.Join(top, "root"), filepath.Join(top, "cache")
	at := filepath.Join(top, "proxy", "example.com", "up", "@v")
	assert.NilError(t, os.MkdirAll(at, 0o755))
	zipFile = filepath.Join(at, "v1.0.0.zip")
	writeZip(t, zipFile, "package up\n")
	write := func(name, text string) {
		t.Helper()
		assert.NilError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		assert.NilError(t, os.WriteFile(name, []byte(text), 0o644))
	}
	write(filepath.Join(at, "v1.0.0.mod"), "module example.com/up\n")
	write(filepath.Join(at, "v1.0.0.info"), `{"Version":"v1.0.0"}`)
	h1, err := dirhash.HashZip(zipFile, dirhash.Hash1)
	assert.NilError(t, err)
	write(filepath.Join(root, "go.mod"), "module example.com/root\n\ngo 1.25\n\nrequire example.com/up v1.0.0\n")
	write(filepath.Join(root, "go.sum"), "example.com/up v1.0.0 "+h1+"\n")
	write(filepath.Join(root, "patches", "trees"), "up | example.com/up | - | - | -\n")
	t.Setenv("GOPROXY", "file://"+filepath.Join(top, "proxy"))
	t.Setenv("GOMODCACHE", cache)
	t.Setenv("GOSUMDB", "off")
	t.Setenv("GOTOOLCHAIN", "local")
	t.Cleanup(func() { // the module cache is read-only
		cmd := exec.Command("chmod", "-R", "u+w", top)
		assert.NilError(t, cmd.Run())
	})
	return root, cache, zipFile
}

func writeZip(t *testing.T, name, text string) {
	t.Helper()
	f, err := os.Create(name)
	assert.NilError(t, err)
	z := zip.NewWriter(f)
	w, err := z.Create("example.com/up@v1.0.0/up.go")
	assert.NilError(t, err)
	_, err = w.Write([]byte(text))
	assert.NilError(t, errors.Join(err, z.Close(), f.Close()))
}

func makeUp(root string) error {
	p, err := openProject(root)
	if err != nil {
		return err
	}
	_, err = p.makeTree(p.rows[0], false)
	return err
}

func TestModulePin(t *testing.T) {
	t.Run("make", func(t *testing.T) {
		root, _, _ := moduleRepo(t)
		assert.NilError(t, makeUp(root))
		name := filepath.Join(root, ".build", "src", "up", "up.go")
		data, err := os.ReadFile(name)
		assert.NilError(t, err)
		assert.Equal(t, string(data), "package up\n")
		info, err := os.Stat(name)
		assert.NilError(t, err)
		assert.Assert(t, info.Mode()&0o200 != 0, "the tree is read-only like the module cache")
	})
	t.Run("changed zip", func(t *testing.T) {
		root, _, zipFile := moduleRepo(t)
		writeZip(t, zipFile, "package evil\n")
		assert.ErrorContains(t, makeUp(root), "SECURITY ERROR")
		_, err := os.Stat(filepath.Join(root, ".build", "src", "up"))
		assert.ErrorIs(t, err, fs.ErrNotExist)
	})
	t.Run("changed cache", func(t *testing.T) {
		root, cache, _ := moduleRepo(t)
		assert.NilError(t, makeUp(root))
		assert.NilError(t, os.RemoveAll(filepath.Join(root, ".build")))
		name := filepath.Join(cache, "example.com", "up@v1.0.0", "up.go")
		assert.NilError(t, os.Chmod(name, 0o644))
		assert.NilError(t, os.WriteFile(name, []byte("package evil\n"), 0o644))
		assert.ErrorContains(t, makeUp(root), "delete that folder (go clean -modcache)")
		_, err := os.Stat(filepath.Join(root, ".build", "src", "up"))
		assert.ErrorIs(t, err, fs.ErrNotExist)
	})
	t.Run("no hash", func(t *testing.T) {
		root, _, _ := moduleRepo(t)
		assert.NilError(t, os.WriteFile(filepath.Join(root, "go.sum"), nil, 0o644))
		assert.ErrorContains(t, makeUp(root), "go.sum has no h1 of example.com/up@v1.0.0")
	})
	t.Run("no require", func(t *testing.T) {
		root, _, _ := moduleRepo(t)
		assert.NilError(t, os.WriteFile(filepath.Join(root, "go.mod"), []byte("module example.com/root\n"), 0o644))
		assert.ErrorContains(t, makeUp(root), "go.mod does not require example.com/up")
	})
}

// debRepo is a repository whose tree comes from a .deb in the user's cache.
func debRepo(t *testing.T) (root, cache string) {
	for _, tool := range []string{"dpkg-deb", "tar", "xz"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no %s on this host", tool)
		}
	}
	top := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", filepath.Join(top, "cache"))
	root, cache = filepath.Join(top, "root"), filepath.Join(top, "cache", "gpu-cgroup")
	pkg := filepath.Join(top, "pkg")
	for _, dir := range []string{cache, filepath.Join(pkg, "DEBIAN"), filepath.Join(pkg, "usr", "src")} {
		assert.NilError(t, os.MkdirAll(dir, 0o755))
	}
	overlay(t, filepath.Join("testdata", "upstream"), filepath.Join(top, "up-6"))
	tarball := filepath.Join(pkg, "usr", "src", "up-6.tar.xz")
	deb := filepath.Join(cache, "up-6_6.1-1_all.deb")
	control := "Package: up-6\nVersion: 6.1-1\nArchitecture: all\nMaintainer: none <none@example.com>\nDescription: test\n"
	assert.NilError(t, os.WriteFile(filepath.Join(pkg, "DEBIAN", "control"), []byte(control), 0o644))
	for _, args := range [][]string{
		{"tar", "-cJf", tarball, "-C", top, "up-6"},
		{"dpkg-deb", "--build", "--root-owner-group", pkg, deb},
	} {
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		assert.NilError(t, err, string(out))
	}
	debSum, err := fileSum(deb)
	assert.NilError(t, err)
	tarSum, err := fileSum(tarball)
	assert.NilError(t, err)
	overlay(t, filepath.Join("testdata", "base"), root)
	table := fmt.Sprintf("t | deb:up-6 6.1-1 %s %s | ours | patches/t | -\nu | x | ours/nested/u | - | -\n", debSum, tarSum)
	assert.NilError(t, os.WriteFile(filepath.Join(root, "patches", "trees"), []byte(table), 0o644))
	return root, cache
}

func TestDebPin(t *testing.T) {
	t.Run("make", func(t *testing.T) {
		root, _ := debRepo(t)
		assert.NilError(t, makeUp(root))
		data, err := os.ReadFile(filepath.Join(root, ".build", "src", "t", "alpha.txt"))
		assert.NilError(t, err)
		assert.Assert(t, strings.Contains(string(data), "three\nhook()\nfour\n"))
	})
	t.Run("edit, hook and refresh", func(t *testing.T) {
		root, _ := debRepo(t)
		assert.NilError(t, makeUp(root))
		// The edit comes first: the pristine file is to be had from the
		// tarball alone.
		gamma := filepath.Join(root, ".build", "src", "t", "gamma.txt")
		assert.NilError(t, os.WriteFile(gamma, []byte("left\nmiddle\nright\n"), 0o644))
		p, err := openProject(root)
		assert.NilError(t, err)
		_, err = p.refresh(p.rows[0], false)
		assert.ErrorContains(t, err, "gamma.txt: changed in the tree, but no patch owns it")
		_, err = p.hook(p.rows[0], "0001", "gamma.txt")
		assert.NilError(t, err)
		_, err = p.refresh(p.rows[0], false)
		assert.NilError(t, err)
		data, err := os.ReadFile(filepath.Join(root, "patches", "t", "0001-alpha-hook.patch"))
		assert.NilError(t, err)
		assert.Assert(t, strings.Contains(string(data), "--- a/gamma.txt\n+++ b/gamma.txt\n@@ -1,2 +1,3 @@\n left\n+middle\n right\n--- a/sub"), string(data))
		assert.NilError(t, p.checkSaved(p.rows[0]))
		assert.NilError(t, p.checkHooks(p.rows[0]))
	})
	t.Run("check without the tree", func(t *testing.T) {
		root, _ := debRepo(t)
		p, err := openProject(root)
		assert.NilError(t, err)
		assert.NilError(t, p.checkHooks(p.rows[0]))
		assert.NilError(t, os.WriteFile(filepath.Join(root, "ours", "gamma.txt"), nil, 0o644))
		assert.ErrorContains(t, p.checkHooks(p.rows[0]), "ours/gamma.txt: exists upstream")
	})
	t.Run("changed .deb", func(t *testing.T) {
		root, cache := debRepo(t)
		name := filepath.Join(cache, "up-6_6.1-1_all.deb")
		assert.NilError(t, os.WriteFile(name, []byte("evil"), 0o644))
		err := makeUp(root)
		assert.ErrorContains(t, err, "up-6_6.1-1_all.deb: sha256 is ")
		assert.ErrorContains(t, err, "to pin another version, set VERSION and both hashes of up-6 in patches/trees")
	})
	t.Run("changed tarball", func(t *testing.T) {
		root, cache := debRepo(t)
		assert.NilError(t, makeUp(root))
		assert.NilError(t, os.RemoveAll(filepath.Join(root, ".build")))
		name := filepath.Join(cache, "up-6_6.1-1.tar.xz")
		assert.NilError(t, os.WriteFile(name, []byte("evil"), 0o644))
		assert.ErrorContains(t, makeUp(root), "up-6_6.1-1.tar.xz: sha256 is ")
	})
	t.Run("other tarball in the .deb", func(t *testing.T) {
		root, _ := debRepo(t)
		name := filepath.Join(root, "patches", "trees")
		data, err := os.ReadFile(name)
		assert.NilError(t, err)
		f := strings.Fields(string(data))
		text := strings.Replace(string(data), f[5], strings.Repeat("0", 64), 1)
		assert.NilError(t, os.WriteFile(name, []byte(text), 0o644))
		assert.ErrorContains(t, makeUp(root), "the tarball in it has sha256 ")
	})
	t.Run("version gone", func(t *testing.T) {
		root, cache := debRepo(t)
		assert.NilError(t, os.Remove(filepath.Join(cache, "up-6_6.1-1_all.deb")))
		bin := t.TempDir()
		script := "#!/bin/sh\necho \"E: Version '6.1-1' for 'up-6' was not found\" >&2\nexit 100\n"
		assert.NilError(t, os.WriteFile(filepath.Join(bin, "apt-get"), []byte(script), 0o755))
		t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
		err := makeUp(root)
		assert.ErrorContains(t, err, "E: Version '6.1-1' for 'up-6' was not found")
		assert.ErrorContains(t, err, "If the archive no longer has this version")
	})
}
