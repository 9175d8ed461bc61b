// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"github.com/containerd/log"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/container"
	"github.com/moby/sys/atomicwriter"
)

// A dockerd of upstream's that starts on our data writes every hostconfig.json anew,
// without the fields that it does not know. So they are kept a second time, in a file
// that it leaves alone, and that goes with the container's folder. What hostconfig.json
// has always counts; the copy does only for a container that has none of the fields, nor
// the ResourcesVersion that this dockerd gives each container and raises with each change:
// a limit that was taken off does not come back.

// limitsCopyFile is in the container's folder, if it has any of the added fields.
const limitsCopyFile = "limits.json"

// limitsCopyFormat is raised when an older dockerd of ours would misread the file.
const limitsCopyFormat = 1

// limitsCopy belongs to one container: a copy of a folder, or a container made anew
// under the same name, is another one.
type limitsCopy struct {
	Format  int
	ID      string
	Created time.Time
	Limits  map[string]json.RawMessage // by JSON name
}

// actionLimitsRecovered is the event of a container whose limits another dockerd had
// dropped; its attributes are the fields.
const actionLimitsRecovered events.Action = "limits_recovered"

// added returns only the added fields of r.
func added(r containertypes.Resources) (only containertypes.Resources) {
	for _, name := range addedFields.Names() {
		_ = copyResource(&only, r, name)
	}
	return only
}

// storeLimitsCopy makes the copy that of the container's HostConfig. Callers hold the
// container's lock, or are the only ones to know it.
func storeLimitsCopy(ctr *container.Container) error {
	path := filepath.Join(ctr.Root, limitsCopyFile)
	limits := added(ctr.HostConfig.Resources)
	if !namesAny(limits) {
		return removeIfThere(path)
	}
	c := limitsCopy{
		Format: limitsCopyFormat, ID: ctr.ID, Created: ctr.Created.UTC(), Limits: map[string]json.RawMessage{},
	}
	for _, name := range addedFields.Names() {
		if !namesResource(limits, name) {
			continue
		}
		value, err := json.Marshal(resourceValue(limits, name))
		if err != nil {
			return err
		}
		c.Limits[name] = value
	}
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	data = append(data, '\n')
	// A disk that is full, or read-only, is no trouble if nothing has to change.
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	return atomicwriter.WriteFile(path, data, 0o600)
}

// createLimitsCopy is for a new container, whose HostConfig upstream stores. It returns
// a warning if there is no copy.
func (daemon *Daemon) createLimitsCopy(ctr *container.Container) []string {
	ctr.Lock()
	defer ctr.Unlock()
	if err := storeLimitsCopy(ctr); err != nil {
		log.G(context.TODO()).WithError(err).WithField("container", ctr.ID).Warnf("cannot write %s", limitsCopyFile)
		return []string{fmt.Sprintf("The container's limits are lost if upstream's dockerd is started on this data: %s cannot be written.", limitsCopyFile)}
	}
	return nil
}

// recoverLimits gives a container that was read from disk the limits that another
// dockerd has dropped. Upstream stores all containers at dockerd's start, and with
// them what was recovered; what runs gets its limits back from restoreNet and the like.
func (daemon *Daemon) recoverLimits(ctr *container.Container) {
	logger := log.G(context.TODO()).WithField("container", ctr.ID)
	if ctr.HostConfig == nil {
		return
	}
	if ctr.HostConfig.ResourcesVersion == 0 {
		// Another dockerd wrote this, and may have changed anything. The version is past
		// every one that a client may have seen: a container is not changed a thousand
		// times a second.
		ctr.HostConfig.ResourcesVersion = uint64(time.Now().UnixMilli())
		if !namesAny(added(ctr.HostConfig.Resources)) && !daemon.recoverDropped(ctr) {
			return
		}
	}
	if err := storeLimitsCopy(ctr); err != nil {
		logger.WithError(err).Warnf("cannot write %s", limitsCopyFile)
		daemon.noteLost(ctr, lostCopy(ctr), nil)
	}
}

