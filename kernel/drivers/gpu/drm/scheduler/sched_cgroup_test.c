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
#include <linux/math64.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/time64.h>

#include <drm/gpu_scheduler.h>

#define MAX_CLIENTS	12
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
	struct drm_gpu_scheduler sched;
	struct drm_sched_rq	*rq;
	struct gpu_cgroup	*cgroups[MAX_CLIENTS];
	unsigned int		num_cgroups;
	struct client		clients[MAX_CLIENTS];
	unsigned int		num_clients;
};

static int gpu_init(struct kunit *test)
{
	struct gpu *gpu = kunit_kzalloc(test, sizeof(*gpu), GFP_KERNEL);
	struct drm_sched_rq *rq;
	int i;

	KUNIT_ASSERT_NOT_NULL(test, gpu);
	gpu->test = test;
	gpu->sched.score = &gpu->sched._score;
	for (i = 0; i < DRM_SCHED_PRIORITY_COUNT; i++) {
		rq = &gpu->sched.sched_rq[i];
		spin_lock_init(&rq->lock);
		INIT_LIST_HEAD(&rq->entities);
		rq->sched = &gpu->sched;
	}
	gpu->rq = &gpu->sched.sched_rq[DRM_SCHED_PRIORITY_NORMAL];
	test->priv = gpu;
	return drm_sched_cgroup_init(&gpu->sched);
}

