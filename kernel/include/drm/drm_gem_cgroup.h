/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Who pays for a GEM object: what a driver tells the GPU cgroup controller.
 */
#ifndef _DRM_GEM_CGROUP_H
#define _DRM_GEM_CGROUP_H

#include <linux/cgroup_gpu.h>
#include <linux/types.h>

struct drm_device;
struct drm_gem_object;
struct task_struct;

/**
 * struct drm_gem_payer - who pays for what a task makes for a while
 * @payer: the task whose cgroup pays, %NULL if nobody does
 *
 * On the stack, see drm_gem_uncharged() and drm_gem_charged_to().
 */
struct drm_gem_payer {
	struct task_struct *payer;
	/* private: */
	struct task_struct *maker;
	struct list_head link;
};

#ifdef CONFIG_CGROUP_GPU
void drm_gem_payer_begin(struct drm_gem_payer *payer, struct task_struct *task);
void drm_gem_payer_end(struct drm_gem_payer *payer);
int drm_gem_try_charge(struct drm_gem_object *obj);
int drm_gem_charge_ahead(struct gpu_cgroup_charge *charge, u64 size);
int drm_gem_object_init_offset(struct drm_device *dev,
			       struct drm_gem_object *obj, size_t size);
#else
static inline void
drm_gem_payer_begin(struct drm_gem_payer *payer, struct task_struct *task)
{
}

static inline void drm_gem_payer_end(struct drm_gem_payer *payer)
{
}

static inline int drm_gem_try_charge(struct drm_gem_object *obj)
{
	return 0;
}

static inline int drm_gem_charge_ahead(struct gpu_cgroup_charge *charge,
				       u64 size)
{
	return 0;
}

#define drm_gem_object_init_offset(dev, obj, size)		\
({								\
	int __ret = drm_gem_object_init(dev, obj, size);	\
								\
	if (!__ret) {						\
		__ret = drm_gem_create_mmap_offset(obj);	\
		if (__ret)					\
			drm_gem_object_release(obj);		\
	}							\
	__ret;							\
})
#endif

/**
 * drm_gem_charged_to() - make GEM objects for which another task pays
 * @task: that task
 * @make: a call that initialises objects, evaluated once
 *
 * For work that a driver does for a client in a worker of its own.
 *
 * Return: what @make returned.
 */
#define drm_gem_charged_to(task, make)				\
({								\
	struct drm_gem_payer __payer;				\
	typeof(make) __made;					\
								\
	drm_gem_payer_begin(&__payer, task);			\
	__made = (make);					\
	drm_gem_payer_end(&__payer);				\
	__made;							\
})

/**
 * drm_gem_uncharged() - make GEM objects of the kernel's own
 * @make: a call that initialises objects, evaluated once
 *
 * Whoever's system call it is did not ask for them, so nobody is charged, also
 * if somebody gets a handle for one later. Buffers of firmware, of the console,
 * and those that all clients share are of that kind; what the kernel makes for
 * the job of one client and frees with it is not. Without this nobody pays for:
 *
 * - what a kernel thread makes
 * - &ttm_bo_type_kernel
 * - what a DRM client of the kernel or fbdev emulation makes to show it
 * - imports, for which the exporter pays
 *
 * Return: what @make returned.
 */
#define drm_gem_uncharged(make)		drm_gem_charged_to(NULL, make)

#endif /* _DRM_GEM_CGROUP_H */
