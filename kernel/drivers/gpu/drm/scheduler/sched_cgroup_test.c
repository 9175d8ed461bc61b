// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of sched_cgroup.c: the weights, and whom the scheduler chooses; and of
 * what gpu.devices says.
 *
 * The run queues, entities and shares are real. There is no thread and no
 * hardware: a test lets the chosen job run and says how long that took.
 */

#include <kunit/test.h>
#include <linux/cgroup_gpu.h>
#include <linux/device.h>
#include <linux/kdev_t.h>
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/module.h>
#include <linux/prandom.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/time64.h>

#include <drm/gpu_scheduler.h>

#define MAX_CLIENTS	1024
#define USEC		((u64)NSEC_PER_USEC)
#define MSEC		((u64)NSEC_PER_MSEC)

/* A process: one entity with always the same job, and what it got. */
struct client {
	struct drm_sched_entity	entity;
	struct drm_sched_job	job;
	u64			cost;
	u64			ran;
	u64			jobs;
};

struct gpu {
	struct kunit		*test;
	/* The hardware prefers the first, if there is more than one. */
	struct drm_gpu_scheduler scheds[2];
	unsigned int		num_scheds;
	struct gpu_cgroup	*cgroups[MAX_CLIENTS];
	unsigned int		num_cgroups;
	struct client		*clients[MAX_CLIENTS];
	unsigned int		num_clients;
};

static void entity_belongs(struct drm_sched_entity *entity, struct gpu_cgroup *cg)
{
	drm_sched_cgroup_entity_move(entity, gpu_cgroup_hold(cg));
}

/* The first job: what drm_sched_entity_push_job() does. */
static void entity_push(struct drm_sched_entity *entity, struct drm_sched_job *job,
			struct drm_sched_rq *rq)
{
	drm_sched_cgroup_job_push(job);
	if (spsc_queue_push(&entity->job_queue, &job->queue_node)) {
		drm_sched_rq_add_entity(rq, entity);
		drm_sched_cgroup_ready(entity);
	}
}

static void sched_setup(struct gpu *gpu, struct drm_gpu_scheduler *sched,
			struct drm_gpu_scheduler *with)
{
	struct drm_sched_rq *rq;
	int i;

	sched->score = &sched->_score;
	for (i = 0; i < DRM_SCHED_PRIORITY_COUNT; i++) {
		rq = &sched->sched_rq[i];
		spin_lock_init(&rq->lock);
		INIT_LIST_HEAD(&rq->entities);
		rq->sched = sched;
	}
	KUNIT_ASSERT_EQ(gpu->test, drm_sched_cgroup_init(sched, with), 0);
	gpu->num_scheds++;
}

static int gpu_init(struct kunit *test)
{
	struct gpu *gpu = kunit_kzalloc(test, sizeof(*gpu), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, gpu);
	gpu->test = test;
	test->priv = gpu;
	sched_setup(gpu, &gpu->scheds[0], NULL);
	return 0;
}

static void client_pause(struct client *client)
{
	spsc_queue_pop(&client->entity.job_queue);
}

static void client_resume(struct client *client)
{
	entity_push(&client->entity, &client->job, client->entity.rq);
}

static void client_leave(struct client *client)
{
	while (spsc_queue_pop(&client->entity.job_queue))
		;
	drm_sched_entity_fini(&client->entity);
}

static void gpu_exit(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	int i;

	for (i = 0; i < gpu->num_clients; i++) {
		client_leave(gpu->clients[i]);
		kfree(gpu->clients[i]);
	}
	for (i = 0; i < gpu->num_scheds; i++)
		drm_sched_cgroup_fini(&gpu->scheds[i]);
	for (i = 0; i < gpu->num_cgroups; i++)
		gpu_cgroup_put(gpu->cgroups[i]);
}

static struct gpu_cgroup *cgroup(struct gpu *gpu, struct gpu_cgroup *parent,
				 int priority)
{
	struct gpu_cgroup *cg = gpu_cgroup_mock(parent);

	KUNIT_ASSERT_NOT_NULL(gpu->test, cg);
	KUNIT_ASSERT_LT(gpu->test, gpu->num_cgroups, MAX_CLIENTS);
	gpu->cgroups[gpu->num_cgroups++] = cg;
	gpu_cgroup_mock_priority(cg, priority);
	return cg;
}

static void client_job(struct client *client)
{
	memset(&client->job, 0, sizeof(client->job));
	client->job.entity = &client->entity;
	drm_sched_cgroup_job_init(&client->job);
}

static void client_open_on(struct gpu *gpu, struct client *client,
			   struct gpu_cgroup *cg,
			   struct drm_gpu_scheduler *sched,
			   enum drm_sched_priority level)
{
	int ret;

	ret = drm_sched_entity_init(&client->entity, level, &sched, 1, NULL);
	KUNIT_ASSERT_EQ(gpu->test, ret, 0);
	entity_belongs(&client->entity, cg);
	client_job(client);
	client_resume(client);
}

static void client_open(struct gpu *gpu, struct client *client,
			struct gpu_cgroup *cg)
{
	client_open_on(gpu, client, cg, &gpu->scheds[0], DRM_SCHED_PRIORITY_NORMAL);
}

static struct client *client_on(struct gpu *gpu, struct gpu_cgroup *cg, u64 cost,
				struct drm_gpu_scheduler *sched,
				enum drm_sched_priority level)
{
	struct client *client = kzalloc(sizeof(*client), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(gpu->test, client);
	KUNIT_ASSERT_LT(gpu->test, gpu->num_clients, MAX_CLIENTS);
	gpu->clients[gpu->num_clients++] = client;
	client->cost = cost;
	client_open_on(gpu, client, cg, sched, level);
	return client;
}

static struct client *client(struct gpu *gpu, struct gpu_cgroup *cg, u64 cost)
{
	return client_on(gpu, cg, cost, &gpu->scheds[0], DRM_SCHED_PRIORITY_NORMAL);
}

static struct drm_sched_entity *gpu_select(struct gpu *gpu)
{
	struct drm_sched_entity *entity = NULL;
	int i;

	for (i = 0; i < gpu->num_scheds && !entity; i++)
		entity = drm_sched_cgroup_select(&gpu->scheds[i]);
	/* There is no thread that would say so later. */
	if (entity)
		complete_all(&entity->entity_idle);
	return entity;
}

/* One job. Returns its owner, or NULL if nobody has work. */
static struct client *run_one(struct gpu *gpu)
{
	struct drm_sched_entity *entity = gpu_select(gpu);
	struct client *client;

