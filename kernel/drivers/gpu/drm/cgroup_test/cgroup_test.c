// SPDX-License-Identifier: GPL-2.0-only
/*
 * Software GPU engine for tests of the gpu cgroup controller.
 *
 * One engine, which a timer plays, behind a real GPU scheduler. Each opened file
 * has one entity. Like much hardware the engine takes a second job while it runs
 * the first, so that the scheduler chooses ahead.
 */

#include <linux/dma-fence.h>
#include <linux/hrtimer.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/wait.h>

#include <drm/drm_drv.h>
#include <drm/drm_file.h>
#include <drm/drm_ioctl.h>
#include <drm/gpu_scheduler.h>

#include "cgroup_test.h"

#define CGT_HW_JOBS	2
#define CGT_MAX_RUN_US	USEC_PER_SEC
#define CGT_MAX_DEPTH	1024

struct cgt_device {
	struct drm_device	drm;
	struct drm_gpu_scheduler sched;

	/* The engine: jobs in the order of their start, the first one runs. */
	spinlock_t		lock;
	struct list_head	jobs;
	struct hrtimer		timer;
	u64			fence_context;
	u64			fence_seqno;
};

/* Of one file. Jobs outlive it. */
struct cgt_context {
	struct kref		ref;
	struct drm_sched_entity	entity;

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
	struct cgt_fence *fence;
	bool idle;

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

	drm_sched_job_cleanup(base);
	atomic_dec(&job->context->unfinished);
	wake_up(&job->context->wait);
	cgt_context_put(job->context);
	kfree(job);
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
	ret = drm_sched_job_init(&job->base, &context->entity, context);
	if (ret) {
		kfree(job);
		goto unlock;
	}
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
	ret = drm_sched_entity_init(&context->entity, DRM_SCHED_PRIORITY_NORMAL,
				    &sched, 1, NULL);
	if (ret) {
		cgt_context_put(context);
		return ret;
	}
	file->driver_priv = context;
	return 0;
}

static void cgt_postclose(struct drm_device *drm, struct drm_file *file)
{
	struct cgt_context *context = file->driver_priv;

	drm_sched_entity_destroy(&context->entity);
	cgt_context_put(context);
}

static const struct drm_ioctl_desc cgt_ioctls[] = {
	DRM_IOCTL_DEF_DRV(CGROUP_TEST_SUBMIT, cgt_submit, DRM_RENDER_ALLOW),
	DRM_IOCTL_DEF_DRV(CGROUP_TEST_STAT, cgt_stat, DRM_RENDER_ALLOW),
};

static const struct file_operations cgt_fops = {
	.owner		= THIS_MODULE,
	.open		= drm_open,
	.release	= drm_release,
	.unlocked_ioctl	= drm_ioctl,
	.compat_ioctl	= drm_compat_ioctl,
	.poll		= drm_poll,
	.read		= drm_read,
	.llseek		= noop_llseek,
};

static const struct drm_driver cgt_driver = {
	.driver_features	= DRIVER_RENDER,
	.open			= cgt_open,
	.postclose		= cgt_postclose,
	.ioctls			= cgt_ioctls,
	.num_ioctls		= ARRAY_SIZE(cgt_ioctls),
	.fops			= &cgt_fops,
	.name			= "cgroup_test",
	.desc			= "Software engine for tests",
	.date			= "20261122",
	.major			= 1,
	.minor			= 0,
};

static int __init cgt_init(void)
{
	const struct drm_sched_init_args args = {
		.ops		= &cgt_sched_ops,
		.credit_limit	= CGT_HW_JOBS,
		.timeout	= MAX_SCHEDULE_TIMEOUT,
		.name		= "cgroup_test",
	};
	struct platform_device *pdev;
	struct cgt_device *cgt;
	int ret;

	pdev = platform_device_register_simple("cgroup_test", -1, NULL, 0);
	if (IS_ERR(pdev))
		return PTR_ERR(pdev);

	cgt = devm_drm_dev_alloc(&pdev->dev, &cgt_driver, struct cgt_device, drm);
	if (IS_ERR(cgt)) {
		ret = PTR_ERR(cgt);
		goto unregister;
	}
	spin_lock_init(&cgt->lock);
	INIT_LIST_HEAD(&cgt->jobs);
	hrtimer_init(&cgt->timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
	cgt->timer.function = cgt_engine_done;
	cgt->fence_context = dma_fence_context_alloc(1);

	ret = drm_sched_init(&cgt->sched, &args);
	if (ret)
		goto unregister;
	ret = drm_dev_register(&cgt->drm, 0);
	if (ret)
		goto fini;
	return 0;

fini:
	drm_sched_fini(&cgt->sched);
unregister:
	platform_device_unregister(pdev);
	return ret;
}

/* Late: vgem and vkms keep the numbers that programs expect of them. */
late_initcall(cgt_init);
