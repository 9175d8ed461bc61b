// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/log"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/container"
)

// An update can take as long as [updateDeadline]. Only other updates of the same
// container wait for it.

// lockNetUpdates keeps apart what makes an endpoint of a container and updates of
// its network limits: an endpoint made in the middle of one that then fails would
// keep what is rolled back. It is taken after the container's update lock.
func lockNetUpdates(containerID string) (unlock func()) {
	return lockUpdates("network of " + containerID)
}

// restoreUpdateWait is how long dockerd's start waits for one container whose
// interrupted update is rolled back; it takes milliseconds.
var restoreUpdateWait = 3 * time.Second

// restoreUpdate is settleUpdate for a container that dockerd finds at its start.
// If the runtime is slow the rest is done in the background: memory and disk have
// the old limits, and the container is marked until the kernel has them too.
func (daemon *Daemon) restoreUpdate(ctr *container.Container, alive bool) {
	if _, err := os.Lstat(filepath.Join(ctr.Root, pendingUpdateFile)); errors.Is(err, os.ErrNotExist) {
		return
	}
	var (
		settled = make(chan error, 1)
		late    = make(chan bool, 1)
		unlock  = lockUpdates(ctr.ID)
		limits  = daemon.unsettled(ctr)
	)
	go func() {
		defer unlock()
		err := daemon.settleUpdate(ctr, alive)
		if err != nil {
			log.G(context.TODO()).WithError(err).WithField("container", ctr.ID).Error("an interrupted update could not be rolled back")
		}
		settled <- err
		if <-late {
			daemon.noteUnsettled(ctr, limits, err)
		}
	}()
	select {
	case <-settled:
		late <- false
	case <-time.After(restoreUpdateWait):
		daemon.noteUnsettled(ctr, limits, fmt.Errorf("an interrupted update is being rolled back, and the runtime has not answered for %s", restoreUpdateWait))
		late <- true
	}
}

// unsettled names the limits that the container's interrupted update is about, as
// HostConfig does.
func (daemon *Daemon) unsettled(ctr *container.Container) (fields []string) {
	var pending pendingUpdate
	data, err := os.ReadFile(filepath.Join(ctr.Root, pendingUpdateFile))
	if err != nil || json.Unmarshal(data, &pending) != nil || pending.Boot != bootID() {
		return nil
	}
	for field := range changedResources(containertypes.Resources{}, pending.Update) {
		fields = append(fields, field)
	}
	return fields
}

func (daemon *Daemon) noteUnsettled(ctr *container.Container, fields []string, err error) {
	on := lostOn{container: ctr.ID, kind: "update"}
	if err == nil {
		daemon.noteHolds(ctr, on)
		return
	}
	reasons := make(map[string]string, len(fields))
	for _, field := range fields {
		reasons[field] = err.Error()
	}
	daemon.noteLost(ctr, on, reasons)
}

func init() {
	reapplyKinds["update"] = func(daemon *Daemon, ctr *container.Container) map[lostOn]bool {
		fields := daemon.unsettled(ctr)
		if len(fields) == 0 { // An update has come by meanwhile.
			daemon.noteUnsettled(ctr, nil, nil)
			return nil
		}
		err := daemon.settleUpdate(ctr, ctr.IsRunning())
		daemon.noteUnsettled(ctr, fields, err)
		if err == nil {
			return nil
		}
		return map[lostOn]bool{{container: ctr.ID, kind: "update"}: true}
	}
}
