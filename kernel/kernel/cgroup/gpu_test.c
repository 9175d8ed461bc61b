// SPDX-License-Identifier: GPL-2.0-only
/*
 * Unit tests for the gpu controller: where its priorities put a cgroup in an order
 * of all. How they divide time is a matter of the DRM scheduler and tested there.
 */

#include <kunit/test.h>
#include <linux/cgroup_gpu.h>

#define CHAIN	4

/* A chain of cgroups, [0] being a child of the root. */
struct chain {
	struct gpu_cgroup *at[CHAIN];
	struct gpu_cgroup *leaf;
};

static int chain_init(struct kunit *test)
{
	struct chain *chain = kunit_kzalloc(test, sizeof(*chain), GFP_KERNEL);
	int i;

	KUNIT_ASSERT_NOT_NULL(test, chain);
	test->priv = chain;
	for (i = 0; i < CHAIN; i++) {
		chain->at[i] = gpu_cgroup_mock(i ? chain->at[i - 1] : NULL);
		KUNIT_ASSERT_NOT_NULL(test, chain->at[i]);
	}
	chain->leaf = chain->at[CHAIN - 1];
	return 0;
}

static void chain_exit(struct kunit *test)
{
	struct chain *chain = test->priv;
	int i;

	/* The parent first: its child still holds it. */
	for (i = 0; chain && i < CHAIN; i++)
		gpu_cgroup_put(chain->at[i]);
}

static void default_is_that_above(struct kunit *test)
{
	struct chain *chain = test->priv;
	int i;

	KUNIT_EXPECT_EQ(test, gpu_cgroup_effective(NULL), 0);
	KUNIT_EXPECT_EQ(test, gpu_cgroup_effective(chain->leaf), 0);

	gpu_cgroup_mock_priority(chain->at[1], 300);
	KUNIT_EXPECT_EQ(test, gpu_cgroup_effective(chain->at[0]), 0);
	for (i = 1; i < CHAIN; i++)
		KUNIT_EXPECT_EQ(test, gpu_cgroup_effective(chain->at[i]), 300);

	gpu_cgroup_mock_priority(chain->at[1], -300);
	for (i = 1; i < CHAIN; i++)
		KUNIT_EXPECT_EQ(test, gpu_cgroup_effective(chain->at[i]), -300);
}

/* Also not above a 0, if it was written: then it is a limit like any other. */
static void nobody_rises_above_what_was_written(struct kunit *test)
{
	static const int above[] = { -1024, -1, 0, 1, 500, 1024 };
	struct chain *chain = test->priv;
	int i;

	gpu_cgroup_mock_priority(chain->leaf, 900);
	KUNIT_EXPECT_EQ(test, gpu_cgroup_effective(chain->leaf), 900);
	for (i = 0; i < ARRAY_SIZE(above); i++) {
		gpu_cgroup_mock_priority(chain->at[1], above[i]);
		KUNIT_EXPECT_EQ(test, gpu_cgroup_effective(chain->leaf),
				min(above[i], 900));
		KUNIT_EXPECT_EQ(test, gpu_cgroup_effective(chain->at[2]),
				above[i]);
	}

	/* The least of all, not the nearest. */
	gpu_cgroup_mock_priority(chain->at[1], 800);
	gpu_cgroup_mock_priority(chain->at[0], 200);
	KUNIT_EXPECT_EQ(test, gpu_cgroup_effective(chain->leaf), 200);
	KUNIT_EXPECT_EQ(test, gpu_cgroup_effective(chain->at[2]), 200);

	gpu_cgroup_mock_priority(chain->leaf, -5);
	KUNIT_EXPECT_EQ(test, gpu_cgroup_effective(chain->leaf), -5);
}

/* Below cgroups that nobody wrote an owner is at 0, and can go below. */
static void owner_does_not_rise(struct kunit *test)
{
	struct chain *chain = test->priv;

	gpu_cgroup_mock_delegated(chain->at[2], 1024);
	KUNIT_EXPECT_EQ(test, gpu_cgroup_effective(chain->at[2]), 0);
	KUNIT_EXPECT_EQ(test, gpu_cgroup_effective(chain->leaf), 0);
	gpu_cgroup_mock_delegated(chain->leaf, 1024);
	KUNIT_EXPECT_EQ(test, gpu_cgroup_effective(chain->leaf), 0);

	gpu_cgroup_mock_delegated(chain->at[2], -7);
	KUNIT_EXPECT_EQ(test, gpu_cgroup_effective(chain->at[2]), -7);
	KUNIT_EXPECT_EQ(test, gpu_cgroup_effective(chain->leaf), -7);

	/* What it was given is its own to use. */
	gpu_cgroup_mock_priority(chain->at[1], 400);
	gpu_cgroup_mock_delegated(chain->at[2], 1024);
	KUNIT_EXPECT_EQ(test, gpu_cgroup_effective(chain->leaf), 400);
	gpu_cgroup_mock_delegated(chain->leaf, 100);
	KUNIT_EXPECT_EQ(test, gpu_cgroup_effective(chain->leaf), 100);

	/* An administrator may give more than 0 to what an owner set below it. */
	gpu_cgroup_mock_priority(chain->at[2], 300);
	gpu_cgroup_mock_delegated(chain->leaf, 1024);
	KUNIT_EXPECT_EQ(test, gpu_cgroup_effective(chain->leaf), 300);
}

