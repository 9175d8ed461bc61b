// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/container"
)

// journalFile exists in a container's folder while an update is under way, or while
// some of its fields are stuck. Earlier builds of ours wrote the same name and read
// the same fields.
const journalFile = "update.pending.json"

// updateJournal is what it takes to finish an update one way or the other.
type updateJournal struct {
	Update        containertypes.Resources     // names what may differ in the kernel
	Old           containertypes.Resources     // what was in force
	RestartPolicy containertypes.RestartPolicy // what was in force

	// New is what the container was to have. It is nil in what earlier builds wrote:
	// see sets.
	New              *containertypes.Resources `json:",omitempty"`
	NewRestartPolicy containertypes.RestartPolicy

	Boot string // of the machine
}

// sets returns what the container had and what it was to have.
func (j updateJournal) sets() (old, target resourceSet) {
	old = resourceSet{j.Old, j.RestartPolicy}
	if j.New != nil {
		return old, resourceSet{*j.New, j.NewRestartPolicy}
	}
	merged, err := mergeUpdate(&containertypes.HostConfig{Resources: j.Old}, &containertypes.HostConfig{Resources: j.Update})
	if err != nil {
		return old, old
	}
	return old, resourceSet{Resources: merged.HostConfig.Resources}
}

// readJournal returns nil if nothing is to be settled. A machine that went down has
// no cgroups to put anything into, and on disk it has one of the sets, whole. Nor is
// there anything to do if the file is torn: nothing is changed before it is written.
func readJournal(ctr *container.Container) (*updateJournal, error) {
	if _, err := os.Stat(filepath.Join(ctr.Root, journalFile)); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	j, err := parseJournal(ctr)
	if err != nil {
		return nil, err
	}
	if j == nil || j.Boot != bootID() {
		return nil, removeJournal(ctr)
	}
	return j, nil
}

// parseJournal returns nil if there is no journal, whole, of this boot or another.
func parseJournal(ctr *container.Container) (*updateJournal, error) {
	data, err := os.ReadFile(filepath.Join(ctr.Root, journalFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var j updateJournal
	if json.Unmarshal(data, &j) != nil {
		return nil, nil
	}
	return &j, nil
}

// writeJournal does not wait for the disk: the file has to outlive dockerd, but
// not the machine. What was in it stays until the new one is whole: it may tell of
// fields that are stuck.
func writeJournal(ctr *container.Container, j updateJournal) error {
	j.Boot = bootID()
	data, err := json.Marshal(j)
	if err != nil {
		return err
	}
	path := filepath.Join(ctr.Root, journalFile)
	err = os.WriteFile(path+".new", data, 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return errors.Join(err, removeIfThere(path+".new"))
	}
	return nil
}

func removeJournal(ctr *container.Container) error {
	return removeIfThere(filepath.Join(ctr.Root, journalFile))
}

func removeIfThere(path string) error {
	err := os.Remove(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// bootID is another one after each boot of the machine, "" where there is none.
var bootID = sync.OnceValue(func() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id))
})
