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
 * The charge belongs to the object. It stays behind when the process moves to
 * another cgroup, and survives rmdir, after which the ancestors go on counting it
 * until the object is gone. An object imported through PRIME is not charged again;
 * its exporter pays.
 *
 * What a charge, a scheduler or a context holds on to is &struct gpu_cgroup, which
 * is not the css: it has the counters and the priority, and references its parent
 * only. So a removed cgroup leaves that behind and nothing else, and the hierarchy
 * can be unmounted and moved while buffers live.
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

#include <linux/capability.h>
#include <linux/cgroup.h>
#include <linux/cgroup_gpu.h>
#include <linux/ctype.h>
#include <linux/device.h>
#include <linux/err.h>
#include <linux/error-injection.h>
#include <linux/export.h>
#include <linux/kdev_t.h>
#include <linux/kstrtox.h>
#include <linux/list.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/user_namespace.h>

#include "cgroup-internal.h"

#define GPU_PRIORITY_MIN	(-1024)
#define GPU_PRIORITY_MAX	1024

/* What fits into usage. */
#define GPU_NO_LIMIT		U64_MAX

/* In gpu_cgroup_charge.bytes of what is never charged. */
#define GPU_EXEMPT		U64_MAX

enum gpu_priority_source {
	GPU_PRIORITY_DEFAULT,	/* never written */
	GPU_PRIORITY_ADMIN,
	GPU_PRIORITY_DELEGATED,	/* by somebody who only owns the cgroup */
};

/*
 * As written, and by whom: one word, or else two writers at once could leave the
 * value of the one under the name of the other.
 */
struct gpu_priority {
	s16	value;
	u16	source;		/* enum gpu_priority_source */
};

/*
 * One for each css, in a tree of the same shape. It outlives its css for as long as
 * somebody has a reference; its parent lives as long as it does.
 */
struct gpu_cgroup {
	refcount_t			ref;
	struct gpu_cgroup		*parent;	/* NULL: the root */
	struct gpu_css __rcu		*css;		/* NULL once it is offline */
	bool				removed;

	/* In bytes, so that a limit reads back as written; with descendants. */
	u64				max;
	atomic64_t			usage;
	atomic64_t			peak;

	/* Refusals for this cgroup's limit; with those of its descendants. */
	atomic_long_t			max_events_local;
	atomic_long_t			max_events;

	struct gpu_priority		priority;
};

/* What the cgroup core knows. */
struct gpu_css {
	struct cgroup_subsys_state	css;

	/* With a reference, dropped a grace period after the last reader found it. */
	struct gpu_cgroup		*cg;

	/* Handles for memory.events and memory.events.local */
	struct cgroup_file		events_file;
	struct cgroup_file		events_local_file;
};

static struct gpu_css *to_gpu_css(struct cgroup_subsys_state *css)
{
	return container_of(css, struct gpu_css, css);
}

static struct gpu_cgroup *css_gpu(struct cgroup_subsys_state *css)
{
	return to_gpu_css(css)->cg;
}

static struct gpu_cgroup *gpu_alloc(struct gpu_cgroup *parent)
{
	struct gpu_cgroup *cg = kzalloc(sizeof(*cg), GFP_KERNEL);

	if (!cg)
		return NULL;

	refcount_set(&cg->ref, 1);
	cg->parent = gpu_cgroup_hold(parent);
	cg->max = GPU_NO_LIMIT;
	return cg;
}

/* The cgroup of a task, with a reference; also that of the root. */
static struct gpu_cgroup *gpu_of(struct task_struct *task)
{
	struct gpu_cgroup *cg;

	rcu_read_lock();
	cg = gpu_cgroup_hold(css_gpu(task_css(task, gpu_cgrp_id)));
	rcu_read_unlock();

	return cg;
}

static u64 gpu_usage(struct gpu_cgroup *cg)
{
	return atomic64_read(&cg->usage);
}

static bool gpu_fits(struct gpu_cgroup *cg, u64 usage, u64 bytes)
{
	u64 max = READ_ONCE(cg->max);

	return usage <= max && bytes <= max - usage;
}

/*
 * The cgroup on the way to the root that has no room, %NULL if all have. The root
 * has no limit, and refuses nobody for what others do.
 */