static void client_pause(struct client *client)
{
	spsc_queue_pop(&client->entity.job_queue);
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

	for (i = 0; i < gpu->num_clients; i++)
		client_leave(&gpu->clients[i]);
	drm_sched_cgroup_fini(&gpu->sched);
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

static void client_resume(struct client *client)
{
	spsc_queue_push(&client->entity.job_queue, &client->job.queue_node);
}

static void client_open(struct gpu *gpu, struct client *client,
			struct gpu_cgroup *cg)
{
	struct drm_gpu_scheduler *sched = &gpu->sched;
	int ret;

	ret = drm_sched_entity_init(&client->entity, DRM_SCHED_PRIORITY_NORMAL,
				    &sched, 1, NULL);
	KUNIT_ASSERT_EQ(gpu->test, ret, 0);
	gpu_cgroup_put(client->entity.cgroup.owner);
	client->entity.cgroup.owner = gpu_cgroup_hold(cg);

	memset(&client->job, 0, sizeof(client->job));
	client->job.entity = &client->entity;
	drm_sched_cgroup_job_init(&client->job);
	client_resume(client);
	drm_sched_rq_add_entity(gpu->rq, &client->entity);
}

static struct client *client(struct gpu *gpu, struct gpu_cgroup *cg, u64 cost)
{
	struct client *client = &gpu->clients[gpu->num_clients];

	KUNIT_ASSERT_LT(gpu->test, gpu->num_clients, MAX_CLIENTS);
	gpu->num_clients++;
	client->cost = cost;
	client_open(gpu, client, cg);
	return client;
}

/* One job. Returns its owner, or NULL if nobody has work. */
static struct client *run_one(struct gpu *gpu)
{
	struct drm_sched_entity *entity = drm_sched_cgroup_select(gpu->rq);
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
		gpu->clients[i].ran = 0;
		gpu->clients[i].jobs = 0;
	}
	for (ns = 0; ns < end; ns += client->cost) {
		client = run_one(gpu);
		KUNIT_ASSERT_NOT_NULL(gpu->test, client);
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
	return list_count_nodes(&gpu->rq->cgroup.shares);
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

/* A child never gets more than an ancestor whose priority is set. */
static void effective_is_capped(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct gpu_cgroup *top = cgroup(gpu, NULL, 0);
	struct gpu_cgroup *mid = cgroup(gpu, top, 0);
	struct gpu_cgroup *low = cgroup(gpu, mid, 900);

	KUNIT_EXPECT_EQ(test, gpu_cgroup_effective(NULL), 0);
	KUNIT_EXPECT_EQ(test, gpu_cgroup_effective(low), 900);
	gpu_cgroup_mock_priority(mid, 100);
	KUNIT_EXPECT_EQ(test, gpu_cgroup_effective(low), 100);
	gpu_cgroup_mock_priority(top, -5);
	KUNIT_EXPECT_EQ(test, gpu_cgroup_effective(mid), -5);
	KUNIT_EXPECT_EQ(test, gpu_cgroup_effective(low), -5);
	gpu_cgroup_mock_priority(low, -6);
	KUNIT_EXPECT_EQ(test, gpu_cgroup_effective(low), -6);
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
		job->entity = drm_sched_cgroup_select(gpu->rq);
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

/* A change counts for queued work, be it the cgroup's own or an ancestor's. */
static void change_is_live(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct gpu_cgroup *parent = cgroup(gpu, NULL, 0);
	struct gpu_cgroup *child = cgroup(gpu, parent, 200);
	struct client *a = client(gpu, child, MSEC);
	struct client *b = client(gpu, cgroup(gpu, NULL, 0), MSEC);

	run(gpu, 10 * NSEC_PER_SEC);
	expect_ratio(gpu, a->ran, b->ran, 200, 0);
	gpu_cgroup_mock_priority(child, -200);
	run(gpu, 10 * NSEC_PER_SEC);
	expect_ratio(gpu, a->ran, b->ran, -200, 0);
	gpu_cgroup_mock_priority(child, 200);
	gpu_cgroup_mock_priority(parent, 50);
	run(gpu, 10 * NSEC_PER_SEC);
	expect_ratio(gpu, a->ran, b->ran, 50, 0);
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
	run(gpu, 100 * NSEC_PER_SEC);
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

	/* The last one leaves owing; an idle queue forgives. */
	client_leave(b);
	KUNIT_EXPECT_EQ(test, shares(gpu), 2);
	KUNIT_EXPECT_NULL(test, run_one(gpu));
	KUNIT_EXPECT_EQ(test, shares(gpu), 1);
}

/* Debts do not hold on to a cgroup that was removed; work that it left does. */
static void removed_cgroup_is_forgotten(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct gpu_cgroup *cg = cgroup(gpu, NULL, 0);
	struct client *a = client(gpu, cg, 100 * MSEC);
	struct client *b = client(gpu, cgroup(gpu, NULL, 0), MSEC);
	int i;

	gpu_cgroup_mock_remove(cg);
	run(gpu, 100 * NSEC_PER_SEC);
	expect_ratio(gpu, a->ran, b->ran, 0, 0);
	KUNIT_EXPECT_EQ(test, shares(gpu), 3);

	for (i = 0; i < 200 && run_one(gpu) != a; i++)
		;
	client_leave(a);
	KUNIT_EXPECT_PTR_EQ(test, run_one(gpu), b);
	KUNIT_EXPECT_EQ(test, shares(gpu), 2);
}

/* A job that ends after its entity and its scheduler still finds its share. */
static void job_outlives_all(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct client *a = client(gpu, cgroup(gpu, NULL, 0), MSEC);
	struct drm_sched_entity *entity;

	entity = drm_sched_cgroup_select(gpu->rq);
	KUNIT_ASSERT_PTR_EQ(test, entity, &a->entity);
	drm_sched_cgroup_job_run(&a->job);
	client_leave(a);
	KUNIT_EXPECT_NULL(test, drm_sched_cgroup_select(gpu->rq));
	drm_sched_cgroup_fini(&gpu->sched);
	KUNIT_EXPECT_NOT_NULL(test, a->job.cgroup.share);
	drm_sched_cgroup_settle(&a->job, MSEC);
	KUNIT_EXPECT_NULL(test, a->job.cgroup.share);
}

/* Without memory for a share it runs all the same, as part of the root. */
static void no_memory_is_no_error(struct kunit *test)
{
	struct gpu *gpu = test->priv;
	struct client *a = &gpu->clients[gpu->num_clients++];
	struct drm_gpu_scheduler *sched = &gpu->sched;

	a->cost = MSEC;
	KUNIT_ASSERT_EQ(test, drm_sched_entity_init(&a->entity,
						    DRM_SCHED_PRIORITY_NORMAL,
						    &sched, 1, NULL), 0);
	a->entity.cgroup.owner = gpu_cgroup_hold(cgroup(gpu, NULL, 5));
	a->job.entity = &a->entity;
	client_resume(a);
	drm_sched_rq_add_entity(gpu->rq, &a->entity);
	KUNIT_EXPECT_EQ(test, shares(gpu), 1);
	KUNIT_EXPECT_PTR_EQ(test, run_one(gpu), a);
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
	drm_sched_cgroup_fini(&gpu->sched);
	gpu->sched.dev = &devices->other;
	KUNIT_ASSERT_EQ(test, drm_sched_cgroup_init(&gpu->sched), 0);
	KUNIT_EXPECT_STREQ(test, listed(devices), "4000:0 mock bus:parent\n");
	drm_sched_cgroup_fini(&gpu->sched);
	gpu->sched.dev = &devices->parent;
	KUNIT_ASSERT_EQ(test, drm_sched_cgroup_init(&gpu->sched), 0);
	KUNIT_EXPECT_STREQ(test, listed(devices),
			   "4000:0 mock bus:parent priority tree\n");
	drm_sched_cgroup_fini(&gpu->sched);
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
	drm_sched_cgroup_fini(&gpu->sched);
	gpu->sched.dev = NULL;
	KUNIT_ASSERT_EQ(test, drm_sched_cgroup_init(&gpu->sched), 0);
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
	KUNIT_CASE(effective_is_capped),
	KUNIT_CASE(share_follows_weight),
	KUNIT_CASE(share_is_time),
	KUNIT_CASE(share_is_per_cgroup),
	KUNIT_CASE(root_takes_turns),
	KUNIT_CASE(change_is_live),
	KUNIT_CASE(change_scales_debt),
	KUNIT_CASE(pause_saves_nothing),
	KUNIT_CASE(reopening_saves_nothing),
	KUNIT_CASE(lowest_is_not_starved),
	KUNIT_CASE(removed_is_forgotten),
	KUNIT_CASE(removed_cgroup_is_forgotten),
	KUNIT_CASE(job_outlives_all),
	KUNIT_CASE(no_memory_is_no_error),
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
