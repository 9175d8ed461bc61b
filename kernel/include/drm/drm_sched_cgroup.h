/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Sharing of a run queue between cgroups: what the GPU scheduler calls.
 * drivers/gpu/drm/scheduler/sched_cgroup.c says how it works.
 */
#ifndef _DRM_SCHED_CGROUP_H_
#define _DRM_SCHED_CGROUP_H_

#include <linux/cgroup_gpu.h>
#include <linux/list.h>
#include <linux/types.h>

struct drm_gpu_scheduler;
struct drm_sched_entity;
struct drm_sched_job;
struct drm_sched_rq;

#ifdef CONFIG_CGROUP_GPU

struct drm_sched_share;
struct gpu_cgroup;

/**
 * struct drm_sched_entity_cgroup - an entity's place among the cgroups
 * @owner: cgroup of the task that made the entity, with a reference; %NULL for
 *	the root cgroup and for the kernel's own entities
 * @share: what the entity runs on while it is on a run queue, with a reference;
 *	under &drm_sched_rq.lock
 * @spare: memory for a share that does not exist yet
 */
struct drm_sched_entity_cgroup {
	struct gpu_cgroup *owner;
	struct drm_sched_share *share;
	struct drm_sched_share *spare;
};

/**
 * struct drm_sched_rq_cgroup - the cgroups on a run queue
 * @shares: one per cgroup, under &drm_sched_rq.lock
 * @root: the share without a cgroup; always there
 * @vtime: virtual time, that of the share chosen last
 */
struct drm_sched_rq_cgroup {
	struct list_head shares;
	struct drm_sched_share *root;
	u64 vtime;
};

/**
 * struct drm_sched_job_cgroup - what a job was charged when it was started
 * @share: the charged share, with a reference; %NULL before and after
 * @guess: the charged run time in ns
 */
struct drm_sched_job_cgroup {
	struct drm_sched_share *share;
	u64 guess;
};

int drm_sched_cgroup_init(struct drm_gpu_scheduler *sched);
void drm_sched_cgroup_fini(struct drm_gpu_scheduler *sched);
void drm_sched_cgroup_entity_init(struct drm_sched_entity *entity);
void drm_sched_cgroup_entity_fini(struct drm_sched_entity *entity);
void drm_sched_cgroup_attach(struct drm_sched_rq *rq,
			     struct drm_sched_entity *entity);
void drm_sched_cgroup_detach(struct drm_sched_rq *rq,
			     struct drm_sched_entity *entity);
struct drm_sched_entity *drm_sched_cgroup_select(struct drm_sched_rq *rq);
void drm_sched_cgroup_job_init(struct drm_sched_job *job);
void drm_sched_cgroup_job_run(struct drm_sched_job *job);
void drm_sched_cgroup_job_cleanup(struct drm_sched_job *job);

/* For the unit tests. */
u32 drm_sched_cgroup_weight(int priority);
void drm_sched_cgroup_settle(struct drm_sched_job *job, u64 cost);

#else /* !CONFIG_CGROUP_GPU */

struct drm_sched_entity_cgroup {
};

struct drm_sched_rq_cgroup {
};

struct drm_sched_job_cgroup {
};

static inline int drm_sched_cgroup_init(struct drm_gpu_scheduler *sched)
{
	return 0;
}

static inline void drm_sched_cgroup_fini(struct drm_gpu_scheduler *sched)
{
}

static inline void drm_sched_cgroup_entity_init(struct drm_sched_entity *entity)
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

static inline struct drm_sched_entity *
drm_sched_cgroup_select(struct drm_sched_rq *rq)
{
	return NULL;
}

static inline void drm_sched_cgroup_job_init(struct drm_sched_job *job)
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
