// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"gotest.tools/v3/assert"
)

func stockCLI() string { return filepath.Join(require.Bin(), "docker-stock") }

func mustCLI(t *testing.T, d *daemon.Daemon, program string, args ...string) string {
	t.Helper()
	r := d.CLI(t, program, d.Socket(), args...)
	assert.Equal(t, r.Code, 0, "docker %v: %s%s", args, r.Stdout, r.Stderr)
	return r.Stdout
}

func TestAStockCLIWorksWithOurDaemon(t *testing.T) {
	place.OnHost(t)
	require.Stock(t)
	d := setup(t)
	mustCLI(t, d, stockCLI(), "run", "-d", "--name=theirs", "--pids-limit=100", "busybox", "sleep", "600")
	d.Cgroup(t, "theirs").Want(t, "pids.max", "100")
	mustCLI(t, d, stockCLI(), "update", "--pids-limit=133", "theirs")
	d.Cgroup(t, "theirs").Want(t, "pids.max", "133")
	wantWords(t, mustCLI(t, d, stockCLI(), "inspect", "theirs"), `"PidsLimit": 133`)
	wantWords(t, mustCLI(t, d, stockCLI(), "stats", "--no-stream", "theirs"), "theirs")
	wantWords(t, mustCLI(t, d, stockCLI(), "info"), "Server Version: ")
	d.WantHostConfig(t, "theirs", nil, nil)

	t.Run("and leaves alone the limits it does not know", func(t *testing.T) {
		args := []string{"run", "-d", "--name=ours", "--pids-limit=100", "--memory=64m"}
		gpu := require.Has("gpu")
		if gpu {
			args = append(args, "--gpu-memory=10240", "--gpu-priority=50")
		}
		d.Must(t, append(args, "busybox", "sleep", "600")...)
		mustCLI(t, d, stockCLI(), "update", "--pids-limit=144", "ours")
		g := d.Cgroup(t, "ours")
		g.Want(t, "pids.max", "144")
		g.Want(t, "memory.max", "67108864")
		if gpu {
			wantLimits(t, d, "ours", 50, 10240)
		}
		wantWords(t, mustCLI(t, d, stockCLI(), "inspect", "ours"), `"PidsLimit": 144`)
	})
}

// newFlags has one of each of our flags of run and create.
var newFlags = []string{
	"--gpu-memory=10240", "--gpu-priority=50",
	"--blkio-read-limit=40m", "--blkio-write-limit=40m", "--blkio-read-iops-limit=100", "--blkio-write-iops-limit=100",
	"--net-classid=10:1", "--net-prio=lo:5", "--net-egress-rate=20mbit", "--net-ingress-rate=20mbit",
	"--net-egress-pps=2000", "--net-ingress-pps=2000",
}

func TestAStockDaemonIsRefusedByOurCLI(t *testing.T) {
	place.OnHost(t)
	require.Stock(t)
	newFlags := newFlags
	if require.Has("gpu") { // The VM. The other flags were tested on the host.
		newFlags = newFlags[:2]
	}
	d, err := daemon.StartStock()
	assert.NilError(t, err)
	daemon.Until(t, d)
	t.Cleanup(func() { d.RemoveAll(t) })
	ours := filepath.Join(require.Bin(), "docker")

	for _, command := range []string{"run", "create"} {
		for _, flag := range newFlags {
			r := d.CLI(t, ours, d.Socket(), command, flag, "busybox", "true")
			assert.Assert(t, r.Code != 0, "%s %s was taken", command, flag)
			name, _, _ := strings.Cut(flag, "=")
			wantWords(t, r.Stderr, name, "daemon")
		}
	}
	assert.DeepEqual(t, d.Names(t), []string{})

	mustCLI(t, d, ours, "run", "-d", "--name=box", "--pids-limit=100", "busybox", "sleep", "600")
	for _, args := range [][]string{
		{"modresources", "--pids-limit=133", "box"},
		{"container", "modresources", "--pids-limit=133", "box"},
		{"update", "--gpu-memory=10240", "--pids-limit=133", "box"},
	} {
		r := d.CLI(t, ours, d.Socket(), args...)
		assert.Assert(t, r.Code != 0, "%v was taken", args)
		wantWords(t, r.Stderr, "daemon")
	}
	d.Cgroup(t, "box").Want(t, "pids.max", "100")
	mustCLI(t, d, ours, "update", "--pids-limit=144", "box")
	d.Cgroup(t, "box").Want(t, "pids.max", "144")

	// A proxy that says what the daemon behind it does not: the CLI compares
	// what was stored with what it asked for.
	features := "gpu,blkio-limit,net-class,net-rate"
	socket := proxy(t, d, func(r *http.Response) error {
		r.Header.Set("Docker-Resource-Features", features)
		return nil
	})
	// An earlier dockerd of ours knows some kinds and not all.
	r := d.CLI(t, ours, socket, "create", "--net-egress-pps=2000", "busybox", "true")
	assert.Check(t, r.Code != 0)
	wantWords(t, r.Stderr, `"--net-egress-pps" is not supported`, `kind "net-pps"`, "newer dockerd")
	features += ",net-pps"
	for _, flag := range newFlags {
		r := d.CLI(t, ours, socket, "create", flag, "busybox", "true")
		assert.Assert(t, r.Code != 0, "%s was taken", flag)
		name, _, _ := strings.Cut(flag, "=")
		wantWords(t, r.Stderr, "ignored "+name, "the container was removed")
	}
	assert.DeepEqual(t, d.Names(t), []string{"/box"})
}

// proxy stands before a daemon and may look at its answers and change them. It
// returns its socket.
func proxy(t *testing.T, d *daemon.Daemon, answer func(*http.Response) error) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "proxy.sock")
	listener, err := net.Listen("unix", socket)
	assert.NilError(t, err)
	server := &http.Server{Handler: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "docker"}) },
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", d.Socket())
		}},
		ModifyResponse: answer,
	}}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
	})
	return socket
}
