// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	cerrdefs "github.com/containerd/errdefs"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/container"
	"github.com/docker/docker/daemon/events"
	"github.com/docker/docker/errdefs"
	libcontainerdtypes "github.com/docker/docker/libcontainerd/types"
	"github.com/docker/docker/pkg/sysinfo"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// stoppedContainer is known to the returned daemon and stored on disk.
func stoppedContainer(t *testing.T, r containertypes.Resources) (*Daemon, *container.Container) {
	t.Helper()
	replica, err := container.NewViewDB()
	assert.NilError(t, err)
	cfg, info := gpuHost(true)
	d := &Daemon{sysInfo: info, containers: container.NewMemoryStore(), containersReplica: replica, EventsService: events.New()}
	d.configStore.Store(cfg)
	c := container.NewBaseContainer("0123456789abcdef", t.TempDir())
	c.Name = "/box"
	c.Config = &containertypes.Config{}
	c.HostConfig = &containertypes.HostConfig{Resources: r, RestartPolicy: containertypes.RestartPolicy{Name: "no"}}
	d.containers.Add(c.ID, c)
	assert.NilError(t, c.CheckpointTo(context.Background(), replica))
	return d, c
}

// onDisk is what the next dockerd would find.
func onDisk(t *testing.T, c *container.Container) containertypes.HostConfig {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(c.Root, "hostconfig.json"))
	assert.NilError(t, err)
	var hc containertypes.HostConfig
	assert.NilError(t, json.Unmarshal(data, &hc))
	return hc
}

func isPending(c *container.Container) bool {
	_, err := os.Stat(filepath.Join(c.Root, journalFile))
	return err == nil
}

// setOf is a whole set, with a policy.
func setOf(r containertypes.Resources, policy containertypes.RestartPolicyMode) resourceSet {
	return resourceSet{r, containertypes.RestartPolicy{Name: policy}}
}

// wantSet fails unless memory, disk and the restart manager have one set, and the
// kernel's side is settled.
func wantSet(t *testing.T, c *container.Container, r containertypes.Resources, policy containertypes.RestartPolicyMode) {
	t.Helper()
	assert.Check(t, is.DeepEqual(onDisk(t, c).Resources, r), "disk")
	assert.Check(t, is.Equal(onDisk(t, c).RestartPolicy.Name, policy), "disk")
	assert.Check(t, is.DeepEqual(c.HostConfig.Resources, r), "memory")
	assert.Check(t, is.Equal(c.HostConfig.RestartPolicy.Name, policy), "memory")
	// It is asked as at the end of a container that did not fail.
	restart, _, _ := c.RestartManager().ShouldRestart(0, false, time.Hour)
	assert.Check(t, is.Equal(restart, policy == containertypes.RestartPolicyAlways), "restart manager")
	assert.Check(t, !isPending(c), "journal")
}