static struct gpu_cgroup *gpu_find_full(struct gpu_cgroup *cg, u64 bytes)
{
	for (; cg->parent; cg = cg->parent)
		if (!gpu_fits(cg, gpu_usage(cg), bytes))
			return cg;

	return NULL;
}

static void gpu_raise_peak(struct gpu_cgroup *cg, s64 usage)
{
	s64 peak = atomic64_read(&cg->peak);

	while ((u64)usage > (u64)peak &&
	       !atomic64_try_cmpxchg(&cg->peak, &peak, usage))
		;
}

/* One level. */
static bool gpu_charge(struct gpu_cgroup *cg, u64 bytes)
{
	s64 usage = atomic64_read(&cg->usage);

	if (!cg->parent) {
		atomic64_add(bytes, &cg->usage);
		return true;
	}

	do {
		if (!gpu_fits(cg, usage, bytes))
			return false;
	} while (!atomic64_try_cmpxchg(&cg->usage, &usage, usage + bytes));

	/*
	 * The limit may have been lowered since it was read. A success of cmpxchg is
	 * a full barrier, and gpu_limit_write() has one behind its store: either this
	 * sees the new limit, or whoever reads usage after the write sees the charge.
	 */
	if (gpu_fits(cg, usage, bytes))
		return true;

	atomic64_sub(bytes, &cg->usage);
	return false;
}

/* From @cg up to, and without, @end. */
static void gpu_uncharge(struct gpu_cgroup *cg, struct gpu_cgroup *end,
			 u64 bytes)
{
	for (; cg != end; cg = cg->parent)
		WARN_ON_ONCE((u64)atomic64_fetch_sub(bytes, &cg->usage) <
			     bytes);
}

/*
 * Returns the cgroup without room, %NULL if all levels are charged. It asks them
 * all first: an object that could never fit must not show up for a moment in the
 * cgroups below the full one, in their peak and in what they refuse meanwhile,
 * as often as user space likes.
 */
static struct gpu_cgroup *gpu_charge_all(struct gpu_cgroup *cg, u64 bytes)
{
	struct gpu_cgroup *level = gpu_find_full(cg, bytes);

	if (level)
		return level;

	for (level = cg; level; level = level->parent) {
		if (!gpu_charge(level, bytes)) {
			gpu_uncharge(cg, level, bytes);
			return level;
		}
	}

	/* Only now: what a level above refuses was never in use. */
	for (level = cg; level; level = level->parent)
		gpu_raise_peak(level, gpu_usage(level));

	return NULL;
}

/* Nobody waits for files of a removed cgroup. */
static void gpu_notify(struct gpu_cgroup *cg, bool local)
{
	struct gpu_css *css;

	rcu_read_lock();
	css = rcu_dereference(cg->css);
	if (css)
		cgroup_file_notify(local ? &css->events_local_file :
					   &css->events_file);
	rcu_read_unlock();
}

static void gpu_count_refusal(struct gpu_cgroup *cg)
{
	atomic_long_inc(&cg->max_events_local);
	gpu_notify(cg, true);

	for (; cg; cg = cg->parent) {
		atomic_long_inc(&cg->max_events);
		gpu_notify(cg, false);
	}
}

/**
 * gpu_cgroup_try_charge_task() - charge an object to the cgroup of a task
 * @charge: the object's charge
 * @task: the task
 * @bytes: size of the object
 *
 * Does nothing if the object is charged already, exempt, or the controller disabled
 * by the kernel's command line.
 *
 * Context: Any context in which @task cannot go away.
 * Return: %0, or %-ENOMEM if the object would exceed the limit of the cgroup
 * or of one of its ancestors; nothing is charged then.
 */
int gpu_cgroup_try_charge_task(struct gpu_cgroup_charge *charge,
			       struct task_struct *task, u64 bytes)
{
	struct gpu_cgroup *cg, *full;

	if (!cgroup_subsys_enabled(gpu_cgrp_subsys) || charge->cg ||
	    charge->bytes == GPU_EXEMPT)
		return 0;

	cg = gpu_of(task);
	full = gpu_charge_all(cg, bytes);
	if (full) {
		gpu_count_refusal(full);
		gpu_cgroup_put(cg);
		return -ENOMEM;
	}

