// SPDX-License-Identifier: GPL-2.0-only
/*
 * GPU controller for cgroups.
 *
 * Limits the GPU memory a group of processes may allocate and keeps the priority
 * by which schedulers share the GPU between groups. Neither the memory controller
 * nor the system's OOM handling can do the first: a buffer in video memory is no
 * page of theirs, and one in system memory can be pinned for a device and outlive
 * the process that made it.
 *
 * The unit is the GEM object and the counter runs in bytes. The DRM core
 * charges an object's whole size to the cgroup of the task that creates it,
 * before the object gets backing memory wherever the driver allows. The size
 * is charged even if the driver fills the object in lazily or moves it between
 * video and system memory: a limit has to hold at the moment of asking, when
 * the caller can still be told no. No is -ENOMEM, the error every user of GEM
 * knows already. There is no reclaim. The cgroup whose limit said no counts an
 * event, and so do its ancestors, but not the cgroups between it and the caller.
 *
 * The charge belongs to the object. It holds a reference to its cgroup, stays
 * behind when the process moves to another cgroup, and survives rmdir, after
 * which the ancestors go on counting it until the object is gone. An object
 * imported through PRIME is not charged again; its exporter pays.
 *
 * Limits are hierarchical: usage counts in every ancestor and the tightest
 * limit on the way to the root decides. Setting a limit below present usage is
 * allowed. Nothing is taken away then, but new objects are refused until usage
 * has dropped.
 *
 * A DRM file, and thus what is allocated through it, belongs to a process and
 * not to a thread, so this is a domain controller: not available in threaded
 * cgroups, whose tasks are charged to the domain above them.
 *
 * cgroup v1 and v2 share everything but file names and the spelling of "no
 * limit": v1 shows 18446744073709551615, v2 "max". Both accept "max" and -1.
 */

#include <linux/cgroup.h>
#include <linux/cgroup_gpu.h>
#include <linux/ctype.h>
#include <linux/err.h>
#include <linux/error-injection.h>
#include <linux/export.h>
#include <linux/kstrtox.h>
#include <linux/page_counter.h>
#include <linux/slab.h>
#include <linux/string.h>

#define GPU_PRIORITY_MIN	(-1024)
#define GPU_PRIORITY_MAX	1024

/* Never reached by usage: the root's own limit is lower. */
#define GPU_NO_LIMIT		ULONG_MAX

/*
 * page_counter adds first and checks after, and takes a negative sum for an
 * uncharge too many. Two bounds keep the sums positive whatever sizes user
 * space makes up: a total for the root, and one for a single object that
 * leaves room for thousands of charges in flight above that total. No machine
 * has the memory to meet either.
 */
#define GPU_ROOT_LIMIT		(LONG_MAX / 2)
#define GPU_OBJECT_LIMIT	PAGE_COUNTER_MAX

struct gpu_cgroup {
	struct cgroup_subsys_state	css;

	/* In bytes, not pages, so that a limit reads back as written. */
	struct page_counter		memory;

	/* Refusals for this cgroup's limit; with those of its descendants. */
	atomic_long_t			max_events_local;
	atomic_long_t			max_events;

	/* Handles for memory.events and memory.events.local */
	struct cgroup_file		events_file;
	struct cgroup_file		events_local_file;

	/* As written; see gpu_cgroup_effective() for what counts. */
	int				priority;
};

static struct gpu_cgroup *css_gpu(struct cgroup_subsys_state *css)
{
	return css ? container_of(css, struct gpu_cgroup, css) : NULL;
}

static struct gpu_cgroup *parent_gpu(struct gpu_cgroup *cg)
{
	return css_gpu(cg->css.parent);
}

/*
 * The counter on the way to the root that has no room for @bytes, %NULL if all
 * have. page_counter_try_charge() alone would give the same answer, but adds
 * before it looks: an object of a size that could never fit would show up in
 * memory.peak of the cgroups below the full one, and refuse their siblings what
 * does fit for a moment, as often as user space likes.
 */
static struct page_counter *gpu_full_counter(struct page_counter *counter,
					     u64 bytes)
{
	for (; counter; counter = counter->parent)
		if (page_counter_read(counter) + bytes >
		    READ_ONCE(counter->max))
			break;

	return counter;
}

static void gpu_count_refusal(struct page_counter *full)
{
	struct gpu_cgroup *cg = container_of(full, struct gpu_cgroup, memory);

	atomic_long_inc(&cg->max_events_local);
	cgroup_file_notify(&cg->events_local_file);

	for (; cg; cg = parent_gpu(cg)) {
		atomic_long_inc(&cg->max_events);
		cgroup_file_notify(&cg->events_file);
	}
}

