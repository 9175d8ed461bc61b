// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sharing of a GPU scheduler between cgroups.
 *
 * The kernel's own level is served first, as ever. All other work is ordered by
 * cgroup first and by level second: no level that a process may choose takes
 * time from another cgroup. Among cgroups the hardware goes down the tree:
 * siblings with work share what their parent gets in proportion to their
 * weights, so a subtree never gets more than its root does, however many
 * children it has and whatever they say of themselves. What belongs to a cgroup
 * itself is one more sibling of its children, with the weight of priority 0.
 * Inside the chosen cgroup the highest level with a ready entity is served, and
 * the entities of one level take turns in the order in which they came. A system
 * with all entities in one cgroup runs as it did.
 *
 * The weight is 2^(priority / 128), priorities being -1024 to 1024: each 128
 * points double the share. No weight is 0, so nobody starves; and who comes back
 * from a pause is served next, unless he used more than his share before it.
 *
 * This is start-time fair queueing, once for each cgroup with children or
 * entities. Whoever competes there has a virtual time, which a job moves forward
 * by its run time over the weight, at each level up to the root. The one with
 * the least virtual time is next and sets the clock of that cgroup. Nobody saves
 * up without work: who has some again starts no earlier than the clock.
 *
 * A job counts with the time it was on the hardware: between the time stamps of
 * its "scheduled" and "finished" fences, the first of which the scheduler moves
 * up to the end of the job before. Counting jobs instead would give everything
 * to whoever submits the longest. Since several jobs may be queued in the
 * hardware, a job is charged the average of its share when it is taken from its
 * entity, and the difference when it is cleaned up.
 *
 * Debts: who is ahead of the clock owes. When nothing waits and nothing runs in a
 * cgroup all debts in it are forgiven, since nobody in it was kept waiting. A share
 * that nobody uses any more stays until then, or until the clock has caught up,
 * or until there are %GPU_DEBTORS more of its kind. This does not ask whether the
 * cgroup was removed, since its contexts may still work; and what is forgotten
 * with a share was counted in its ancestors all the same.
 *
 * Cost: a choice looks at one leftmost child for each step from the root to the
 * chosen cgroup, and the charge and its correction move one node in a tree of
 * siblings for each: O(depth * log(siblings)), plus O(log(entities)) for the turn
 * inside. Neither walks shares or entities. An entity is looked at in vain once
 * for each event that made it ready: a push to its empty queue, a dependency that
 * signals. Once after a priority was written anywhere all shares are looked at.
 * Depth is bounded by %GPU_TREE_DEPTH: whoever nests deeper is one share there.
 *
 * An entity is on the list of its share if it has a job and waits for no fence.
 * The converse does not hold: it is taken off when it would be its turn, since
 * between the pop of a job and the end of its submission the entity must not be
 * touched, and a push may race with a pop. Fences signal in hard interrupts, and
 * drm_sched_rq.lock is taken with interrupts on, so they only put the entity on a
 * lockless list that the next choice empties.
 *
 * An entity belongs to the cgroup of the task that made it. It stays there when
 * the task moves, as its memory does.
 *
 * Schedulers of one piece of hardware may share a tree. The choice is then among
 * the entities of all, and a scheduler whose turn it is not gets none, even if it
 * has the room: the hardware would prefer it to the one whose turn it is.
 *
 * Locking: drm_sched_entity.rq_lock, drm_sched_rq.lock, drm_sched_tree.lock, the
 * locks of the wait queues, in this order. drm_sched_tree.lock guards the tree,
 * its shares, and &drm_sched_entity.cgroup except for owner, tree (which changes
 * on no run queue only) and memory. Schedulers, entities and charged jobs keep a
 * tree alive; entities, jobs and children keep a share.
 */

#include <linux/cgroup_gpu.h>
#include <linux/dma-fence.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/llist.h>
#include <linux/math64.h>
#include <linux/rbtree.h>
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

/* Who may make cgroups has no more of them below each other. */
#define GPU_TREE_DEPTH		32
/* Nor does he leave more of them behind in one, each with a job's debts. */
#define GPU_DEBTORS		256

/* One of those that compete in a cgroup. */
struct drm_sched_slot {
	struct rb_node		link;
	u64			vtime;

	/* Virtual time per ns. */
	u32			pace;

	/* If it is not that of the share, debts are forgiven: vtime is the clock. */
	u32			epoch;

	enum {
		/* Has no work. */
		SLOT_IDLE,
		/* In &drm_sched_share.queue. */
		SLOT_QUEUED,
		/* In &drm_sched_share.debtors: unused, and owes. */
		SLOT_DEBTOR,
	} state;
};

