// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who pays for a GEM object. KUnit's own thread is one of the kernel, so here a
 * user is whoever drm_gem_charged_to() says.
 */

#include <kunit/test.h>
#include <linux/dma-resv.h>
#include <linux/sched/task.h>
#include <linux/sizes.h>

#include <drm/drm_gem.h>

#define EXEMPT	U64_MAX

static int object_init(struct drm_gem_object *obj)
{
	memset(obj, 0, sizeof(*obj));
	drm_gem_private_object_init(NULL, obj, SZ_64K);
	return 0;
}

static void object_fini(struct drm_gem_object *obj)
{
	gpu_cgroup_uncharge(&obj->gpu_charge);
	dma_resv_fini(&obj->_resv);
}

static struct drm_gem_object *object_alloc(struct kunit *test)
{
	struct drm_gem_object *obj = kunit_kzalloc(test, sizeof(*obj), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, obj);
	return obj;
}

#define try_charge_by_user(obj) \
	drm_gem_charged_to(&init_task, drm_gem_try_charge(obj))

/* What a client asks for is charged when it is said so, once, and not before. */
static void user_pays(struct kunit *test)
{
	struct drm_gem_object *obj = object_alloc(test);

	drm_gem_charged_to(&init_task, object_init(obj));
	KUNIT_EXPECT_EQ(test, obj->gpu_charge.bytes, 0);
	KUNIT_EXPECT_EQ(test, try_charge_by_user(obj), 0);
	KUNIT_EXPECT_EQ(test, try_charge_by_user(obj), 0);
	KUNIT_EXPECT_EQ(test, obj->gpu_charge.bytes, SZ_64K);
	KUNIT_EXPECT_NOT_NULL(test, obj->gpu_charge.cg);
	object_fini(obj);
	KUNIT_EXPECT_NULL(test, obj->gpu_charge.cg);
}

/* What a kernel thread makes is nobody's, also when a client gets a handle. */
static void kernel_thread_pays_nothing(struct kunit *test)
{
	struct drm_gem_object *obj = object_alloc(test);

	object_init(obj);
	KUNIT_EXPECT_EQ(test, obj->gpu_charge.bytes, EXEMPT);
	KUNIT_EXPECT_EQ(test, try_charge_by_user(obj), 0);
	KUNIT_EXPECT_NULL(test, obj->gpu_charge.cg);
	object_fini(obj);
}

/* A kernel thread that hands out what was a client's does not pay for it. */
static void kernel_thread_takes_no_charge(struct kunit *test)
{
	struct drm_gem_object *obj = object_alloc(test);

	drm_gem_charged_to(&init_task, object_init(obj));
	KUNIT_EXPECT_EQ(test, drm_gem_try_charge(obj), 0);
	KUNIT_EXPECT_EQ(test, obj->gpu_charge.bytes, 0);
	object_fini(obj);
}

/* The innermost word counts, and the outer one again after it. */
static void payers_nest(struct kunit *test)
{
	struct drm_gem_object *inner = object_alloc(test);
	struct drm_gem_object *outer = object_alloc(test);
	struct drm_gem_payer payer;

	drm_gem_payer_begin(&payer, &init_task);
	drm_gem_uncharged(object_init(inner));
	object_init(outer);
	KUNIT_EXPECT_EQ(test, drm_gem_try_charge(inner), 0);
	KUNIT_EXPECT_EQ(test, drm_gem_try_charge(outer), 0);
	drm_gem_payer_end(&payer);

	KUNIT_EXPECT_EQ(test, inner->gpu_charge.bytes, EXEMPT);
	KUNIT_EXPECT_EQ(test, outer->gpu_charge.bytes, SZ_64K);
	object_fini(inner);
	object_fini(outer);
}

/* What another task said is not about this one. */
static void payers_are_of_tasks(struct kunit *test)
{
	struct drm_gem_object *obj = object_alloc(test);
	struct drm_gem_payer payer;

	drm_gem_payer_begin(&payer, &init_task);
	payer.maker = &init_task;
	object_init(obj);
	drm_gem_payer_end(&payer);
	KUNIT_EXPECT_EQ(test, obj->gpu_charge.bytes, EXEMPT);
	object_fini(obj);
}

/*
 * A buffer on its way through a cache of freed ones, as in vc4: each user pays for
 * it, nobody while it is parked, and the kernel's use of it is free.
 */
static void cached_object_changes_payer(struct kunit *test)
{
	struct drm_gem_object *obj = object_alloc(test);
	struct gpu_cgroup_charge charge;
	int i;

	for (i = 0; i < 2; i++) {
		charge = (struct gpu_cgroup_charge){};
		KUNIT_EXPECT_EQ(test, drm_gem_charged_to(&init_task, drm_gem_charge_ahead(&charge, SZ_64K)), 0);
		if (!i)
			drm_gem_uncharged(object_init(obj));
		obj->gpu_charge = charge;
		KUNIT_EXPECT_EQ(test, obj->gpu_charge.bytes, SZ_64K);
		KUNIT_EXPECT_NOT_NULL(test, obj->gpu_charge.cg);

		gpu_cgroup_uncharge(&obj->gpu_charge);
		KUNIT_EXPECT_NULL(test, obj->gpu_charge.cg);

		charge = (struct gpu_cgroup_charge){};
		KUNIT_EXPECT_EQ(test, drm_gem_charged_to(&init_task, drm_gem_uncharged(drm_gem_charge_ahead(&charge, SZ_64K))), 0);
		obj->gpu_charge = charge;
		KUNIT_EXPECT_EQ(test, obj->gpu_charge.bytes, EXEMPT);
		gpu_cgroup_uncharge(&obj->gpu_charge);
	}
	object_fini(obj);
}

static struct kunit_case drm_gem_cgroup_cases[] = {
	KUNIT_CASE(user_pays),
	KUNIT_CASE(kernel_thread_pays_nothing),
	KUNIT_CASE(kernel_thread_takes_no_charge),
	KUNIT_CASE(payers_nest),
	KUNIT_CASE(payers_are_of_tasks),
	KUNIT_CASE(cached_object_changes_payer),
	{ }
};

static struct kunit_suite drm_gem_cgroup_suite = {
	.name = "drm_gem_cgroup",
	.test_cases = drm_gem_cgroup_cases,
};

kunit_test_suite(drm_gem_cgroup_suite);
