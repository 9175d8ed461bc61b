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

struct device;
struct module;
struct task_struct;

/**
 * struct gpu_cgroup_device - a device node through which a GPU is used
 * @number: its number
 * @driver: name of the driver
 * @parent: the device that the driver runs, may be %NULL
 * @owner: the driver's module, %NULL if it is built in
 * @code: anything static of the driver's, should @owner not be set; may be %NULL
 * @memory: buffers made through this node are charged
 *
 * A line of gpu.devices. The rest is private to kernel/cgroup/gpu.c.
 */
struct gpu_cgroup_device {
	dev_t number;
	const char *driver;
	const struct device *parent;
	const struct module *owner;
	const void *code;
	bool memory;
	/* private: */
	bool out_of_tree;
	bool has_priority;
	struct list_head link;
};

/**
 * struct gpu_cgroup_scheduler - a scheduler that takes priorities from cgroups
 * @device: device that it schedules
 *
 * Private to kernel/cgroup/gpu.c; all zero before first use.
 */
struct gpu_cgroup_scheduler {
	const struct device *device;
	/* private: */
	struct list_head link;
};

#ifdef CONFIG_CGROUP_GPU

struct gpu_cgroup;

/**
 * struct gpu_cgroup_charge - what one object owes to its cgroup
 * @cg: the charged cgroup, with a reference held; %NULL while nothing is charged
 * @bytes: the charged size, %U64_MAX if the object is exempt
 *
 * Embedded in the charged object, all zero before first use. The owner
 * serialises charge and uncharge of one object.
 */
struct gpu_cgroup_charge {
	struct gpu_cgroup *cg;
	u64 bytes;
};

int gpu_cgroup_try_charge(struct gpu_cgroup_charge *charge, u64 bytes);
int gpu_cgroup_try_charge_task(struct gpu_cgroup_charge *charge,
			       struct task_struct *task, u64 bytes);
void gpu_cgroup_uncharge(struct gpu_cgroup_charge *charge);
void gpu_cgroup_exempt(struct gpu_cgroup_charge *charge);

struct gpu_cgroup *gpu_cgroup_get(struct task_struct *task);
struct gpu_cgroup *gpu_cgroup_hold(struct gpu_cgroup *cg);
void gpu_cgroup_put(struct gpu_cgroup *cg);
struct gpu_cgroup *gpu_cgroup_parent(struct gpu_cgroup *cg);
int gpu_cgroup_priority(struct gpu_cgroup *cg);
unsigned int gpu_cgroup_priority_changes(void);
int gpu_cgroup_effective(struct gpu_cgroup *cg);
int gpu_cgroup_order(struct gpu_cgroup *cg, int priority, int min, int max);
bool gpu_cgroup_removed(struct gpu_cgroup *cg);

void gpu_cgroup_register_device(struct gpu_cgroup_device *device);
void gpu_cgroup_unregister_device(struct gpu_cgroup_device *device);
void gpu_cgroup_device_has_priority(const struct device *parent);
void gpu_cgroup_register_scheduler(struct gpu_cgroup_scheduler *sched,
				   const struct device *device);
void gpu_cgroup_unregister_scheduler(struct gpu_cgroup_scheduler *sched);

#if IS_ENABLED(CONFIG_DRM_SCHED_CGROUP_KUNIT_TEST)
struct gpu_cgroup *gpu_cgroup_mock(struct gpu_cgroup *parent);
void gpu_cgroup_mock_priority(struct gpu_cgroup *cg, int priority);
void gpu_cgroup_mock_delegated(struct gpu_cgroup *cg, int priority);
void gpu_cgroup_mock_remove(struct gpu_cgroup *cg);
void gpu_cgroup_mock_devices(char *text, size_t size);
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

static inline void gpu_cgroup_exempt(struct gpu_cgroup_charge *charge)
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

static inline int gpu_cgroup_order(struct gpu_cgroup *cg, int priority, int min,
				   int max)
{
	return priority;
}

static inline void gpu_cgroup_register_device(struct gpu_cgroup_device *device)
{
}

static inline void
gpu_cgroup_unregister_device(struct gpu_cgroup_device *device)
{
}

static inline void gpu_cgroup_device_has_priority(const struct device *parent)
{
}

#endif /* CONFIG_CGROUP_GPU */
#endif /* _LINUX_CGROUP_GPU_H */