/**
 * gpu_cgroup_try_charge() - charge an object to the cgroup of the current task
 * @charge: the object's charge
 * @bytes: size of the object
 *
 * Does nothing if the object is charged already or the controller disabled by
 * the kernel's command line.
 *
 * Context: Any context but interrupts, which have no cgroup of their own.
 * Return: %0, or %-ENOMEM if the object would exceed the limit of the cgroup
 * or of one of its ancestors; nothing is charged then.
 */
int gpu_cgroup_try_charge(struct gpu_cgroup_charge *charge, u64 bytes)
{
	struct page_counter *full;
	struct gpu_cgroup *cg;

	if (!cgroup_subsys_enabled(gpu_cgrp_subsys) || charge->cg)
		return 0;

	if (bytes > GPU_OBJECT_LIMIT)
		return -ENOMEM;

	cg = css_gpu(task_get_css(current, gpu_cgrp_id));
	full = gpu_full_counter(&cg->memory, bytes);
	if (full || !page_counter_try_charge(&cg->memory, bytes, &full)) {
		gpu_count_refusal(full);
		css_put(&cg->css);
		return -ENOMEM;
	}

	charge->cg = cg;
	charge->bytes = bytes;
	return 0;
}
EXPORT_SYMBOL_GPL(gpu_cgroup_try_charge);
ALLOW_ERROR_INJECTION(gpu_cgroup_try_charge, ERRNO);

/**
 * gpu_cgroup_uncharge() - return what an object was charged
 * @charge: the object's charge
 *
 * Does nothing if the object is not charged, so that every path which ends an
 * object may call it. To be called when the memory is gone, not when user space
 * has let go of it.
 *
 * Context: Any context.
 */
void gpu_cgroup_uncharge(struct gpu_cgroup_charge *charge)
{
	struct gpu_cgroup *cg = charge->cg;

	if (!cg)
		return;

	page_counter_uncharge(&cg->memory, charge->bytes);
	charge->cg = NULL;
	charge->bytes = 0;
	css_put(&cg->css);
}
EXPORT_SYMBOL_GPL(gpu_cgroup_uncharge);

static s64 gpu_priority_read(struct cgroup_subsys_state *css,
			     struct cftype *cft)
{
	return READ_ONCE(css_gpu(css)->priority);
}

static int gpu_priority_write(struct cgroup_subsys_state *css,
			      struct cftype *cft, s64 priority)
{
	if (priority < GPU_PRIORITY_MIN || priority > GPU_PRIORITY_MAX)
		return -ERANGE;

	WRITE_ONCE(css_gpu(css)->priority, priority);
	return 0;
}

/*
 * Not memparse(): it wraps silently (2^64 becomes 0, a limit nobody asked
 * for), takes an empty string for 0, and a hexadecimal E for a suffix or the
 * other way round. Numbers are decimal here.
 */
static int gpu_parse_limit(char *buf, unsigned long *limit)
{
	static const char suffixes[] = "kmgtpe";
	unsigned int shift = 0;
	const char *suffix;
	char *last;
	int ret;

	buf = strstrip(buf);
	if (!strcmp(buf, "max") || !strcmp(buf, "-1")) {
		*limit = GPU_NO_LIMIT;
		return 0;
	}
	if (!*buf)
		return -EINVAL;

	last = buf + strlen(buf) - 1;
	suffix = strchr(suffixes, tolower(*last));
	if (suffix) {
		shift = 10 * (suffix - suffixes + 1);
		*last = '\0';
		/* kstrtoul() would accept white space before the suffix. */
		if (last == buf || !isdigit(last[-1]))
			return -EINVAL;
	}

	ret = kstrtoul(buf, 10, limit);
	if (ret)
		return ret;
	if (*limit > ULONG_MAX >> shift)
		return -ERANGE;

	*limit <<= shift;
	return 0;
}

static ssize_t gpu_limit_write(struct kernfs_open_file *of, char *buf,
			       size_t nbytes, loff_t off)
{
	struct gpu_cgroup *cg = css_gpu(of_css(of));
	unsigned long limit;
	int ret;

	ret = gpu_parse_limit(buf, &limit);
	if (ret)
		return ret;

	/* page_counter_set_max() would refuse to go below present usage. */
	xchg(&cg->memory.max, limit);
	return nbytes;
}

