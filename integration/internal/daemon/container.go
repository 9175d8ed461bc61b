// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/cgroupfs"
)

// Container is the part of docker inspect that the tests look at.
type Container struct {
	ID           string `json:"Id"`
	RestartCount int
	State        struct {
		Status     string
		Running    bool
		Paused     bool
		Restarting bool
		Dead       bool
		Pid        int
		ExitCode   int
	}
	HostConfig struct {
		GPUPriority    *int64
		GPUMemory      *int64
		BlkioReadLimit *int64
		PidsLimit      *int64
		Memory         int64
	}
}

// Inspect asks the API: under emulation a CLI command takes a second or two.
func (d *Daemon) Inspect(t testing.TB, name string) Container {
	t.Helper()
	r := d.API(t, http.MethodGet, "/containers/"+name+"/json", "")
	if r.Status != http.StatusOK {
		t.Fatalf("inspect %s: %d %s", name, r.Status, r.Message())
	}
	var c Container
	if err := json.Unmarshal(r.Body, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// Cgroup is where the container's first process stands.
func (d *Daemon) Cgroup(t testing.TB, name string) cgroupfs.Group {
	t.Helper()
	c := d.Inspect(t, name)
	if !c.State.Running {
		t.Fatalf("%s is not running: %s, exit code %d", name, c.State.Status, c.State.ExitCode)
	}
	g, err := cgroupfs.Of(c.State.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// WantHostConfig fails the test unless inspect shows these limits; nil means
// that the field is absent.
func (d *Daemon) WantHostConfig(t testing.TB, name string, priority, memory *int64) {
	t.Helper()
	c := d.Inspect(t, name).HostConfig
	wantField(t, "GPUPriority", c.GPUPriority, priority)
	wantField(t, "GPUMemory", c.GPUMemory, memory)
}

func wantField(t testing.TB, name string, got, want *int64) {
	t.Helper()
	switch {
	case got == nil && want == nil:
	case got == nil:
		t.Errorf("inspect: no %s, want %d", name, *want)
	case want == nil:
		t.Errorf("inspect: %s is %d, want none", name, *got)
	case *got != *want:
		t.Errorf("inspect: %s is %d, want %d", name, *got, *want)
	}
}

// WaitRunning waits until the container runs with another first process than
// the old one, and returns its state.
func (d *Daemon) WaitRunning(t testing.TB, name string, oldPid int) Container {
	t.Helper()
	var c Container
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		c = d.Inspect(t, name)
		if c.State.Running && c.State.Pid != oldPid && c.State.Pid > 0 {
			return c
		}
	}
	t.Fatalf("%s did not come back: %s, exit code %d", name, c.State.Status, c.State.ExitCode)
	return c
}

// Names lists all containers.
func (d *Daemon) Names(t testing.TB) []string {
	t.Helper()
	r := d.API(t, http.MethodGet, "/containers/json?all=1", "")
	var list []struct{ Names []string }
	if err := json.Unmarshal(r.Body, &list); err != nil || r.Status != http.StatusOK {
		t.Fatalf("list: %d %s %v", r.Status, r.Body, err)
	}
	names := []string{}
	for _, c := range list {
		names = append(names, c.Names...)
	}
	return names
}

// RemoveAll removes every container, running or not.
func (d *Daemon) RemoveAll(t testing.TB) {
	t.Helper()
	for _, name := range d.Names(t) {
		r := d.API(t, http.MethodDelete, "/containers"+name+"?force=1&v=1", "")
		if r.Status != http.StatusNoContent && r.Status != http.StatusNotFound {
			t.Errorf("remove %s: %d %s", name, r.Status, r.Message())
		}
	}
}
