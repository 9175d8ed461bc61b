// SPDX-License-Identifier: GPL-2.0-only
/*
 * Software GPU for tests of the gpu cgroup controller.
 *
 * One engine, which a timer plays, behind a real GPU scheduler. Each opened file
 * has one entity. Like much hardware the engine takes a second job while it runs
 * the first, so that the scheduler chooses ahead. Buffers are GEM objects in
 * system memory that jobs do not touch.
 *
 * Built as a module outside of the tree it goes by the name of that module.
 */

#include <linux/cgroup_gpu.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/dma-fence.h>
#include <linux/hrtimer.h>
#include <linux/kref.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/platform_device.h>
#include <linux/refcount.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/wait.h>

#include <drm/drm_drv.h>
#include <drm/drm_file.h>
#include <drm/drm_gem_shmem_helper.h>
#include <drm/drm_ioctl.h>
#include <drm/drm_managed.h>
#include <drm/gpu_scheduler.h>

#include "cgroup_test.h"

#define CGT_HW_JOBS	2
#define CGT_MAX_RUN_US	USEC_PER_SEC
#define CGT_MAX_DEPTH	1024

/* The entity ends with its file, while its last job may be in here. */
static unsigned int submit_us;
module_param(submit_us, uint, 0600);
MODULE_PARM_DESC(submit_us, "how long it takes to give a job to the engine, 0 to 100000 us (default 0)");

/* Each job waits for a fence that signals in a hard interrupt, as hardware's do. */
static unsigned int depend_us;
module_param(depend_us, uint, 0600);
MODULE_PARM_DESC(depend_us, "how long a job waits for something else, 0 to 100000 us (default 0)");

struct cgt_device {
	struct drm_device	drm;
	struct drm_gpu_scheduler sched;

	/* The engine: jobs in the order of their start, the first one runs. */
	spinlock_t		lock;
	struct list_head	jobs;
	struct hrtimer		timer;
	u64			fence_context;
	u64			fence_seqno;

	/* One of the device and one of each job; what ends it waits for all. */
	refcount_t		users;
	struct completion	unused;
};

/* Of one file. Jobs outlive it, but not its entity: so it is with real drivers. */
struct cgt_context {
	struct kref		ref;
	struct drm_sched_entity	*entity;

	/* One submission at a time: jobs get their order and their place. */
	struct mutex		submit;

	wait_queue_head_t	wait;
	atomic_t		unfinished;

	atomic64_t		jobs;
	atomic64_t		busy_ns;
};

struct cgt_fence {
	struct dma_fence	base;
	struct cgt_context	*context;
	struct list_head	link;
	ktime_t			started;
	u32			run_us;
};

struct cgt_delay {
	struct dma_fence	base;

	/* Of the fence. */
	spinlock_t		lock;
	struct hrtimer		timer;
};

struct cgt_job {
	struct drm_sched_job	base;
	struct cgt_device	*cgt;
	struct cgt_context	*context;
	u32			run_us;
};

static void cgt_context_release(struct kref *ref)
{
	kfree(container_of(ref, struct cgt_context, ref));
}

static void cgt_context_put(struct cgt_context *context)
{
	kref_put(&context->ref, cgt_context_release);
}

static void cgt_put(struct cgt_device *cgt)
{
	if (refcount_dec_and_test(&cgt->users))
		complete(&cgt->unused);
}

static const char *cgt_fence_name(struct dma_fence *base)
{
	return "cgroup_test";
}

static void cgt_fence_release(struct dma_fence *base)
{
	struct cgt_fence *fence = container_of(base, struct cgt_fence, base);

	cgt_context_put(fence->context);
	dma_fence_free(base);
}

static const struct dma_fence_ops cgt_fence_ops = {
	.get_driver_name	= cgt_fence_name,
	.get_timeline_name	= cgt_fence_name,
	.release		= cgt_fence_release,
};

static const struct dma_fence_ops cgt_delay_ops = {
	.get_driver_name	= cgt_fence_name,
	.get_timeline_name	= cgt_fence_name,
};