// lostCopy is no limit that is not in force, but one that may be lost some day.
func lostCopy(ctr *container.Container) lostOn { return lostOn{container: ctr.ID, kind: "copy"} }

func (daemon *Daemon) reapplyCopy(ctr *container.Container) map[lostOn]bool {
	ctr.Lock()
	err := storeLimitsCopy(ctr)
	ctr.Unlock()
	if err == nil {
		log.G(context.TODO()).WithField("container", ctr.ID).Infof("%s is written", limitsCopyFile)
		return nil
	}
	daemon.noteLost(ctr, lostCopy(ctr), nil) // and once more
	return map[lostOn]bool{lostCopy(ctr): true}
}

// recoverDropped puts the limits that another dockerd has dropped back into the container's
// HostConfig, and says so. It returns false if the copy is not to be used.
func (daemon *Daemon) recoverDropped(ctr *container.Container) bool {
	logger := log.G(context.TODO()).WithField("container", ctr.ID)
	if err := readLimitsCopy(ctr); err != nil {
		logger.WithError(err).Warnf("%s is not used", limitsCopyFile)
		return false
	}
	completeSet(ctr)
	limits := added(ctr.HostConfig.Resources)
	if !namesAny(limits) {
		return true
	}
	attributes := map[string]string{}
	for _, name := range addedFields.Names() {
		if namesResource(limits, name) {
			if value, err := json.Marshal(resourceValue(limits, name)); err == nil {
				attributes[name] = string(value)
			}
		}
	}
	logger.WithField("limits", attributes).Warn("another dockerd dropped limits of the container: they are back")
	daemon.LogContainerEventWithAttributes(ctr, actionLimitsRecovered, attributes)
	return true
}

// completeSet sees to it that limits from the copy go with what hostconfig.json has. If a
// dockerd of ours died between writing the one and the other, they are of two sets: then
// the journal has both, and the set is that of hostconfig.json. What differs between the
// sets, and another dockerd has changed since, is of neither and does not count.
func completeSet(ctr *container.Container) {
	j, err := parseJournal(ctr)
	if err != nil || j == nil {
		return
	}
	old, target := j.sets()
	is := map[bool]bool{} // by whether it is of target
	for _, name := range resourceNames {
		if slices.Contains(addedFields.Names(), name) {
			continue
		}
		now, before, after := currentSet(ctr).get(name), old.get(name), target.get(name)
		if name == restartPolicyName && target.Name == "" || reflect.DeepEqual(before, after) {
			continue
		}
		switch {
		case reflect.DeepEqual(now, after):
			is[true] = true
		case reflect.DeepEqual(now, before):
			is[false] = true
		}
	}
	set := old
	switch {
	case is[true] == is[false]:
		return // The copy is as good as any.
	case is[true]:
		set = target
	}
	for _, name := range addedFields.Names() {
		_ = copyResource(&ctr.HostConfig.Resources, set.Resources, name)
	}
}

// readLimitsCopy puts the copy's fields, if there is one, into the container's HostConfig.
func readLimitsCopy(ctr *container.Container) error {
	data, err := os.ReadFile(filepath.Join(ctr.Root, limitsCopyFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var c limitsCopy
	if err := json.Unmarshal(data, &c); err != nil {
		return err
	}
	switch {
	case c.Format != limitsCopyFormat:
		return fmt.Errorf("it has format %d, this dockerd reads %d", c.Format, limitsCopyFormat)
	case c.ID != ctr.ID || !c.Created.Equal(ctr.Created):
		return fmt.Errorf("it belongs to container %.12s of %s", c.ID, c.Created.Format(time.RFC3339))
	}
	limits, err := json.Marshal(c.Limits)
	if err != nil {
		return err
	}
	var r containertypes.Resources
	if err := json.Unmarshal(limits, &r); err != nil {
		return err
	}
	if err := validateLimits(r); err != nil {
		return err
	}
	for _, name := range addedFields.Names() {
		if namesResource(r, name) {
			_ = copyResource(&ctr.HostConfig.Resources, r, name)
		}
	}
	return nil
}
