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

struct gpu_cgroup *gpu_cgroup_get(struct task_struct *task);
struct gpu_cgroup *gpu_cgroup_hold(struct gpu_cgroup *cg);
void gpu_cgroup_put(struct gpu_cgroup *cg);
int gpu_cgroup_effective(struct gpu_cgroup *cg);
bool gpu_cgroup_removed(struct gpu_cgroup *cg);

#if IS_ENABLED(CONFIG_DRM_SCHED_CGROUP_KUNIT_TEST)
struct gpu_cgroup *gpu_cgroup_mock(struct gpu_cgroup *parent);
void gpu_cgroup_mock_priority(struct gpu_cgroup *cg, int priority);
void gpu_cgroup_mock_remove(struct gpu_cgroup *cg);
#endif

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

struct gpu_cgroup;

static inline struct gpu_cgroup *gpu_cgroup_get(struct task_struct *task)
{
	return NULL;
}

static inline void gpu_cgroup_put(struct gpu_cgroup *cg)
{
}

static inline int gpu_cgroup_effective(struct gpu_cgroup *cg)
{
	return 0;
}

#endif /* CONFIG_CGROUP_GPU */
#endif /* _LINUX_CGROUP_GPU_H */