struct drm_sched_level {
	/* Entities that may be ready, by the order in which they came. */
	struct rb_root		entities;

	/* The one that had its turn. */
	u64			turn;
};

/* A cgroup that uses the hardware, or is an ancestor of one that does. */
struct drm_sched_share {
	struct drm_sched_tree	*tree;

	/* NULL for the root. Of a spare one: the next of them. */
	struct drm_sched_share	*parent;

	/* With a reference; NULL for the root. */
	struct gpu_cgroup	*owner;
	struct rb_node		by_owner;

	/* Entities, charged jobs, children. */
	unsigned int		users;
	struct list_head	debtors_link;

	/* The priority seen last. */
	int			priority;

	/* Among the children of the parent. */
	struct drm_sched_slot	place;

	/* Its own entities among its children. */
	struct drm_sched_slot	own;
	struct drm_sched_level	levels[DRM_SCHED_PRIORITY_KERNEL];

	/* Who competes here: with work, without but with debts; by virtual time. */
	struct rb_root_cached	queue;
	struct rb_root_cached	debtors;
	unsigned int		num_debtors;

	/* Virtual time, that of the one chosen last. */
	u64			clock;
	u32			epoch;

	/* Jobs that are charged and not settled, with those of descendants. */
	unsigned int		running;

	/* Something was charged in this epoch. */
	bool			owing;

	/* Moving average of the run times of its own jobs in ns. */
	u64			average;
};

struct drm_sched_tree {
	struct kref		ref;

	/* The head of this file says what it guards. */
	spinlock_t		lock;
	struct list_head	schedulers;

	struct drm_sched_share	root;
	/* All others. */
	struct rb_root		by_owner;
	struct list_head	debtors;

	/* Entities of which a dependency has signalled. */
	struct llist_head	events;

	/* How many entities have come. */
	u64			entities;

	/* gpu_cgroup_priority_changes() of the last choice. */
	unsigned int		changes;

	/* No scheduler is left. */
	bool			ended;
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
static u32 drm_sched_pace(int priority)
{
	return drm_sched_cgroup_weight(-priority);
}

static s64 drm_sched_time(s64 ns, u32 pace)
{
	s64 time = mul_u64_u32_shr(abs(ns), pace, GPU_PACE_SHIFT);

	return ns < 0 ? -time : time;
}

static void drm_sched_tree_release(struct kref *ref)
{
	kfree(container_of(ref, struct drm_sched_tree, ref));
}

static void drm_sched_tree_put(struct drm_sched_tree *tree)
{
	if (tree)
		kref_put(&tree->ref, drm_sched_tree_release);
}

/*
 * Slots. @share is where the slot competes: the parent of a share's place, the
 * share itself for its own.
 */

static struct drm_sched_slot *drm_sched_slot_of(struct rb_node *node)
{
	return rb_entry_safe(node, struct drm_sched_slot, link);
}

static bool drm_sched_slot_before(struct rb_node *a, const struct rb_node *b)
{
	return (s64)(rb_entry(a, struct drm_sched_slot, link)->vtime -
		     rb_entry(b, struct drm_sched_slot, link)->vtime) < 0;
}

static s64 drm_sched_slot_ahead(struct drm_sched_slot *slot,
				struct drm_sched_share *share)
{
	if (slot->epoch != share->epoch) {
		slot->epoch = share->epoch;
		slot->vtime = share->clock;
	}
	return slot->vtime - share->clock;
}

static struct rb_root_cached *drm_sched_slot_root(struct drm_sched_slot *slot,
						  struct drm_sched_share *share)
{
	return slot->state == SLOT_QUEUED ? &share->queue : &share->debtors;
}

static void drm_sched_slot_insert(struct drm_sched_slot *slot,
				  struct drm_sched_share *share, int state)
{
	slot->state = state;
	rb_add_cached(&slot->link, drm_sched_slot_root(slot, share),
		      drm_sched_slot_before);
}

static void drm_sched_slot_erase(struct drm_sched_slot *slot,
				 struct drm_sched_share *share)
{
	rb_erase_cached(&slot->link, drm_sched_slot_root(slot, share));
	slot->state = SLOT_IDLE;
}

static void drm_sched_slot_add_time(struct drm_sched_slot *slot,
				    struct drm_sched_share *share, s64 time)
{
	struct rb_node *prev, *next;
	int state = slot->state;

	drm_sched_slot_ahead(slot, share);
	slot->vtime += time;
	if (state == SLOT_IDLE)
		return;