func TestUpdateTransaction(t *testing.T) {
	set := func(d *Daemon, c *container.Container, r containertypes.Resources) error {
		_, err := d.transact(c.ID, 0, func(*container.Container) (containertypes.Resources, resourceSet, error) {
			return r, setOf(r, "always"), nil
		})
		return err
	}
	// On a host without a gpu controller the runtime would be asked for nothing.
	old, changed := containertypes.Resources{CPUShares: 7, PidsLimit: i64(50)}, containertypes.Resources{CPUShares: 8, PidsLimit: i64(70)}
	failing := func(c *container.Container, errs ...error) *fakeTask {
		tsk := &fakeTask{errs: errs}
		c.Lock()
		defer c.Unlock()
		c.SetRunningExternal(nil, tsk)
		return tsk
	}

	t.Run("done", func(t *testing.T) {
		d, c := stoppedContainer(t, old)
		assert.NilError(t, set(d, c, changed))
		wantSet(t, c, changed, "always")
	})
	t.Run("failed", func(t *testing.T) {
		d, c := stoppedContainer(t, old)
		tsk := failing(c, errors.New("no"))
		assert.Check(t, is.ErrorContains(set(d, c, changed), "no"))
		wantSet(t, c, old, "no")
		assert.Check(t, is.Len(tsk.updates, 2))
		assert.Check(t, is.Equal(*tsk.updates[1].CPU.Shares, uint64(7)), "the kernel")
		assert.Check(t, is.Len(d.limitsNotInForce(c), 0))
	})
	t.Run("failed, and going back fails, and going forward does not", func(t *testing.T) {
		d, c := stoppedContainer(t, old)
		failing(c, errors.New("killed"), errors.New("busy"))
		assert.NilError(t, set(d, c, changed), "it was done after all")
		wantSet(t, c, changed, "always")
	})
	t.Run("failed, and one field can go neither way", func(t *testing.T) {
		d, c := stoppedContainer(t, old)
		stuckFor := func(r *libcontainerdtypes.Resources) error {
			if r.Pids != nil {
				return errors.New("no such pids")
			}
			return nil
		}
		tsk := failing(c)
		tsk.refuse = stuckFor
		assert.Check(t, is.ErrorContains(set(d, c, changed), "no such pids"))
		assert.Check(t, isPending(c))
		assert.Check(t, is.DeepEqual(d.limitsNotInForce(c), []string{"PidsLimit: no such pids"}))
		assert.Check(t, is.DeepEqual(onDisk(t, c).Resources, old))

		// It blocks no other field, and stays in the journal meanwhile.
		_, err := d.transact(c.ID, 0, func(*container.Container) (containertypes.Resources, resourceSet, error) {
			target := old
			target.CPUShares = 9
			return containertypes.Resources{CPUShares: 9}, setOf(target, "no"), nil
		})
		assert.NilError(t, err)
		assert.Check(t, is.Equal(c.HostConfig.CPUShares, int64(9)))
		assert.Check(t, isPending(c))
		assert.Check(t, is.Len(d.limitsNotInForce(c), 1))

		// The next dockerd knows of it.
		d.noteHolds(c, lostUpdate(c))
		d.restoreUpdate(c, true)
		assert.Check(t, is.DeepEqual(d.limitsNotInForce(c), []string{"PidsLimit: no such pids"}))

		// As soon as it can be put back it is.
		tsk.refuse = nil
		d.retryLost(c.ID)
		assert.Check(t, is.Equal(pidsOf(tsk.updates[len(tsk.updates)-1]), int64(50)))
		assert.Check(t, is.Len(d.limitsNotInForce(c), 0))
		assert.Check(t, !isPending(c))
	})
	t.Run("a runtime that does not answer is not asked for each set and field", func(t *testing.T) {
		d, c := stoppedContainer(t, old)
		tsk := failing(c)
		tsk.refuse = func(*libcontainerdtypes.Resources) error { return errdefs.Deadline(errors.New("too late")) }
		assert.Check(t, is.ErrorContains(set(d, c, changed), "too late"))
		assert.Check(t, is.Len(tsk.updates, 2), "the update and the way back")
		assert.Check(t, is.Len(d.limitsNotInForce(c), 2))
		assert.Check(t, isPending(c))
	})
	t.Run("a new value for what is stuck", func(t *testing.T) {
		d, c := stoppedContainer(t, old)
		tsk := failing(c)
		tsk.refuse = func(r *libcontainerdtypes.Resources) error {
			if r.Pids != nil && pidsOf(r) != 90 {
				return errors.New("no such pids")
			}
			return nil
		}
		assert.Check(t, set(d, c, changed) != nil)
		assert.Check(t, isPending(c))
		target := containertypes.Resources{CPUShares: 7, PidsLimit: i64(90)}
		_, err := d.transact(c.ID, 0, func(*container.Container) (containertypes.Resources, resourceSet, error) {
			return containertypes.Resources{PidsLimit: i64(90)}, setOf(target, "no"), nil
		})
		assert.NilError(t, err)
		wantSet(t, c, target, "no")
		assert.Check(t, is.Len(d.limitsNotInForce(c), 0))
	})
	t.Run("a new value for half of a pair that is stuck", func(t *testing.T) {
		pair := containertypes.Resources{Memory: 100, MemorySwap: 100}
		d, c := stoppedContainer(t, pair)
		tsk := failing(c)
		tsk.refuse = func(r *libcontainerdtypes.Resources) error {
			if r.Memory != nil && (r.Memory.Swap == nil || *r.Memory.Swap != 300) {
				return errors.New("busy")
			}
			return nil
		}
		assert.Check(t, set(d, c, containertypes.Resources{Memory: 400, MemorySwap: 400}) != nil)
		assert.Check(t, is.Len(d.limitsNotInForce(c), 2))
		// The kernel may still have 400 as the limit of memory, above this one.
		target := containertypes.Resources{Memory: 100, MemorySwap: 300}
		_, err := d.transact(c.ID, 0, func(*container.Container) (containertypes.Resources, resourceSet, error) {
			return containertypes.Resources{MemorySwap: 300}, setOf(target, "no"), nil
		})
		assert.NilError(t, err)
		wantSet(t, c, target, "no")
		assert.Check(t, is.Len(d.limitsNotInForce(c), 0))
		sent := tsk.updates[len(tsk.updates)-1].Memory
		assert.Assert(t, sent != nil && sent.Limit != nil, "only one of the two was sent")
		assert.Check(t, is.Equal(*sent.Limit, int64(100)))
		assert.Check(t, is.Equal(*sent.Swap, int64(300)))
	})
	t.Run("failed as the container ended", func(t *testing.T) {
		d, c := stoppedContainer(t, old)
		tsk := failing(c, errors.New("not running"), errors.New("not running"))
		tsk.status = containerd.Stopped
		assert.Check(t, is.ErrorContains(set(d, c, changed), "not running"))
		wantSet(t, c, old, "no")
	})
	t.Run("the journal cannot be written", func(t *testing.T) {
		d, c := stoppedContainer(t, old)
		root := c.Root
		c.Root = filepath.Join(root, "gone")
		err := set(d, c, changed)
		assert.Check(t, err != nil)
		c.RemovalInProgress = true
		removed := set(d, c, changed)
		assert.Check(t, cerrdefs.IsConflict(removed), "%v", removed)
		assert.Check(t, is.ErrorContains(removed, "marked for removal"))
		c.RemovalInProgress = false
		c.Root = root
		wantSet(t, c, old, "no")
	})
	t.Run("dockerd died in between", func(t *testing.T) {
		d, c := stoppedContainer(t, old)
		assert.NilError(t, writeJournal(c, updateJournal{Update: changed, Old: old, RestartPolicy: c.HostConfig.RestartPolicy, New: &changed, NewRestartPolicy: containertypes.RestartPolicy{Name: "always"}}))
		assert.NilError(t, d.storeResources(c, setOf(changed, "always")))
		c.UpdateMonitor(c.HostConfig.RestartPolicy)
		d.restoreUpdate(c, false)
		wantSet(t, c, old, "no")
	})
	t.Run("a dockerd of an earlier build died in between", func(t *testing.T) {
		d, c := stoppedContainer(t, old)
		data, err := json.Marshal(map[string]any{"Update": changed, "Old": old, "RestartPolicy": c.HostConfig.RestartPolicy, "Boot": bootID()})
		assert.NilError(t, err)
		assert.NilError(t, os.WriteFile(filepath.Join(c.Root, journalFile), data, 0o600))
		assert.NilError(t, d.storeResources(c, setOf(changed, "always")))
		d.restoreUpdate(c, false)
		wantSet(t, c, old, "no")
	})
	t.Run("and another dockerd changed the container since", func(t *testing.T) {
		d, c := stoppedContainer(t, old)
		assert.NilError(t, writeJournal(c, updateJournal{Update: changed, Old: old, RestartPolicy: c.HostConfig.RestartPolicy}))
		newer := containertypes.Resources{CPUShares: 7, PidsLimit: i64(123)}
		assert.NilError(t, d.storeResources(c, setOf(newer, "no")))
		tsk := failing(c)
		d.restoreUpdate(c, true)
		wantSet(t, c, newer, "no")
		assert.Check(t, is.Equal(pidsOf(tsk.updates[0]), int64(123)), "what is in force is not known")
	})
	t.Run("and another dockerd changed it since, as it was on its way back, which is no way any more", func(t *testing.T) {
		d, c := stoppedContainer(t, old)
		assert.NilError(t, writeJournal(c, updateJournal{Update: changed, Old: old, RestartPolicy: c.HostConfig.RestartPolicy, New: &changed, NewRestartPolicy: containertypes.RestartPolicy{Name: "always"}}))
		assert.NilError(t, d.storeResources(c, setOf(containertypes.Resources{CPUShares: 300, PidsLimit: i64(50), CpusetCpus: "0"}, "no")))
		failing(c).refuse = func(r *libcontainerdtypes.Resources) error {
			if r.Pids != nil && pidsOf(r) == 50 {
				return errors.New("in use")
			}
			return nil
		}
		d.restoreUpdate(c, true)
		wantSet(t, c, containertypes.Resources{CPUShares: 300, PidsLimit: i64(70), CpusetCpus: "0"}, "always")
		assert.Check(t, is.Len(d.limitsNotInForce(c), 0))
	})
	t.Run("the machine went down in between", func(t *testing.T) {
		for _, left := range []string{`{"Old":{"PidsLimit":5},"Boot":"another"}`, `{"Old":{"Pi`, ``} {
			d, c := stoppedContainer(t, old)
			assert.NilError(t, os.WriteFile(filepath.Join(c.Root, journalFile), []byte(left), 0o600))
			d.restoreUpdate(c, false)
			wantSet(t, c, old, "no")
		}
	})
	t.Run("the same, found by the next update", func(t *testing.T) {
		d, c := stoppedContainer(t, old)
		assert.NilError(t, writeJournal(c, updateJournal{Update: changed, Old: old, RestartPolicy: c.HostConfig.RestartPolicy}))
		assert.NilError(t, d.storeResources(c, setOf(changed, "no")))
		assert.NilError(t, d.updateAllOrNothing(c.ID, &containertypes.HostConfig{Resources: containertypes.Resources{PidsLimit: i64(1)}}))
		wantSet(t, c, containertypes.Resources{CPUShares: 7, PidsLimit: i64(1)}, "no")
	})
}

