// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/daemon"
	"github.com/gpu-cgroup/gpu-cgroup/integration/internal/require"
	"github.com/gpu-cgroup/gpu-cgroup/integration/place"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// growing is a command that has 40 MiB in memory once /grown is there, and takes up to
// the MiB of /grow more when that is made.
const growing = "dd if=/dev/zero of=/dev/shm/a bs=1M count=40 2>/dev/null; touch /grown; while [ ! -e /grow ]; do sleep 0.1; done; dd if=/dev/zero of=/dev/shm/b bs=1M count=$(cat /grow) 2>/dev/null; touch /grew; exec sleep 600"

func waitFor(t *testing.T, d *daemon.Daemon, name, file string) {
	t.Helper()
	// Not by docker exec: under emulation that takes a second of what it waits for.
	path := filepath.Join("/proc", strconv.Itoa(d.Inspect(t, name).State.Pid), "root", file)
	until(t, func() error {
		_, err := os.Stat(path)
		return err
	})
}

// nextSecond is when `docker events` has shown what is past: it counts the end in whole
// seconds.
func nextSecond() string { return strconv.FormatInt(time.Now().Unix()+1, 10) }

// pastEvents are those of an action that dockerd still knows.
func pastEvents(t *testing.T, d *daemon.Daemon, action, format string) string {
	t.Helper()
	return d.Must(t, "events", "--since=1h", "--until="+nextSecond(), "--filter=event="+action, "--format", format)
}

// The restart policy belongs to what an update changes as a whole.
func TestUpdateThatFailsKeepsTheRestartPolicy(t *testing.T) {
	place.OnHost(t)
	d := setup(t)
	for policy, other := range map[string]string{"always": "no", "no": "always"} {
		name := "was-" + policy
		d.Must(t, "run", "-d", "--name="+name, "--restart="+policy, "--memory=400m", "--memory-swap=400m", "--shm-size=200m", "busybox", "sh", "-c", growing)
		waitFor(t, d, name, "/grown")
		letGo := holdRuntime(t, d, name)
		done := make(chan daemon.Response, 1)
		go func() {
			r, _ := d.TryAPI(http.MethodPost, "/containers/"+name+"/update", `{"PidsLimit":77,"RestartPolicy":{"Name":"`+other+`"}}`)
			done <- r
		}()
		waitForRuntime(t, d)
		d.KillRuntime()
		letGo()
		r := <-done
		assert.Check(t, r.Status >= 400, "%s", r.Body)
		assert.Equal(t, d.Must(t, "inspect", "-f", "{{.HostConfig.RestartPolicy.Name}} {{json .LimitsNotInForce}}", name), policy+" null")

		c := d.Inspect(t, name)
		assert.NilError(t, unix.Kill(c.State.Pid, unix.SIGKILL))
		if policy == "always" {
			d.WaitRunning(t, name, c.State.Pid)
		} else {
			until(t, func() error {
				if s := d.Inspect(t, name).State; s.Running {
					return fmt.Errorf("%+v", s)
				}
				return nil
			})
			time.Sleep(time.Second) // a restart would come after a tenth of one
			assert.Check(t, !d.Inspect(t, name).State.Running, "a policy that no update has set")
		}
		d.Must(t, "rm", "-f", name)
	}
}

// What a client was told is done stays, whatever another one rolls back.
func TestModresourcesLeavesWhatAnotherClientSet(t *testing.T) {
	place.EachVersion(t)
	d := setup(t)
	for _, name := range []string{"a1", "a2"} {
		d.Must(t, "run", "-d", "--name="+name, "--memory=400m", "--memory-swap=400m", "--cpu-period=100000", "--cpu-quota=80000", "busybox", "sleep", "600")
	}
	burst := "cpu.cfs_burst_us"
	if require.Has("v2") {
		burst = "cpu.max.burst"
	}
	dir, err := d.Cgroup(t, "a2").Dir("cpu")
	assert.NilError(t, err)
	assert.NilError(t, os.WriteFile(filepath.Join(dir, burst), []byte("60000"), 0)) // no quota may be below it
	letGo := holdRuntime(t, d, "a2")
	var r daemon.Result
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		r = d.Docker(t, "modresources", "--cpu-quota=50000", "--memory=100m", "a1", "a2")
	}()
	until(t, func() error {
		got, err := d.Cgroup(t, "a1").Read("memory.max")
		if err == nil && got != "104857600" {
			err = fmt.Errorf("memory of a1: %s", got)
		}
		return err
	})
	// Earlier builds let it wait for a2, and still did it first.
	other := later(d, "/containers/a1/update", `{"PidsLimit":77,"RestartPolicy":{"Name":"always"}}`)
	time.Sleep(time.Second)
	letGo()
	o := <-other
	assert.Equal(t, o.Status, http.StatusOK, "%s", o.Body)
	wg.Wait()
	assert.Check(t, r.Code != 0)
	wantWords(t, r.Stderr, "put back to the old values: a1")
	assert.Equal(t, d.Must(t, "inspect", "-f", "{{.HostConfig.CpuQuota}} {{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy.Name}}", "a1"), "80000 419430400 77 always")
	d.Cgroup(t, "a1").Want(t, "pids.max", "77")
	d.Cgroup(t, "a1").Want(t, "memory.max", "419430400")
}

