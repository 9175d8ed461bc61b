// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sharing of a run queue between cgroups.
 *
 * The levels of the scheduler stay strict: no entity of a level runs while one
 * of a higher level could. Inside a level, where the scheduler by itself takes
 * the entities in turn, their cgroups get the hardware in proportion to a
 * weight, and the entities of one cgroup take turns in what it gets. Ten
 * processes in a cgroup get together what one gets in another. A system with
 * all entities in one cgroup runs as it did.
 *
 * The weight is 2^(priority / 128), the priority being the effective one of the
 * cgroup, -1024 to 1024: each 128 points double the share. What a cgroup gets
 * of a saturated queue is its weight over the weights of all cgroups with work
 * in that queue. No weight is 0, so nobody starves; and who comes back from a
 * pause is served next, unless he used more than his share before it.
 *
 * This is start-time fair queueing. A share, that is a cgroup on a run queue,
 * has a virtual time, which a job moves forward by its run time over the weight.
 * The share with the least virtual time is next and defines the queue's own
 * virtual time. A share without waiting work cannot save up: when it has some
 * again it starts no earlier than the queue's virtual time.
 *
 * A job counts with the time it was on the hardware: between the time stamps of
 * its "scheduled" and "finished" fences, the first of which the scheduler moves
 * up to the end of the job before. Counting jobs instead would give everything
 * to whoever submits the longest. Since several jobs may be queued in the
 * hardware, a job is charged the average of its share when it starts, and the
 * difference when it is cleaned up.
 *
 * The priority is looked up at each choice, so that a change of it, or of an
 * ancestor's, counts for queued work at once; what a share is ahead of the
 * queue, from jobs at the old weight, is scaled to the new one.
 *
 * An entity belongs to the cgroup of the task that made it. It stays there when
 * the task moves, as its memory does.
 *
 * Locking: &drm_sched_rq.lock guards everything but &drm_sched_share.vtime and
 * &drm_sched_share.average, which cleaning up a job changes without a lock. The
 * list of shares, the entities on the queue and jobs keep a share alive, each
 * with a reference; new ones are taken under the lock.
 */

#include <linux/cgroup_gpu.h>
#include <linux/dma-fence.h>
#include <linux/kref.h>
#include <linux/math64.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#include <drm/gpu_scheduler.h>

/* 2^(1/128), 2^(2/128), 2^(4/128) ... 2^(64/128), 31 bits after the point. */
static const u32 gpu_roots[] = {
	2159144272u, 2170868212u, 2194507417u, 2242560872u,
	2341847524u, 2553802834u, 3037000500u,
};

/* weight(0) is 2^23: at both ends of the range a point still makes a step. */
#define GPU_WEIGHT_BITS		23

/*
 * Virtual time runs 2^(23 - 15) per ns of run time at priority 0, so that it
 * still runs 1 per ns at the highest. It may wrap: only differences count.
 */
#define GPU_PACE_SHIFT		15

/* Failing jobs may take no time at all, but nothing is for free. */
#define GPU_COST_MIN		NSEC_PER_USEC
/* The first jobs of a share, before any of them has ended. */
#define GPU_COST_GUESS		NSEC_PER_MSEC

struct drm_sched_share {
	struct kref		ref;
	struct list_head	link;

	/* With a reference; NULL for the root's share. */
	struct gpu_cgroup	*owner;

	atomic64_t		vtime;

	/* Virtual time per ns, for the priority seen last. */
	u32			pace;

	/* Moving average of run times in ns. */
	u64			average;

	/* Had waiting work at the last choice. */
	bool			waiting;

	/* The one that had its turn. */
	struct drm_sched_entity	*current_entity;

	/* Of one choice: ready entities, in the queue and behind the current. */
	struct drm_sched_entity	*first, *next;
	bool			passed;
};

/**
 * drm_sched_cgroup_weight() - weight of a priority
 * @priority: -1024 to 1024
 *
 * Return: 2^(@priority / 128 + 23), rounded down. Strictly monotonic.
 */
u32 drm_sched_cgroup_weight(int priority)
{
	int octave = priority >> 7;	/* rounds down, unlike a division */
	u64 weight = 1u << 31;
	int i;

	for (i = 0; i < ARRAY_SIZE(gpu_roots); i++)
		if (priority & BIT(i))
			weight = weight * gpu_roots[i] >> 31;

	return weight >> (31 - GPU_WEIGHT_BITS - octave);
}