static enum hrtimer_restart cgt_delay_over(struct hrtimer *timer)
{
	struct cgt_delay *delay = container_of(timer, struct cgt_delay, timer);

	dma_fence_signal(&delay->base);
	/* It is freed after a grace period of RCU, and so after this. */
	dma_fence_put(&delay->base);
	return HRTIMER_NORESTART;
}

static int cgt_job_delay(struct cgt_job *job)
{
	unsigned int us = min(READ_ONCE(depend_us), 100000u);
	struct cgt_delay *delay;

	if (!us)
		return 0;
	delay = kzalloc(sizeof(*delay), GFP_KERNEL);
	if (!delay)
		return -ENOMEM;
	spin_lock_init(&delay->lock);
	dma_fence_init(&delay->base, &cgt_delay_ops, &delay->lock,
		       dma_fence_context_alloc(1), 1);
	dma_fence_get(&delay->base);	/* the timer's */
	hrtimer_init(&delay->timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
	delay->timer.function = cgt_delay_over;
	hrtimer_start(&delay->timer, ns_to_ktime((u64)us * NSEC_PER_USEC),
		      HRTIMER_MODE_REL_HARD);
	return drm_sched_job_add_dependency(&job->base, &delay->base);
}

static void cgt_engine_start(struct cgt_device *cgt, struct cgt_fence *fence)
{
	fence->started = ktime_get();
	hrtimer_start(&cgt->timer,
		      ns_to_ktime((u64)fence->run_us * NSEC_PER_USEC),
		      HRTIMER_MODE_REL_HARD);
}

static enum hrtimer_restart cgt_engine_done(struct hrtimer *timer)
{
	struct cgt_device *cgt = container_of(timer, struct cgt_device, timer);
	struct cgt_fence *fence, *next;

	spin_lock(&cgt->lock);
	fence = list_first_entry(&cgt->jobs, struct cgt_fence, link);
	list_del(&fence->link);
	next = list_first_entry_or_null(&cgt->jobs, struct cgt_fence, link);
	if (next)
		cgt_engine_start(cgt, next);
	spin_unlock(&cgt->lock);

	atomic64_inc(&fence->context->jobs);
	atomic64_add(ktime_to_ns(ktime_sub(ktime_get(), fence->started)),
		     &fence->context->busy_ns);
	dma_fence_signal(&fence->base);
	dma_fence_put(&fence->base);

	return HRTIMER_NORESTART;
}

static struct dma_fence *cgt_run_job(struct drm_sched_job *base)
{
	struct cgt_job *job = container_of(base, struct cgt_job, base);
	struct cgt_device *cgt = job->cgt;
	unsigned int delay_us = min(READ_ONCE(submit_us), 100000u);
	struct cgt_fence *fence;
	bool idle;

	if (delay_us)
		usleep_range(delay_us, delay_us + delay_us / 8);

	fence = kzalloc(sizeof(*fence), GFP_KERNEL);
	if (!fence)
		return ERR_PTR(-ENOMEM);
	kref_get(&job->context->ref);
	fence->context = job->context;
	fence->run_us = job->run_us;

	spin_lock_irq(&cgt->lock);
	dma_fence_init(&fence->base, &cgt_fence_ops, &cgt->lock,
		       cgt->fence_context, ++cgt->fence_seqno);
	dma_fence_get(&fence->base);	/* the engine's */
	idle = list_empty(&cgt->jobs);
	list_add_tail(&fence->link, &cgt->jobs);
	if (idle)
		cgt_engine_start(cgt, fence);
	spin_unlock_irq(&cgt->lock);

	return &fence->base;
}

static void cgt_free_job(struct drm_sched_job *base)
{
	struct cgt_job *job = container_of(base, struct cgt_job, base);
	struct cgt_device *cgt = job->cgt;

	drm_sched_job_cleanup(base);
	atomic_dec(&job->context->unfinished);
	wake_up(&job->context->wait);
	cgt_context_put(job->context);
	kfree(job);
	cgt_put(cgt);
}

/* Never called: the scheduler has no time-out. */
static enum drm_gpu_sched_stat cgt_timedout_job(struct drm_sched_job *base)
{
	return DRM_GPU_SCHED_STAT_NOMINAL;
}

static const struct drm_sched_backend_ops cgt_sched_ops = {
	.run_job	= cgt_run_job,
	.timedout_job	= cgt_timedout_job,
	.free_job	= cgt_free_job,
};

static int cgt_submit(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct cgt_device *cgt = container_of(drm, struct cgt_device, drm);
	struct cgt_context *context = file->driver_priv;
	struct drm_cgroup_test_submit *args = data;
	struct cgt_job *job;
	int ret;

	if (!args->run_us || args->run_us > CGT_MAX_RUN_US ||
	    !args->depth || args->depth > CGT_MAX_DEPTH)
		return -EINVAL;

	ret = mutex_lock_interruptible(&context->submit);
	if (ret)
		return ret;
	ret = wait_event_interruptible(context->wait,
				       atomic_read(&context->unfinished) <
				       args->depth);
	if (ret)
		goto unlock;

	job = kzalloc(sizeof(*job), GFP_KERNEL);
	if (!job) {
		ret = -ENOMEM;
		goto unlock;
	}
	ret = drm_sched_job_init(&job->base, context->entity, context);
	if (ret) {
		kfree(job);
		goto unlock;
	}
	ret = cgt_job_delay(job);
	if (ret) {
		drm_sched_job_cleanup(&job->base);
		kfree(job);
		goto unlock;
	}
	refcount_inc(&cgt->users);
	job->cgt = cgt;
	job->run_us = args->run_us;
	kref_get(&context->ref);
	job->context = context;
	atomic_inc(&context->unfinished);
	drm_sched_job_arm(&job->base);
	drm_sched_entity_push_job(&job->base);

unlock:
	mutex_unlock(&context->submit);
	return ret;
}

static int cgt_stat(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct cgt_context *context = file->driver_priv;
	struct drm_cgroup_test_stat *args = data;

	args->jobs = atomic64_read(&context->jobs);
	args->busy_us = atomic64_read(&context->busy_ns) / NSEC_PER_USEC;
	return 0;
}

static int cgt_create(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_cgroup_test_create *args = data;
	struct drm_gem_shmem_object *object;
	int ret;

	if (args->pad || !args->size || !PAGE_ALIGN(args->size))
		return -EINVAL;

	object = drm_gem_shmem_create(drm, args->size);
	if (IS_ERR(object))
		return PTR_ERR(object);

	ret = drm_gem_handle_create(file, &object->base, &args->handle);
	drm_gem_object_put(&object->base);
	return ret;
}

static int cgt_order(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_cgroup_test_order *args = data;
	struct gpu_cgroup *cg;

	if (args->pad)
		return -EINVAL;

	cg = gpu_cgroup_get(current);
	args->priority = gpu_cgroup_order(cg, args->priority, -1023, 1023);
	gpu_cgroup_put(cg);
	return 0;
}

static int cgt_open(struct drm_device *drm, struct drm_file *file)
{
	struct cgt_device *cgt = container_of(drm, struct cgt_device, drm);
	struct drm_gpu_scheduler *sched = &cgt->sched;
	struct cgt_context *context;
	int ret;

	context = kzalloc(sizeof(*context), GFP_KERNEL);
	if (!context)
		return -ENOMEM;
	kref_init(&context->ref);
	mutex_init(&context->submit);
	init_waitqueue_head(&context->wait);
	context->entity = kzalloc(sizeof(*context->entity), GFP_KERNEL);
	if (!context->entity) {
		cgt_context_put(context);
		return -ENOMEM;
	}
	ret = drm_sched_entity_init(context->entity, DRM_SCHED_PRIORITY_NORMAL,
				    &sched, 1, NULL);
	if (ret) {
		kfree(context->entity);
		cgt_context_put(context);
		return ret;
	}
	file->driver_priv = context;
	return 0;
}

static void cgt_postclose(struct drm_device *drm, struct drm_file *file)
{
	struct cgt_context *context = file->driver_priv;

	drm_sched_entity_destroy(context->entity);
	kfree(context->entity);
	cgt_context_put(context);
}

static const struct drm_ioctl_desc cgt_ioctls[] = {
	DRM_IOCTL_DEF_DRV(CGROUP_TEST_SUBMIT, cgt_submit, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(CGROUP_TEST_STAT, cgt_stat, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(CGROUP_TEST_CREATE, cgt_create, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(CGROUP_TEST_ORDER, cgt_order, DRM_RENDER_ALLOW),
};

DEFINE_DRM_GEM_FOPS(cgt_fops);

static const struct drm_driver cgt_driver = {
	.driver_features	= DRIVER_GEM | DRIVER_RENDER,
	.open			= cgt_open,
	.postclose		= cgt_postclose,
	.ioctls			= cgt_ioctls,
	.num_ioctls		= ARRAY_SIZE(cgt_ioctls),
	.fops			= &cgt_fops,
	DRM_GEM_SHMEM_DRIVER_OPS,
	.name			= KBUILD_MODNAME,
	.desc			= "Software GPU for tests",
	.date			= "20261127",
	.major			= 1,
	.minor			= 0,
};

/* The last file is closed: no entity is left, but jobs in the engine may be. */
static void cgt_fini_sched(struct drm_device *drm, void *data)
{
	struct cgt_device *cgt = data;

	cgt_put(cgt);
	wait_for_completion(&cgt->unused);
	drm_sched_fini(&cgt->sched);
	/* It signals the last job under our lock, and ends after that. */
	hrtimer_cancel(&cgt->timer);
}

static int cgt_probe(struct platform_device *pdev)
{
	const struct drm_sched_init_args args = {
		.ops		= &cgt_sched_ops,
		.credit_limit	= CGT_HW_JOBS,
		.timeout	= MAX_SCHEDULE_TIMEOUT,
		.name		= "cgroup_test",
		.dev		= &pdev->dev,
	};
	struct cgt_device *cgt;
	int ret;

	ret = dma_coerce_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (ret)
		return ret;

	cgt = devm_drm_dev_alloc(&pdev->dev, &cgt_driver, struct cgt_device, drm);
	if (IS_ERR(cgt))
		return PTR_ERR(cgt);
	platform_set_drvdata(pdev, cgt);
	spin_lock_init(&cgt->lock);
	INIT_LIST_HEAD(&cgt->jobs);
	hrtimer_init(&cgt->timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
	cgt->timer.function = cgt_engine_done;
	cgt->fence_context = dma_fence_context_alloc(1);
	refcount_set(&cgt->users, 1);
	init_completion(&cgt->unused);

	ret = drm_sched_init(&cgt->sched, &args);
	if (ret)
		return ret;
	ret = drmm_add_action_or_reset(&cgt->drm, cgt_fini_sched, cgt);
	if (ret)
		return ret;

	return drm_dev_register(&cgt->drm, 0);
}

static int cgt_remove(struct platform_device *pdev)
{
	struct cgt_device *cgt = platform_get_drvdata(pdev);

	drm_dev_unplug(&cgt->drm);
	return 0;
}

static struct platform_driver cgt_platform_driver = {
	.probe	= cgt_probe,
	.remove	= cgt_remove,
	.driver	= {
		.name = KBUILD_MODNAME,
	},
};

static struct platform_device *cgt_platform_device;

static int __init cgt_init(void)
{
	int ret;

	ret = platform_driver_register(&cgt_platform_driver);
	if (ret)
		return ret;

	cgt_platform_device =
		platform_device_register_simple(KBUILD_MODNAME, -1, NULL, 0);
	if (IS_ERR(cgt_platform_device)) {
		platform_driver_unregister(&cgt_platform_driver);
		return PTR_ERR(cgt_platform_device);
	}
	return 0;
}

static void __exit cgt_exit(void)
{
	platform_device_unregister(cgt_platform_device);
	platform_driver_unregister(&cgt_platform_driver);
}

module_init(cgt_init);
module_exit(cgt_exit);

MODULE_DESCRIPTION("Software GPU for tests of the gpu cgroup controller");
MODULE_LICENSE("GPL");
