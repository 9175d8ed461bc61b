// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who pays for a GEM object.
 *
 * An object is made by many functions of which none but the outermost knows for
 * whom, and few take a &struct drm_file. So the outermost says it for the task
 * instead of each of them passing it on: for a while, what the task initialises
 * is paid for by another, or by nobody. The latter is remembered in the object.
 */

#include <linux/cgroup_gpu.h>
#include <linux/err.h>
#include <linux/export.h>
#include <linux/list.h>
#include <linux/sched.h>
#include <linux/shmem_fs.h>
#include <linux/spinlock.h>

#include <drm/drm_gem.h>

#include "drm_cgroup.h"

LIST_HEAD(drm_gem_payers);
static DEFINE_SPINLOCK(drm_gem_payers_lock);

/**
 * drm_gem_payer_begin() - from here on another pays for what this task makes
 * @payer: to be ended by drm_gem_payer_end() in the same task; they may nest
 * @task: who pays, with a reference held until then; %NULL for nobody
 *
 * Context: Process context.
 */
void drm_gem_payer_begin(struct drm_gem_payer *payer, struct task_struct *task)
{
	payer->payer = task;
	payer->maker = current;
	spin_lock(&drm_gem_payers_lock);
	list_add(&payer->link, &drm_gem_payers);
	spin_unlock(&drm_gem_payers_lock);
}
EXPORT_SYMBOL_GPL(drm_gem_payer_begin);

/**
 * drm_gem_payer_end() - ends drm_gem_payer_begin()
 * @payer: what it was given
 *
 * Context: Process context.
 */
void drm_gem_payer_end(struct drm_gem_payer *payer)
{
	spin_lock(&drm_gem_payers_lock);
	list_del(&payer->link);
	spin_unlock(&drm_gem_payers_lock);
}
EXPORT_SYMBOL_GPL(drm_gem_payer_end);

/* Of drm_gem_payer() alone. */
struct task_struct *__drm_gem_payer(void)
{
	struct task_struct *task = current->flags & PF_KTHREAD ? NULL : current;
	struct drm_gem_payer *payer;

	spin_lock(&drm_gem_payers_lock);
	list_for_each_entry(payer, &drm_gem_payers, link) {
		if (payer->maker == current) {
			task = payer->payer;
			break;
		}
	}
	spin_unlock(&drm_gem_payers_lock);

	return task;
}

/**
 * drm_gem_try_charge() - charge an object
 * @obj: initialised object
 *
 * Comes after all that is cheap and may fail, or else the peak of a cgroup shows
 * sizes that could never be, and before whatever costs anybody anything: memory,
 * eviction, or clearing. Nothing happens if the object is charged already.
 *
 * Context: Process context.
 * Return: %0, or %-ENOMEM when a limit refuses the object.
 */
int drm_gem_try_charge(struct drm_gem_object *obj)
{
	return drm_gem_charge(obj);
}
EXPORT_SYMBOL_GPL(drm_gem_try_charge);

/**
 * drm_gem_charge_ahead() - charge an object that is yet to be found or made
 * @charge: all zero; to be moved into the object by assignment
 * @size: size that the object will have
 *
 * For drivers that keep freed objects to give them out again, and for those that
 * would take a refusal for lack of memory and try everything to get some. Make
 * the object in drm_gem_uncharged().
 *
 * Context: Process context.
 * Return: %0, or %-ENOMEM when a limit refuses the object.
 */
int drm_gem_charge_ahead(struct gpu_cgroup_charge *charge, u64 size)
{
	struct task_struct *task = drm_gem_payer();

	if (task)
		return gpu_cgroup_try_charge_task(charge, task, size);

	gpu_cgroup_exempt(charge);
	return 0;
}
EXPORT_SYMBOL_GPL(drm_gem_charge_ahead);

/**
 * drm_gem_object_init_offset() - drm_gem_object_init() with an mmap offset
 * @dev: device of the object
 * @obj: object to initialise
 * @size: its size
 *
 * For drivers that would get the offset next: it may fail for the size, so it
 * comes before the charge. drm_gem_create_mmap_offset() does nothing afterwards.
 *
 * Context: Process context.
 * Return: %0 or a negative error code; there is nothing to be released then.
 */
int drm_gem_object_init_offset(struct drm_device *dev,
			       struct drm_gem_object *obj, size_t size)
{
	struct file *filp;
	int ret;

	drm_gem_private_object_init(dev, obj, size);
	ret = drm_gem_create_mmap_offset(obj);
	if (ret)
		return ret;

	ret = drm_gem_charge(obj);
	if (ret)
		goto err_offset;

	filp = shmem_file_setup("drm mm object", size, VM_NORESERVE);
	if (IS_ERR(filp)) {
		ret = PTR_ERR(filp);
		goto err_charge;
	}

	obj->filp = filp;
	return 0;

err_charge:
	gpu_cgroup_uncharge(&obj->gpu_charge);
err_offset:
	drm_gem_free_mmap_offset(obj);
	return ret;
}
EXPORT_SYMBOL(drm_gem_object_init_offset);