/* weight(-p) is the reciprocal of weight(p): no division in the hot path. */
static u32 drm_sched_share_pace(struct drm_sched_share *share)
{
	return drm_sched_cgroup_weight(-gpu_cgroup_effective(share->owner));
}

static u64 drm_sched_share_time(u64 cost, u32 pace)
{
	return mul_u64_u32_shr(cost, pace, GPU_PACE_SHIFT);
}

static s64 drm_sched_share_ahead(struct drm_sched_share *share,
				 struct drm_sched_rq *rq)
{
	return atomic64_read(&share->vtime) - rq->cgroup.vtime;
}

static void drm_sched_share_release(struct kref *ref)
{
	struct drm_sched_share *share =
		container_of(ref, struct drm_sched_share, ref);

	gpu_cgroup_put(share->owner);
	kfree(share);
}

static void drm_sched_share_put(struct drm_sched_share *share)
{
	kref_put(&share->ref, drm_sched_share_release);
}

/* Takes over the reference to @owner and the first one to @share. */
static void drm_sched_share_add(struct drm_sched_share *share,
				struct gpu_cgroup *owner,
				struct drm_sched_rq *rq)
{
	kref_init(&share->ref);
	share->owner = owner;
	share->average = GPU_COST_GUESS;
	share->pace = drm_sched_share_pace(share);
	atomic64_set(&share->vtime, rq->cgroup.vtime);
	list_add_tail(&share->link, &rq->cgroup.shares);
}

static void drm_sched_share_del(struct drm_sched_share *share)
{
	list_del(&share->link);
	drm_sched_share_put(share);
}

/*
 * A share outlives its entities and jobs until the queue's time has caught up
 * with it: what a cgroup owes must not be forgotten because it closes and opens
 * the device again. A removed cgroup cannot come back.
 */
static void drm_sched_shares_expire(struct drm_sched_rq *rq)
{
	struct drm_sched_share *share, *tmp;

	list_for_each_entry_safe(share, tmp, &rq->cgroup.shares, link)
		if (share != rq->cgroup.root &&
		    kref_read(&share->ref) == 1 &&
		    (drm_sched_share_ahead(share, rq) <= 0 ||
		     gpu_cgroup_removed(share->owner)))
			drm_sched_share_del(share);
}

static struct drm_sched_share *drm_sched_share_find(struct drm_sched_rq *rq,
						    struct gpu_cgroup *owner)
{
	struct drm_sched_share *share;

	list_for_each_entry(share, &rq->cgroup.shares, link)
		if (share->owner == owner)
			return share;
	return NULL;
}

/**
 * drm_sched_cgroup_init() - make the shares of the root cgroup
 * @sched: a scheduler with its run queues set up
 *
 * Return: 0, or %-ENOMEM; drm_sched_cgroup_fini() may be called in both cases.
 */
int drm_sched_cgroup_init(struct drm_gpu_scheduler *sched)
{
	struct drm_sched_rq *rq;
	int i;

	for (i = 0; i < ARRAY_SIZE(sched->sched_rq); i++) {
		rq = &sched->sched_rq[i];
		INIT_LIST_HEAD(&rq->cgroup.shares);
		rq->cgroup.root = NULL;
		rq->cgroup.vtime = 0;
	}

	for (i = 0; i < ARRAY_SIZE(sched->sched_rq); i++) {
		rq = &sched->sched_rq[i];
		rq->cgroup.root = kzalloc(sizeof(*rq->cgroup.root), GFP_KERNEL);
		if (!rq->cgroup.root) {
			drm_sched_cgroup_fini(sched);
			return -ENOMEM;
		}
		drm_sched_share_add(rq->cgroup.root, NULL, rq);
	}

	gpu_cgroup_register_scheduler(&sched->cgroup, sched->dev);
	return 0;
}

/**
 * drm_sched_cgroup_fini() - forget all shares
 * @sched: a scheduler whose thread has ended
 *
 * Entities and jobs that are still there keep theirs.
 */
void drm_sched_cgroup_fini(struct drm_gpu_scheduler *sched)
{
	struct drm_sched_share *share, *tmp;
	struct drm_sched_rq *rq;
	int i;

	gpu_cgroup_unregister_scheduler(&sched->cgroup);
	for (i = 0; i < ARRAY_SIZE(sched->sched_rq); i++) {
		rq = &sched->sched_rq[i];
		spin_lock(&rq->lock);
		list_for_each_entry_safe(share, tmp, &rq->cgroup.shares, link)
			drm_sched_share_del(share);
		rq->cgroup.root = NULL;
		spin_unlock(&rq->lock);
	}
}