	/* Behind one with the same time: it has been waiting for longer. */
	prev = time < 0 ? rb_prev(&slot->link) : NULL;
	next = time > 0 ? rb_next(&slot->link) : NULL;
	if ((!prev || !drm_sched_slot_before(&slot->link, prev)) &&
	    (!next || drm_sched_slot_before(&slot->link, next)))
		return;
	drm_sched_slot_erase(slot, share);
	drm_sched_slot_insert(slot, share, state);
}

/* It has work, and so have those above. */
static void drm_sched_slot_queue(struct drm_sched_slot *slot,
				 struct drm_sched_share *share)
{
	bool busy;

	do {
		if (drm_sched_slot_ahead(slot, share) < 0)
			slot->vtime = share->clock;
		busy = !RB_EMPTY_ROOT(&share->queue.rb_root);
		drm_sched_slot_insert(slot, share, SLOT_QUEUED);
		slot = &share->place;
		share = share->parent;
	} while (!busy && share);
}

/* Shares */

static void drm_sched_share_init(struct drm_sched_share *share,
				 struct drm_sched_tree *tree)
{
	share->tree = tree;
	share->average = GPU_COST_GUESS;
	share->own.pace = drm_sched_pace(0);
}

static struct drm_sched_share *drm_sched_share_of(struct rb_node *node)
{
	return rb_entry(node, struct drm_sched_share, by_owner);
}

static struct drm_sched_share *drm_sched_share_find(struct drm_sched_tree *tree,
						    struct gpu_cgroup *owner)
{
	struct rb_node *node = tree->by_owner.rb_node;
	struct drm_sched_share *share;

	if (!owner)
		return &tree->root;

	while (node) {
		share = drm_sched_share_of(node);
		if (share->owner == owner)
			return share;
		node = owner < share->owner ? node->rb_left : node->rb_right;
	}
	return NULL;
}

static bool drm_sched_share_before(struct rb_node *a, const struct rb_node *b)
{
	return drm_sched_share_of(a)->owner <
	       rb_entry(b, struct drm_sched_share, by_owner)->owner;
}

static void drm_sched_debtor_del(struct drm_sched_share *share)
{
	drm_sched_slot_erase(&share->place, share->parent);
	list_del(&share->debtors_link);
	share->parent->num_debtors--;
}

static void drm_sched_share_get(struct drm_sched_share *share)
{
	if (!share->users++ && share->place.state == SLOT_DEBTOR)
		drm_sched_debtor_del(share);
}

/* Takes one of @spares. */
static struct drm_sched_share *drm_sched_share_make(struct drm_sched_tree *tree,
						    struct gpu_cgroup *owner,
						    struct drm_sched_share *parent,
						    struct drm_sched_share **spares)
{
	struct drm_sched_share *share = *spares;

	*spares = share->parent;
	drm_sched_share_init(share, tree);
	share->owner = gpu_cgroup_hold(owner);
	share->parent = parent;
	drm_sched_share_get(parent);
	share->priority = gpu_cgroup_priority(owner);
	share->place.pace = drm_sched_pace(share->priority);
	share->place.epoch = parent->epoch;
	share->place.vtime = parent->clock;
	rb_add(&share->by_owner, &tree->by_owner, drm_sched_share_before);
	return share;
}

static void drm_sched_share_free(struct drm_sched_share *share)
{
	if (share->place.state == SLOT_DEBTOR)
		drm_sched_debtor_del(share);
	rb_erase(&share->by_owner, &share->tree->by_owner);
	gpu_cgroup_put(share->owner);
	kfree(share);
}

static struct drm_sched_share *drm_sched_share_next_debtor(struct drm_sched_share *share)
{
	return rb_entry_safe(rb_first_cached(&share->debtors),
			     struct drm_sched_share, place.link);
}

static void drm_sched_share_put(struct drm_sched_share *share)
{
	struct drm_sched_share *parent;

	while (!--share->users && share->parent) {
		parent = share->parent;
		if (!share->tree->ended &&
		    drm_sched_slot_ahead(&share->place, parent) > 0) {
			drm_sched_slot_insert(&share->place, parent, SLOT_DEBTOR);
			list_add(&share->debtors_link, &share->tree->debtors);
			if (++parent->num_debtors <= GPU_DEBTORS)
				return;
			share = drm_sched_share_next_debtor(parent);
		}
		drm_sched_share_free(share);
		share = parent;
	}
}

static void drm_sched_share_forget(struct drm_sched_share *share)
{
	struct drm_sched_share *parent = share->parent;

	drm_sched_share_free(share);
	drm_sched_share_put(parent);
}

/* Somebody else uses @share. */
static void drm_sched_share_check_idle(struct drm_sched_share *share)
{
	struct drm_sched_share *debtor;

	if (!share->owing || share->running ||
	    !RB_EMPTY_ROOT(&share->queue.rb_root))
		return;
	share->owing = false;
	share->epoch++;
	while ((debtor = drm_sched_share_next_debtor(share)))
		drm_sched_share_forget(debtor);
}

/* It has no work, and maybe those above have none either. */
static void drm_sched_slot_dequeue(struct drm_sched_slot *slot,
				   struct drm_sched_share *share)
{
	bool busy;

