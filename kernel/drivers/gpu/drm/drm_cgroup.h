/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the DRM core tells the GPU cgroup controller: the charges of GEM objects,
 * and which nodes there are.
 */
#ifndef _DRM_CGROUP_H
#define _DRM_CGROUP_H

#include <linux/cgroup_gpu.h>
#include <linux/list.h>
#include <linux/lockdep.h>
#include <linux/sched.h>
#include <drm/drm_device.h>
#include <drm/drm_drv.h>
#include <drm/drm_file.h>
#include <drm/drm_gem.h>

#ifdef CONFIG_CGROUP_GPU
extern struct list_head drm_gem_payers;
struct task_struct *__drm_gem_payer(void);

/**
 * drm_gem_payer() - who pays for what is made now
 *
 * Return: the task whose cgroup pays, %NULL for nobody.
 */
static inline struct task_struct *drm_gem_payer(void)
{
	/* Nearly always empty. A task reads what it put there itself. */
	if (unlikely(!list_empty(&drm_gem_payers)))
		return __drm_gem_payer();
	return current->flags & PF_KTHREAD ? NULL : current;
}

/**
 * drm_gem_cgroup_init() - decide whether anybody ever pays for an object
 * @obj: object that is being initialised
 *
 * Context: Process context.
 */
static inline void drm_gem_cgroup_init(struct drm_gem_object *obj)
{
	if (unlikely(!drm_gem_payer()))
		gpu_cgroup_exempt(&obj->gpu_charge);
}

/**
 * drm_gem_charge() - drm_gem_try_charge(), inline
 * @obj: initialised object
 *
 * Context: Process context.
 * Return: %0, or %-ENOMEM when a limit refuses the object.
 */
static inline int drm_gem_charge(struct drm_gem_object *obj)
{
	struct task_struct *task = drm_gem_payer();

	/* A kernel thread: the object was somebody's, but is not its. */
	if (unlikely(!task))
		return 0;
	return gpu_cgroup_try_charge_task(&obj->gpu_charge, task, obj->size);
}
#else
static inline void drm_gem_cgroup_init(struct drm_gem_object *obj)
{
}

static inline int drm_gem_charge(struct drm_gem_object *obj)
{
	return 0;
}
#endif

/**
 * drm_gem_charge_handle() - settle an object's charge at handle creation
 * @obj: object that is about to get a handle, its handle already counted
 *
 * An object is uncharged by drm_gem_object_release() and nowhere else, which a
 * driver has to call when it frees the memory. Its last GEM reference is too
 * early: TTM counts mappings and pending jobs by itself.
 *
 * drm_gem_object_init() charges before there is backing memory, TTM before it
 * looks for a place. Here come the rest, objects with private backing:
 * drm_gem_private_object_init() returns void, so the first handle is the first
 * place where a refusal can be reported. Who never pays was decided there.
 *
 * Context: Process context, &drm_device.object_name_lock held.
 * Return: %0, or %-ENOMEM when a limit refuses the object.
 */
static inline int drm_gem_charge_handle(struct drm_gem_object *obj)
{
	lockdep_assert_held(&obj->dev->object_name_lock);

	return drm_gem_charge(obj);
}

/**
 * drm_minor_cgroup_register() - list a node in gpu.devices
 * @minor: a minor that is being registered
 *
 * A driver from outside the tree may have been told to be no owner of its files,
 * so its &struct drm_driver is shown too.
 */
static inline void drm_minor_cgroup_register(struct drm_minor *minor)
{
	const struct drm_driver *driver = minor->dev->driver;

	minor->cgroup.number = minor->kdev->devt;
	minor->cgroup.driver = driver->name;
	minor->cgroup.parent = minor->dev->dev;
	minor->cgroup.owner = driver->fops ? driver->fops->owner : NULL;
	minor->cgroup.code = driver;
	minor->cgroup.memory = drm_core_check_feature(minor->dev, DRIVER_GEM);
	gpu_cgroup_register_device(&minor->cgroup);
}

#endif /* _DRM_CGROUP_H */