static int gpu_limit_show(struct seq_file *sf, void *v)
{
	unsigned long limit = READ_ONCE(css_gpu(seq_css(sf))->memory.max);

	if (limit == GPU_NO_LIMIT)
		seq_puts(sf, "max\n");
	else
		seq_printf(sf, "%lu\n", limit);
	return 0;
}

static u64 gpu_limit_read_v1(struct cgroup_subsys_state *css,
			     struct cftype *cft)
{
	return READ_ONCE(css_gpu(css)->memory.max);
}

static u64 gpu_usage_read(struct cgroup_subsys_state *css, struct cftype *cft)
{
	return page_counter_read(&css_gpu(css)->memory);
}

static u64 gpu_peak_read(struct cgroup_subsys_state *css, struct cftype *cft)
{
	return READ_ONCE(css_gpu(css)->memory.watermark);
}

static int gpu_events_show(struct seq_file *sf, void *v)
{
	struct gpu_cgroup *cg = css_gpu(seq_css(sf));

	seq_printf(sf, "max %lu\n", atomic_long_read(&cg->max_events));
	return 0;
}

static int gpu_events_local_show(struct seq_file *sf, void *v)
{
	struct gpu_cgroup *cg = css_gpu(seq_css(sf));

	seq_printf(sf, "max %lu\n", atomic_long_read(&cg->max_events_local));
	return 0;
}

static u64 gpu_failcnt_read_v1(struct cgroup_subsys_state *css,
			       struct cftype *cft)
{
	return atomic_long_read(&css_gpu(css)->max_events_local);
}

/*
 * The memory controller resets on whatever is written, as its documentation
 * asks for a 0. Only that 0 does it here.
 */
static int gpu_peak_reset_v1(struct cgroup_subsys_state *css,
			     struct cftype *cft, u64 val)
{
	if (val)
		return -EINVAL;

	page_counter_reset_watermark(&css_gpu(css)->memory);
	return 0;
}

static int gpu_failcnt_reset_v1(struct cgroup_subsys_state *css,
				struct cftype *cft, u64 val)
{
	if (val)
		return -EINVAL;

	atomic_long_set(&css_gpu(css)->max_events_local, 0);
	return 0;
}

static struct cftype gpu_files[] = {
	{
		.name = "priority",
		.flags = CFTYPE_NOT_ON_ROOT,
		.read_s64 = gpu_priority_read,
		.write_s64 = gpu_priority_write,
	},
	{
		.name = "memory.max",
		.flags = CFTYPE_NOT_ON_ROOT,
		.seq_show = gpu_limit_show,
		.write = gpu_limit_write,
	},
	{
		.name = "memory.current",
		.read_u64 = gpu_usage_read,
	},
	{
		.name = "memory.peak",
		.flags = CFTYPE_NOT_ON_ROOT,
		.read_u64 = gpu_peak_read,
	},
	{
		.name = "memory.events",
		.flags = CFTYPE_NOT_ON_ROOT,
		.file_offset = offsetof(struct gpu_cgroup, events_file),
		.seq_show = gpu_events_show,
	},
	{
		.name = "memory.events.local",
		.flags = CFTYPE_NOT_ON_ROOT,
		.file_offset = offsetof(struct gpu_cgroup, events_local_file),
		.seq_show = gpu_events_local_show,
	},
	{ }	/* terminate */
};

static struct cftype gpu_legacy_files[] = {
	{
		.name = "priority",
		.flags = CFTYPE_NOT_ON_ROOT,
		.read_s64 = gpu_priority_read,
		.write_s64 = gpu_priority_write,
	},
	{
		.name = "max_mem_in_bytes",
		.flags = CFTYPE_NOT_ON_ROOT,
		.read_u64 = gpu_limit_read_v1,
		.write = gpu_limit_write,
	},
	{
		.name = "usage_in_bytes",
		.read_u64 = gpu_usage_read,
	},
	{
		.name = "max_usage_in_bytes",
		.flags = CFTYPE_NOT_ON_ROOT,
		.read_u64 = gpu_peak_read,
		.write_u64 = gpu_peak_reset_v1,
	},
	{
		.name = "failcnt",
		.flags = CFTYPE_NOT_ON_ROOT,
		.read_u64 = gpu_failcnt_read_v1,
		.write_u64 = gpu_failcnt_reset_v1,
	},
	{ }	/* terminate */
};

