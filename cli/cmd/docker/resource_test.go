// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// pingDaemon answers a ping, with this header if there is one, knows GPU limits
// by the name they had before there were two, and refuses all else. It returns
// its address and what was sent besides pings and questions for the version and
// the kinds of limits.
func pingDaemon(t *testing.T, status int, features ...string) (host string, sent *[]string) {
	t.Helper()
	sent = new([]string)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/_ping":
			w.Header().Set("Api-Version", "1.51")
			w.Header().Set("Ostype", "linux")
			w.Header()[types.ResourceFeaturesHeader] = features
			w.WriteHeader(status)
			if status == http.StatusForbidden {
				_, _ = io.WriteString(w, "<html>no</html>")
			}
		case strings.HasSuffix(r.URL.Path, "/version"):
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"Version": "28.5.2"}`)
		case strings.HasSuffix(r.URL.Path, "/info"):
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"ResourceLimits": [{"Feature": "gpu", "Fields": ["GPUMemory", "GPUPriority"], "Reason": "no controller"}]}`)
		default:
			*sent = append(*sent, r.Method+" "+r.URL.Path)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"message": "this daemon does nothing"}`)
		}
	}))
	t.Cleanup(server.Close)
	return strings.Replace(server.URL, "http://", "tcp://", 1), sent
}

func TestResourceAnnotation(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	const (
		stock  = " is not supported by the Docker daemon (version 28.5.2), which cannot enforce it: use a dockerd that can"
		silent = " needs a Docker daemon that supports it, and this one did not answer the ping: "
		down   = silent + "Cannot connect to the Docker daemon at tcp://127.0.0.1:1. Is the docker daemon running?"
		filter = silent + "Error response from daemon: <html>no</html>: a proxy or plugin in front of the daemon has to let HEAD or GET /_ping pass"
	)
	file := filepath.Join(t.TempDir(), "limits.yaml")
	assert.NilError(t, os.WriteFile(file, []byte("GPUMemory: 1g\n"), 0o600))

	type daemon struct {
		doc      string
		status   int
		features []string
		reason   string // why it gets no limit
	}
	daemons := []daemon{
		{doc: "enforces both", status: http.StatusOK, features: []string{"gpu-memory,gpu-priority,gpu"}},
		{doc: "is from before there were two words", status: http.StatusOK, features: []string{"gpu"}},
		{doc: "enforces only memory", status: http.StatusOK, features: []string{"gpu-memory"}},
		{doc: "knows gpu, cannot enforce it", status: http.StatusOK, features: []string{""}},
		{doc: "stock", status: http.StatusOK, reason: stock},
		{doc: "unwell", status: http.StatusInternalServerError, features: []string{"gpu"}, reason: silent + "request returned 500 Internal Server Error"},
		{doc: "proxy that filters the ping", status: http.StatusForbidden, reason: filter},
		{doc: "not there", reason: down},
	}
	for _, d := range daemons {
		for _, tc := range []struct {
			what string // what the error begins with, "" if the daemon need not know
			args []string
		}{
			{what: `"--gpu-memory"`, args: []string{"run", "--gpu-memory=1g", "img"}},
			{what: `"--gpu-priority"`, args: []string{"create", "--gpu-priority=0", "img"}},
			{what: `"--gpu-memory"`, args: []string{"container", "run", "--gpu-memory=-1", "img"}},
			{what: `"--gpu-memory"`, args: []string{"update", "--gpu-memory=1g", "web"}},
			{what: `"--gpu-priority"`, args: []string{"container", "update", "--gpu-priority=1", "web"}},
			{what: "GPUMemory in " + file, args: []string{"update", "--resources-file", file, "web"}},
			{what: "docker modresources", args: []string{"modresources", "--cpu-shares=512", "web"}},
			{what: "docker modresources", args: []string{"modresources", "--container=web", "--gpu-memory=1g"}},
			{what: "docker modresources", args: []string{"modresources", "--show", "web"}},
			{what: "docker container modresources", args: []string{"container", "modresources", "--memory=1g", "web"}},
			{args: []string{"update", "--cpu-shares=512", "web"}},
			{args: []string{"create", "--memory=1g", "img"}},
		} {
			t.Run(d.doc+" "+strings.Join(tc.args, " "), func(t *testing.T) {
				host, sent := "tcp://127.0.0.1:1", new([]string)
				if d.status != 0 {
					host, sent = pingDaemon(t, d.status, d.features...)
				}
				t.Setenv("DOCKER_HOST", host)
				err := runCliCommand(t, nil, nil, tc.args...)
				if d.reason != "" && tc.what != "" {
					assert.Check(t, is.ErrorContains(err, tc.what+d.reason))
					assert.Check(t, is.Len(*sent, 0))
					return
				}
				if d.status == 0 {
					assert.Check(t, is.ErrorContains(err, "Cannot connect"))
					return
				}
				if createPings && tc.args[0] == "create" && d.status != http.StatusOK {
					assert.Check(t, err != nil)
					return
				}
				assert.Check(t, is.ErrorContains(err, "this daemon does nothing"))
				assert.Check(t, len(*sent) > 0)
			})
		}
	}
}

func TestResourceAnnotationHelp(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	for _, tc := range []struct {
		doc      string
		features []string
		down     bool
		hidden   bool
	}{
		{doc: "known", features: []string{""}},
		{doc: "stock", hidden: true},
		{doc: "ping failed", down: true},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			host := "tcp://127.0.0.1:1"
			if !tc.down {
				host, _ = pingDaemon(t, http.StatusOK, tc.features...)
			}
			t.Setenv("DOCKER_HOST", host)
			for _, args := range [][]string{{"modresources", "--help"}, {"help", "modresources"}, {"container", "modresources", "--help"}} {
				var out bytes.Buffer
				assert.NilError(t, runCliCommand(t, nil, &out, args...))
				assert.Check(t, is.Contains(out.String(), "--dry-run"), "%v", args)
				assert.Check(t, is.Equal(strings.Contains(out.String(), "--gpu-memory"), !tc.hidden))
			}
			for arg, line := range map[string]string{"run": "--gpu-priority", "update": "--gpu-priority", "container": "modresources "} {
				var out bytes.Buffer
				assert.NilError(t, runCliCommand(t, nil, &out, arg, "--help"))
				assert.Check(t, is.Equal(strings.Contains(out.String(), line), !tc.hidden), arg)
			}
		})
	}
}