// A client can read, change and write without losing what another one wrote.
func TestUpdateOfAVersion(t *testing.T) {
	place.OneVM(t)
	d := setup(t)
	d.LiveRestore(t)
	d.Must(t, "run", "-d", "--name=box", "--pids-limit=50", "busybox", "sleep", "600")
	version := func() string { t.Helper(); return d.Must(t, "inspect", "-f", "{{.ResourcesVersion}}", "box") }
	update := func(query, body string) daemon.Response {
		t.Helper()
		return d.API(t, http.MethodPost, "/containers/box/update?"+query, body)
	}
	first := version()
	assert.Equal(t, first, "1")
	r := update("version="+first, `{"PidsLimit":60}`)
	assert.Equal(t, r.Status, http.StatusOK, "%s", r.Body)
	var answer struct{ ResourcesVersion json.Number }
	assert.NilError(t, json.Unmarshal(r.Body, &answer))
	assert.Equal(t, version(), answer.ResourcesVersion.String())
	r = update("version="+first, `{"PidsLimit":70}`)
	assert.Equal(t, r.Status, http.StatusConflict, "%s", r.Body)
	wantWords(t, r.Message(), "changed meanwhile", "version 2, not 1")
	d.Cgroup(t, "box").Want(t, "pids.max", "60")
	assert.Equal(t, update("version=x", `{}`).Status, http.StatusBadRequest)
	assert.Equal(t, update("replace=CgroupParent", `{}`).Status, http.StatusBadRequest)

	// It outlives dockerd, and is no part of what a client posts back.
	d.Restart(t)
	assert.Equal(t, version(), answer.ResourcesVersion.String())
	assert.Equal(t, d.Must(t, "inspect", "-f", "{{.HostConfig.ResourcesVersion}}", "box"), "0")
	r = update("replace=PidsLimit&version="+version(), `{"CpuShares":5}`)
	assert.Equal(t, r.Status, http.StatusOK, "%s", r.Body)
	d.Cgroup(t, "box").Want(t, "pids.max", "max")
	assert.Equal(t, d.Must(t, "inspect", "-f", "{{.HostConfig.CpuShares}}", "box"), "0", "not listed")
}

