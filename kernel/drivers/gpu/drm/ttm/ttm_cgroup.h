/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _TTM_CGROUP_H
#define _TTM_CGROUP_H

#include <drm/drm_gem.h>
#include <drm/ttm/ttm_bo_api.h>

/**
 * ttm_bo_charge() - settle who pays for a buffer object
 * @bo: object that is being initialised and has its mmap offset, but no place yet
 *
 * Looking for a place may push out what belongs to others, fill memory up and
 * clear it, so a refusal has to come first. &ttm_bo_type_kernel is nobody's, and
 * the memory behind &ttm_bo_type_sg is paid for where it comes from.
 *
 * The charge ends in drm_gem_object_release(), which @bo's destroy function has
 * to call, also on the way out if this fails. A driver may leave out to
 * initialise the GEM object only if it exempts it.
 *
 * Return: %0, or %-ENOMEM when a limit refuses the object.
 */
static inline int ttm_bo_charge(struct ttm_buffer_object *bo)
{
	switch (bo->type) {
	case ttm_bo_type_device:
		return drm_gem_try_charge(&bo->base);
	case ttm_bo_type_kernel:
		gpu_cgroup_exempt(&bo->base.gpu_charge);
		fallthrough;
	default:
		return 0;
	}
}

#endif /* _TTM_CGROUP_H */
