// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"slices"

	"github.com/docker/docker/api/types/backend"
	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/container"
	libcontainerdtypes "github.com/docker/docker/libcontainerd/types"
	"github.com/docker/docker/pkg/sysinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// limitKind is what one mechanism does for its limits: the GPU's, those of disks, those
// of networks. What is to be said of a field by itself is in the table of fields; a
// limit's way from there to the kernel is this interface from the top to the bottom.
type limitKind interface {
	// name is the kind of [lostOn].
	name() string

	// admit refuses what this host cannot enforce and, for a new container and a
	// start, what its runtime or network cannot. Errors name the flags.
	admit(cfg *configStore, hostConfig *containertypes.HostConfig, sysInfo *sysinfo.SysInfo, update bool) error

	// admitNew refuses what only the parts of a request together tell. config has got
	// what the image says.
	admitNew(cfg *configStore, config *containertypes.Config, hostConfig *containertypes.HostConfig, networks *network.NetworkingConfig) error

	// admitUpdate refuses what cannot be enforced on a container, running or not,
	// before anything is changed. change is what is sent to the runtime.
	admitUpdate(ctr *container.Container, change containertypes.Resources) error

	// spec puts the limits into the spec, as far as they go there. The devices are in.
	spec(cfg *configStore, ctr *container.Container, s *specs.Spec) error

	// started applies and reads back what is not in the spec, or not believed, before
	// the user's program runs.
	started(ctx context.Context, ctr *container.Container, tsk libcontainerdtypes.Task) error

	// update puts into r, which the runtime gets next, what takes a running container
	// to the limits of full, or applies it. verify compares the kernel with it then.
	// change names what was asked for; isBack is for an update that undoes another.
	update(ctr *container.Container, tsk libcontainerdtypes.Task, r *libcontainerdtypes.Resources, change, full containertypes.Resources, isBack bool) (verify func() error, _ error)

	// warnings says what the limits of a new container do not cover, updateWarnings
	// the same of one that got the limits of change, and whose lock is held.
	warnings(ctr *container.Container) []string
	updateWarnings(ctr *container.Container, change containertypes.Resources) []string

	// mechanisms tells what enforces the limits here, or why nothing does: a row for
	// each word that clients know.
	mechanisms() []system.ResourceLimits

	// reapply puts all limits of a container in force again, notes what came of it,
	// and returns where it tried. What was lost elsewhere is forgotten. It is called
	// with the container's update lock held.
	reapply(ctr *container.Container) map[lostOn]bool

	// restore is called when dockerd has started, and knows its networks and the
	// containers that went on without it.
	restore(containers map[string]*container.Container)
}

// verifyLimits refuses limits that are out of range, and those that this host or the
// container's runtime cannot enforce. They are errors and not warnings because
// start-up throws warnings away.
func (daemon *Daemon) verifyLimits(cfg *configStore, hostConfig *containertypes.HostConfig, sysInfo *sysinfo.SysInfo, update bool) error {
	if err := validateLimits(hostConfig.Resources); err != nil {
		return err
	}
	for _, kind := range daemon.limitKinds() {
		if err := kind.admit(cfg, hostConfig, sysInfo, update); err != nil {
			return err
		}
	}
	return nil
}

type limitsCheckedKey struct{}

// limitsChecked marks the context of a start whose limits were checked a moment ago,
// for a client that waits. Starts by a restart policy or by dockerd's own start come
// without, and the host may have changed since the container was made.
func limitsChecked(ctx context.Context) context.Context {
	return context.WithValue(ctx, limitsCheckedKey{}, true)
}

// verifyCreated refuses what only the parts of a request together tell.
func (daemon *Daemon) verifyCreated(params backend.ContainerCreateConfig) error {
	params.HostConfig.ResourcesVersion = firstResourcesVersion
	for _, kind := range daemon.limitKinds() {
		if err := kind.admitNew(daemon.config(), params.Config, params.HostConfig, params.NetworkingConfig); err != nil {
			return err
		}
	}
	return nil
}

// checkUpdate refuses what cannot be enforced before anything is changed.
func (daemon *Daemon) checkUpdate(ctr *container.Container, change containertypes.Resources) error {
	for _, kind := range daemon.limitKinds() {
		if err := kind.admitUpdate(ctr, change); err != nil {
			return err
		}
	}
	return nil
}

// startLimits is for a container whose init process exists but does not run the
// user's program yet.
func (daemon *Daemon) startLimits(ctx context.Context, ctr *container.Container, tsk libcontainerdtypes.Task) error {
	for _, kind := range daemon.limitKinds() {
		if err := kind.started(ctx, ctr, tsk); err != nil {
			return err
		}
	}
	return nil
}

// applyUpdate hands an update to the runtime; full is all that the container
// has with it, and isBack says that it undoes another one. The runtime's
// yes is not believed: what the kernel shows is compared with what was asked.
func (daemon *Daemon) applyUpdate(ctx context.Context, ctr *container.Container, tsk libcontainerdtypes.Task, change, full containertypes.Resources, isBack bool) error {
	r, err := containerdResources(change)
	if err != nil {
		return err
	}
	var verify []func() error
	for _, kind := range daemon.limitKinds() {
		v, err := kind.update(ctr, tsk, r, change, full, isBack)
		if err != nil {
			return err
		}
		verify = append(verify, v)
	}
	if isBack {
		checkBeforeLowering(ctr, int(tsk.Pid()), r)
	}
	if err := daemon.sendUpdate(ctx, ctr, tsk, r); err != nil {
		return err
	}
	for _, v := range verify {
		if err := v(); err != nil {
			return err
		}
	}
	return nil
}

// nothingToVerify is for an update in which a kind has no part.
func nothingToVerify() error { return nil }

// createWarnings says what the limits of a new container do not cover.
func (daemon *Daemon) createWarnings(ctr *container.Container) (warnings []string) {
	for _, kind := range daemon.limitKinds() {
		warnings = append(warnings, kind.warnings(ctr)...)
	}
	return warnings
}

// updateWarnings says the same of a container that was updated.
func (daemon *Daemon) updateWarnings(name string, update *containertypes.HostConfig) (warnings []string) {
	if update == nil || !containertypes.ResourceFieldsOf("").Named(update.Resources) {
		return nil
	}
	ctr, err := daemon.GetContainer(name)
	if err != nil {
		return nil
	}
	ctr.Lock()
	defer ctr.Unlock()
	for _, kind := range daemon.limitKinds() {
		warnings = append(warnings, kind.updateWarnings(ctr, update.Resources)...)
	}
	return warnings
}

// restoreLimits is called when dockerd has started. The network comes first: what the
// others put in force again goes by its limiter.
func (daemon *Daemon) restoreLimits(containers map[string]*container.Container) {
	for _, kind := range slices.Backward(daemon.limitKinds()) {
		kind.restore(containers)
	}
}

// refusal says that limits cannot be enforced, if there is a reason.
func refusal(fields containertypes.ResourceFieldSet, limits containertypes.Resources, reason error) error {
	if reason == nil {
		return nil
	}
	return fmt.Errorf("%s cannot be enforced: %w", fields.Flags(limits), reason)
}