// dockerd dies between the runtime's answer and its own; the container grows past the
// old limit. The way back would kill it on cgroup v2 and is refused on v1 for ever.
func TestUpdateInterruptedGoesForwardWhereBackWouldKill(t *testing.T) {
	place.EachVersion(t)
	d := setup(t)
	d.LiveRestore(t)
	d.Must(t, "run", "-d", "--name=box", "--memory=100m", "--memory-swap=100m", "--pids-limit=50", "--shm-size=300m", "busybox", "sh", "-c", growing)
	waitFor(t, d, "box", "/grown")
	journal := filepath.Join(filepath.Dir(d.HostConfigFile(d.Inspect(t, "box").ID)), "update.pending.json")

	// The journal of the update in flight, put back as if dockerd had died after it.
	letGo := holdRuntime(t, d, "box")
	done := make(chan daemon.Response, 1)
	go func() {
		r, _ := d.TryAPI(http.MethodPost, "/containers/box/update", `{"Memory":419430400,"MemorySwap":419430400,"PidsLimit":60,"RestartPolicy":{"Name":"always"}}`)
		done <- r
	}()
	waitForRuntime(t, d)
	var pending []byte
	until(t, func() (err error) { pending, err = os.ReadFile(journal); return err })
	letGo()
	r := <-done
	assert.Equal(t, r.Status, http.StatusOK, "%s", r.Body)
	pid := d.Inspect(t, "box").State.Pid
	d.Must(t, "exec", "box", "sh", "-c", "echo 150 > /grow")
	waitFor(t, d, "box", "/grew")
	d.Kill(t)
	assert.NilError(t, os.WriteFile(journal, pending, 0o600))
	d.StartAgain(t)

	assert.Equal(t, d.Inspect(t, "box").State.Pid, pid, "the container did not survive the start of dockerd")
	assert.Check(t, is.Equal(d.Must(t, "inspect", "-f", "{{.State.OOMKilled}} {{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy.Name}} {{json .LimitsNotInForce}}", "box"), "false 419430400 60 always null"))
	d.Cgroup(t, "box").Want(t, "memory.max", "419430400")
	d.Cgroup(t, "box").Want(t, "pids.max", "60")
	events := pastEvents(t, d, "update", "{{.Actor.Attributes.recovered}}")
	assert.Check(t, is.Contains(strings.Fields(events), "applied"), events)
	d.Must(t, "update", "--cpu-shares=300", "box")
	_, err := os.Stat(journal)
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// It grows between dockerd's look at what it uses and the runtime's write.
func TestUpdateInterruptedLooksRightBeforeItLowers(t *testing.T) {
	place.EachVersion(t)
	d := setup(t)
	d.LiveRestore(t)
	d.Must(t, "run", "-d", "--name=box", "--memory=400m", "--memory-swap=400m", "--shm-size=300m", "busybox", "sh", "-c", growing)
	waitFor(t, d, "box", "/grown")
	pid := d.Inspect(t, "box").State.Pid
	update := func(body string) lateAnswer { return later(d, "/containers/box/update", body) }

	// The journal of an update that raises, put back as if dockerd had died after it.
	r := <-update(`{"Memory":104857600,"MemorySwap":104857600}`)
	assert.Equal(t, r.Status, http.StatusOK, "%s", r.Body)
	g := d.Cgroup(t, "box")
	journal := filepath.Join(filepath.Dir(d.HostConfigFile(d.Inspect(t, "box").ID)), "update.pending.json")
	letGo := holdRuntime(t, d, "box")
	done := update(`{"Memory":419430400,"MemorySwap":419430400}`)
	waitForRuntime(t, d)
	var pending []byte
	until(t, func() (err error) { pending, err = os.ReadFile(journal); return err })
	letGo()
	r = <-done
	assert.Equal(t, r.Status, http.StatusOK, "%s", r.Body)
	d.Kill(t)
	assert.NilError(t, os.WriteFile(journal, pending, 0o600))

	letGo = holdState(t, filepath.Dir(d.StateFile(filepath.Base(filepath.Dir(journal)))))
	defer letGo()
	d.StartAgain(t) // It goes on without waiting for the runtime.
	waitForRuntime(t, d)
	d.Must(t, "exec", "box", "sh", "-c", "echo 150 > /grow")
	waitFor(t, d, "box", "/grew")
	letGo()
	until(t, func() error {
		if s := d.Must(t, "inspect", "-f", "{{json .LimitsNotInForce}}", "box"); s != "null" {
			return errors.New(s)
		}
		return nil
	})
	assert.Equal(t, d.Inspect(t, "box").State.Pid, pid)
	assert.Check(t, is.Equal(d.Must(t, "inspect", "-f", "{{.State.Running}} {{.State.OOMKilled}} {{.HostConfig.Memory}}", "box"), "true false 419430400"))
	g.Want(t, "memory.max", "419430400")
}

// A value that can go neither way blocks no other, is shown, and put back when it can.
func TestUpdateThatCanGoNeitherWayIsShown(t *testing.T) {
	place.EachVersion(t)
	d := setup(t)
	d.LiveRestore(t)
	d.Must(t, "run", "-d", "--name=box", "--memory=400m", "--memory-swap=400m", "--shm-size=300m", "--pids-limit=50", "busybox", "sh", "-c", growing)
	waitFor(t, d, "box", "/grown")
	d.Must(t, "exec", "box", "sh", "-c", "echo 150 > /grow")
	waitFor(t, d, "box", "/grew")
	dir := filepath.Dir(d.HostConfigFile(d.Inspect(t, "box").ID))
	journal := filepath.Join(dir, "update.pending.json")
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	assert.NilError(t, err)
	d.Kill(t)
	// Back is below what is used, and forward is no set of processors of this machine.
	var saved map[string]json.RawMessage
	readJSON(t, d.HostConfigFile(filepath.Base(dir)), &saved)
	saved["Memory"], saved["MemorySwap"] = json.RawMessage("104857600"), json.RawMessage("104857600")
	store := func(path string, v any) {
		t.Helper()
		data, err := json.Marshal(v)
		assert.NilError(t, err)
		assert.NilError(t, os.WriteFile(path, data, 0o600))
	}
	store(d.HostConfigFile(filepath.Base(dir)), saved)
	store(journal, map[string]any{
		"Update":        map[string]any{"Memory": 419430400, "MemorySwap": 419430400, "CpusetCpus": "99", "PidsLimit": 60},
		"Old":           saved,
		"RestartPolicy": map[string]any{"Name": "no"},
		"Boot":          strings.TrimSpace(string(boot)),
	})
	d.StartAgain(t)

	shown := func() string { t.Helper(); return d.Must(t, "inspect", "-f", "{{json .LimitsNotInForce}}", "box") }
	wantWords(t, shown(), "Memory: --memory=104857600", "the container uses")
	assert.Check(t, !strings.Contains(shown(), "PidsLimit") && !strings.Contains(shown(), "Cpuset"), shown())
	wantWords(t, d.Docker(t, "info").Stderr, "limits are not in force", "box")
	assert.Check(t, d.Inspect(t, "box").State.Running)
	d.Must(t, "update", "--pids-limit=70", "box")
	d.Cgroup(t, "box").Want(t, "pids.max", "70")
	wantWords(t, shown(), "Memory: --memory=104857600")

	// It shrinks, and the limit is put in force by itself.
	d.Must(t, "exec", "box", "rm", "/dev/shm/b")
	d.Cgroup(t, "box").WantSoon(t, "memory.max", "104857600", 30*time.Second)
	until(t, func() error {
		if s := shown(); s != "null" {
			return fmt.Errorf("%s", s)
		}
		return nil
	})
}