// A limit that is lowered by nobody who waits for it must not kill.
func TestUpdateNeverGoesBackBelowUse(t *testing.T) {
	dir := t.TempDir()
	files := func(limit, use string) {
		assert.NilError(t, os.WriteFile(filepath.Join(dir, "max"), []byte(limit+"\n"), 0o600))
		assert.NilError(t, os.WriteFile(filepath.Join(dir, "current"), []byte(use+"\n"), 0o600))
	}
	for _, tc := range []struct {
		now, use string
		limit    int64
		refused  bool
	}{
		{now: "400", use: "200", limit: 100, refused: true},
		{now: "max", use: "200", limit: 100, refused: true},
		{now: "400", use: "100", limit: 100},
		{now: "100", use: "200", limit: 100}, // it is there already
		{now: "100", use: "200", limit: 300},
	} {
		files(tc.now, tc.use)
		err := lowersBelow(dir, tc.limit, "max", "current")
		assert.Check(t, is.Equal(err != nil, tc.refused), "%+v: %v", tc, err)
		assert.Check(t, is.Equal(lowers(dir, tc.limit, "max"), tc.now != "100"), "%+v", tc)
	}
	assert.NilError(t, lowersBelow(t.TempDir(), 1, "max", "current"))
}

func TestUpdateVersion(t *testing.T) {
	d, c := stoppedContainer(t, containertypes.Resources{CPUShares: 5})
	d.sysInfo.CPUShares, d.sysInfo.PidsLimit = true, true
	update := func(opts containertypes.UpdateOptions, r containertypes.Resources) (uint64, error) {
		resp, err := d.ContainerUpdateWith(c.ID, &containertypes.HostConfig{Resources: r}, opts)
		return resp.ResourcesVersion, err
	}
	version, err := update(containertypes.UpdateOptions{Version: 1}, containertypes.Resources{CPUShares: 6})
	assert.NilError(t, err)
	assert.Check(t, is.Equal(version, uint64(2)))
	_, err = update(containertypes.UpdateOptions{Version: 1}, containertypes.Resources{CPUShares: 7})
	assert.Check(t, cerrdefs.IsConflict(err), "%v", err)
	assert.Check(t, is.ErrorContains(err, "version 2, not 1"))
	assert.Check(t, is.Equal(c.HostConfig.CPUShares, int64(6)))
	found, err := d.ContainersResources([]string{c.ID})
	assert.NilError(t, err)
	assert.Check(t, is.Equal(found[0].ResourcesVersion, version))

	// It is on disk, and a failed update may raise it, but never lowers it.
	assert.Check(t, is.Equal(onDisk(t, c).ResourcesVersion, version))
	tsk := &fakeTask{errs: []error{errors.New("no")}}
	c.Lock()
	c.SetRunningExternal(nil, tsk)
	c.Unlock()
	_, err = update(containertypes.UpdateOptions{}, containertypes.Resources{CPUShares: 8})
	assert.Check(t, err != nil)
	assert.Check(t, resourcesVersion(c.HostConfig) >= version)
	assert.Check(t, is.Equal(c.HostConfig.CPUShares, int64(6)))
}

