/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __I915_GEM_CGROUP_H__
#define __I915_GEM_CGROUP_H__

#include <linux/cgroup_gpu.h>
#include <linux/container_of.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>

#include "i915_drv.h"
#include "i915_gem_context_types.h"

/**
 * i915_gem_context_sched() - scheduling parameters of a context's next request
 * @ctx: the context, maybe found under RCU only
 *
 * i915 has one strict order of all requests of an engine, so a cgroup has no share
 * here but a place, gpu_cgroup_effective(), and the priority that user space gave
 * the context orders the contexts of a cgroup around it; see gpu_cgroup_order() for
 * whom it cannot lift. The sum stays in the range of user space: what the kernel
 * does for everybody comes before it and after it.
 *
 * Looked up for each request. Requests that are queued already keep what they
 * have, unless something above them waits for them and lifts them.
 *
 * What such an order can promise: work of a higher cgroup is next, and nobody is
 * put above another but by an administrator, as whoever only owns a cgroup does not
 * rise above it. What it cannot: equal priorities take turns by time slices (or, on
 * hardware without, in the order they come), however many contexts a cgroup has, and
 * the lower of two has no lower bound: it waits for as long as the higher one has
 * work. Below 0 nothing preempts, so even a higher one waits for what runs.
 *
 * GuC knows three of these places only, below 0, 0 and above 0 (intel_guc_submission.c,
 * map_i915_prio_to_guc_prio()): inside each of them cgroups are alike to it.
 *
 * There is no age after which waiting work is lifted to 0. It would give whoever
 * opens enough contexts a place at 0, which the lowest priority is there to refuse,
 * and would still promise nothing beside cgroups above 0.
 *
 * Return: the parameters.
 */
static inline struct i915_sched_attr
i915_gem_context_sched(const struct i915_gem_context *ctx)
{
	struct i915_sched_attr attr = ctx->sched;

	if (ctx->cgroup)
		attr.priority = gpu_cgroup_order(ctx->cgroup, attr.priority,
						 I915_CONTEXT_MIN_USER_PRIORITY,
						 I915_CONTEXT_MAX_USER_PRIORITY);
	return attr;
}

/**
 * i915_gem_context_free_rcu() - last step of the end of a context
 * @rcu: in the context
 *
 * The cgroup goes with the memory: until now somebody may have been in
 * i915_gem_context_sched().
 */
static inline void i915_gem_context_free_rcu(struct rcu_head *rcu)
{
	struct i915_gem_context *ctx = container_of(rcu, typeof(*ctx), rcu);

	gpu_cgroup_put(ctx->cgroup);
	kfree(ctx);
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