	do {
		drm_sched_slot_erase(slot, share);
		busy = !RB_EMPTY_ROOT(&share->queue.rb_root);
		drm_sched_share_check_idle(share);
		slot = &share->place;
		share = share->parent;
	} while (!busy && share);
}

static void drm_sched_share_charge(struct drm_sched_share *share, s64 ns)
{
	struct drm_sched_slot *slot = &share->own;

	while (share) {
		drm_sched_slot_add_time(slot, share,
					drm_sched_time(ns, slot->pace));
		slot = &share->place;
		share = share->parent;
	}
}

/* Trees */

static struct drm_sched_tree *drm_sched_tree_make(void)
{
	struct drm_sched_tree *tree = kzalloc(sizeof(*tree), GFP_KERNEL);

	if (!tree)
		return NULL;
	kref_init(&tree->ref);
	spin_lock_init(&tree->lock);
	INIT_LIST_HEAD(&tree->schedulers);
	INIT_LIST_HEAD(&tree->debtors);
	init_llist_head(&tree->events);
	drm_sched_share_init(&tree->root, tree);
	return tree;
}

/* Others share the tree, and it may be their turn now. */
static void drm_sched_tree_kick(struct drm_sched_tree *tree,
				struct drm_gpu_scheduler *except)
{
	struct drm_gpu_scheduler *sched;

	if (list_empty(&tree->schedulers) || list_is_singular(&tree->schedulers))
		return;
	list_for_each_entry(sched, &tree->schedulers, cgroup.link)
		if (sched != except)
			drm_sched_wakeup(sched);
}

/* What somebody owes from jobs at the old weight is scaled to the new one. */
static void drm_sched_tree_reweigh(struct drm_sched_tree *tree)
{
	struct drm_sched_share *share;
	struct rb_node *node;
	int priority;
	s64 ahead;
	u32 pace;

	for (node = rb_first(&tree->by_owner); node; node = rb_next(node)) {
		share = drm_sched_share_of(node);
		priority = gpu_cgroup_priority(share->owner);
		if (priority == share->priority)
			continue;
		pace = drm_sched_pace(priority);
		ahead = drm_sched_slot_ahead(&share->place, share->parent);
		if (ahead > 0)
			drm_sched_slot_add_time(&share->place, share->parent,
						mul_u64_u64_div_u64(ahead, pace,
								    share->place.pace) -
						ahead);
		share->priority = priority;
		share->place.pace = pace;
	}
}

/* Entities */

static struct drm_sched_entity *drm_sched_entity_of(struct rb_node *node)
{
	return rb_entry_safe(node, struct drm_sched_entity, cgroup.link);
}

static bool drm_sched_entity_before(struct rb_node *a, const struct rb_node *b)
{
	return drm_sched_entity_of(a)->cgroup.number <
	       rb_entry(b, struct drm_sched_entity, cgroup.link)->cgroup.number;
}

static struct drm_sched_level *drm_sched_entity_level(struct drm_sched_entity *entity)
{
	return &entity->cgroup.share->levels[entity->cgroup.level];
}

/* It may be ready. */
static void drm_sched_entity_queue(struct drm_sched_entity *entity)
{
	struct drm_sched_share *share = entity->cgroup.share;

	if (!share || entity->cgroup.queued)
		return;
	rb_add(&entity->cgroup.link, &drm_sched_entity_level(entity)->entities,
	       drm_sched_entity_before);
	entity->cgroup.queued = true;
	if (share->own.state != SLOT_QUEUED)
		drm_sched_slot_queue(&share->own, share);
}

static void drm_sched_entity_dequeue(struct drm_sched_entity *entity)
{
	rb_erase(&entity->cgroup.link, &drm_sched_entity_level(entity)->entities);
	entity->cgroup.queued = false;
}

/* Behind the one that had its turn, or else from the start. */
static struct drm_sched_entity *drm_sched_level_next(struct drm_sched_level *level)
{
	struct rb_node *node = level->entities.rb_node;
	struct drm_sched_entity *entity, *next = NULL;

	while (node) {
		entity = drm_sched_entity_of(node);
		if (entity->cgroup.number > level->turn) {
			next = entity;
			node = node->rb_left;
		} else {
			node = node->rb_right;
		}
	}
	return next ?: drm_sched_entity_of(rb_first(&level->entities));
}

/* Of the share's own; takes those off the list that are not ready. */
static struct drm_sched_entity *drm_sched_share_next(struct drm_sched_share *share)
{
	struct drm_sched_entity *entity;
	int i;