// Upstream's order of events lets one update win on disk and another in the
// kernel. With the lock, the last one is whole.
func TestUpdatesOfOneContainerFollowEachOther(t *testing.T) {
	d, c := stoppedContainer(t, containertypes.Resources{})
	var group sync.WaitGroup
	inside := 0
	for n := range int64(20) {
		group.Add(1)
		go func() {
			defer group.Done()
			_, err := d.transact(c.ID, 0, func(*container.Container) (containertypes.Resources, resourceSet, error) {
				inside++ // the race detector and the checks below watch this
				assert.Check(t, is.Equal(inside, 1))
				inside--
				return gpu(i64(n), i64(n)), setOf(gpu(i64(n), i64(n)), "no"), nil
			})
			assert.Check(t, err)
		}()
	}
	group.Wait()
	got := onDisk(t, c)
	assert.Check(t, is.Equal(*got.GPUPriority, *got.GPUMemory))
	assert.Check(t, is.Equal(got.ResourcesVersion, uint64(21)))
}

func TestUpdateReplace(t *testing.T) {
	had := containertypes.Resources{GPUPriority: i64(7), CPUShares: 5, PidsLimit: i64(50), CgroupParent: "/kept"}
	for _, tc := range []struct {
		doc     string
		replace []string
		body    containertypes.Resources
		want    containertypes.Resources
		err     string
	}{
		{
			doc: "all", replace: containertypes.ReplaceAll,
			body: containertypes.Resources{CPUShares: 9}, want: containertypes.Resources{CPUShares: 9, CgroupParent: "/kept"},
		},
		{
			doc: "some", replace: []string{"GPUPriority", "PidsLimit"},
			body: containertypes.Resources{CPUShares: 9, PidsLimit: i64(60)},
			want: containertypes.Resources{CPUShares: 5, PidsLimit: i64(60), CgroupParent: "/kept"},
		},
		{doc: "none", body: containertypes.Resources{CPUShares: 9}, want: containertypes.Resources{GPUPriority: i64(7), CPUShares: 9, PidsLimit: i64(50), CgroupParent: "/kept"}},
		{doc: "what no update can change", replace: []string{"CgroupParent"}, want: had, err: `"CgroupParent" is no resource that an update can change`},
		{doc: "what nobody knows", replace: []string{"CPUShares"}, want: had, err: `"CPUShares" is no resource that an update can change`},
		{
			doc: "what does not go with what is kept", replace: []string{"Memory"},
			body: containertypes.Resources{Memory: 1 << 20}, want: had, err: "Minimum memory limit",
		},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			d, c := stoppedContainer(t, had)
			d.sysInfo.CPUShares, d.sysInfo.PidsLimit, d.sysInfo.MemoryLimit = true, true, true // else verification drops them with a warning
			_, err := d.ContainerUpdateWith(c.ID, &containertypes.HostConfig{Resources: tc.body}, containertypes.UpdateOptions{Replace: tc.replace})
			if tc.err != "" {
				assert.Check(t, is.ErrorContains(err, tc.err))
				assert.Check(t, cerrdefs.IsInvalidArgument(err), "%v", err)
			} else {
				assert.NilError(t, err)
			}
			assert.Check(t, is.DeepEqual(onDisk(t, c).Resources, tc.want))
		})
	}
}