/**
 * drm_sched_cgroup_entity_init() - say to which cgroup an entity belongs
 * @entity: a zeroed entity with its priority set
 *
 * The kernel's level serves everybody, whoever happened to load the driver.
 */
void drm_sched_cgroup_entity_init(struct drm_sched_entity *entity)
{
	if (entity->priority != DRM_SCHED_PRIORITY_KERNEL)
		entity->cgroup.owner = gpu_cgroup_get(current);
}

/**
 * drm_sched_cgroup_entity_fini() - let go of an entity's cgroup
 * @entity: an entity on no run queue
 *
 * Some drivers end an entity twice, or one that was never made; with an entity
 * that is zeroed or done with nothing happens.
 */
void drm_sched_cgroup_entity_fini(struct drm_sched_entity *entity)
{
	kfree(entity->cgroup.spare);
	entity->cgroup.spare = NULL;
	gpu_cgroup_put(entity->cgroup.owner);
	entity->cgroup.owner = NULL;
}

/**
 * drm_sched_cgroup_attach() - find or make the share of an entity
 * @rq: the run queue to which the entity is being added, locked
 * @entity: the entity
 *
 * Without memory the entity runs with those of the root cgroup.
 */
void drm_sched_cgroup_attach(struct drm_sched_rq *rq,
			     struct drm_sched_entity *entity)
{
	struct gpu_cgroup *owner = entity->cgroup.owner;
	struct drm_sched_share *share;

	lockdep_assert_held(&rq->lock);

	/* The scheduler has ended: nothing runs on this queue any more. */
	if (!rq->cgroup.root)
		return;

	share = drm_sched_share_find(rq, owner);
	if (!share) {
		share = xchg(&entity->cgroup.spare, NULL);
		if (share)
			drm_sched_share_add(share, gpu_cgroup_hold(owner), rq);
		else
			share = rq->cgroup.root;
	}

	kref_get(&share->ref);
	entity->cgroup.share = share;
}

/**
 * drm_sched_cgroup_detach() - take an entity from its share
 * @rq: the run queue from which the entity is being removed, locked
 * @entity: the entity
 */
void drm_sched_cgroup_detach(struct drm_sched_rq *rq,
			     struct drm_sched_entity *entity)
{
	struct drm_sched_share *share = entity->cgroup.share;

	lockdep_assert_held(&rq->lock);

	if (!share)
		return;

	if (share->current_entity == entity)
		share->current_entity = NULL;
	entity->cgroup.share = NULL;
	drm_sched_share_put(share);
	drm_sched_shares_expire(rq);
}

/*
 * With the same priority as at the last choice? With work at both? A share with
 * work may be behind the queue's time, by what its jobs in the hardware turned
 * out to have been charged too much.
 */
static void drm_sched_share_refresh(struct drm_sched_share *share,
				    struct drm_sched_rq *rq)
{
	s64 ahead = drm_sched_share_ahead(share, rq);
	u32 pace = drm_sched_share_pace(share);

	if (pace != share->pace) {
		if (ahead > 0)
			atomic64_add(mul_u64_u64_div_u64(ahead, pace,
							 share->pace) - ahead,
				     &share->vtime);
		WRITE_ONCE(share->pace, pace);
	}

	if (!share->waiting && ahead < 0)
		atomic64_sub(ahead, &share->vtime);
	share->waiting = true;
}

/* Nobody waits and nothing runs: nobody was kept waiting by what others owe. */
static void drm_sched_shares_idle(struct drm_sched_rq *rq)
{
	struct drm_sched_share *share;
	s64 ahead, most = 0;

	list_for_each_entry(share, &rq->cgroup.shares, link) {
		ahead = drm_sched_share_ahead(share, rq);
		most = max(most, ahead);
	}
	rq->cgroup.vtime += most;
	drm_sched_shares_expire(rq);
}

/**
 * drm_sched_cgroup_select() - choose the entity that runs next
 * @rq: the run queue
 *
 * Return: an entity that could provide a job, of the share with the least
 * virtual time, or %NULL if there is none.
 */
struct drm_sched_entity *drm_sched_cgroup_select(struct drm_sched_rq *rq)
{
	struct drm_sched_share *share, *best = NULL;
	struct drm_sched_entity *entity = NULL;

	spin_lock(&rq->lock);

	drm_sched_shares_expire(rq);

	list_for_each_entry(share, &rq->cgroup.shares, link) {
		share->first = NULL;
		share->next = NULL;
		share->passed = false;
	}

