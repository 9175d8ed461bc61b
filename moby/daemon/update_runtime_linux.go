// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"os"
	"path/filepath"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/docker/docker/container"
	"github.com/docker/docker/daemon/updatepool"
	libcontainerdtypes "github.com/docker/docker/libcontainerd/types"
)

type updatePool = updatepool.Pool

// updateManyFeature is the annotation in `<runtime> features` that has the name
// of the runtime's command for updating many containers in one process.
const updateManyFeature = "io.github.gpu-cgroup.update-many"

// sendUpdate hands an update to the runtime: by way of containerd and the shim,
// which start a process for each, or to one process for all if the runtime
// offers that. It writes the same files and the same state either way, and
// nobody in between remembers the limits. Callers hold the container's update
// lock.
func (daemon *Daemon) sendUpdate(ctx context.Context, ctr *container.Container, tsk libcontainerdtypes.Task, resources *libcontainerdtypes.Resources) error {
	if u := daemon.updaterOf(ctr); u != nil {
		return u.Update(ctr.ID, resources)
	}
	ctx, cancel := context.WithTimeout(ctx, updatepool.Deadline)
	defer cancel()
	err := tsk.UpdateResources(ctx, resources)
	if err != nil && ctx.Err() != nil {
		err = updatepool.Timeout(ctr.HostConfig.Runtime, err)
	}
	return err
}

// expectUpdate starts the process that sendUpdate will need. That takes about as
// long as it takes to put the container's new settings on disk.
func (daemon *Daemon) expectUpdate(ctr *container.Container) {
	if u := daemon.updaterOf(ctr); u != nil {
		go u.Expect()
	}
}

// updaterOf returns nil for a container whose runtime cannot be asked directly.
func (daemon *Daemon) updaterOf(ctr *container.Container) *updatepool.Runtime {
	cfg := daemon.configStore.Load()
	if cfg == nil || cfg.Rootless {
		return nil
	}
	name := ctr.HostConfig.Runtime
	features := cfg.Runtimes.Features(name)
	if features == nil || features.Annotations[updateManyFeature] == "" {
		return nil
	}
	_, opts, err := cfg.Runtimes.Get(name)
	runc, ok := opts.(*runcoptions.Options)
	if err != nil || !ok {
		return nil
	}
	// The folder is the shim's choice. A container may be older than the
	// configuration, and containerd may see other folders than we do.
	root := filepath.Join(runc.Root, cfg.ContainerdNamespace)
	if _, err := os.Stat(filepath.Join(root, ctr.ID, "state.json")); err != nil {
		return nil
	}
	return daemon.limits.updaters.Get(updatepool.Key{Binary: runc.BinaryName, Root: root, Command: features.Annotations[updateManyFeature]})
}