	for (i = ARRAY_SIZE(share->levels) - 1; i >= 0; i--) {
		while ((entity = drm_sched_level_next(&share->levels[i]))) {
			if (drm_sched_entity_is_ready(entity))
				return entity;
			drm_sched_entity_dequeue(entity);
		}
	}
	drm_sched_slot_dequeue(&share->own, share);
	return NULL;
}

static struct drm_sched_entity *drm_sched_tree_next(struct drm_sched_tree *tree)
{
	struct drm_sched_entity *entity = NULL;
	struct drm_sched_share *share;
	struct drm_sched_slot *slot;

	while (!entity) {
		share = &tree->root;
		slot = drm_sched_slot_of(rb_first_cached(&share->queue));
		if (!slot)
			return NULL;
		while (slot != &share->own) {
			share = container_of(slot, struct drm_sched_share, place);
			slot = drm_sched_slot_of(rb_first_cached(&share->queue));
		}
		entity = drm_sched_share_next(share);
	}
	return entity;
}

/* It is its turn. */
static void drm_sched_entity_choose(struct drm_sched_entity *entity)
{
	struct drm_sched_share *share = entity->cgroup.share, *debtor;
	struct drm_sched_slot *slot = &share->own;

	drm_sched_entity_level(entity)->turn = entity->cgroup.number;

	while (share) {
		if (drm_sched_slot_ahead(slot, share) > 0)
			share->clock = slot->vtime;
		while ((debtor = drm_sched_share_next_debtor(share)) &&
		       drm_sched_slot_ahead(&debtor->place, share) <= 0)
			drm_sched_share_forget(debtor);
		slot = &share->place;
		share = share->parent;
	}
}

static void drm_sched_event_add(struct drm_sched_tree *tree,
				struct drm_sched_entity *entity)
{
	if (!atomic_xchg(&entity->cgroup.posted, 1))
		llist_add(&entity->cgroup.event, &tree->events);
}

/* After this no entity is on the list that was not put there meanwhile. */
static void drm_sched_tree_take_events(struct drm_sched_tree *tree)
{
	struct drm_sched_entity *entity, *tmp;

	llist_for_each_entry_safe(entity, tmp, llist_del_all(&tree->events),
				  cgroup.event) {
		atomic_set(&entity->cgroup.posted, 0);
		if (!entity->cgroup.share)
			continue;
		/* The callback is not through: it will wake us up once more. */
		if (READ_ONCE(entity->dependency))
			drm_sched_event_add(tree, entity);
		else
			drm_sched_entity_queue(entity);
	}
}

/**
 * drm_sched_cgroup_init() - make a tree of shares, or join one
 * @sched: a scheduler with its run queues and wait queues set up
 * @with: a scheduler of the same hardware whose tree it joins, may be %NULL
 *
 * Return: 0, or %-ENOMEM; drm_sched_cgroup_fini() may be called in both cases.
 */
int drm_sched_cgroup_init(struct drm_gpu_scheduler *sched,
			  struct drm_gpu_scheduler *with)
{
	struct drm_sched_tree *tree = with ? with->cgroup.tree : NULL;

	sched->cgroup.tree = NULL;
	if (tree)
		kref_get(&tree->ref);
	else
		tree = drm_sched_tree_make();
	if (!tree)
		return -ENOMEM;

	spin_lock(&tree->lock);
	list_add_tail(&sched->cgroup.link, &tree->schedulers);
	spin_unlock(&tree->lock);
	sched->cgroup.tree = tree;

