// SPDX-License-Identifier: Apache-2.0

// Package image makes the file system of the test image: a static busybox with
// its applets, and the helpers gem and gpuload where they were built. No registry is asked.
package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// Name is what the tests call the image. It is imported, never pulled.
const Name = "busybox"

// Changes are the settings of the image, as docker import takes them. Almost no
// program handles SIGTERM as PID 1: without the stop signal each stop would
// wait ten seconds.
var Changes = []string{`CMD ["sh"]`, "STOPSIGNAL SIGKILL", "ENV PATH=/bin"}

// Write makes the tar archive.
func Write(w io.Writer) error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("%w; install busybox-static", err)
	}
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return fmt.Errorf("%s --list: %w", busybox, err)
	}
	tw := tar.NewWriter(w)
	for _, dir := range []string{"bin/", "dev/", "etc/", "proc/", "sys/", "root/"} {
		if err := tw.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
			return err
		}
	}
	if err := tw.WriteHeader(&tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}); err != nil {
		return err
	}
	if err := addText(tw, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"); err != nil {
		return err
	}
	if err := addText(tw, "etc/group", "root:x:0:\nnogroup:x:65534:\n"); err != nil {
		return err
	}
	if err := addFile(tw, "bin/busybox", busybox); err != nil {
		return err
	}
	for _, applet := range strings.Fields(string(applets)) {
		if applet == "busybox" {
			continue
		}
		link := &tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}
		if err := tw.WriteHeader(link); err != nil {
			return err
		}
	}
	// The helpers are needed only where there is a DRM device.
	for _, helper := range []string{"gem", "gpuload"} {
		if path, err := exec.LookPath(helper); err == nil {
			if err := addFile(tw, "bin/"+helper, path); err != nil {
				return err
			}
		} else if !errors.Is(err, exec.ErrNotFound) {
			return err
		}
	}
	return tw.Close()
}

func addText(tw *tar.Writer, name, text string) error {
	if err := tw.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text))}); err != nil {
		return err
	}
	_, err := io.WriteString(tw, text)
	return err
}

func addFile(tw *tar.Writer, name, host string) error {
	f, err := os.Open(host)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := tw.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(tw, f)
	return err
}