/* Who wrote last counts, not who ever did. */
static void last_writer_counts(struct kunit *test)
{
	struct chain *chain = test->priv;

	gpu_cgroup_mock_priority(chain->leaf, 500);
	gpu_cgroup_mock_delegated(chain->leaf, 500);
	KUNIT_EXPECT_EQ(test, gpu_cgroup_effective(chain->leaf), 0);
	gpu_cgroup_mock_priority(chain->leaf, 500);
	KUNIT_EXPECT_EQ(test, gpu_cgroup_effective(chain->leaf), 500);
	KUNIT_EXPECT_EQ(test, gpu_cgroup_priority(chain->leaf), 500);
}

static int order(struct gpu_cgroup *cg, int priority)
{
	return gpu_cgroup_order(cg, priority, -1023, 1023);
}

static void context_stands_where_it_asks(struct kunit *test)
{
	struct chain *chain = test->priv;
	int asked;

	for (asked = -1023; asked <= 1023; asked++) {
		KUNIT_ASSERT_EQ(test, order(NULL, asked), asked);
		KUNIT_ASSERT_EQ(test, order(chain->leaf, asked), asked);
	}
}

/* In a container with the capability to ask for more it gets no more. */
static void context_does_not_rise_above_its_cgroup(struct kunit *test)
{
	static const int given[] = { -1024, -1023, -500, -1, 0, 1, 500, 1023, 1024 };
	struct chain *chain = test->priv;
	int i, asked;

	for (i = 0; i < ARRAY_SIZE(given); i++) {
		gpu_cgroup_mock_priority(chain->at[1], given[i]);
		for (asked = -1023; asked <= 1023; asked++) {
			int wanted = min(asked, 0) + given[i];

			wanted = clamp(wanted, -1023, 1023);
			KUNIT_ASSERT_EQ(test, order(chain->leaf, asked), wanted);
		}
	}
}

static void changes_are_seen(struct kunit *test)
{
	struct chain *chain = test->priv;
	unsigned int before = gpu_cgroup_priority_changes();

	KUNIT_EXPECT_EQ(test, gpu_cgroup_priority_changes(), before);
	gpu_cgroup_mock_priority(chain->leaf, 0);
	KUNIT_EXPECT_NE(test, gpu_cgroup_priority_changes(), before);
	before = gpu_cgroup_priority_changes();
	gpu_cgroup_mock_delegated(chain->at[0], 5);
	KUNIT_EXPECT_NE(test, gpu_cgroup_priority_changes(), before);
}

static void parents_are_those_above(struct kunit *test)
{
	struct chain *chain = test->priv;
	int i;

	KUNIT_EXPECT_NULL(test, gpu_cgroup_parent(chain->at[0]));
	for (i = 1; i < CHAIN; i++)
		KUNIT_EXPECT_PTR_EQ(test, gpu_cgroup_parent(chain->at[i]),
				    chain->at[i - 1]);
}

/* A leaf alone keeps all above it: KASAN would tell, and slub's poison. */
static void leaf_keeps_what_is_above(struct kunit *test)
{
	struct chain *chain = test->priv;
	struct gpu_cgroup *cg;
	int i, levels = 0;

	gpu_cgroup_mock_priority(chain->at[0], 77);
	for (i = 0; i < CHAIN - 1; i++) {
		gpu_cgroup_mock_remove(chain->at[i]);
		gpu_cgroup_put(chain->at[i]);
		chain->at[i] = NULL;
	}
	KUNIT_EXPECT_EQ(test, gpu_cgroup_effective(chain->leaf), 77);
	KUNIT_EXPECT_FALSE(test, gpu_cgroup_removed(chain->leaf));
	KUNIT_EXPECT_TRUE(test, gpu_cgroup_removed(gpu_cgroup_parent(chain->leaf)));
	for (cg = chain->leaf; cg; cg = gpu_cgroup_parent(cg))
		levels++;
	KUNIT_EXPECT_EQ(test, levels, CHAIN);
}

static struct kunit_case gpu_cgroup_cases[] = {
	KUNIT_CASE(default_is_that_above),
	KUNIT_CASE(nobody_rises_above_what_was_written),
	KUNIT_CASE(owner_does_not_rise),
	KUNIT_CASE(last_writer_counts),
	KUNIT_CASE(context_stands_where_it_asks),
	KUNIT_CASE(context_does_not_rise_above_its_cgroup),
	KUNIT_CASE(changes_are_seen),
	KUNIT_CASE(parents_are_those_above),
	KUNIT_CASE(leaf_keeps_what_is_above),
	{}
};

static struct kunit_suite gpu_cgroup_suite = {
	.name = "gpu_cgroup",
	.init = chain_init,
	.exit = chain_exit,
	.test_cases = gpu_cgroup_cases,
};

kunit_test_suite(gpu_cgroup_suite);