	charge->cg = cg;
	charge->bytes = bytes;
	return 0;
}
EXPORT_SYMBOL_GPL(gpu_cgroup_try_charge_task);
ALLOW_ERROR_INJECTION(gpu_cgroup_try_charge_task, ERRNO);

/**
 * gpu_cgroup_try_charge() - charge an object to the cgroup of the current task
 * @charge: the object's charge
 * @bytes: size of the object
 *
 * Context: Any context but interrupts, which have no cgroup of their own.
 * Return: as gpu_cgroup_try_charge_task().
 */
int gpu_cgroup_try_charge(struct gpu_cgroup_charge *charge, u64 bytes)
{
	return gpu_cgroup_try_charge_task(charge, current, bytes);
}
EXPORT_SYMBOL_GPL(gpu_cgroup_try_charge);

/**
 * gpu_cgroup_exempt() - nobody ever pays for an object
 * @charge: the object's charge
 *
 * For what the kernel makes for itself or for everybody. What it was charged is
 * returned, and a later attempt to charge it succeeds without doing anything.
 *
 * Context: Any context.
 */
void gpu_cgroup_exempt(struct gpu_cgroup_charge *charge)
{
	gpu_cgroup_uncharge(charge);
	charge->bytes = GPU_EXEMPT;
}
EXPORT_SYMBOL_GPL(gpu_cgroup_exempt);

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

	gpu_uncharge(cg, NULL, charge->bytes);
	charge->cg = NULL;
	charge->bytes = 0;
	gpu_cgroup_put(cg);
}
EXPORT_SYMBOL_GPL(gpu_cgroup_uncharge);

static s64 gpu_priority_read(struct cgroup_subsys_state *css,
			     struct cftype *cft)
{
	return READ_ONCE(css_gpu(css)->priority).value;
}

/*
 * Is this an administrator of the machine, or somebody to whom a part of the tree
 * was given? A container may own its cgroup, and its root may even have every
 * capability, but not in the first namespaces. As for other files of cgroups, who
 * opened it counts: a privileged program may be made to write to what it was given.
 */
static enum gpu_priority_source gpu_priority_writer(struct kernfs_open_file *of)
{
	struct cgroup_file_ctx *ctx = of->priv;

	if (file_ns_capable(of->file, &init_user_ns, CAP_SYS_NICE) &&
	    ctx->ns == &init_cgroup_ns)
		return GPU_PRIORITY_ADMIN;
	return GPU_PRIORITY_DELEGATED;
}

static atomic_t gpu_priority_changes = ATOMIC_INIT(0);

static void gpu_priority_set(struct gpu_cgroup *cg, int priority,
			     enum gpu_priority_source source)
{
	struct gpu_priority written = { .value = priority, .source = source };

	WRITE_ONCE(cg->priority, written);
	/* Who sees the new number sees the new priority. */
	atomic_inc_return_release(&gpu_priority_changes);
}

/* Not .write_s64: its numbers may be octal, and white space around them not. */
static ssize_t gpu_priority_write(struct kernfs_open_file *of, char *buf,
				  size_t nbytes, loff_t off)
{
	int priority, ret;

	ret = kstrtoint(strstrip(buf), 10, &priority);
	if (ret)
		return ret;
	if (priority < GPU_PRIORITY_MIN || priority > GPU_PRIORITY_MAX)
		return -ERANGE;

	gpu_priority_set(css_gpu(of_css(of)), priority, gpu_priority_writer(of));
	return nbytes;
}

/*
 * Not memparse(): it wraps silently (2^64 becomes 0, a limit nobody asked
 * for), takes an empty string for 0, and a hexadecimal E for a suffix or the
 * other way round. Numbers are decimal here.
 */
static int gpu_parse_limit(char *buf, u64 *limit)
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
		/* Or else white space before the suffix would be all right. */
		if (last == buf || !isdigit(last[-1]))
			return -EINVAL;
	}

	ret = kstrtou64(buf, 10, limit);
	if (ret)
		return ret;
	if (*limit > U64_MAX >> shift)
		return -ERANGE;

	*limit <<= shift;
	return 0;
}

