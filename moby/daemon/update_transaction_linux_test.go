// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/container"
	"github.com/docker/docker/daemon/events"
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
	_, err := os.Stat(filepath.Join(c.Root, pendingUpdateFile))
	return err == nil
}

func TestUpdateTransaction(t *testing.T) {
	set := func(d *Daemon, c *container.Container, r containertypes.Resources, fail error) error {
		return d.transact(c.ID, func(*container.Container) (containertypes.Resources, error) {
			return r, nil
		}, func(c *container.Container, _, _ containertypes.Resources) error {
			assert.Check(t, isPending(c), "a crash from here on must be seen at the next start")
			c.Lock()
			defer c.Unlock()
			assert.NilError(t, d.storeResources(c, r, containertypes.RestartPolicy{Name: "always"}))
			return fail
		})
	}
	old, changed := gpu(i64(50), i64(10240)), gpu(i64(7), i64(4096))

	t.Run("done", func(t *testing.T) {
		d, c := stoppedContainer(t, old)
		assert.NilError(t, set(d, c, changed, nil))
		assert.Check(t, is.DeepEqual(onDisk(t, c).Resources, changed))
		assert.Check(t, !isPending(c))
	})
	t.Run("failed", func(t *testing.T) {
		d, c := stoppedContainer(t, old)
		assert.Check(t, is.Error(set(d, c, changed, errors.New("no")), "no"))
		assert.Check(t, is.DeepEqual(onDisk(t, c).Resources, old))
		assert.Check(t, is.DeepEqual(c.HostConfig.Resources, old))
		assert.Check(t, is.Equal(string(c.HostConfig.RestartPolicy.Name), "no"))
		assert.Check(t, !isPending(c))
	})
	t.Run("failed, and the kernel could not be put back", func(t *testing.T) {
		d, c := stoppedContainer(t, old)
		assert.Check(t, is.ErrorContains(set(d, c, changed, notTakenBackError{errors.New("dead shim")}), "dead shim"))
		assert.Check(t, is.DeepEqual(onDisk(t, c).Resources, old))
		assert.Check(t, isPending(c), "what is left in the kernel is for the next update or start to settle")
	})
	t.Run("failed as the container ended, and a restart policy has started it with the new limits", func(t *testing.T) {
		d, c := stoppedContainer(t, old)
		tsk := &fakeTask{}
		err := d.transact(c.ID, func(*container.Container) (containertypes.Resources, error) {
			return containertypes.Resources{CPUShares: 5}, nil
		}, func(c *container.Container, _, _ containertypes.Resources) error {
			c.Lock()
			defer c.Unlock()
			c.SetRunningExternal(nil, tsk)
			return endedError{errors.New("not running")}
		})
		assert.Check(t, is.Error(err, "not running"))
		assert.Check(t, is.Len(tsk.updates, 1), "the new task keeps the new limits")
		assert.Check(t, !isPending(c))
	})
	t.Run("the pending file cannot be written", func(t *testing.T) {
		d, c := stoppedContainer(t, old)
		root := c.Root
		c.Root = filepath.Join(root, "gone")
		called := false
		err := d.transact(c.ID, func(*container.Container) (containertypes.Resources, error) { return changed, nil },
			func(*container.Container, containertypes.Resources, containertypes.Resources) error {
				called = true
				return nil
			})
		c.Root = root
		assert.Check(t, err != nil)
		assert.Check(t, !called, "nothing is changed that a crash could not take back")
		assert.Check(t, is.DeepEqual(onDisk(t, c).Resources, old))
	})
	t.Run("dockerd died in between", func(t *testing.T) {
		d, c := stoppedContainer(t, old)
		assert.NilError(t, writePending(c, pendingUpdate{Update: changed, Old: old, RestartPolicy: c.HostConfig.RestartPolicy}))
		assert.NilError(t, d.storeResources(c, changed, containertypes.RestartPolicy{Name: "always"}))
		d.restoreUpdate(c, false)
		assert.Check(t, is.DeepEqual(onDisk(t, c).Resources, old))
		assert.Check(t, is.Equal(string(onDisk(t, c).RestartPolicy.Name), "no"))
		assert.Check(t, !isPending(c))
	})
	t.Run("the machine went down in between", func(t *testing.T) {
		for _, left := range []string{`{"Old":{"PidsLimit":5},"Boot":"another"}`, `{"Old":{"Pi`, ``} {
			d, c := stoppedContainer(t, old)
			assert.NilError(t, os.WriteFile(filepath.Join(c.Root, pendingUpdateFile), []byte(left), 0o600))
			d.restoreUpdate(c, false)
			assert.Check(t, is.DeepEqual(onDisk(t, c).Resources, old))
			assert.Check(t, !isPending(c))
		}
	})
	t.Run("the same, found by the next update", func(t *testing.T) {
		d, c := stoppedContainer(t, old)
		assert.NilError(t, writePending(c, pendingUpdate{Update: changed, Old: old, RestartPolicy: c.HostConfig.RestartPolicy}))
		assert.NilError(t, d.storeResources(c, changed, c.HostConfig.RestartPolicy))
		assert.NilError(t, d.updateAllOrNothing(c.ID, &containertypes.HostConfig{Resources: gpu(nil, i64(1))}))
		assert.Check(t, is.DeepEqual(onDisk(t, c).Resources, gpu(i64(50), i64(1))))
	})
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
			err := d.transact(c.ID, func(*container.Container) (containertypes.Resources, error) {
				inside++ // the race detector and the check below watch this
				return gpu(i64(n), i64(n)), nil
			}, func(c *container.Container, r, _ containertypes.Resources) error {
				c.Lock()
				defer c.Unlock()
				err := d.storeResources(c, r, c.HostConfig.RestartPolicy)
				inside--
				return err
			})
			assert.Check(t, err)
		}()
	}
	group.Wait()
	got := onDisk(t, c)
	assert.Check(t, is.Equal(*got.GPUPriority, *got.GPUMemory))
	assert.Check(t, is.Equal(inside, 0))
}

func TestUpdateExact(t *testing.T) {
	d, c := stoppedContainer(t, containertypes.Resources{GPUPriority: i64(7), CPUShares: 5, CpusetCpus: "0", CgroupParent: "/kept"})
	d.sysInfo.CPUShares = true // else verification drops them with a warning
	_, err := d.ContainerUpdateExact(c.ID, &containertypes.HostConfig{Resources: containertypes.Resources{GPUMemory: i64(4096), CPUShares: 9}})
	assert.NilError(t, err)
	assert.Check(t, is.DeepEqual(onDisk(t, c).Resources, containertypes.Resources{GPUMemory: i64(4096), CPUShares: 9, CgroupParent: "/kept"}))
}

func TestTakeBack(t *testing.T) {
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
			assert.Check(t, is.DeepEqual(d.takeBack(tc.update, tc.old), tc.want))
		})
	}
}

func TestChangedResources(t *testing.T) {
	assert.Check(t, is.DeepEqual(changedResources(
		containertypes.Resources{CPUShares: 5, GPUPriority: i64(7), GPUMemory: i64(4096)},
		containertypes.Resources{CPUShares: 5, GPUPriority: i64(8), PidsLimit: i64(3)},
	), map[string]string{"GPUPriority": "8", "GPUMemory": "null", "PidsLimit": "3"}))
}