	gpu_cgroup_register_scheduler(&sched->cgroup.listed, sched->dev);
	return 0;
}

static void drm_sched_entity_leave(struct drm_sched_entity *entity)
{
	struct drm_sched_share *share = entity->cgroup.share;
	struct drm_sched_level *level;

	if (!share)
		return;

	level = drm_sched_entity_level(entity);
	if (entity->cgroup.queued) {
		drm_sched_entity_dequeue(entity);
		if (RB_EMPTY_ROOT(&share->levels[DRM_SCHED_PRIORITY_MIN].entities) &&
		    RB_EMPTY_ROOT(&share->levels[DRM_SCHED_PRIORITY_NORMAL].entities) &&
		    RB_EMPTY_ROOT(&share->levels[DRM_SCHED_PRIORITY_HIGH].entities))
			drm_sched_slot_dequeue(&share->own, share);
	}
	/* As without cgroups: then the first one is next. */
	if (level->turn == entity->cgroup.number)
		level->turn = 0;
	entity->cgroup.share = NULL;
	drm_sched_share_put(share);
}

/**
 * drm_sched_cgroup_fini() - leave the tree of shares
 * @sched: a scheduler whose thread has ended
 *
 * Its entities are in nobody's way any more. Jobs that are still there keep what
 * they need.
 */
void drm_sched_cgroup_fini(struct drm_gpu_scheduler *sched)
{
	struct drm_sched_tree *tree = sched->cgroup.tree;
	struct drm_sched_entity *entity;
	struct drm_sched_rq *rq;
	int i;

	gpu_cgroup_unregister_scheduler(&sched->cgroup.listed);
	if (!tree)
		return;

	/* Who adds an entity under the lock of a run queue sees it, or is seen. */
	WRITE_ONCE(sched->cgroup.tree, NULL);
	for (i = 0; i < DRM_SCHED_PRIORITY_KERNEL; i++) {
		rq = &sched->sched_rq[i];
		spin_lock(&rq->lock);
		spin_lock(&tree->lock);
		list_for_each_entry(entity, &rq->entities, list)
			drm_sched_entity_leave(entity);
		spin_unlock(&tree->lock);
		spin_unlock(&rq->lock);
	}

	spin_lock(&tree->lock);
	list_del(&sched->cgroup.link);
	tree->ended = list_empty(&tree->schedulers);
	while (tree->ended && !list_empty(&tree->debtors))
		drm_sched_share_forget(list_first_entry(&tree->debtors,
							struct drm_sched_share,
							debtors_link));
	drm_sched_tree_kick(tree, NULL);
	spin_unlock(&tree->lock);
	drm_sched_tree_put(tree);
}

/* Takes over the reference to @owner. */
static void drm_sched_entity_own(struct drm_sched_entity *entity,
				 struct gpu_cgroup *owner)
{
	struct gpu_cgroup *cg;
	unsigned int depth = 0;

	for (cg = owner; cg; cg = gpu_cgroup_parent(cg))
		depth++;
	if (depth > GPU_TREE_DEPTH) {
		for (cg = owner; depth > GPU_TREE_DEPTH; depth--)
			cg = gpu_cgroup_parent(cg);
		gpu_cgroup_hold(cg);
		gpu_cgroup_put(owner);
		owner = cg;
	}
	entity->cgroup.owner = owner;
	entity->cgroup.depth = depth;
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
		drm_sched_entity_own(entity, gpu_cgroup_get(current));
}

/**
 * drm_sched_cgroup_entity_move() - say that an entity belongs to another cgroup
 * @entity: an entity without jobs, on no run queue
 * @owner: the cgroup, whose reference it takes over; %NULL for the root cgroup
 *
 * With %NULL for a driver's own entity on a level of users: by itself it would
 * belong to whoever loaded the driver.
 */
void drm_sched_cgroup_entity_move(struct drm_sched_entity *entity,
				  struct gpu_cgroup *owner)
{
	gpu_cgroup_put(entity->cgroup.owner);
	drm_sched_entity_own(entity, owner);
}
EXPORT_SYMBOL(drm_sched_cgroup_entity_move);

static void drm_sched_shares_free(struct drm_sched_share *spares)
{
	struct drm_sched_share *next;

	for (; spares; spares = next) {
		next = spares->parent;
		kfree(spares);
	}
}

/**
 * drm_sched_cgroup_entity_fini() - let go of an entity's cgroup
 * @entity: an entity on no run queue, which waits for no fence
 *
 * Some drivers end an entity twice, or one that was never made; with an entity
 * that is zeroed or done with nothing happens.
 */
void drm_sched_cgroup_entity_fini(struct drm_sched_entity *entity)
{
	struct drm_sched_tree *tree = entity->cgroup.tree;

	if (tree) {
		/* A fence may have signalled after it left the run queue. */
		spin_lock(&tree->lock);
		drm_sched_tree_take_events(tree);
		spin_unlock(&tree->lock);
		entity->cgroup.tree = NULL;
		drm_sched_tree_put(tree);
	}
	drm_sched_shares_free(xchg(&entity->cgroup.spares, NULL));
	drm_sched_shares_free(xchg(&entity->cgroup.lent, NULL));
	gpu_cgroup_put(entity->cgroup.owner);
	entity->cgroup.owner = NULL;
}

/*
 * With what the job that is being pushed brought along there is memory for all
 * that may be missing.
 */
static struct drm_sched_share *drm_sched_share_find_or_make(struct drm_sched_tree *tree,
							    struct gpu_cgroup *owner,
							    struct drm_sched_share **spares)
{
	struct gpu_cgroup *path[GPU_TREE_DEPTH];
	struct drm_sched_share *share;
	unsigned int missing = 0;