// Each field is either something that an update changes, or fixed.
func TestResourceNamesAreThoseThatAnUpdateChanges(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range resourceNames {
		assert.Check(t, !seen[name], name)
		seen[name] = true
		if name == restartPolicyName {
			continue
		}
		f := containertypes.ResourceFieldNamed(name)
		assert.Assert(t, f != nil, name)
		var changed, kept containertypes.Resources
		fill(reflect.ValueOf(f.Ref(&changed)).Elem())
		kept = changed
		keepFixed(&kept, containertypes.Resources{})
		assert.Check(t, is.DeepEqual(kept, changed), "keepFixed forgets %s", name)
		if slices.Contains([]string{"KernelMemory", "CpuRealtimePeriod", "CpuRealtimeRuntime"}, name) {
			continue // Upstream stores these and sends them to no running container.
		}
		d := &Daemon{sysInfo: &sysinfo.SysInfo{}}
		assert.Check(t, namesResource(d.assigning(changed, changed), name), "assigning forgets %s", name)
	}
	for i := range reflect.TypeFor[containertypes.Resources]().NumField() {
		var changed containertypes.Resources
		at := reflect.ValueOf(&changed).Elem().Field(i)
		name := ""
		for _, f := range containertypes.ResourceFields {
			if f.Ref(&changed) == at.Addr().Interface() {
				name = f.Name
			}
		}
		if seen[name] {
			continue
		}
		assert.Check(t, name != "", "%s has no row in ResourceFields", reflect.TypeFor[containertypes.Resources]().Field(i).Name)
		fill(at)
		keepFixed(&changed, containertypes.Resources{})
		assert.Check(t, !namesResource(changed, name), "%s is updated and in no group", name)
	}
}

