// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/log"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/container"
)

// An update can take as long as [updatepool.Deadline]. Only other updates of the same
// container wait for it.

// restoreUpdateWait is how long dockerd's start waits for one container whose
// interrupted update is rolled back; it takes milliseconds.
var restoreUpdateWait = 3 * time.Second

// restoreUpdate is recoverUpdate for a container that dockerd finds at its start.
// If the runtime is slow the rest is done in the background: memory and disk have
// the old limits, and the container is marked until the kernel has them too.
func (daemon *Daemon) restoreUpdate(ctr *container.Container, alive bool) {
	journal, err := readJournal(ctr)
	if err == nil && journal == nil {
		return
	}
	settled := make(chan struct{})
	unlock := daemon.lockUpdates(ctr.ID)
	go func() {
		defer unlock()
		defer close(settled)
		if _, err := daemon.recoverUpdate(ctr, alive); err != nil {
			log.G(context.TODO()).WithError(err).WithField("container", ctr.ID).Error("an interrupted update could not be rolled back")
		}
	}()
	select {
	case <-settled:
		return
	case <-time.After(restoreUpdateWait):
	}
	if journal == nil {
		return
	}
	reason := fmt.Errorf("an interrupted update is being rolled back, and the runtime has not answered for %s", restoreUpdateWait)
	daemon.noteLost(ctr, lostUpdate(ctr), reasonsFor(journal.Update, reason))
	go func() {
		<-settled
		// The mark may have come after what it was about.
		if left, err := readJournal(ctr); err == nil && left == nil {
			daemon.noteHolds(ctr, lostUpdate(ctr))
		}
	}()
}

// reasonsFor says the same of all fields that r names.
func reasonsFor(r containertypes.Resources, err error) map[string]string {
	reasons := map[string]string{}
	for _, name := range resourceNames {
		if namesResource(r, name) {
			reasons[name] = err.Error()
		}
	}
	return reasons
}
