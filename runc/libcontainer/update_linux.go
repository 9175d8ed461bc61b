// SPDX-License-Identifier: Apache-2.0

package libcontainer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	securejoin "github.com/cyphar/filepath-securejoin"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/utils"
)

// Updatable is a container whose resources can be updated; its config has
// an empty seccomp filter, so nothing can be started in it.
type Updatable struct {
	*Container
	seccomp []byte
}

// LoadForUpdate is Load for a container that is to be updated. The seccomp filter
// stays as it is in state.json. It is most of that file, and to decode and encode
// it was half of the work of an update.
func LoadForUpdate(root, id string) (*Updatable, error) {
	u := &Updatable{}
	c, err := load(root, id, func(stateDir string) (*State, error) {
		path, err := securejoin.SecureJoin(stateDir, stateFilename)
		if err != nil {
			return nil, err
		}
		data, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return nil, ErrNotExist
		}
		if err != nil {
			return nil, err
		}
		if from, to := jsonMember(data, "config", "seccomp"); to > 0 {
			u.seccomp = data[from:to]
			// Not null, which would be left out when the state is written.
			data = slices.Concat(data[:from], []byte("{}"), data[to:])
		}
		state := &State{}
		if err := json.Unmarshal(data, state); err != nil {
			return nil, err
		}
		if state.Config.Cgroups.Resources == nil {
			state.Config.Cgroups.Resources = &cgroups.Resources{} // as Load does
		}
		return state, nil
	})
	u.Container = c
	return u, err
}

// save is updateState with the seccomp filter put in again.
func (c *Updatable) save() error {
	data, err := json.Marshal(c.currentState())
	if err != nil {
		return err
	}
	if c.seccomp != nil {
		from, to := jsonMember(data, "config", "seccomp")
		if to == 0 {
			return errors.New("the new state has no place for the seccomp filter")
		}
		data = slices.Concat(data[:from], c.seccomp, data[to:])
	}
	return c.saveState(savedState(data))
}

// savedState is a state as it is to be in state.json.
type savedState []byte

func writeState(w io.Writer, state any) error {
	if data, ok := state.(savedState); ok {
		_, err := w.Write(data)
		return err
	}
	return utils.WriteJSON(w, state)
}

// jsonMember returns where the value of a member lies in a JSON object, whose
// members' names have no escapes, and whose first one of a name counts; to is 0
// if there is none. A json.RawMessage would do, but the package looks at each byte
// several times: a third of the work of an update.
func jsonMember(data []byte, path ...string) (from, to int) {
	for _, name := range path {
		name = `"` + name + `"`
		i := jsonSpace(data, from)
		if i >= len(data) || data[i] != '{' {
			return 0, 0
		}
		for {
			i = jsonSpace(data, i+1)
			end := jsonValue(data, i)
			found := string(data[i:end]) == name
			from = jsonSpace(data, jsonSpace(data, end)+1) // after the colon
			to = jsonValue(data, from)
			if to <= from {
				return 0, 0
			}
			if found {
				break
			}
			if i = jsonSpace(data, to); i >= len(data) || data[i] != ',' {
				return 0, 0
			}
		}
	}
	return from, to
}

// jsonSpace returns the first place from i on that is no white space.
func jsonSpace(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\n' || data[i] == '\t' || data[i] == '\r') {
		i++
	}
	return i
}

// jsonValue returns the end of the value at i.
func jsonValue(data []byte, i int) int {
	for depth := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			for i++; i < len(data) && data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return min(i+1, len(data))
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth <= 0 {
				return i + depth + 1 // an end that is not ours is no part of the value
			}
		case ',', ':', ' ', '\n', '\t', '\r':
			if depth == 0 {
				return i
			}
		}
	}
	return len(data) // cut short, maybe after a backslash
}

// Update changes some resources of a running container, or none. change is what
// is written to the cgroups; config, which becomes the container's and goes into
// state.json, has to hold the same values. If anything fails, state.json
// included, each of back is written, even if another of them fails too, and the
// container keeps the config it had.
//
// Set, which is upstream's, writes every resource that config has, and if it
// fails stops at the first one that cannot be put back.
func (c *Updatable) Update(config configs.Config, change *cgroups.Resources, back []*cgroups.Resources) error {
	c.m.Lock()
	defer c.m.Unlock()
	status, err := c.currentStatus()
	if err != nil {
		return err
	}
	if status == Stopped {
		return ErrNotRunning
	}

	oldConfig, oldResources := c.config, c.config.Cgroups.Resources
	if err = c.cgroupManager.Set(change); err == nil {
		if change.Memory != 0 {
			// No limit for memory means none for swap, on cgroup v1.
			config.Cgroups.MemorySwap = change.MemorySwap
		}
		if c.intelRdtManager != nil {
			err = c.intelRdtManager.Set(&config)
		}
	}
	if err == nil {
		c.config = &config
		if err = c.save(); err == nil {
			return nil
		}
		err = fmt.Errorf("unable to save the container's state: %w", err)
	}

	c.config = oldConfig
	for _, r := range back {
		if backErr := c.cgroupManager.Set(r); backErr != nil {
			err = fmt.Errorf("%w; and unable to put back: %w", err, backErr)
		}
	}
	if c.intelRdtManager != nil {
		if backErr := c.intelRdtManager.Set(oldConfig); backErr != nil {
			err = fmt.Errorf("%w; and unable to put back: %w", err, backErr)
		}
	}
	// The cgroup v2 manager keeps what it set last, in the struct it was given.
	c.config.Cgroups.Resources = oldResources
	return err
}