static ssize_t gpu_limit_write(struct kernfs_open_file *of, char *buf,
			       size_t nbytes, loff_t off)
{
	u64 limit;
	int ret;

	ret = gpu_parse_limit(buf, &limit);
	if (ret)
		return ret;

	WRITE_ONCE(css_gpu(of_css(of))->max, limit);
	/* Pairs with the cmpxchg in gpu_charge(). */
	smp_mb();
	return nbytes;
}

static int gpu_limit_show(struct seq_file *sf, void *v)
{
	u64 limit = READ_ONCE(css_gpu(seq_css(sf))->max);

	if (limit == GPU_NO_LIMIT)
		seq_puts(sf, "max\n");
	else
		seq_printf(sf, "%llu\n", limit);
	return 0;
}

static u64 gpu_limit_read_v1(struct cgroup_subsys_state *css,
			     struct cftype *cft)
{
	return READ_ONCE(css_gpu(css)->max);
}

static u64 gpu_usage_read(struct cgroup_subsys_state *css, struct cftype *cft)
{
	return gpu_usage(css_gpu(css));
}

static u64 gpu_peak_read(struct cgroup_subsys_state *css, struct cftype *cft)
{
	return atomic64_read(&css_gpu(css)->peak);
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
	struct gpu_cgroup *cg = css_gpu(css);

	if (val)
		return -EINVAL;

	/* A charge meanwhile raises it after the first line, or is in usage. */
	atomic64_xchg(&cg->peak, 0);
	gpu_raise_peak(cg, gpu_usage(cg));
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

/*
 * Who keeps what, for gpu.devices: what runs containers must not promise a limit
 * on a GPU whose driver never asks us. The DRM core is a module on many systems,
 * so it registers its nodes here instead of being asked for them.
 *
 * The mutex is held for these lists only, and nothing else is locked under it.
 * It nests inside whatever the callers hold, and inside kernfs's locks.
 */
static DEFINE_MUTEX(gpu_devices_lock);
static LIST_HEAD(gpu_devices);
static LIST_HEAD(gpu_schedulers);

#ifdef CONFIG_MODULES
static bool gpu_module_out_of_tree(const struct module *mod)
{
	return mod && test_bit(TAINT_OOT_MODULE, &mod->taints);
}

static bool gpu_code_out_of_tree(const void *code)
{
	bool out;

	preempt_disable();
	out = gpu_module_out_of_tree(__module_address((unsigned long)code));
	preempt_enable();

	return out;
}
#else
static bool gpu_module_out_of_tree(const struct module *mod)
{
	return false;
}

static bool gpu_code_out_of_tree(const void *code)
{
	return false;
}
#endif

/**
 * gpu_cgroup_register_device() - add a line to gpu.devices
 * @device: describes it, and stays until gpu_cgroup_unregister_device()
 *
 * Context: May sleep.
 */
void gpu_cgroup_register_device(struct gpu_cgroup_device *device)
{
	struct gpu_cgroup_device *next;

	device->has_priority = false;
	device->out_of_tree = gpu_module_out_of_tree(device->owner) ||
			      gpu_code_out_of_tree(device->code);

	mutex_lock(&gpu_devices_lock);
	list_for_each_entry(next, &gpu_devices, link)
		if (next->number > device->number)
			break;
	/* Before the next one, or, past the last, before the list's head. */
	list_add_tail(&device->link, &next->link);
	mutex_unlock(&gpu_devices_lock);
}
EXPORT_SYMBOL_GPL(gpu_cgroup_register_device);

/**
 * gpu_cgroup_unregister_device() - remove a line from gpu.devices
 * @device: as registered; nothing happens if it is not, or not any more
 *
 * Context: May sleep.
 */
void gpu_cgroup_unregister_device(struct gpu_cgroup_device *device)
{
	/* Never registered: all zero. */
	if (!device->link.next)
		return;

	mutex_lock(&gpu_devices_lock);
	list_del_init(&device->link);
	mutex_unlock(&gpu_devices_lock);
}
EXPORT_SYMBOL_GPL(gpu_cgroup_unregister_device);

/**
 * gpu_cgroup_device_has_priority() - say that a driver heeds priorities
 * @parent: the device whose nodes are registered
 *
 * For drivers without a DRM GPU scheduler of that very device.
 *
 * Context: May sleep.
 */
void gpu_cgroup_device_has_priority(const struct device *parent)
{
	struct gpu_cgroup_device *device;

	mutex_lock(&gpu_devices_lock);
	list_for_each_entry(device, &gpu_devices, link)
		if (device->parent == parent)
			device->has_priority = true;
	mutex_unlock(&gpu_devices_lock);
}
EXPORT_SYMBOL_GPL(gpu_cgroup_device_has_priority);

/**
 * gpu_cgroup_register_scheduler() - say that a device is scheduled by priority
 * @sched: the scheduler's entry, stays until gpu_cgroup_unregister_scheduler()
 * @device: the device, may be %NULL if the driver does not say
 *
 * Context: May sleep.
 */
void gpu_cgroup_register_scheduler(struct gpu_cgroup_scheduler *sched,
				   const struct device *device)
{
	sched->device = device;
	mutex_lock(&gpu_devices_lock);
	list_add(&sched->link, &gpu_schedulers);
	mutex_unlock(&gpu_devices_lock);
}
EXPORT_SYMBOL_GPL(gpu_cgroup_register_scheduler);

/**
 * gpu_cgroup_unregister_scheduler() - the scheduler has ended
 * @sched: as registered; nothing happens if it is not, or not any more
 *
 * Context: May sleep.
 */
void gpu_cgroup_unregister_scheduler(struct gpu_cgroup_scheduler *sched)
{
	if (!sched->link.next)
		return;

	mutex_lock(&gpu_devices_lock);
	list_del_init(&sched->link);
	mutex_unlock(&gpu_devices_lock);
}
EXPORT_SYMBOL_GPL(gpu_cgroup_unregister_scheduler);

static bool gpu_device_is_scheduled(const struct gpu_cgroup_device *device)
{
	struct gpu_cgroup_scheduler *sched;

	if (device->has_priority)
		return true;
	if (!device->parent)
		return false;

	list_for_each_entry(sched, &gpu_schedulers, link)
		if (sched->device == device->parent)
			return true;
	return false;
}

static void gpu_device_show(struct seq_file *sf,
			    const struct gpu_cgroup_device *device)
{
	const struct device *parent = device->parent;

	seq_printf(sf, "%u:%u ", MAJOR(device->number), MINOR(device->number));
	seq_escape(sf, device->driver, " \t\n\\");
	if (parent && parent->bus) {
		seq_printf(sf, " %s:", parent->bus->name);
		seq_escape(sf, dev_name(parent), " \t\n\\");
	} else {
		seq_puts(sf, " -");
	}

	if (device->out_of_tree) {
		seq_puts(sf, " out-of-tree");
	} else {
		if (device->memory)
			seq_puts(sf, " memory");
		if (gpu_device_is_scheduled(device))
			/* Siblings by weight, or clamped: see "tree" in cgroup-gpu.rst. */
			seq_puts(sf, " priority tree");
	}
	seq_putc(sf, '\n');
}

static int gpu_devices_show(struct seq_file *sf, void *v)
{
	struct gpu_cgroup_device *device;

	mutex_lock(&gpu_devices_lock);
	list_for_each_entry(device, &gpu_devices, link)
		gpu_device_show(sf, device);
	mutex_unlock(&gpu_devices_lock);
	return 0;
}

static struct cftype gpu_files[] = {
	{
		.name = "devices",
		.flags = CFTYPE_ONLY_ON_ROOT,
		.seq_show = gpu_devices_show,
	},
	{
		.name = "priority",
		.flags = CFTYPE_NOT_ON_ROOT,
		.read_s64 = gpu_priority_read,
		.write = gpu_priority_write,
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
		.file_offset = offsetof(struct gpu_css, events_file),
		.seq_show = gpu_events_show,
	},
	{
		.name = "memory.events.local",
		.flags = CFTYPE_NOT_ON_ROOT,
		.file_offset = offsetof(struct gpu_css, events_local_file),
		.seq_show = gpu_events_local_show,
	},
	{ }	/* terminate */
};

static struct cftype gpu_legacy_files[] = {
	{
		.name = "devices",
		.flags = CFTYPE_ONLY_ON_ROOT,
		.seq_show = gpu_devices_show,
	},
	{
		.name = "priority",
		.flags = CFTYPE_NOT_ON_ROOT,
		.read_s64 = gpu_priority_read,
		.write = gpu_priority_write,
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
	struct gpu_css *css = kzalloc(sizeof(*css), GFP_KERNEL);

	if (!css)
		return ERR_PTR(-ENOMEM);

	css->cg = gpu_alloc(parent_css ? css_gpu(parent_css) : NULL);
	if (!css->cg) {
		kfree(css);
		return ERR_PTR(-ENOMEM);
	}
	return &css->css;
}

static int gpu_css_online(struct cgroup_subsys_state *css)
{
	rcu_assign_pointer(css_gpu(css)->css, to_gpu_css(css));
	return 0;
}

static void gpu_css_offline(struct cgroup_subsys_state *css)
{
	struct gpu_cgroup *cg = css_gpu(css);

	WRITE_ONCE(cg->removed, true);
	/* css_free() is a grace period away. */
	RCU_INIT_POINTER(cg->css, NULL);
}

static void gpu_css_free(struct cgroup_subsys_state *css)
{
	gpu_cgroup_put(css_gpu(css));
	kfree(to_gpu_css(css));
}

struct cgroup_subsys gpu_cgrp_subsys = {
	.css_alloc	= gpu_css_alloc,
	.css_online	= gpu_css_online,
	.css_offline	= gpu_css_offline,
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
	struct gpu_cgroup *cg = gpu_of(task);

	if (cg->parent)
		return cg;

	gpu_cgroup_put(cg);
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
		refcount_inc(&cg->ref);
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
	struct gpu_cgroup *parent;

	for (; cg && refcount_dec_and_test(&cg->ref); cg = parent) {
		parent = cg->parent;
		kfree(cg);
	}
}
EXPORT_SYMBOL_GPL(gpu_cgroup_put);

/**
 * gpu_cgroup_parent() - the cgroup above
 * @cg: a cgroup from gpu_cgroup_get()
 *
 * Context: Any context.
 * Return: its parent, without a reference as it lives as long as @cg; %NULL if that
 * is the root cgroup.
 */
struct gpu_cgroup *gpu_cgroup_parent(struct gpu_cgroup *cg)
{
	return cg->parent && cg->parent->parent ? cg->parent : NULL;
}
EXPORT_SYMBOL_GPL(gpu_cgroup_parent);

/**
 * gpu_cgroup_priority() - the priority of a cgroup among its siblings
 * @cg: a cgroup from gpu_cgroup_get(), may be %NULL
 *
 * A removed cgroup keeps its priority for what it left behind.
 *
 * Context: Any context.
 * Return: %GPU_PRIORITY_MIN to %GPU_PRIORITY_MAX, higher is more, 0 default.
 */
int gpu_cgroup_priority(struct gpu_cgroup *cg)
{
	return cg ? READ_ONCE(cg->priority).value : 0;
}
EXPORT_SYMBOL_GPL(gpu_cgroup_priority);

/**
 * gpu_cgroup_priority_changes() - has any priority changed?
 *
 * Context: Any context.
 * Return: another number than before the last write to any gpu.priority. It wraps.
 */
unsigned int gpu_cgroup_priority_changes(void)
{
	return atomic_read_acquire(&gpu_priority_changes);
}
EXPORT_SYMBOL_GPL(gpu_cgroup_priority_changes);

/* Returns whether the cgroup or any above it was written, which @effective is of. */
static bool gpu_effective(struct gpu_cgroup *cg, int *effective)
{
	bool written = false;
	bool capped = false;	/* nor may it rise above what is above */

	*effective = 0;
	for (; cg && cg->parent; cg = cg->parent) {
		struct gpu_priority own = READ_ONCE(cg->priority);

		if (own.source == GPU_PRIORITY_DEFAULT)
			continue;
		*effective = written ? min_t(int, *effective, own.value) :
				       own.value;
		written = true;
		capped = own.source == GPU_PRIORITY_DELEGATED;
	}

	/* The topmost that was written is below cgroups of the default. */
	if (capped)
		*effective = min(*effective, 0);
	return written;
}

/**
 * gpu_cgroup_effective() - priority of a cgroup in an order of all
 * @cg: a cgroup from gpu_cgroup_get(), may be %NULL
 *
 * For schedulers that know one strict order and no shares, in which a weight among
 * siblings means nothing. A cgroup has its own priority, but:
 *
 * - one that was never written is that of the cgroup above;
 * - nobody rises above the next ancestor that was written: who was given little
 *   cannot make more of it by making cgroups;
 * - one written by somebody who is no administrator of the machine does not rise
 *   above the cgroup above in any case.
 *
 * Context: Any context.
 * Return: %GPU_PRIORITY_MIN to %GPU_PRIORITY_MAX, higher is sooner, 0 default.
 */
int gpu_cgroup_effective(struct gpu_cgroup *cg)
{
	int effective;

	gpu_effective(cg, &effective);
	return effective;
}
EXPORT_SYMBOL_GPL(gpu_cgroup_effective);

/**
 * gpu_cgroup_order() - place of a context in an order of all
 * @cg: the context's cgroup from gpu_cgroup_get(), may be %NULL
 * @priority: what the context asks for itself, 0 default
 * @min: first value of the order
 * @max: last value of the order
 *
 * For the same schedulers. The context's own priority orders the contexts of a
 * cgroup, and gpu_cgroup_effective() moves them all. Where a priority of a cgroup
 * was written, a context cannot rise above it: it may be in a container that has
 * the capability to ask for more, but not to get more than the container.
 *
 * Context: Any context.
 * Return: @min to @max.
 */
int gpu_cgroup_order(struct gpu_cgroup *cg, int priority, int min, int max)
{
	int effective;

	if (gpu_effective(cg, &effective))
		priority = min(priority, 0) + effective;
	return clamp(priority, min, max);
}
EXPORT_SYMBOL_GPL(gpu_cgroup_order);

/**
 * gpu_cgroup_removed() - can no task ever be in a cgroup again?
 * @cg: a cgroup from gpu_cgroup_get(), may be %NULL
 *
 * Context: Any context.
 * Return: %true after rmdir, or when the controller was disabled for it.
 */
bool gpu_cgroup_removed(struct gpu_cgroup *cg)
{
	return cg && READ_ONCE(cg->removed);
}
EXPORT_SYMBOL_GPL(gpu_cgroup_removed);

#if IS_ENABLED(CONFIG_DRM_SCHED_CGROUP_KUNIT_TEST)
static struct gpu_cgroup gpu_mock_root = { .ref = REFCOUNT_INIT(1) };

/**
 * gpu_cgroup_mock() - a cgroup outside of every hierarchy, for unit tests
 * @parent: its parent, %NULL for a root cgroup
 *
 * Return: the cgroup with a reference for gpu_cgroup_put(), or %NULL without memory.
 */
struct gpu_cgroup *gpu_cgroup_mock(struct gpu_cgroup *parent)
{
	return gpu_alloc(parent ?: &gpu_mock_root);
}

/**
 * gpu_cgroup_mock_priority() - what a write to gpu.priority does
 * @cg: a cgroup from gpu_cgroup_mock()
 * @priority: the new value
 */
void gpu_cgroup_mock_priority(struct gpu_cgroup *cg, int priority)
{
	gpu_priority_set(cg, priority, GPU_PRIORITY_ADMIN);
}

/**
 * gpu_cgroup_mock_delegated() - what a write by its owner does
 * @cg: a cgroup from gpu_cgroup_mock()
 * @priority: the new value
 */
void gpu_cgroup_mock_delegated(struct gpu_cgroup *cg, int priority)
{
	gpu_priority_set(cg, priority, GPU_PRIORITY_DELEGATED);
}

/**
 * gpu_cgroup_mock_remove() - what rmdir does
 * @cg: a cgroup from gpu_cgroup_mock()
 */
void gpu_cgroup_mock_remove(struct gpu_cgroup *cg)
{
	WRITE_ONCE(cg->removed, true);
}

/**
 * gpu_cgroup_mock_devices() - what gpu.devices says
 * @text: where to put it, ended with a NUL
 * @size: room there
 */
void gpu_cgroup_mock_devices(char *text, size_t size)
{
	struct seq_file sf = { .buf = text, .size = size - 1 };

	gpu_devices_show(&sf, NULL);
	text[sf.count] = '\0';
}
EXPORT_SYMBOL_GPL(gpu_cgroup_mock_devices);
#endif
