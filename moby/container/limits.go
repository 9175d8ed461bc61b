// SPDX-License-Identifier: Apache-2.0

package container

import containertypes "github.com/docker/docker/api/types/container"

// mergeLimits takes over the limits of ours that an update names, and the lists
// of disks that upstream's update ignores: nil keeps, an empty list clears.
//
// Pointers and lists are replaced and never written through: see mergeGPU.
func mergeLimits(dst *containertypes.Resources, update containertypes.Resources) {
	mergeGPU(dst, update)
	mergePointer(&dst.BlkioReadLimit, update.BlkioReadLimit)
	mergePointer(&dst.BlkioWriteLimit, update.BlkioWriteLimit)
	mergePointer(&dst.BlkioReadIOpsLimit, update.BlkioReadIOpsLimit)
	mergePointer(&dst.BlkioWriteIOpsLimit, update.BlkioWriteIOpsLimit)
	mergeList(&dst.BlkioWeightDevice, update.BlkioWeightDevice)
	mergeList(&dst.BlkioDeviceReadBps, update.BlkioDeviceReadBps)
	mergeList(&dst.BlkioDeviceWriteBps, update.BlkioDeviceWriteBps)
	mergeList(&dst.BlkioDeviceReadIOps, update.BlkioDeviceReadIOps)
	mergeList(&dst.BlkioDeviceWriteIOps, update.BlkioDeviceWriteIOps)
	mergePointer(&dst.NetClassID, update.NetClassID)
	mergeList(&dst.NetPriorities, update.NetPriorities)
	mergePointer(&dst.NetEgressRate, update.NetEgressRate)
	mergePointer(&dst.NetIngressRate, update.NetIngressRate)
}

func mergePointer[T any](dst **T, update *T) {
	if update != nil {
		*dst = update
	}
}

func mergeList[T any](dst *[]T, update []T) {
	if update != nil {
		*dst = update
	}
}
