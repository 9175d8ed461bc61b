// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/backend"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/container"
	"github.com/docker/docker/daemon/events"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// copied is a container with limits, and what another dockerd has left of it.
func copied(t *testing.T, r containertypes.Resources) (*Daemon, *container.Container) {
	t.Helper()
	d := &Daemon{EventsService: events.New()}
	c := container.NewBaseContainer("0123456789abcdef", t.TempDir())
	c.Name, c.Created = "/box", time.Date(2026, 11, 27, 1, 2, 3, 4, time.UTC)
	c.Config = &containertypes.Config{}
	c.HostConfig = &containertypes.HostConfig{Resources: r, ResourcesVersion: 7}
	assert.NilError(t, storeLimitsCopy(c))
	c.HostConfig = &containertypes.HostConfig{Resources: without(r, added(r))}
	return d, c
}

func TestLimitsCopy(t *testing.T) {
	r := containertypes.Resources{
		CPUShares: 5, GPUMemory: i64(10240), BlkioReadLimit: i64(4096), NetClassID: u32(7),
		NetPriorities: []containertypes.NetPriority{{Interface: "eth0", Priority: 5}}, NetEgressRate: i64(-1),
	}
	path := func(c *container.Container) string { return filepath.Join(c.Root, limitsCopyFile) }

	t.Run("another dockerd dropped them", func(t *testing.T) {
		d, c := copied(t, r)
		_, seen, cancel := d.EventsService.Subscribe()
		defer cancel()
		c.HostConfig.CPUShares = 300 // which it changed, too
		d.recoverLimits(c)
		want := r
		want.CPUShares = 300
		assert.Check(t, is.DeepEqual(c.HostConfig.Resources, want))
		assert.Check(t, c.HostConfig.ResourcesVersion > 7, "no client may take it for what it knew")
		assert.Check(t, is.Len(seen, 1))
	})
	t.Run("what hostconfig.json has counts", func(t *testing.T) {
		d, c := copied(t, r)
		c.HostConfig.GPUMemory = i64(-1)
		d.recoverLimits(c)
		assert.Check(t, is.DeepEqual(c.HostConfig.Resources, containertypes.Resources{CPUShares: 5, GPUMemory: i64(-1)}))
		data, err := os.ReadFile(path(c))
		assert.NilError(t, err)
		assert.Check(t, is.Contains(string(data), `"Limits":{"GPUMemory":-1}`))
	})
	t.Run("none, no file", func(t *testing.T) {
		d, c := copied(t, containertypes.Resources{CPUShares: 5})
		_, err := os.Stat(path(c))
		assert.ErrorIs(t, err, os.ErrNotExist)
		d.recoverLimits(c)
		assert.Check(t, is.DeepEqual(c.HostConfig.Resources, containertypes.Resources{CPUShares: 5}))
	})
	for doc, change := range map[string]func(*limitsCopy){
		"of another container":             func(l *limitsCopy) { l.ID = "other" },
		"of one with the same ID, another": func(l *limitsCopy) { l.Created = l.Created.Add(1) },
		"of a newer format":                func(l *limitsCopy) { l.Format++ },
		"out of range":                     func(l *limitsCopy) { l.Limits["GPUMemory"] = json.RawMessage("0") },
		"of another type":                  func(l *limitsCopy) { l.Limits["GPUMemory"] = json.RawMessage(`"x"`) },
	} {
		t.Run(doc, func(t *testing.T) {
			d, c := copied(t, r)
			data, err := os.ReadFile(path(c))
			assert.NilError(t, err)
			var l limitsCopy
			assert.NilError(t, json.Unmarshal(data, &l))
			change(&l)
			data, err = json.Marshal(l)
			assert.NilError(t, err)
			assert.NilError(t, os.WriteFile(path(c), data, 0o600))
			d.recoverLimits(c)
			assert.Check(t, is.DeepEqual(c.HostConfig.Resources, containertypes.Resources{CPUShares: 5}))
		})
	}
	t.Run("torn", func(t *testing.T) {
		d, c := copied(t, r)
		assert.NilError(t, os.WriteFile(path(c), []byte(`{"Format":1,"ID":"0123`), 0o600))
		d.recoverLimits(c)
		assert.Check(t, is.DeepEqual(c.HostConfig.Resources, containertypes.Resources{CPUShares: 5}))
	})
}