	while (!(share = drm_sched_share_find(tree, owner))) {
		path[missing++] = owner;
		owner = gpu_cgroup_parent(owner);
	}
	while (missing) {
		if (WARN_ON_ONCE(!*spares))
			break;
		share = drm_sched_share_make(tree, path[--missing], share, spares);
	}
	return share;
}

/**
 * drm_sched_cgroup_attach() - find or make the share of an entity
 * @rq: the run queue to which the entity is being added, locked
 * @entity: the entity
 */
void drm_sched_cgroup_attach(struct drm_sched_rq *rq,
			     struct drm_sched_entity *entity)
{
	struct drm_sched_tree *tree = READ_ONCE(rq->sched->cgroup.tree);
	struct drm_sched_share *share, *spares, *all;

	lockdep_assert_held(&rq->lock);

	entity->cgroup.level = rq - rq->sched->sched_rq;
	/* Or the scheduler has ended: nothing runs on this queue any more. */
	if (!tree || entity->cgroup.level == DRM_SCHED_PRIORITY_KERNEL)
		return;

	/* No fence will signal: it has no job that could wait for one. */
	if (tree != entity->cgroup.tree) {
		kref_get(&tree->ref);
		drm_sched_tree_put(entity->cgroup.tree);
		entity->cgroup.tree = tree;
	}

	all = xchg(&entity->cgroup.lent, NULL);
	spares = all;
	spin_lock(&tree->lock);
	share = drm_sched_share_find_or_make(tree, entity->cgroup.owner, &spares);
	drm_sched_share_get(share);
	entity->cgroup.share = share;
	entity->cgroup.number = ++tree->entities;
	spin_unlock(&tree->lock);

	/* Those of a job are as many as its cgroup is deep, or none. */
	if (spares != all || cmpxchg(&entity->cgroup.lent, NULL, spares))
		drm_sched_shares_free(spares);
}

/**
 * drm_sched_cgroup_detach() - take an entity from its share
 * @rq: the run queue from which the entity is being removed, locked
 * @entity: the entity
 */
void drm_sched_cgroup_detach(struct drm_sched_rq *rq,
			     struct drm_sched_entity *entity)
{
	struct drm_sched_tree *tree = entity->cgroup.tree;

	lockdep_assert_held(&rq->lock);

	if (!tree)
		return;

	spin_lock(&tree->lock);
	drm_sched_tree_take_events(tree);
	drm_sched_entity_leave(entity);
	drm_sched_tree_kick(tree, NULL);
	spin_unlock(&tree->lock);
}

/**
 * drm_sched_cgroup_ready() - an entity may have become ready
 * @entity: the entity, to whose empty queue a job was pushed
 */
void drm_sched_cgroup_ready(struct drm_sched_entity *entity)
{
	struct drm_sched_tree *tree = entity->cgroup.tree;

	if (!tree)
		return;

	spin_lock(&tree->lock);
	drm_sched_entity_queue(entity);
	spin_unlock(&tree->lock);
}

/**
 * drm_sched_cgroup_wakeup() - what an entity waited for has signalled
 * @entity: the entity, whose &drm_sched_entity.dependency is still set: who ends
 *	the entity waits for us until then
 *
 * Context: Any context, with the lock of a fence.
 */
void drm_sched_cgroup_wakeup(struct drm_sched_entity *entity)
{
	struct drm_sched_tree *tree = entity->cgroup.tree;

	if (tree)
		drm_sched_event_add(tree, entity);
}

/**
 * drm_sched_cgroup_select() - choose the entity that runs next
 * @sched: the scheduler
 *
 * Return: an entity that could provide a job, or %NULL if there is none or if it
 * is the turn of another scheduler of the same hardware, which is woken up.
 */
struct drm_sched_entity *drm_sched_cgroup_select(struct drm_gpu_scheduler *sched)
{
	struct drm_sched_tree *tree = sched->cgroup.tree;
	struct drm_sched_entity *entity;
	unsigned int changes;

	spin_lock(&tree->lock);

	drm_sched_tree_take_events(tree);

	changes = gpu_cgroup_priority_changes();
	if (changes != tree->changes) {
		tree->changes = changes;
		drm_sched_tree_reweigh(tree);
	}

	entity = drm_sched_tree_next(tree);
	if (entity && entity->rq->sched != sched) {
		drm_sched_wakeup(entity->rq->sched);
		entity = NULL;
	}
	if (entity) {
		drm_sched_entity_choose(entity);
		/* Under the lock: who ends the entity takes it first. */
		reinit_completion(&entity->entity_idle);
	}

	spin_unlock(&tree->lock);

