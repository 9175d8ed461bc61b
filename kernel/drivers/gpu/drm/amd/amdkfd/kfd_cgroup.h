/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KFD_CGROUP_H_INCLUDED
#define KFD_CGROUP_H_INCLUDED

#include <linux/cgroup_gpu.h>
#include <linux/module.h>

static struct gpu_cgroup_device kfd_cgroup_device;

/**
 * kfd_cgroup_register() - list /dev/kfd in gpu.devices
 * @number: its number
 *
 * It serves all devices at once, so none is named. What is allocated here is
 * charged; queues are user space's own and known to no scheduler of ours.
 */
static inline void kfd_cgroup_register(dev_t number)
{
	kfd_cgroup_device.number = number;
	kfd_cgroup_device.driver = "kfd";
	kfd_cgroup_device.owner = THIS_MODULE;
	kfd_cgroup_device.memory = true;
	gpu_cgroup_register_device(&kfd_cgroup_device);
}

/**
 * kfd_cgroup_unregister() - remove /dev/kfd from gpu.devices
 */
static inline void kfd_cgroup_unregister(void)
{
	gpu_cgroup_unregister_device(&kfd_cgroup_device);
}

#endif /* KFD_CGROUP_H_INCLUDED */
