/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __I915_GEM_CGROUP_H__
#define __I915_GEM_CGROUP_H__

#include <linux/cgroup_gpu.h>
#include <linux/minmax.h>

#include "i915_drv.h"
#include "i915_gem_context_types.h"

/**
 * i915_gem_context_sched() - scheduling parameters of a context's next request
 * @ctx: the context
 *
 * The priority that user space gave the context orders the contexts of a cgroup;
 * that of the cgroup moves them all. The sum stays in the range of user space:
 * what the kernel does for everybody comes before it and after it.
 *
 * Looked up for each request. Requests that are queued already keep what they
 * have, and unlike in the DRM GPU scheduler the order is strict: time slices are
 * for equal priorities only.
 *
 * Return: the parameters.
 */
static inline struct i915_sched_attr
i915_gem_context_sched(const struct i915_gem_context *ctx)
{
	struct i915_sched_attr attr = ctx->sched;

	if (ctx->cgroup)
		attr.priority = clamp(attr.priority +
				      gpu_cgroup_effective(ctx->cgroup),
				      I915_CONTEXT_MIN_USER_PRIORITY,
				      I915_CONTEXT_MAX_USER_PRIORITY);
	return attr;
}

/**
 * i915_cgroup_register() - say in gpu.devices whether priorities count
 * @i915: a registered device with its engines
 *
 * Before the eighth generation requests run in the order they come.
 */
static inline void i915_cgroup_register(struct drm_i915_private *i915)
{
	if (i915->caps.scheduler & I915_SCHEDULER_CAP_PRIORITY)
		gpu_cgroup_device_has_priority(i915->drm.dev);
}

#endif /* __I915_GEM_CGROUP_H__ */
