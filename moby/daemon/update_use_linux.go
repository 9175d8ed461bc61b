// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/container"
	"github.com/docker/docker/daemon/cgroupdir"
	libcontainerdtypes "github.com/docker/docker/libcontainerd/types"
)

// belowUse refuses a change, made by nobody who waits for it, that lowers a limit
// below what the container uses: cgroup v2 would kill in it, v1 refuse it as long as
// it is used, and a lower pids.max makes its forks fail.
func (daemon *Daemon) belowUse(ctr *container.Container, pid int, change containertypes.Resources) error {
	if m := change.Memory; m > 0 {
		if err := lowersBelowUse(ctr.ID, pid, "memory", m, [2]string{"memory.limit_in_bytes", "memory.max"}, [2]string{"memory.usage_in_bytes", "memory.current"}); err != nil {
			return fmt.Errorf("--memory=%d: %w", m, err)
		}
	}
	if p := change.PidsLimit; p != nil && *p > 0 {
		if err := lowersBelowUse(ctr.ID, pid, "pids", *p, [2]string{"pids.max", "pids.max"}, [2]string{"pids.current", "pids.current"}); err != nil {
			return fmt.Errorf("--pids-limit=%d: %w", *p, err)
		}
	}
	return nil
}

// checkBeforeLowering makes the runtime look once more at the memory that is used, right
// before it lowers the limit: belowUse was some time ago. Cgroup v1 refuses by itself. Where
// nothing is lowered, a container that fills its limit with cache must not be refused.
func checkBeforeLowering(ctr *container.Container, pid int, r *libcontainerdtypes.Resources) {
	if r.Memory == nil || r.Memory.Limit == nil {
		return
	}
	if dir, v2, err := cgroupdir.Of(ctr.ID, pid, "memory"); err == nil && v2 {
		check := lowers(dir, *r.Memory.Limit, "memory.max")
		r.Memory.CheckBeforeUpdate = &check
	}
}

// lowersBelowUse takes names of files on cgroup v1 and v2.
func lowersBelowUse(id string, pid int, controller string, limit int64, limitFile, useFile [2]string) error {
	dir, v2, err := cgroupdir.Of(id, pid, controller)
	if err != nil {
		return nil // The write will tell.
	}
	version := 0
	if v2 {
		version = 1
	}
	return lowersBelow(dir, limit, limitFile[version], useFile[version])
}

// lowers tells whether a limit goes below what the kernel has, as far as that can be read.
func lowers(dir string, limit int64, limitFile string) bool {
	now, ok := readNumber(dir, limitFile) // "max" is no number
	return limit > 0 && (!ok || now > limit)
}

func readNumber(dir, name string) (int64, bool) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	return n, err == nil
}

// lowersBelow does not judge what it cannot read.
func lowersBelow(dir string, limit int64, limitFile, useFile string) error {
	if !lowers(dir, limit, limitFile) {
		return nil
	}
	if used, ok := readNumber(dir, useFile); ok && used > limit {
		return fmt.Errorf("the container uses %d, %s would be below that", used, filepath.Join(dir, limitFile))
	}
	return nil
}
