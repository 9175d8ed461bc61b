// SPDX-License-Identifier: Apache-2.0

// Package integration has the promises of the project, one test each. The tests
// run the binaries of .build/bin (or GPU_CGROUP_BIN) under a private daemon and
// read the files that the kernel shows. They need root; what the machine lacks
// is skipped, unless MUST names it (see internal/require).
package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/netns"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
)

// Starting a daemon takes up to a minute under emulation, so that all tests
// share one. A test that changes it puts it back.
var shared struct {
	once sync.Once
	d    *daemon.Daemon
	err  error
}

// sharedNet is the same for tests that need a network: a host of its own with an
// uplink, and a daemon in it.
var sharedNet struct {
	host netHost
	d    *daemon.Daemon
}

// netArgs give a daemon in a network namespace what a host's daemon has.
var netArgs = []string{"--bridge=", "--iptables=true", "--ip6tables=true", "--ip-forward=true", "--live-restore"}

// setupNet is setup with a network.
func setupNet(t *testing.T) (netHost, *daemon.Daemon) {
	t.Helper()
	require.NetRate(t)
	if sharedNet.d == nil {
		sharedNet.host = newNetHost(t, netns.Keep(t), netns.Keep(t))
		d, err := daemon.StartIn(sharedNet.host.NS, netArgs...)
		if err != nil {
			t.Fatal(err)
		}
		sharedNet.d = d
	}
	t.Cleanup(func() {
		sharedNet.d.RemoveAll(t)
		sharedNet.d.API(t, http.MethodPost, "/networks/prune", "")
	})
	return sharedNet.host, sharedNet.d
}

// stockRuntime is the unpatched runc in the shared daemon.
const stockRuntime = "stock"

// setup returns the shared daemon, without containers now and after the test.
func setup(t *testing.T) *daemon.Daemon {
	t.Helper()
	require.Daemon(t)
	shared.once.Do(func() {
		shared.d, shared.err = daemon.StartRuntimes(map[string]string{stockRuntime: filepath.Join(require.Bin(), "runc-stock")})
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	t.Cleanup(func() { shared.d.RemoveAll(t) })
	return shared.d
}

func TestMain(m *testing.M) {
	runWithoutNft()
	ownMounts()
	code := m.Run()
	for _, d := range []*daemon.Daemon{shared.d, sharedNet.d, sharedRig.Daemon} {
		if d == nil {
			continue
		}
		if code != 0 {
			fmt.Println(d.Logs())
		}
		if err := d.Close(); err != nil {
			fmt.Println("a shared daemon:", err)
			code = 1
		}
	}
	_ = os.RemoveAll(sharedRig.dir)
	os.Exit(code)
}
