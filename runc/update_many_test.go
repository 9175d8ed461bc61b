// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/cgroups"
	"github.com/urfave/cli"
	"golang.org/x/sys/unix"
)

// manager is a running update-many.
type manager struct {
	t       *testing.T
	in      *io.PipeWriter
	answers *json.Decoder
	done    chan error
}

func startUpdateMany(t *testing.T, root string) *manager {
	t.Helper()
	requests, in := io.Pipe()
	// With room for some answers: the tests send first and read then.
	answers, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answers.Close() })
	m := &manager{t: t, in: in, answers: json.NewDecoder(bufio.NewReader(answers)), done: make(chan error, 1)}
	app := cli.NewApp()
	app.Flags = []cli.Flag{cli.StringFlag{Name: "root"}}
	app.Commands = []cli.Command{{Name: "update-many", Action: func(context *cli.Context) error {
		return updateMany(context, requests, out)
	}}}
	go func() {
		m.done <- app.Run([]string{"runc", "--root", root, "update-many"})
		out.Close()
	}()
	return m
}

func (m *manager) send(id, resources string) {
	m.t.Helper()
	if _, err := fmt.Fprintf(m.in, `{"id": %q, "resources": %s}`+"\n", id, resources); err != nil {
		m.t.Fatal(err)
	}
}

func (m *manager) answer() (a updateAnswer) {
	m.t.Helper()
	if err := m.answers.Decode(&a); err != nil {
		m.t.Fatal(err)
	}
	return a
}

func (m *manager) end() {
	m.t.Helper()
	m.in.Close()
	if err := m.answers.Decode(&updateAnswer{}); !errors.Is(err, io.EOF) {
		m.t.Errorf("got %v after the last answer, want EOF", err)
	}
	if err := <-m.done; err != nil {
		m.t.Error(err)
	}
}

func TestUpdateMany(t *testing.T) {
	const n = 20
	root := t.TempDir()
	var containers []*v1Container
	for i := range n {
		containers = append(containers, newV1ContainerAt(t, root, "ctr"+strconv.Itoa(i), &cgroups.Resources{Memory: 1 << 26}))
	}
	m := startUpdateMany(t, root)
	for round := range 3 {
		for i, c := range containers {
			m.send(c.id, fmt.Sprintf(`{"pids": {"limit": %d}}`, 100*(round+1)+i))
		}
		// The others do not suffer from what is wrong with one.
		m.send("missing", `{"pids": {"limit": 1}}`)
		m.send("../"+containers[0].id, `{"pids": {"limit": 1}}`)
		failed := 0
		for range n + 2 {
			if a := m.answer(); a.Error != "" {
				failed++
				if strings.HasPrefix(a.ID, "ctr") {
					t.Errorf("%s: %s", a.ID, a.Error)
				}
			}
		}
		if failed != 2 {
			t.Errorf("%d requests failed, want 2", failed)
		}
		for i, c := range containers {
			limit := 100*(round+1) + i
			checkFiles(t, c.cgroup, map[string]string{"pids/pids.max": strconv.Itoa(limit)})
			c.checkSaved(&cgroups.Resources{Memory: 1 << 26, PidsLimit: mkPtr(int64(limit))})
		}
	}
	m.end()
}

func TestUpdateManyError(t *testing.T) {
	c := newV1Container(t, &cgroups.Resources{PidsLimit: mkPtr[int64](100)})
	c.failThrottles()
	m := startUpdateMany(t, c.root)
	m.send(c.id, `{"pids": {"limit": 7}, `+throttleUpdate+`}`)
	if a := m.answer(); a.ID != c.id || !strings.Contains(a.Error, "blkio.throttle.read_bps_device") {
		t.Errorf("got %+v, want an error from the throttle", a)
	}
	checkFiles(t, c.cgroup, map[string]string{"pids/pids.max": "100"})
	c.checkSaved(&cgroups.Resources{PidsLimit: mkPtr[int64](100)})
	m.end()
}

// Whoever comes second starts from what the first has left.
func TestUpdateWaitsForTheLock(t *testing.T) {
	c := newV1Container(t, &cgroups.Resources{})
	other, err := os.Open(filepath.Join(c.root, c.id))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := unix.Flock(int(other.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	m := startUpdateMany(t, c.root)
	m.send(c.id, `{"pids": {"limit": 7}}`)
	answered := make(chan updateAnswer, 1)
	go func() { answered <- m.answer() }()

	state := filepath.Join(c.root, c.id, "state.json")
	raw, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(raw), `"path":"/ctr"`, `"path":"/ctr","memory":4096`, 1)
	if changed == string(raw) {
		t.Fatalf("cannot change %s", raw)
	}
	if err := os.WriteFile(state, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	select {
	case a := <-answered:
		t.Fatalf("it did not wait: %+v", a)
	default:
	}
	if err := unix.Flock(int(other.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	if a := <-answered; a.Error != "" {
		t.Error(a.Error)
	}
	c.checkSaved(&cgroups.Resources{Memory: 4096, PidsLimit: mkPtr[int64](7)})
	m.end()
}