// dockerd is killed between the two writes: what was taken off does not come back.
func TestLimitsCopyOlderThanWhatWasTakenOff(t *testing.T) {
	d, c := copied(t, containertypes.Resources{GPUMemory: i64(10240)})
	c.HostConfig.ResourcesVersion = 8 // which another dockerd would have dropped
	d.recoverLimits(c)
	assert.Check(t, is.DeepEqual(c.HostConfig.Resources, containertypes.Resources{}))
	_, err := os.Stat(filepath.Join(c.Root, limitsCopyFile))
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// Another dockerd drops the version, too, of a container without limits: none that a
// client may hold comes again.
func TestResourcesVersionIsNeverRepeated(t *testing.T) {
	d, c := stoppedContainer(t, containertypes.Resources{CPUShares: 5})
	c.HostConfig.ResourcesVersion = firstResourcesVersion
	for range 3 {
		assert.NilError(t, d.updateAllOrNothing(c.ID, &containertypes.HostConfig{Resources: containertypes.Resources{PidsLimit: i64(7)}}))
		held := resourcesVersion(c.HostConfig)
		d.recoverLimits(c) // by a start of ours alone
		assert.Check(t, is.Equal(resourcesVersion(c.HostConfig), held))
		c.HostConfig.ResourcesVersion = 0
		d.recoverLimits(c)
		assert.Check(t, resourcesVersion(c.HostConfig) > held, "%d after %d", resourcesVersion(c.HostConfig), held)
		time.Sleep(5 * time.Millisecond)
	}
	hostConfig := &containertypes.HostConfig{ResourcesVersion: 77}
	_ = d.verifyCreated(backend.ContainerCreateConfig{Config: &containertypes.Config{}, HostConfig: hostConfig})
	assert.Check(t, is.Equal(hostConfig.ResourcesVersion, uint64(firstResourcesVersion)), "a new container's, whatever a client sends")
}

// dockerd is killed between the two writes, and then another one writes hostconfig.json
// anew: limits and the rest are of one set all the same.
func TestLimitsCopyOfAnotherSet(t *testing.T) {
	old := containertypes.Resources{CPUShares: 5, PidsLimit: i64(50), GPUMemory: i64(4096)}
	target := containertypes.Resources{CPUShares: 6, PidsLimit: i64(60), GPUMemory: i64(8192), NetClassID: u32(7)}
	for doc, tc := range map[string]struct {
		has, copied, want containertypes.Resources
	}{
		"new, and an old copy": {
			has: containertypes.Resources{CPUShares: 6, PidsLimit: i64(60)}, copied: old, want: target,
		},
		"new, and no copy yet": {
			has: containertypes.Resources{CPUShares: 6, PidsLimit: i64(60)}, want: target,
		},
		"back, and a new copy": {
			has: containertypes.Resources{CPUShares: 5, PidsLimit: i64(50)}, copied: target, want: old,
		},
		"the same, and one field changed since": {
			has: containertypes.Resources{CPUShares: 300, PidsLimit: i64(60)}, copied: old,
			want: containertypes.Resources{CPUShares: 300, PidsLimit: i64(60), GPUMemory: i64(8192), NetClassID: u32(7)},
		},
		"all changed since": {
			has: containertypes.Resources{CPUShares: 300, PidsLimit: i64(70)}, copied: old,
			want: containertypes.Resources{CPUShares: 300, PidsLimit: i64(70), GPUMemory: i64(4096)},
		},
	} {
		for _, boot := range []string{bootID(), "another"} {
			t.Run(doc, func(t *testing.T) {
				d, c := copied(t, tc.copied)
				c.HostConfig.Resources = tc.has
				assert.NilError(t, writeJournal(c, updateJournal{Update: target, Old: old, New: &target}))
				if boot != bootID() {
					data, err := os.ReadFile(filepath.Join(c.Root, journalFile))
					assert.NilError(t, err)
					assert.NilError(t, os.WriteFile(filepath.Join(c.Root, journalFile), []byte(strings.Replace(string(data), bootID(), boot, 1)), 0o600))
				}
				d.recoverLimits(c)
				assert.Check(t, is.DeepEqual(c.HostConfig.Resources, tc.want))
			})
		}
	}
}

// The copy of limits cannot be written when dockerd starts: `docker info` says so, until
// it can.
func TestLimitsCopyThatCannotBeWrittenIsShown(t *testing.T) {
	d, c := stoppedContainer(t, containertypes.Resources{NetClassID: u32(7)})
	c.HostConfig.ResourcesVersion = 5
	root := c.Root
	c.Root = filepath.Join(root, "gone")
	d.recoverLimits(c)
	t.Cleanup(func() { d.noteHolds(c, lostCopy(c)) })
	want := []string{"WARNING: limits are lost if upstream's dockerd is started on this data, as limits.json cannot be written: box"}
	assert.Check(t, is.DeepEqual(d.lostWarnings(), want))
	assert.Check(t, is.Len(d.limitsNotInForce(c), 0), "they are in force")
	d.retryLost(c.ID)
	assert.Check(t, is.DeepEqual(d.lostWarnings(), want))

	c.Root = root
	d.retryLost(c.ID)
	assert.Check(t, is.Len(d.lostWarnings(), 0))
	_, err := os.Stat(filepath.Join(root, limitsCopyFile))
	assert.NilError(t, err)
}

// The list of what upstream does not know is that of the hook that adds it: those
// fields leave no trace in the JSON of a container that has none of them.
func TestAddedResourcesAreAll(t *testing.T) {
	none, err := json.Marshal(containertypes.Resources{})
	assert.NilError(t, err)
	var there map[string]json.RawMessage
	assert.NilError(t, json.Unmarshal(none, &there))
	for _, f := range containertypes.ResourceFields {
		_, always := there[f.Name]
		kind := reflect.TypeOf(f.Ref(&containertypes.Resources{})).Elem().Kind()
		pointer := kind == reflect.Pointer || kind == reflect.Slice
		assert.Check(t, is.Equal(slices.Contains(addedFields.Names(), f.Name), !always && pointer), f.Name)
	}
}
