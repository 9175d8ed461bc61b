/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * GPU cgroup controller: what the DRM core and drivers call.
 *
 * Kept free of <linux/cgroup.h>, since every DRM driver includes this header
 * by way of <drm/drm_gem.h>.
 */
#ifndef _LINUX_CGROUP_GPU_H
#define _LINUX_CGROUP_GPU_H

#include <linux/types.h>

struct task_struct;

#ifdef CONFIG_CGROUP_GPU

struct gpu_cgroup;

/**
 * struct gpu_cgroup_charge - what one object owes to its cgroup
 * @cg: the charged cgroup, with a reference held; %NULL while nothing is charged
 * @bytes: the charged size
 *
 * Embedded in the charged object, all zero before first use. The owner
 * serialises charge and uncharge of one object.
 */
struct gpu_cgroup_charge {
	struct gpu_cgroup *cg;
	u64 bytes;
};

int gpu_cgroup_try_charge(struct gpu_cgroup_charge *charge, u64 bytes);
void gpu_cgroup_uncharge(struct gpu_cgroup_charge *charge);
int gpu_cgroup_priority(struct task_struct *task);

#else /* !CONFIG_CGROUP_GPU */

struct gpu_cgroup_charge {
};

static inline int gpu_cgroup_try_charge(struct gpu_cgroup_charge *charge,
					u64 bytes)
{
	return 0;
}

static inline void gpu_cgroup_uncharge(struct gpu_cgroup_charge *charge)
{
}

static inline int gpu_cgroup_priority(struct task_struct *task)
{
	return 0;
}

#endif /* CONFIG_CGROUP_GPU */
#endif /* _LINUX_CGROUP_GPU_H */
