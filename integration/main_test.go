// SPDX-License-Identifier: Apache-2.0

// Package integration has the promises of the project, one test each. The tests
// run the binaries of .build/bin (or GPU_CGROUP_BIN) under a private daemon and
// read the files that the kernel shows. They need root; what the machine lacks
// is skipped, unless MUST names it (see internal/require).
package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
)

// Starting a daemon takes up to a minute under emulation, so that all tests
// share one. A test that changes it puts it back.
var shared struct {
	once sync.Once
	d    *daemon.Daemon
	err  error
}

// stockRuntime is the unpatched runc in the shared daemon.
const stockRuntime = "stock"

func sharedArgs(more ...string) []string {
	return append([]string{"--add-runtime", stockRuntime + "=" + filepath.Join(require.Bin(), "runc-stock")}, more...)
}

// setup returns the shared daemon, without containers now and after the test.
func setup(t *testing.T) *daemon.Daemon {
	t.Helper()
	require.Daemon(t)
	shared.once.Do(func() { shared.d, shared.err = daemon.Start(sharedArgs()...) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	t.Cleanup(func() { shared.d.RemoveAll(t) })
	return shared.d
}

func TestMain(m *testing.M) {
	code := m.Run()
	if d := shared.d; d != nil {
		if code != 0 {
			fmt.Println(d.Logs())
		}
		if err := d.Close(); err != nil {
			fmt.Println("the shared daemon:", err)
			code = 1
		}
	}
	os.Exit(code)
}