	list_for_each_entry(entity, &rq->entities, list) {
		share = entity->cgroup.share;
		if (drm_sched_entity_is_ready(entity)) {
			if (!share->first)
				share->first = entity;
			if (share->passed && !share->next)
				share->next = entity;
		}
		if (entity == share->current_entity)
			share->passed = true;
	}

	list_for_each_entry(share, &rq->cgroup.shares, link) {
		if (!share->first) {
			share->waiting = false;
			continue;
		}
		drm_sched_share_refresh(share, rq);
		if (!best || drm_sched_share_ahead(share, rq) <
			     drm_sched_share_ahead(best, rq))
			best = share;
	}

	if (best) {
		entity = best->next ?: best->first;
		best->current_entity = entity;
		rq->cgroup.vtime += max(drm_sched_share_ahead(best, rq), 0LL);
		reinit_completion(&entity->entity_idle);
	} else {
		entity = NULL;
		if (!atomic_read(&rq->sched->hw_rq_count))
			drm_sched_shares_idle(rq);
	}

	spin_unlock(&rq->lock);

	return entity;
}

/**
 * drm_sched_cgroup_job_init() - have memory for a share at hand
 * @job: a new job of an entity
 *
 * The share itself is made when the job is pushed, under spin locks.
 *
 * Context: May sleep.
 */
void drm_sched_cgroup_job_init(struct drm_sched_job *job)
{
	struct drm_sched_entity *entity = job->entity;
	struct drm_sched_share *spare;

	if (!entity->cgroup.owner || READ_ONCE(entity->cgroup.spare))
		return;
	/* With a single scheduler it is on the same run queue for good. */
	if (!entity->sched_list && !list_empty(&entity->list))
		return;

	spare = kzalloc(sizeof(*spare), GFP_KERNEL);
	if (spare && cmpxchg(&entity->cgroup.spare, NULL, spare))
		kfree(spare);
}

/**
 * drm_sched_cgroup_job_run() - charge a job that is about to run
 * @job: the job, taken from the entity chosen last
 */
void drm_sched_cgroup_job_run(struct drm_sched_job *job)
{
	struct drm_sched_entity *entity = job->entity;
	struct drm_sched_rq *rq = entity->rq;
	struct drm_sched_share *share;

	spin_lock(&rq->lock);
	/* NULL if the entity has just been killed. */
	share = entity->cgroup.share;
	if (share) {
		kref_get(&share->ref);
		job->cgroup.share = share;
		job->cgroup.guess = READ_ONCE(share->average);
		atomic64_add(drm_sched_share_time(job->cgroup.guess,
						  share->pace),
			     &share->vtime);
	}
	spin_unlock(&rq->lock);
}

/**
 * drm_sched_cgroup_settle() - replace a job's guess by its cost
 * @job: a job that has run
 * @cost: its run time in ns
 *
 * Does nothing for a job that was not charged, or is settled already.
 *
 * Context: Any context. One job is settled once at a time.
 */
void drm_sched_cgroup_settle(struct drm_sched_job *job, u64 cost)
{
	struct drm_sched_share *share = job->cgroup.share;
	u64 average;
	u32 pace;

	if (!share)
		return;
	job->cgroup.share = NULL;

	/* Of now: what was charged has been scaled if it changed. */
	pace = READ_ONCE(share->pace);
	cost = max_t(u64, cost, GPU_COST_MIN);
	atomic64_add(drm_sched_share_time(cost, pace) -
		     drm_sched_share_time(job->cgroup.guess, pace),
		     &share->vtime);

	average = READ_ONCE(share->average);
	WRITE_ONCE(share->average, average - average / 8 + cost / 8);
	drm_sched_share_put(share);
}

/**
 * drm_sched_cgroup_job_cleanup() - settle what a job was charged
 * @job: a job with its fences still there
 */
void drm_sched_cgroup_job_cleanup(struct drm_sched_job *job)
{
	struct drm_sched_fence *fence = job->s_fence;
	u64 cost = job->cgroup.guess;
	s64 ran;

	if (!job->cgroup.share)
		return;

	/* Not so for what a driver drops unfinished. */
	if (dma_fence_is_signaled(&fence->finished)) {
		ran = ktime_to_ns(ktime_sub(dma_fence_timestamp(&fence->finished),
					    dma_fence_timestamp(&fence->scheduled)));
		cost = max(ran, 0LL);
	}
	drm_sched_cgroup_settle(job, cost);
}