	return entity;
}

/**
 * drm_sched_cgroup_job_init() - have memory for shares at hand
 * @job: a new job of an entity
 *
 * Shares are made when the job is pushed, under spin locks, and nobody must end
 * up in another's for want of memory. So each job has what it may need, wherever
 * its entity goes until then, and gives it to its entity for the next one.
 *
 * Context: May sleep.
 * Return: 0 or %-ENOMEM.
 */
int drm_sched_cgroup_job_init(struct drm_sched_job *job)
{
	struct drm_sched_entity *entity = job->entity;
	struct drm_sched_share *share, *spares;
	unsigned int i;

	spares = xchg(&entity->cgroup.spares, NULL);
	for (i = spares ? entity->cgroup.depth : 0; i < entity->cgroup.depth; i++) {
		share = kzalloc(sizeof(*share), GFP_KERNEL);
		if (!share) {
			drm_sched_shares_free(spares);
			return -ENOMEM;
		}
		share->parent = spares;
		spares = share;
	}
	job->cgroup.spares = spares;
	return 0;
}

/**
 * drm_sched_cgroup_job_push() - let an entity have the memory of a job
 * @job: a job that is about to be pushed; it may be gone right after that
 */
void drm_sched_cgroup_job_push(struct drm_sched_job *job)
{
	struct drm_sched_entity *entity = job->entity;
	struct drm_sched_share *spares;

	if (!job->cgroup.spares)
		return;
	spares = xchg(&entity->cgroup.lent, job->cgroup.spares);
	job->cgroup.spares = NULL;
	if (spares && cmpxchg(&entity->cgroup.spares, NULL, spares))
		drm_sched_shares_free(spares);
}

/**
 * drm_sched_cgroup_job_run() - charge a job that is about to be popped
 * @job: the first job of the entity chosen last
 *
 * Not later: with its last job popped an entity may end at any time.
 */
void drm_sched_cgroup_job_run(struct drm_sched_job *job)
{
	struct drm_sched_entity *entity = job->entity;
	struct drm_sched_tree *tree = entity->cgroup.tree;
	struct drm_sched_share *share;

	if (!tree)
		return;

	spin_lock(&tree->lock);
	/* NULL if the entity has just been killed. */
	share = entity->cgroup.share;
	if (share) {
		kref_get(&tree->ref);
		drm_sched_share_get(share);
		job->cgroup.share = share;
		job->cgroup.guess = share->average;
		drm_sched_share_charge(share, job->cgroup.guess);
		for (; share; share = share->parent) {
			share->running++;
			share->owing = true;
		}
		/* Another's choice may have met it while it looked for fences. */
		drm_sched_entity_queue(entity);
		drm_sched_tree_kick(tree, entity->rq->sched);
	}
	spin_unlock(&tree->lock);
}

/**
 * drm_sched_cgroup_settle() - replace a job's guess by its cost
 * @job: a job that has run
 * @cost: its run time in ns
 *
 * Does nothing for a job that was not charged, or is settled already.
 *
 * Context: Process context. One job is settled once at a time.
 */
void drm_sched_cgroup_settle(struct drm_sched_job *job, u64 cost)
{
	struct drm_sched_share *share = job->cgroup.share, *ancestor;
	struct drm_sched_tree *tree;

	if (!share)
		return;
	job->cgroup.share = NULL;
	tree = share->tree;
	cost = max_t(u64, cost, GPU_COST_MIN);

	spin_lock(&tree->lock);
	/* At the pace of now: what was charged has been scaled if it changed. */
	drm_sched_share_charge(share, cost - job->cgroup.guess);
	share->average += cost / 8 - share->average / 8;
	for (ancestor = share; ancestor; ancestor = ancestor->parent) {
		ancestor->running--;
		drm_sched_share_check_idle(ancestor);
	}
	drm_sched_share_put(share);
	drm_sched_tree_kick(tree, NULL);
	spin_unlock(&tree->lock);
	drm_sched_tree_put(tree);
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

	drm_sched_shares_free(job->cgroup.spares);
	job->cgroup.spares = NULL;
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

#if IS_ENABLED(CONFIG_DRM_SCHED_CGROUP_KUNIT_TEST)
/**
 * drm_sched_cgroup_shares() - how many shares there are, for unit tests
 * @sched: a scheduler
 *
 * Return: their number, with the root's and those without entities.
 */
unsigned int drm_sched_cgroup_shares(struct drm_gpu_scheduler *sched)
{
	unsigned int shares = 1;
	struct rb_node *node;

	for (node = rb_first(&sched->cgroup.tree->by_owner); node; node = rb_next(node))
		shares++;
	return shares;
}
#endif