// fill gives a field a value that is not its zero.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.String:
		v.SetString("0")
	case reflect.Uint16, reflect.Uint64:
		v.SetUint(1)
	default:
		v.SetInt(1)
	}
}

func TestAssigning(t *testing.T) {
	d := &Daemon{sysInfo: &sysinfo.SysInfo{}}
	d.sysInfo.Cpus, d.sysInfo.Mems = "0-3", "0"
	for _, tc := range []struct {
		doc               string
		update, old, want containertypes.Resources
	}{
		{doc: "nothing"},
		{doc: "what is not named is not sent", old: containertypes.Resources{CPUShares: 5, Memory: 7}},
		{
			doc:    "old values",
			update: containertypes.Resources{CPUShares: 5, Memory: 1 << 30, PidsLimit: i64(5), GPUPriority: i64(5)},
			old:    containertypes.Resources{CPUShares: 6, Memory: 1 << 20, PidsLimit: i64(6), GPUPriority: i64(6)},
			want:   containertypes.Resources{CPUShares: 6, Memory: 1 << 20, PidsLimit: i64(6), GPUPriority: i64(6)},
		},
		{
			doc: "defaults",
			update: containertypes.Resources{
				CPUShares: 5, Memory: 5, MemorySwap: 5, MemoryReservation: 5, CpusetCpus: "1", CpusetMems: "1",
				PidsLimit: i64(5), GPUPriority: i64(5), GPUMemory: i64(5),
			},
			want: containertypes.Resources{
				CPUShares: 1024, Memory: -1, MemorySwap: -1, MemoryReservation: -1, CpusetCpus: "0-3", CpusetMems: "0",
				PidsLimit: i64(-1), GPUPriority: i64(0), GPUMemory: i64(-1),
			},
		},
		{
			doc:    "cpus and no cpus",
			update: containertypes.Resources{NanoCPUs: 5},
			want:   containertypes.Resources{CPUPeriod: 100000, CPUQuota: -1},
		},
		{
			doc:    "cpus and other cpus",
			update: containertypes.Resources{NanoCPUs: 5},
			old:    containertypes.Resources{NanoCPUs: 6},
			want:   containertypes.Resources{NanoCPUs: 6},
		},
	} {
		t.Run(tc.doc, func(t *testing.T) {
			assert.Check(t, is.DeepEqual(d.assigning(tc.update, tc.old), tc.want))
		})
	}
}

func TestChangedResources(t *testing.T) {
	assert.Check(t, is.DeepEqual(changedResources(
		containertypes.Resources{CPUShares: 5, GPUPriority: i64(7), GPUMemory: i64(4096)},
		containertypes.Resources{CPUShares: 5, GPUPriority: i64(8), PidsLimit: i64(3)},
	), map[string]string{"GPUPriority": "8", "GPUMemory": "null", "PidsLimit": "3"}))
}