	if (!entity)
		return NULL;
	client = container_of(entity, struct client, entity);
	drm_sched_cgroup_job_run(&client->job);
	drm_sched_cgroup_settle(&client->job, client->cost);
	client->ran += client->cost;
	client->jobs++;
	return client;
}

static void run(struct gpu *gpu, u64 ns)
{
	struct client *client;
	u64 end = ns;
	int i;

	for (i = 0; i < gpu->num_clients; i++) {
		gpu->clients[i]->ran = 0;
		gpu->clients[i]->jobs = 0;
	}
	for (ns = 0; ns < end; ns += client->cost) {
		client = run_one(gpu);
		KUNIT_ASSERT_NOT_NULL(gpu->test, client);
		/* A kernel that checks itself takes a minute for some of it. */
		cond_resched();
	}
}

/*
 * Is a : b as the weights of two priorities? To half a percent, which is less
 * than one point of priority.
 */
static void expect_ratio(struct gpu *gpu, u64 a, u64 b, int pa, int pb)
{
	u64 want = mul_u64_u64_div_u64(b, drm_sched_cgroup_weight(pa),
				       drm_sched_cgroup_weight(pb));

	KUNIT_EXPECT_GE_MSG(gpu->test, a, want - want / 200,
			    "%d against %d, %llu ns", pa, pb, b);
	KUNIT_EXPECT_LE_MSG(gpu->test, a, want + want / 200,
			    "%d against %d, %llu ns", pa, pb, b);
}

static unsigned int shares(struct gpu *gpu)
{
	return drm_sched_cgroup_shares(&gpu->scheds[0]);
}

/* Each point makes a difference, and the ends are where they should be. */
static void weight_is_monotonic(struct kunit *test)
{
	int p;

	KUNIT_EXPECT_EQ(test, drm_sched_cgroup_weight(-1024), BIT(15));
	KUNIT_EXPECT_EQ(test, drm_sched_cgroup_weight(0), BIT(23));
	KUNIT_EXPECT_EQ(test, drm_sched_cgroup_weight(1024), BIT(31));
	for (p = -1024; p < 1024; p++)
		KUNIT_ASSERT_LT_MSG(test, drm_sched_cgroup_weight(p),
				    drm_sched_cgroup_weight(p + 1), "%d", p);
}

/* 128 points double, wherever one starts; the rest is lost in rounding down. */
static void weight_doubles(struct kunit *test)
{
	int p;

	for (p = -1024; p <= 1024 - 128; p++) {
		KUNIT_ASSERT_GE(test, drm_sched_cgroup_weight(p + 128),
				2 * drm_sched_cgroup_weight(p));
		KUNIT_ASSERT_LE(test, drm_sched_cgroup_weight(p + 128),
				2 * drm_sched_cgroup_weight(p) + 1);
	}
}

/* What a point up gives, a point down takes: weight(p) * weight(-p) = 1. */
static void weight_is_symmetric(struct kunit *test)
{
	u64 product, one = BIT_ULL(46);
	int p;

	for (p = 0; p <= 1024; p++) {
		product = mul_u32_u32(drm_sched_cgroup_weight(p),
				      drm_sched_cgroup_weight(-p));
		KUNIT_ASSERT_LE_MSG(test, product, one, "%d", p);
		KUNIT_ASSERT_GE_MSG(test, product, one - (one >> 14), "%d", p);
	}
}

/* Computed with floating point elsewhere: 2^23 * 2^(p / 128). */
static void weight_table(struct kunit *test)
{
	static const struct {
		int priority;
		u32 weight;
	} table[] = {
		{ -1000, 37315u },
		{ -100, 4881015u },
		{ -1, 8343304u },
		{ 1, 8434157u },
		{ 10, 8855393u },
		{ 50, 10997139u },
		{ 64, 11863283u },
		{ 100, 14416823u },
		{ 200, 24777031u },
		{ 900, 1097253708u },
		{ 1023, 2135885998u },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(table); i++) {
		s64 got = drm_sched_cgroup_weight(table[i].priority);

		/* Seven factors rounded to 31 bits: a few units at the top. */
		KUNIT_EXPECT_LE_MSG(test, abs(got - table[i].weight), 8,
				    "%d: %lld", table[i].priority, got);
	}
}

/* Two saturated cgroups get what their weights say. */
static void share_follows_weight(struct kunit *test)
{
	static const struct {
		int low, high;
		u64 seconds;
	} pairs[] = {
		{ 0, 0, 6 }, { -100, 100, 6 }, { 0, 50, 6 }, { 10, 900, 10 },
		{ 0, 1, 6 }, { 7, 7, 6 }, { -1024, -1000, 6 }, { -1024, 1024, 80 },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(pairs); i++) {
		struct client *a, *b;
		struct gpu *gpu;

		gpu_exit(test);
		KUNIT_ASSERT_EQ(test, gpu_init(test), 0);
		gpu = test->priv;
		/* So that both have enough jobs for the precision. */
		a = client(gpu, cgroup(gpu, NULL, pairs[i].low),
			   pairs[i].seconds > 10 ? 2 * USEC : 100 * USEC);
		b = client(gpu, cgroup(gpu, NULL, pairs[i].high), 1000 * USEC);
		run(gpu, pairs[i].seconds * NSEC_PER_SEC);
		expect_ratio(gpu, b->ran, a->ran, pairs[i].high, pairs[i].low);
	}
}

/* Time counts, not the number of jobs, even if it becomes known late. */
static void share_is_time(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct client *a = client(gpu, cgroup(gpu, NULL, 0), 100 * USEC);
	struct client *b = client(gpu, cgroup(gpu, NULL, 0), 2 * MSEC);
	struct drm_sched_job queue[4] = { };
	struct client *owner;
	int i;

	for (i = 0; i < 40000; i++) {
		struct drm_sched_job *job = &queue[i % ARRAY_SIZE(queue)];

		/* Its turn again: it was the oldest in the hardware. */
		if (job->entity) {
			owner = container_of(job->entity, struct client, entity);
			drm_sched_cgroup_settle(job, owner->cost);
			owner->ran += owner->cost;
		}
		job->entity = gpu_select(gpu);
		KUNIT_ASSERT_NOT_NULL(test, job->entity);
		drm_sched_cgroup_job_run(job);
	}
	for (i = 0; i < ARRAY_SIZE(queue); i++)
		drm_sched_cgroup_settle(&queue[i], MSEC);
	expect_ratio(gpu, a->ran, b->ran, 0, 0);
}

/* Ten processes of one cgroup against one, in turn among themselves. */
static void share_is_per_cgroup(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct gpu_cgroup *crowd = cgroup(gpu, NULL, 0);
	struct client *one, *many[10], *got;
	u64 together = 0;
	int i, turn = 0;

	one = client(gpu, cgroup(gpu, NULL, 0), MSEC);
	for (i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = client(gpu, crowd, MSEC);

	for (i = 0; i < 100; i++) {
		got = run_one(gpu);
		if (got != one)
			KUNIT_ASSERT_PTR_EQ(test, got, many[turn++ % 10]);
	}
	run(gpu, 20 * NSEC_PER_SEC);
	for (i = 0; i < ARRAY_SIZE(many); i++) {
		together += many[i]->ran;
		expect_ratio(gpu, many[i]->ran, many[0]->ran, 0, 0);
	}
	expect_ratio(gpu, one->ran, together, 0, 0);
}

/* Without cgroups entities take turns in the order they came, as ever. */
static void root_takes_turns(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct client *c[3];
	int i;

	for (i = 0; i < ARRAY_SIZE(c); i++)
		c[i] = client(gpu, NULL, (i + 1) * MSEC);
	for (i = 0; i < 9; i++)
		KUNIT_EXPECT_PTR_EQ(test, run_one(gpu), c[i % 3]);
	KUNIT_EXPECT_PTR_EQ(test, run_one(gpu), c[0]);
	client_pause(c[1]);
	KUNIT_EXPECT_PTR_EQ(test, run_one(gpu), c[2]);
	KUNIT_EXPECT_PTR_EQ(test, run_one(gpu), c[0]);
	client_resume(c[1]);
	KUNIT_EXPECT_PTR_EQ(test, run_one(gpu), c[1]);
	KUNIT_EXPECT_EQ(test, shares(gpu), 1);
}

/* However many children a cgroup has: they share what it gets. */
static void children_divide_the_share(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct gpu_cgroup *one = cgroup(gpu, NULL, 0);
	struct gpu_cgroup *nine = cgroup(gpu, NULL, 0);
	struct client *single, *many[9];
	u64 together = 0;
	int i;

	single = client(gpu, cgroup(gpu, one, 0), MSEC);
	for (i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = client(gpu, cgroup(gpu, nine, 0), MSEC);
	run(gpu, 8 * NSEC_PER_SEC);
	for (i = 0; i < ARRAY_SIZE(many); i++) {
		together += many[i]->ran;
		expect_ratio(gpu, many[i]->ran, many[0]->ran, 0, 0);
	}
	expect_ratio(gpu, single->ran, together, 0, 0);
}

/* Whatever they say of themselves. */
static void child_does_not_rise_above_its_parent(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct gpu_cgroup *parent = cgroup(gpu, NULL, 0);
	struct client *a = client(gpu, cgroup(gpu, parent, 900), MSEC);
	struct client *b = client(gpu, cgroup(gpu, NULL, 0), MSEC);
	struct client *c;

	run(gpu, 4 * NSEC_PER_SEC);
	expect_ratio(gpu, a->ran, b->ran, 0, 0);

	/* Nor beside a sibling of its own, nor below it. */
	c = client(gpu, cgroup(gpu, cgroup(gpu, parent, -900), 1024), MSEC);
	run(gpu, 4 * NSEC_PER_SEC);
	expect_ratio(gpu, a->ran + c->ran, b->ran, 0, 0);
	KUNIT_EXPECT_LE(test, c->jobs, 2);
}

/* At each level the weights of siblings, and only theirs. */
static void three_levels(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct gpu_cgroup *a = cgroup(gpu, NULL, 0);
	struct gpu_cgroup *b = cgroup(gpu, NULL, 100);
	struct gpu_cgroup *b1 = cgroup(gpu, b, -200);
	struct gpu_cgroup *b2 = cgroup(gpu, b, 50);
	struct client *a1 = client(gpu, cgroup(gpu, a, 300), MSEC);
	struct client *a2 = client(gpu, cgroup(gpu, a, 200), 300 * USEC);
	struct client *b11 = client(gpu, cgroup(gpu, b1, 7), 500 * USEC);
	struct client *b12 = client(gpu, cgroup(gpu, b1, 107), 500 * USEC);
	struct client *b21 = client(gpu, cgroup(gpu, b2, 1000), MSEC);
	struct client *b2own = client(gpu, b2, 200 * USEC);
	u64 got_a, got_b1, got_b2;

	run(gpu, 30 * NSEC_PER_SEC);
	got_a = a1->ran + a2->ran;
	got_b1 = b11->ran + b12->ran;
	got_b2 = b21->ran + b2own->ran;
	expect_ratio(gpu, got_a, got_b1 + got_b2, 0, 100);
	expect_ratio(gpu, a1->ran, a2->ran, 300, 200);
	expect_ratio(gpu, got_b1, got_b2, -200, 50);
	expect_ratio(gpu, b11->ran, b12->ran, 7, 107);
	expect_ratio(gpu, b2own->ran, b21->ran, 0, 1000);
}

/* To one point of priority, however many there are. */
static void many_siblings(struct kunit *test)
{
	static const int numbers[] = { 2, 10, 100 };
	struct client **c;
	int i, j, n;

	c = kunit_kcalloc(test, 100, sizeof(*c), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, c);
	for (i = 0; i < ARRAY_SIZE(numbers); i++) {
		struct gpu *gpu;

		gpu_exit(test);
		KUNIT_ASSERT_EQ(test, gpu_init(test), 0);
		gpu = test->priv;
		n = numbers[i];
		for (j = 0; j < n; j++)
			c[j] = client(gpu, cgroup(gpu, NULL, j * 100 / n), MSEC);
		run(gpu, n * NSEC_PER_SEC * 4 / 10);
		for (j = 1; j < n; j++)
			expect_ratio(gpu, c[j]->ran, c[0]->ran, j * 100 / n, 0);
	}
}

/* What belongs to a cgroup itself is one sibling of its children. */
static void own_entities_are_one_sibling(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct gpu_cgroup *top = cgroup(gpu, NULL, 5);
	struct gpu_cgroup *parents[] = { NULL, top };
	struct client *own[10], *child;
	u64 together;
	int i, j;

	for (j = 0; j < ARRAY_SIZE(parents); j++) {
		child = client(gpu, cgroup(gpu, parents[j], 128), MSEC);
		for (i = 0; i < ARRAY_SIZE(own); i++)
			own[i] = client(gpu, parents[j], MSEC);
		run(gpu, 12 * NSEC_PER_SEC);
		together = 0;
		for (i = 0; i < ARRAY_SIZE(own); i++)
			together += own[i]->ran;
		expect_ratio(gpu, child->ran, together, 128, 0);
		for (i = 0; i < ARRAY_SIZE(own); i++)
			client_leave(own[i]);
		client_leave(child);
	}
}

/* Deeper than there are shares: they share one, and no more than that. */
static void nesting_has_an_end(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct gpu_cgroup *cg = cgroup(gpu, NULL, 0);
	struct client *deep[4], *flat = client(gpu, cgroup(gpu, NULL, 0), MSEC);
	u64 together = 0;
	int i;

	for (i = 0; i < 100; i++)
		cg = cgroup(gpu, cg, 900);
	for (i = 0; i < ARRAY_SIZE(deep); i++)
		deep[i] = client(gpu, cgroup(gpu, cg, i), MSEC);
	run(gpu, 10 * NSEC_PER_SEC);
	for (i = 0; i < ARRAY_SIZE(deep); i++) {
		together += deep[i]->ran;
		expect_ratio(gpu, deep[i]->ran, deep[0]->ran, 0, 0);
	}
	expect_ratio(gpu, together, flat->ran, 0, 0);
	KUNIT_EXPECT_LE(test, shares(gpu), 40);
}

/* No level that a process may choose takes time from another cgroup. */
static void cgroups_come_before_levels(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct client *a, *b;

	a = client_on(gpu, cgroup(gpu, NULL, -100), MSEC, &gpu->scheds[0],
		      DRM_SCHED_PRIORITY_HIGH);
	b = client_on(gpu, cgroup(gpu, NULL, 100), MSEC, &gpu->scheds[0],
		      DRM_SCHED_PRIORITY_MIN);
	run(gpu, 6 * NSEC_PER_SEC);
	expect_ratio(gpu, a->ran, b->ran, -100, 100);
}

/* Inside a cgroup they count as they did. */
static void levels_inside_a_cgroup(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct gpu_cgroup *cg = cgroup(gpu, NULL, 3);
	struct client *c[2 * DRM_SCHED_PRIORITY_KERNEL];
	int i, j;

	for (i = 0; i < ARRAY_SIZE(c); i++)
		c[i] = client_on(gpu, cg, MSEC, &gpu->scheds[0], i / 2);
	for (i = ARRAY_SIZE(c) - 2; i >= 0; i -= 2) {
		for (j = 0; j < 6; j++)
			KUNIT_EXPECT_PTR_EQ(test, run_one(gpu), c[i + j % 2]);
		client_pause(c[i]);
		for (j = 0; j < 3; j++)
			KUNIT_EXPECT_PTR_EQ(test, run_one(gpu), c[i + 1]);
		client_pause(c[i + 1]);
	}
	KUNIT_EXPECT_NULL(test, run_one(gpu));
}

/* What 6.1 does without cgroups, on one level. */
static struct drm_sched_entity *upstream_select(struct drm_sched_rq *rq)
{
	struct drm_sched_entity *entity;

	entity = rq->current_entity;
	if (entity) {
		list_for_each_entry_continue(entity, &rq->entities, list) {
			if (drm_sched_entity_is_ready(entity)) {
				rq->current_entity = entity;
				return entity;
			}
		}
	}
	list_for_each_entry(entity, &rq->entities, list) {
		if (drm_sched_entity_is_ready(entity)) {
			rq->current_entity = entity;
			return entity;
		}
		if (entity == rq->current_entity)
			break;
	}
	return NULL;
}

/* All in one cgroup: the same order, whoever comes, goes, pauses and waits. */
static void one_cgroup_is_as_upstream(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct gpu_cgroup *cgroups[] = { NULL, cgroup(gpu, NULL, 77) };
	struct drm_sched_entity *want, *got;
	struct dma_fence *fence = (void *)gpu;
	struct client *c[12], *x;
	struct rnd_state rnd;
	int i, j, level, chosen = 0;

	prandom_seed_state(&rnd, 15);
	for (j = 0; j < ARRAY_SIZE(cgroups); j++) {
		for (i = 0; i < ARRAY_SIZE(c); i++)
			c[i] = client_on(gpu, cgroups[j], MSEC, &gpu->scheds[0], i % 3);
		for (i = 0; i < 5000; i++) {
			x = c[prandom_u32_state(&rnd) % ARRAY_SIZE(c)];
			switch (prandom_u32_state(&rnd) % 10) {
			case 0:
				if (x->entity.dependency)
					drm_sched_cgroup_wakeup(&x->entity);
				x->entity.dependency = NULL;
				client_leave(x);
				client_open_on(gpu, x, cgroups[j], &gpu->scheds[0],
					       prandom_u32_state(&rnd) % 3);
				break;
			case 1 ... 3:
				if (!x->entity.dependency)
					client_pause(x);
				break;
			case 4:
				if (!spsc_queue_count(&x->entity.job_queue))
					client_resume(x);
				break;
			case 5:
				if (spsc_queue_count(&x->entity.job_queue))
					x->entity.dependency = fence;
				break;
			case 6:
				if (x->entity.dependency) {
					drm_sched_cgroup_wakeup(&x->entity);
					x->entity.dependency = NULL;
				}
				break;
			}
			want = NULL;
			for (level = DRM_SCHED_PRIORITY_HIGH; level >= 0 && !want; level--)
				want = upstream_select(&gpu->scheds[0].sched_rq[level]);
			got = gpu_select(gpu);
			KUNIT_ASSERT_PTR_EQ_MSG(test, got, want, "step %d", i);
			chosen += !!got;
		}
		for (i = 0; i < ARRAY_SIZE(c); i++) {
			if (c[i]->entity.dependency)
				drm_sched_cgroup_wakeup(&c[i]->entity);
			c[i]->entity.dependency = NULL;
			client_leave(c[i]);
		}
	}
	KUNIT_EXPECT_GT(test, chosen, 5000);
}

/* Not chosen while it waits for a fence, and not lost when that signals. */
static void dependency_is_waited_for(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct client *a = client(gpu, cgroup(gpu, NULL, 0), MSEC);
	struct client *b = client(gpu, cgroup(gpu, NULL, 0), MSEC);
	struct dma_fence *fence = (void *)gpu;
	int i;

	a->entity.dependency = fence;
	for (i = 0; i < 3; i++)
		KUNIT_EXPECT_PTR_EQ(test, run_one(gpu), b);
	/* A choice in the middle of the callback. */
	drm_sched_cgroup_wakeup(&a->entity);
	KUNIT_EXPECT_PTR_EQ(test, run_one(gpu), b);
	a->entity.dependency = NULL;
	KUNIT_EXPECT_PTR_EQ(test, run_one(gpu), a);

	/* It may end at any point of that. */
	a->entity.dependency = fence;
	KUNIT_EXPECT_PTR_EQ(test, run_one(gpu), b);
	drm_sched_cgroup_wakeup(&a->entity);
	drm_sched_rq_remove_entity(a->entity.rq, &a->entity);
	drm_sched_cgroup_wakeup(&a->entity);
	a->entity.dependency = NULL;
	client_leave(a);
	memset(&a->entity, POISON_FREE, sizeof(a->entity));
	for (i = 0; i < 3; i++)
		KUNIT_EXPECT_PTR_EQ(test, run_one(gpu), b);
	client_open(gpu, a, NULL);
	KUNIT_EXPECT_PTR_EQ(test, run_one(gpu), a);
}

/* A change counts for queued work, be it the cgroup's own or an ancestor's. */
static void change_is_live(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct gpu_cgroup *parent = cgroup(gpu, NULL, 0);
	struct gpu_cgroup *child = cgroup(gpu, parent, 200);
	struct client *a = client(gpu, child, MSEC);
	struct client *b = client(gpu, cgroup(gpu, NULL, 0), MSEC);
	struct client *c = client(gpu, cgroup(gpu, parent, 0), MSEC);

	run(gpu, 6 * NSEC_PER_SEC);
	expect_ratio(gpu, a->ran, c->ran, 200, 0);
	expect_ratio(gpu, a->ran + c->ran, b->ran, 0, 0);
	gpu_cgroup_mock_priority(child, -200);
	run(gpu, 6 * NSEC_PER_SEC);
	expect_ratio(gpu, a->ran, c->ran, -200, 0);
	expect_ratio(gpu, a->ran + c->ran, b->ran, 0, 0);
	gpu_cgroup_mock_priority(parent, 50);
	run(gpu, 6 * NSEC_PER_SEC);
	expect_ratio(gpu, a->ran, c->ran, -200, 0);
	expect_ratio(gpu, a->ran + c->ran, b->ran, 50, 0);
}

/* Whoever is raised does not first wait off what he used at a low weight. */
static void change_scales_debt(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct gpu_cgroup *cg = cgroup(gpu, NULL, -1024);
	struct client *a = client(gpu, cg, MSEC);
	struct client *b = client(gpu, cgroup(gpu, NULL, 1024), MSEC);
	struct drm_sched_job job = { .entity = &a->entity };

	run(gpu, 10 * MSEC);
	KUNIT_EXPECT_EQ(test, a->jobs, 1);
	run(gpu, 1000 * MSEC);
	KUNIT_EXPECT_EQ(test, a->jobs, 0);
	gpu_cgroup_mock_priority(cg, 1024);
	run(gpu, 10 * MSEC);
	KUNIT_EXPECT_GE(test, a->jobs, 4);
	KUNIT_EXPECT_GE(test, b->jobs, 4);

	/* Nor is it paid for a job that was charged too much before. */
	gpu_cgroup_mock_priority(cg, -1024);
	run(gpu, 10 * MSEC);
	drm_sched_cgroup_job_run(&job);
	gpu_cgroup_mock_priority(cg, 1024);
	run(gpu, MSEC);
	drm_sched_cgroup_settle(&job, 0);
	run(gpu, 10 * MSEC);
	KUNIT_EXPECT_GE(test, a->jobs, 4);
	KUNIT_EXPECT_GE(test, b->jobs, 4);
}

/* Back from a pause: next in line, but with nothing saved up. */
static void pause_saves_nothing(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct client *a = client(gpu, cgroup(gpu, NULL, 0), MSEC);
	struct client *b = client(gpu, cgroup(gpu, NULL, 0), MSEC);

	run(gpu, NSEC_PER_SEC);
	client_pause(b);
	run(gpu, 10 * NSEC_PER_SEC);
	KUNIT_EXPECT_EQ(test, b->jobs, 0);
	client_resume(b);
	run(gpu, 2 * MSEC);
	KUNIT_EXPECT_EQ(test, b->jobs, 1);
	run(gpu, NSEC_PER_SEC);
	expect_ratio(gpu, b->ran, a->ran, 0, 0);
}

/* Closing and opening the device again does not wipe out what was used. */
static void reopening_saves_nothing(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct gpu_cgroup *cg = cgroup(gpu, NULL, 0);
	struct client *a = client(gpu, cg, 10 * MSEC);
	struct client *b = client(gpu, cgroup(gpu, NULL, 0), MSEC);
	struct client *got;
	u64 ran_a = 0, ran_b = 0;
	int i;

	for (i = 0; i < 10000; i++) {
		got = run_one(gpu);
		if (got == b) {
			ran_b += b->cost;
			continue;
		}
		ran_a += a->cost;
		client_leave(a);
		client_open(gpu, a, cg);
	}
	expect_ratio(gpu, ran_a, ran_b, 0, 0);
}

/*
 * The lowest against ten of the highest: it never waits longer than its job's
 * time times the ratio of weights, and one job of each of the others.
 */
static void lowest_is_not_starved(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct client *low, *got;
	u64 wait = 0, longest = 0, bound;
	int i, n = 0;

	for (i = 0; i < 10; i++)
		client(gpu, cgroup(gpu, NULL, 1024), MSEC);
	low = client(gpu, cgroup(gpu, NULL, -1024), 2 * USEC);
	bound = 10 * (65536 * low->cost + MSEC);

	for (i = 0; i < 9000; i++) {
		got = run_one(gpu);
		if (got != low) {
			wait += got->cost;
			continue;
		}
		/* The first does not wait for its turn in the ratio at all. */
		if (!n++)
			KUNIT_EXPECT_LE(test, wait, 10 * MSEC);
		longest = max(longest, wait);
		wait = 0;
	}
	KUNIT_EXPECT_GE(test, n, 6);
	KUNIT_EXPECT_LE(test, longest, bound);
	KUNIT_EXPECT_LE(test, wait, bound);
}

/* An entity that is gone is never chosen; its share goes when nothing is owed. */
static void removed_is_forgotten(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct gpu_cgroup *cg = cgroup(gpu, NULL, 0);
	struct client *a = client(gpu, cg, 5 * MSEC);
	struct client *twin = client(gpu, cg, 5 * MSEC);
	struct client *b = client(gpu, cgroup(gpu, NULL, 0), MSEC);
	int i;

	KUNIT_EXPECT_EQ(test, shares(gpu), 3);
	KUNIT_EXPECT_PTR_EQ(test, run_one(gpu), a);
	client_leave(a);
	for (i = 0; i < 100; i++)
		KUNIT_EXPECT_PTR_NE(test, run_one(gpu), a);
	client_leave(twin);
	for (i = 0; i < 10; i++)
		KUNIT_EXPECT_PTR_EQ(test, run_one(gpu), b);
	KUNIT_EXPECT_EQ(test, shares(gpu), 2);

	/* The last one leaves owing; nobody waits and nothing runs. */
	client_leave(b);
	KUNIT_EXPECT_NULL(test, run_one(gpu));
	KUNIT_EXPECT_EQ(test, shares(gpu), 1);
}

/* Ancestors that only their children need come and go with them. */
static void ancestors_go_with_their_children(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct gpu_cgroup *top = cgroup(gpu, NULL, 0);
	struct gpu_cgroup *mid = cgroup(gpu, top, 0);
	struct client *b = client(gpu, cgroup(gpu, NULL, 0), MSEC);
	struct client *a1 = client(gpu, cgroup(gpu, mid, 0), 5 * MSEC);
	struct client *a2 = client(gpu, cgroup(gpu, top, 0), 5 * MSEC);
	int i;

	KUNIT_EXPECT_EQ(test, shares(gpu), 6);
	run(gpu, 100 * MSEC);
	client_leave(a2);
	run(gpu, 100 * MSEC);
	KUNIT_EXPECT_EQ(test, shares(gpu), 5);
	for (i = 0; i < 100 && run_one(gpu) != a1; i++)
		;
	client_leave(a1);
	/* Nobody else is below the uppermost: it alone owes. */
	KUNIT_EXPECT_EQ(test, shares(gpu), 3);
	run(gpu, 100 * MSEC);
	KUNIT_EXPECT_EQ(test, shares(gpu), 2);
	KUNIT_EXPECT_EQ(test, b->jobs, 100);
}

/*
 * The tasks of a removed cgroup cannot come back, but what they opened elsewhere
 * can: its debts stay until they are paid, and no longer.
 */
static void removed_cgroup_still_owes(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct gpu_cgroup *cg = cgroup(gpu, NULL, 0);
	struct client *a = client(gpu, cg, 10 * MSEC);
	struct client *b = client(gpu, cgroup(gpu, NULL, 0), MSEC);
	struct client *got;
	u64 ran_a = 0, ran_b = 0;
	int i;

	gpu_cgroup_mock_remove(cg);
	for (i = 0; i < 10000; i++) {
		got = run_one(gpu);
		if (got == b) {
			ran_b += b->cost;
			continue;
		}
		ran_a += a->cost;
		client_leave(a);
		client_open(gpu, a, cg);
	}
	expect_ratio(gpu, ran_a, ran_b, 0, 0);

	for (i = 0; i < 200 && run_one(gpu) != a; i++)
		;
	client_leave(a);
	KUNIT_EXPECT_EQ(test, shares(gpu), 3);
	run(gpu, 20 * MSEC);
	KUNIT_EXPECT_EQ(test, shares(gpu), 2);
}

/* A new child for each job: what the one before owed counts in the parent. */
static void new_children_owe_too(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct gpu_cgroup *parent = cgroup(gpu, NULL, 0);
	struct client *a = client(gpu, cgroup(gpu, parent, 0), 10 * MSEC);
	struct client *b = client(gpu, cgroup(gpu, NULL, 0), MSEC);
	struct client *got;
	u64 ran_a = 0, ran_b = 0;
	int i;

	for (i = 0; i < 8000 && gpu->num_cgroups < MAX_CLIENTS; i++) {
		got = run_one(gpu);
		if (got == b) {
			ran_b += b->cost;
			continue;
		}
		ran_a += a->cost;
		client_leave(a);
		client_open(gpu, a, cgroup(gpu, parent, 1024));
	}
	expect_ratio(gpu, ran_a, ran_b, 0, 0);
	KUNIT_EXPECT_LE(test, shares(gpu), 4);
}

/* Who makes cgroups to leave them with debts does not fill the memory so. */
static void debtors_have_an_end(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct gpu_cgroup *parent = cgroup(gpu, NULL, 0);
	struct client *a = client(gpu, cgroup(gpu, parent, -1024), MSEC);
	struct client *b = client(gpu, cgroup(gpu, NULL, 0), MSEC);
	struct client *got;
	u64 ran_a = 0, ran_b = 0;

	client(gpu, cgroup(gpu, parent, 1024), MSEC);
	while (gpu->num_cgroups < MAX_CLIENTS) {
		got = run_one(gpu);
		if (got == b)
			ran_b += b->cost;
		else
			ran_a += got->cost;
		if (got != a)
			continue;
		client_leave(a);
		client_open(gpu, a, cgroup(gpu, parent, -1024));
	}
	expect_ratio(gpu, ran_a, ran_b, 0, 0);
	KUNIT_EXPECT_LE(test, shares(gpu), 300);
	KUNIT_EXPECT_GE(test, shares(gpu), 200);
}

/* A job that ends after its entity and its scheduler still finds its share. */
static void job_outlives_all(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct gpu_cgroup *cg = cgroup(gpu, cgroup(gpu, NULL, 0), 0);
	struct client *a = client(gpu, cg, MSEC);

	KUNIT_ASSERT_PTR_EQ(test, gpu_select(gpu), &a->entity);
	drm_sched_cgroup_job_run(&a->job);
	client_leave(a);
	KUNIT_EXPECT_NULL(test, gpu_select(gpu));
	drm_sched_cgroup_fini(&gpu->scheds[0]);
	KUNIT_EXPECT_NOT_NULL(test, a->job.cgroup.share);
	drm_sched_cgroup_settle(&a->job, MSEC);
	KUNIT_EXPECT_NULL(test, a->job.cgroup.share);
}

/* As some drivers have it; and an entity that is made after the end. */
static void entity_outlives_its_scheduler(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct gpu_cgroup *cg = cgroup(gpu, NULL, 0);
	struct client *a = client(gpu, cg, MSEC);

	run(gpu, 10 * MSEC);
	drm_sched_cgroup_fini(&gpu->scheds[0]);
	client_pause(a);
	client_resume(a);
	client_leave(a);
	client_open(gpu, a, cg);
	client_leave(a);
	/* Twice, as some drivers do. */
	drm_sched_entity_fini(&a->entity);
}

/*
 * Two jobs are made before the first one is pushed, and the entity goes to
 * another scheduler in between: it has its own share there too, and its weight.
 */
static void two_jobs_and_a_move(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct gpu_cgroup *cg = cgroup(gpu, cgroup(gpu, NULL, 0), -1024);
	struct client *a = kunit_kzalloc(test, sizeof(*a), GFP_KERNEL);
	struct drm_gpu_scheduler *scheds[2] = { &gpu->scheds[0], &gpu->scheds[1] };
	struct drm_sched_job second = { .entity = &a->entity };
	struct drm_sched_rq *rq;

	KUNIT_ASSERT_NOT_NULL(test, a);
	sched_setup(gpu, &gpu->scheds[1], NULL);
	KUNIT_ASSERT_EQ(test, drm_sched_entity_init(&a->entity,
						    DRM_SCHED_PRIORITY_NORMAL,
						    scheds, 2, NULL), 0);
	entity_belongs(&a->entity, cg);
	client_job(a);
	drm_sched_cgroup_job_init(&second);

	rq = a->entity.rq;
	entity_push(&a->entity, &a->job, rq);
	KUNIT_EXPECT_EQ(test, drm_sched_cgroup_shares(&gpu->scheds[0]), 3);
	client_pause(a);

	drm_sched_rq_remove_entity(rq, &a->entity);
	a->entity.rq = &gpu->scheds[1].sched_rq[DRM_SCHED_PRIORITY_NORMAL];
	entity_push(&a->entity, &second, a->entity.rq);
	KUNIT_EXPECT_EQ(test, drm_sched_cgroup_shares(&gpu->scheds[1]), 3);
	KUNIT_EXPECT_NULL(test, drm_sched_cgroup_select(&gpu->scheds[0]));
	KUNIT_EXPECT_PTR_EQ(test, drm_sched_cgroup_select(&gpu->scheds[1]), &a->entity);
	complete_all(&a->entity.entity_idle);
	client_leave(a);
}

/* Rings of one GPU, of which the hardware prefers one, have one tree. */
static void rings_share_a_tree(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct gpu_cgroup *cg = cgroup(gpu, NULL, 0);
	struct client *a, *b, *b2;

	sched_setup(gpu, &gpu->scheds[1], &gpu->scheds[0]);
	a = client_on(gpu, cgroup(gpu, NULL, 0), MSEC, &gpu->scheds[0],
		      DRM_SCHED_PRIORITY_HIGH);
	b = client_on(gpu, cg, MSEC, &gpu->scheds[1], DRM_SCHED_PRIORITY_NORMAL);
	run(gpu, 4 * NSEC_PER_SEC);
	expect_ratio(gpu, a->ran, b->ran, 0, 0);
	b2 = client_on(gpu, cg, MSEC, &gpu->scheds[0], DRM_SCHED_PRIORITY_NORMAL);
	run(gpu, 4 * NSEC_PER_SEC);
	expect_ratio(gpu, a->ran, b->ran + b2->ran, 0, 0);

	/* One of them ends, with work left: it is in nobody's way. */
	client_leave(b2);
	drm_sched_cgroup_fini(&gpu->scheds[1]);
	gpu->num_scheds = 1;
	KUNIT_EXPECT_PTR_EQ(test, run_one(gpu), a);
	KUNIT_EXPECT_PTR_EQ(test, run_one(gpu), a);
	KUNIT_EXPECT_PTR_EQ(test, run_one(gpu), a);
}

/* Not asserted: figures of this machine; of instructions in QEMU with -icount. */
static void cost_of_a_choice(struct kunit *test)
{
	static const int numbers[] = { 1, 100, 1000 };
	static const char * const kinds[] = { "all busy", "one busy" };
	const int n = 200;
	ktime_t began, choices, charges;
	struct drm_sched_entity *entity;
	struct client *c;
	int i, j, kind;

	for (i = 0; i < ARRAY_SIZE(kinds) * ARRAY_SIZE(numbers); i++) {
		int number = numbers[i % ARRAY_SIZE(numbers)];
		struct gpu *gpu;

		kind = i / ARRAY_SIZE(numbers);
		gpu_exit(test);
		KUNIT_ASSERT_EQ(test, gpu_init(test), 0);
		gpu = test->priv;
		for (j = 0; j < number; j++) {
			c = client(gpu, cgroup(gpu, NULL, j), MSEC);
			if (kind && j)
				client_pause(c);
		}
		run(gpu, 10 * MSEC);
		choices = 0;
		charges = 0;
		for (j = 0; j < n; j++) {
			began = ktime_get();
			entity = gpu_select(gpu);
			choices += ktime_get() - began;
			c = container_of(entity, struct client, entity);
			began = ktime_get();
			drm_sched_cgroup_job_run(&c->job);
			drm_sched_cgroup_settle(&c->job, c->cost);
			charges += ktime_get() - began;
		}
		/* The log of a test is short. */
		kunit_info(test, "%s, %d: choice %lld ns, charge %lld ns", kinds[kind],
			   number, choices / n, charges / n);
	}
}

/* Numbers past those of the machine's devices, so that these lines come last. */
#define MOCK_MAJOR	4000

struct devices {
	struct bus_type		bus;
	struct device		parent, other;
	struct gpu_cgroup_device nodes[3];
	char			text[4096];
};

static struct devices *mock_devices(struct kunit *test)
{
	struct devices *devices = kunit_kzalloc(test, sizeof(*devices), GFP_KERNEL);
	int i;

	KUNIT_ASSERT_NOT_NULL(test, devices);
	devices->bus.name = "bus";
	devices->parent.bus = &devices->bus;
	devices->parent.init_name = "parent";
	for (i = 0; i < ARRAY_SIZE(devices->nodes); i++) {
		devices->nodes[i].number = MKDEV(MOCK_MAJOR, i);
		devices->nodes[i].driver = "mock";
		devices->nodes[i].parent = &devices->parent;
		devices->nodes[i].memory = true;
	}
	return devices;
}

/* What is listed of ours. */
static const char *listed(struct devices *devices)
{
	gpu_cgroup_mock_devices(devices->text, sizeof(devices->text));
	return strstr(devices->text, "4000:") ?: "";
}

static void devices_are_listed_by_number(struct kunit *test)
{
	struct devices *devices = mock_devices(test);

	gpu_cgroup_register_device(&devices->nodes[2]);
	gpu_cgroup_register_device(&devices->nodes[0]);
	gpu_cgroup_register_device(&devices->nodes[1]);
	KUNIT_EXPECT_STREQ(test, listed(devices),
			   "4000:0 mock bus:parent memory\n"
			   "4000:1 mock bus:parent memory\n"
			   "4000:2 mock bus:parent memory\n");
	gpu_cgroup_unregister_device(&devices->nodes[1]);
	KUNIT_EXPECT_STREQ(test, listed(devices),
			   "4000:0 mock bus:parent memory\n"
			   "4000:2 mock bus:parent memory\n");
	/* Twice is once, and never is nothing. */
	gpu_cgroup_unregister_device(&devices->nodes[1]);
	gpu_cgroup_unregister_device(&devices->nodes[2]);
	gpu_cgroup_unregister_device(&devices->nodes[0]);
	KUNIT_EXPECT_STREQ(test, listed(devices), "");
	memset(&devices->nodes[0], 0, sizeof(devices->nodes[0]));
	gpu_cgroup_unregister_device(&devices->nodes[0]);
}

static void device_says_what_it_keeps(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct devices *devices = mock_devices(test);
	struct gpu_cgroup_device *node = &devices->nodes[0];

	node->memory = false;
	gpu_cgroup_register_device(node);
	KUNIT_EXPECT_STREQ(test, listed(devices), "4000:0 mock bus:parent\n");

	/* A scheduler of another device, and of this one. */
	drm_sched_cgroup_fini(&gpu->scheds[0]);
	gpu->scheds[0].dev = &devices->other;
	KUNIT_ASSERT_EQ(test, drm_sched_cgroup_init(&gpu->scheds[0], NULL), 0);
	KUNIT_EXPECT_STREQ(test, listed(devices), "4000:0 mock bus:parent\n");
	drm_sched_cgroup_fini(&gpu->scheds[0]);
	gpu->scheds[0].dev = &devices->parent;
	KUNIT_ASSERT_EQ(test, drm_sched_cgroup_init(&gpu->scheds[0], NULL), 0);
	KUNIT_EXPECT_STREQ(test, listed(devices),
			   "4000:0 mock bus:parent priority tree\n");
	drm_sched_cgroup_fini(&gpu->scheds[0]);
	KUNIT_EXPECT_STREQ(test, listed(devices), "4000:0 mock bus:parent\n");

	gpu_cgroup_device_has_priority(&devices->parent);
	KUNIT_EXPECT_STREQ(test, listed(devices),
			   "4000:0 mock bus:parent priority tree\n");
	gpu_cgroup_unregister_device(node);

	/* That was of the node that has gone. */
	gpu_cgroup_register_device(node);
	KUNIT_EXPECT_STREQ(test, listed(devices), "4000:0 mock bus:parent\n");
	gpu_cgroup_unregister_device(node);

	/* A scheduler of no device does not belong to a node of none. */
	drm_sched_cgroup_fini(&gpu->scheds[0]);
	gpu->scheds[0].dev = NULL;
	KUNIT_ASSERT_EQ(test, drm_sched_cgroup_init(&gpu->scheds[0], NULL), 0);
	node->parent = NULL;
	gpu_cgroup_register_device(node);
	KUNIT_EXPECT_STREQ(test, listed(devices), "4000:0 mock -\n");
	gpu_cgroup_unregister_device(node);
}

static void device_name_is_one_field(struct kunit *test)
{
	struct devices *devices = mock_devices(test);

	devices->nodes[0].driver = "a b";
	devices->parent.init_name = "c\n4000:9 d\\";
	gpu_cgroup_register_device(&devices->nodes[0]);
	KUNIT_EXPECT_STREQ(test, listed(devices),
			   "4000:0 a\\040b bus:c\\0124000:9\\040d\\134 memory\n");
	gpu_cgroup_unregister_device(&devices->nodes[0]);
}

#ifdef CONFIG_MODULES
static void module_from_outside_promises_nothing(struct kunit *test)
{
	struct devices *devices = mock_devices(test);
	struct gpu_cgroup_device *node = &devices->nodes[0];
	struct module *mod = kunit_kzalloc(test, sizeof(*mod), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, mod);
	node->owner = mod;
	set_bit(TAINT_PROPRIETARY_MODULE, &mod->taints);
	gpu_cgroup_register_device(node);
	gpu_cgroup_device_has_priority(&devices->parent);
	KUNIT_EXPECT_STREQ(test, listed(devices),
			   "4000:0 mock bus:parent memory priority tree\n");
	gpu_cgroup_unregister_device(node);

	set_bit(TAINT_OOT_MODULE, &mod->taints);
	gpu_cgroup_register_device(node);
	gpu_cgroup_device_has_priority(&devices->parent);
	KUNIT_EXPECT_STREQ(test, listed(devices),
			   "4000:0 mock bus:parent out-of-tree\n");
	gpu_cgroup_unregister_device(node);
}
#endif

static struct kunit_case sched_cgroup_cases[] = {
	KUNIT_CASE(weight_is_monotonic),
	KUNIT_CASE(weight_doubles),
	KUNIT_CASE(weight_is_symmetric),
	KUNIT_CASE(weight_table),
	KUNIT_CASE(share_follows_weight),
	KUNIT_CASE(share_is_time),
	KUNIT_CASE(share_is_per_cgroup),
	KUNIT_CASE(root_takes_turns),
	KUNIT_CASE(children_divide_the_share),
	KUNIT_CASE(child_does_not_rise_above_its_parent),
	KUNIT_CASE(three_levels),
	KUNIT_CASE(many_siblings),
	KUNIT_CASE(own_entities_are_one_sibling),
	KUNIT_CASE(nesting_has_an_end),
	KUNIT_CASE(cgroups_come_before_levels),
	KUNIT_CASE(levels_inside_a_cgroup),
	KUNIT_CASE(one_cgroup_is_as_upstream),
	KUNIT_CASE(dependency_is_waited_for),
	KUNIT_CASE(change_is_live),
	KUNIT_CASE(change_scales_debt),
	KUNIT_CASE(pause_saves_nothing),
	KUNIT_CASE(reopening_saves_nothing),
	KUNIT_CASE(lowest_is_not_starved),
	KUNIT_CASE(removed_is_forgotten),
	KUNIT_CASE(ancestors_go_with_their_children),
	KUNIT_CASE(removed_cgroup_still_owes),
	KUNIT_CASE(new_children_owe_too),
	KUNIT_CASE(debtors_have_an_end),
	KUNIT_CASE(job_outlives_all),
	KUNIT_CASE(entity_outlives_its_scheduler),
	KUNIT_CASE(two_jobs_and_a_move),
	KUNIT_CASE(rings_share_a_tree),
	KUNIT_CASE(cost_of_a_choice),
	KUNIT_CASE(devices_are_listed_by_number),
	KUNIT_CASE(device_says_what_it_keeps),
	KUNIT_CASE(device_name_is_one_field),
#ifdef CONFIG_MODULES
	KUNIT_CASE(module_from_outside_promises_nothing),
#endif
	{ }
};

static struct kunit_suite sched_cgroup_suite = {
	.name = "drm_sched_cgroup",
	.init = gpu_init,
	.exit = gpu_exit,
	.test_cases = sched_cgroup_cases,
};

kunit_test_suite(sched_cgroup_suite);