static struct cgroup_subsys_state *
gpu_css_alloc(struct cgroup_subsys_state *parent_css)
{
	struct gpu_cgroup *parent = css_gpu(parent_css);
	struct gpu_cgroup *cg;

	cg = kzalloc(sizeof(*cg), GFP_KERNEL);
	if (!cg)
		return ERR_PTR(-ENOMEM);

	page_counter_init(&cg->memory, parent ? &parent->memory : NULL);
	cg->memory.max = parent ? GPU_NO_LIMIT : GPU_ROOT_LIMIT;
	return &cg->css;
}

static void gpu_css_free(struct cgroup_subsys_state *css)
{
	kfree(css_gpu(css));
}

struct cgroup_subsys gpu_cgrp_subsys = {
	.css_alloc	= gpu_css_alloc,
	.css_free	= gpu_css_free,
	.legacy_cftypes	= gpu_legacy_files,
	.dfl_cftypes	= gpu_files,
};

/*
 * For schedulers, which hold on to the cgroup that their work belongs to.
 * The root cgroup has no priority and stays: there it is NULL.
 */

/**
 * gpu_cgroup_get() - the cgroup of a task, to be kept
 * @task: the task
 *
 * Context: Any context.
 * Return: the cgroup with a reference for gpu_cgroup_put(), or %NULL if it is
 * the root cgroup.
 */
struct gpu_cgroup *gpu_cgroup_get(struct task_struct *task)
{
	struct gpu_cgroup *cg = css_gpu(task_get_css(task, gpu_cgrp_id));

	if (parent_gpu(cg))
		return cg;

	css_put(&cg->css);
	return NULL;
}
EXPORT_SYMBOL_GPL(gpu_cgroup_get);

/**
 * gpu_cgroup_hold() - take one more reference
 * @cg: a cgroup from gpu_cgroup_get(), may be %NULL
 *
 * Context: Any context.
 * Return: @cg
 */
struct gpu_cgroup *gpu_cgroup_hold(struct gpu_cgroup *cg)
{
	if (cg)
		css_get(&cg->css);
	return cg;
}
EXPORT_SYMBOL_GPL(gpu_cgroup_hold);

/**
 * gpu_cgroup_put() - drop a reference
 * @cg: a cgroup from gpu_cgroup_get(), may be %NULL
 *
 * Context: Any context.
 */
void gpu_cgroup_put(struct gpu_cgroup *cg)
{
	if (cg)
		css_put(&cg->css);
}
EXPORT_SYMBOL_GPL(gpu_cgroup_put);

/**
 * gpu_cgroup_effective() - effective GPU priority of a cgroup
 * @cg: a cgroup that cannot go away meanwhile, may be %NULL
 *
 * A cgroup has its own priority, but never more than an ancestor with a
 * priority set. 0 is not set: it must not cap, or the untouched cgroups above
 * a container would hold every positive value down to 0. A removed cgroup keeps
 * its priority for what it left behind.
 *
 * Context: Any context.
 * Return: %GPU_PRIORITY_MIN to %GPU_PRIORITY_MAX, higher is sooner, 0 default.
 */
int gpu_cgroup_effective(struct gpu_cgroup *cg)
{
	int priority, cap;

	if (!cg)
		return 0;

	priority = READ_ONCE(cg->priority);
	while ((cg = parent_gpu(cg))) {
		cap = READ_ONCE(cg->priority);
		if (cap && cap < priority)
			priority = cap;
	}

	return priority;
}
EXPORT_SYMBOL_GPL(gpu_cgroup_effective);

#if IS_ENABLED(CONFIG_DRM_SCHED_CGROUP_KUNIT_TEST)
/**
 * gpu_cgroup_mock() - a cgroup outside of every hierarchy, for unit tests
 * @parent: its parent, may be %NULL
 *
 * Return: the cgroup, to be freed with kfree(), or %NULL without memory. Taking
 * references has no effect.
 */
struct gpu_cgroup *gpu_cgroup_mock(struct gpu_cgroup *parent)
{
	struct gpu_cgroup *cg = kzalloc(sizeof(*cg), GFP_KERNEL);

	if (cg) {
		cg->css.flags = CSS_NO_REF;
		cg->css.parent = parent ? &parent->css : NULL;
	}
	return cg;
}

/**
 * gpu_cgroup_mock_priority() - what a write to gpu.priority does
 * @cg: a cgroup from gpu_cgroup_mock()
 * @priority: the new value
 */
void gpu_cgroup_mock_priority(struct gpu_cgroup *cg, int priority)
{
	WRITE_ONCE(cg->priority, priority);
}
#endif
