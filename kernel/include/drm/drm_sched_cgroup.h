/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Sharing of a GPU scheduler between cgroups: what the scheduler calls, and the
 * few drivers with entities or schedulers that are not as those of others.
 * drivers/gpu/drm/scheduler/sched_cgroup.c says how it works.
 */
#ifndef _DRM_SCHED_CGROUP_H_
#define _DRM_SCHED_CGROUP_H_

#include <linux/atomic.h>
#include <linux/cgroup_gpu.h>
#include <linux/list.h>
#include <linux/llist.h>
#include <linux/rbtree.h>
#include <linux/types.h>

struct drm_gpu_scheduler;
struct drm_sched_entity;
struct drm_sched_job;
struct drm_sched_rq;
struct gpu_cgroup;

#ifdef CONFIG_CGROUP_GPU

struct drm_sched_share;
struct drm_sched_tree;

/**
 * struct drm_sched_scheduler_cgroup - a scheduler's part in sharing
 * @listed: says that the device takes priorities from cgroups
 * @tree: the shares, with a reference; %NULL when the scheduler has ended
 * @link: in the list of those that share @tree
 */
struct drm_sched_scheduler_cgroup {
	struct gpu_cgroup_scheduler listed;
	struct drm_sched_tree *tree;
	struct list_head link;
};

/**
 * struct drm_sched_entity_cgroup - an entity's place among the cgroups
 * @owner: cgroup of the task that made the entity, with a reference; %NULL for
 *	the root cgroup and for the kernel's own entities
 * @depth: how many shares it takes from there to the root's
 * @tree: that of the run queue the entity is on or was on last, with a reference
 * @share: what the entity runs on while it is on a run queue
 * @level: its level there
 * @number: order among the entities of that level
 * @queued: it may be ready, and is in @share's list by @link
 * @link: see @queued
 * @posted: on the list of those for which a fence has signalled, by @event
 * @event: see @posted
 * @lent: memory for shares, of the job that is being pushed
 * @spares: memory for shares, for the next job
 */
struct drm_sched_entity_cgroup {
	struct gpu_cgroup *owner;
	unsigned int depth;
	struct drm_sched_tree *tree;
	struct drm_sched_share *share;
	unsigned int level;
	u64 number;
	bool queued;
	struct rb_node link;
	atomic_t posted;
	struct llist_node event;
	struct drm_sched_share *lent;
	struct drm_sched_share *spares;
};

/**
 * struct drm_sched_job_cgroup - what a job was charged when it was started
 * @spares: memory for shares, until the job is pushed
 * @share: the charged share, which it keeps; %NULL before and after
 * @guess: the charged run time in ns
 */
struct drm_sched_job_cgroup {
	struct drm_sched_share *spares;
	struct drm_sched_share *share;
	u64 guess;
};

int drm_sched_cgroup_init(struct drm_gpu_scheduler *sched,
			  struct drm_gpu_scheduler *with);
void drm_sched_cgroup_fini(struct drm_gpu_scheduler *sched);
void drm_sched_cgroup_entity_init(struct drm_sched_entity *entity);
void drm_sched_cgroup_entity_move(struct drm_sched_entity *entity,
				  struct gpu_cgroup *owner);
void drm_sched_cgroup_entity_fini(struct drm_sched_entity *entity);
void drm_sched_cgroup_attach(struct drm_sched_rq *rq,
			     struct drm_sched_entity *entity);
void drm_sched_cgroup_detach(struct drm_sched_rq *rq,
			     struct drm_sched_entity *entity);
void drm_sched_cgroup_ready(struct drm_sched_entity *entity);
void drm_sched_cgroup_wakeup(struct drm_sched_entity *entity);
struct drm_sched_entity *drm_sched_cgroup_select(struct drm_gpu_scheduler *sched);
int drm_sched_cgroup_job_init(struct drm_sched_job *job);
void drm_sched_cgroup_job_push(struct drm_sched_job *job);
void drm_sched_cgroup_job_run(struct drm_sched_job *job);
void drm_sched_cgroup_job_cleanup(struct drm_sched_job *job);

/* For the unit tests. */
u32 drm_sched_cgroup_weight(int priority);
void drm_sched_cgroup_settle(struct drm_sched_job *job, u64 cost);
unsigned int drm_sched_cgroup_shares(struct drm_gpu_scheduler *sched);

#else /* !CONFIG_CGROUP_GPU */

struct drm_sched_scheduler_cgroup {
};

struct drm_sched_entity_cgroup {
};

struct drm_sched_job_cgroup {
};

static inline int drm_sched_cgroup_init(struct drm_gpu_scheduler *sched,
					struct drm_gpu_scheduler *with)
{
	return 0;
}

static inline void drm_sched_cgroup_fini(struct drm_gpu_scheduler *sched)
{
}

static inline void drm_sched_cgroup_entity_init(struct drm_sched_entity *entity)
{
}

static inline void drm_sched_cgroup_entity_move(struct drm_sched_entity *entity,
						struct gpu_cgroup *owner)
{
}

static inline void drm_sched_cgroup_entity_fini(struct drm_sched_entity *entity)
{
}

static inline void drm_sched_cgroup_attach(struct drm_sched_rq *rq,
					   struct drm_sched_entity *entity)
{
}

static inline void drm_sched_cgroup_detach(struct drm_sched_rq *rq,
					   struct drm_sched_entity *entity)
{
}

static inline void drm_sched_cgroup_ready(struct drm_sched_entity *entity)
{
}

static inline void drm_sched_cgroup_wakeup(struct drm_sched_entity *entity)
{
}

static inline struct drm_sched_entity *
drm_sched_cgroup_select(struct drm_gpu_scheduler *sched)
{
	return NULL;
}

static inline int drm_sched_cgroup_job_init(struct drm_sched_job *job)
{
	return 0;
}

static inline void drm_sched_cgroup_job_push(struct drm_sched_job *job)
{
}

static inline void drm_sched_cgroup_job_run(struct drm_sched_job *job)
{
}

static inline void drm_sched_cgroup_job_cleanup(struct drm_sched_job *job)
{
}

#endif /* CONFIG_CGROUP_GPU */
#endif /* _DRM_SCHED_CGROUP_H_ */
