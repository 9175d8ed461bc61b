// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// authz is an authorization plugin that refuses bodies with a word in it.
type authz struct {
	mu     sync.Mutex
	refuse string
	bodies map[string][]string // method and path → bodies seen
}

func (a *authz) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/vnd.docker.plugins.v1+json")
	switch r.URL.Path {
	case "/Plugin.Activate":
		fmt.Fprint(w, `{"Implements":["authz"]}`)
	case "/AuthZPlugin.AuthZReq":
		var req struct {
			RequestMethod, RequestUri string
			RequestBody               string
		}
		err := json.NewDecoder(r.Body).Decode(&req)
		body, _ := base64.StdEncoding.DecodeString(req.RequestBody)
		a.mu.Lock()
		defer a.mu.Unlock()
		path, _, _ := strings.Cut(req.RequestUri, "?")
		a.bodies[req.RequestMethod+" "+path] = append(a.bodies[req.RequestMethod+" "+path], string(body))
		if err != nil || a.refuse != "" && strings.Contains(string(body), a.refuse) {
			fmt.Fprint(w, `{"Allow":false,"Msg":"our policy says no"}`)
			return
		}
		fmt.Fprint(w, `{"Allow":true}`)
	default:
		fmt.Fprint(w, `{"Allow":true}`)
	}
}

func TestAuthorizationPluginsSeeTheLimits(t *testing.T) {
	place.OnHost(t)
	require.Daemon(t)
	plugin := &authz{refuse: `"GPUMemory":10240`, bodies: map[string][]string{}}
	name := fmt.Sprintf("gpu-cgroup-test-%d", os.Getpid())
	socket := filepath.Join("/run/docker/plugins", name+".sock")
	assert.NilError(t, os.MkdirAll(filepath.Dir(socket), 0o755))
	l, err := net.Listen("unix", socket)
	assert.NilError(t, err)
	t.Cleanup(func() {
		_ = l.Close()
		_ = unix.Unlink(socket)
		_ = unix.Rmdir(filepath.Dir(socket)) // these two if they are empty
		_ = unix.Rmdir("/run/docker")
	})
	go func() { _ = http.Serve(l, plugin) }()

	d := daemon.New(t, "--authorization-plugin="+name)
	refused := func(path, body string) {
		t.Helper()
		r := d.API(t, http.MethodPost, path, body)
		assert.Equal(t, r.Status, http.StatusForbidden, "%s", r.Body)
		wantWords(t, r.Message(), "our policy says no")
	}
	refused("/containers/create?name=box", `{"Image":"busybox","HostConfig":{"GPUMemory":10240,"GPUPriority":5}}`)
	assert.Equal(t, len(d.Names(t)), 0)
	r := d.API(t, http.MethodPost, "/containers/create?name=box", `{"Image":"busybox","Cmd":["sleep","600"]}`)
	assert.Equal(t, r.Status, http.StatusCreated, "%s", r.Body)
	refused("/containers/box/update", `{"GPUMemory":10240}`)
	refused("/containers/box/update?replace=1", `{"GPUMemory":10240}`)
	// A body that is too large to be shown to the plugin is refused (CVE-2026-34040): one a
	// little over 4 MiB, as dockerd hangs up on a client that has much more to send.
	r = d.API(t, http.MethodPost, "/containers/create?name=unseen", `{"Image":"busybox","HostConfig":{"GPUMemory":10240},"Labels":{"x":"`+strings.Repeat("x", 4<<20)+`"}}`)
	assert.Assert(t, r.Status >= 400, "%s", r.Body)
	wantWords(t, r.Message(), "larg", "authorization")
	assert.DeepEqual(t, d.Names(t), []string{"/box"})
	// The command's bodies go the same way.
	res := d.Docker(t, "update", "--gpu-memory=10240", "box")
	assert.Assert(t, res.Code != 0)

	plugin.mu.Lock()
	defer plugin.mu.Unlock()
	for path, bodies := range plugin.bodies {
		if strings.HasSuffix(path, "/create") || strings.HasSuffix(path, "/update") {
			t.Logf("%s: %q", path, bodies)
		}
	}
	found := false
	for path, bodies := range plugin.bodies {
		found = found || strings.HasSuffix(path, "/containers/create") && strings.Contains(bodies[0], `"GPUPriority":5`)
	}
	assert.Assert(t, found, "the plugin did not see GPUPriority")
}
