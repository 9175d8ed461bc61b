// SPDX-License-Identifier: Apache-2.0

package daemon

import "github.com/moby/locker"

// limitsState is all that dockerd remembers of limits. Its zero value is ready.
//
// Locks, the outer ones first; each may be taken without those before it:
//
//	updates, of a container     while its limits change, from the plan to the last file
//	updates, of its network     while an endpoint of it is made, or its network limits change
//	container.Container         for its fields; upstream's, and not while a runtime works
//	                            on an update, which can take [updatepool.Deadline]
//	disks, again, updaters      for their maps
//	netlimit.Limiter            its own, in package netlimit
//	lost                        the innermost: whoever notes a loss may hold any of the others
type limitsState struct {
	// updates has a lock for each container that is being updated. Upstream calls
	// the runtime outside the container's lock, so of two updates one could win on
	// disk and the other in the kernel.
	updates locker.Locker

	updaters updatePool
	lost     lostLimits
	again    startingAgain
	disks    diskWatch
	net      netState
}

// lockUpdates keeps updates of a container away until unlock is called.
func (daemon *Daemon) lockUpdates(containerID string) (unlock func()) {
	daemon.limits.updates.Lock(containerID)
	return func() { _ = daemon.limits.updates.Unlock(containerID) }
}

// lockNetUpdates keeps apart what makes an endpoint of a container and updates of
// its network limits: an endpoint made in the middle of one that then fails would
// keep what is rolled back. It is taken after the container's update lock.
func (daemon *Daemon) lockNetUpdates(containerID string) (unlock func()) {
	return daemon.lockUpdates("network of " + containerID)
}
