/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * What user space asks of the software engine. Not an ABI: this is for tests
 * that come with the same kernel.
 */
#ifndef _CGROUP_TEST_H_
#define _CGROUP_TEST_H_

#include <drm/drm.h>

/**
 * struct drm_cgroup_test_submit - queue a job
 * @run_us: how long the job keeps the engine, 1 to 1000000 us
 * @depth: 1 to 1024; first wait until fewer jobs of this file are unfinished
 */
struct drm_cgroup_test_submit {
	__u32 run_us;
	__u32 depth;
};

/**
 * struct drm_cgroup_test_stat - what this file got of the engine so far
 * @jobs: finished jobs
 * @busy_us: how long they kept the engine, which is more than was asked for: timers
 *	are late
 */
struct drm_cgroup_test_stat {
	__u64 jobs;
	__u64 busy_us;
};

/**
 * struct drm_cgroup_test_create - make a buffer
 * @size: in bytes, rounded up to pages
 * @handle: (out) handle of the buffer
 * @pad: must be 0
 *
 * As DRM_IOCTL_MODE_CREATE_DUMB, but on the render node as well.
 */
struct drm_cgroup_test_create {
	__u64 size;
	__u32 handle;
	__u32 pad;
};

/**
 * struct drm_cgroup_test_order - where a context would stand in one order of all
 * @priority: (in) what the context asks for itself, (out) its place, -1023 to 1023
 * @pad: must be 0
 *
 * Not of this engine, which divides time: what i915 would do with a context of the
 * calling process.
 */
struct drm_cgroup_test_order {
	__s32 priority;
	__s32 pad;
};

#define DRM_IOCTL_CGROUP_TEST_SUBMIT	DRM_IOW(DRM_COMMAND_BASE + 0, \
						struct drm_cgroup_test_submit)
#define DRM_IOCTL_CGROUP_TEST_STAT	DRM_IOR(DRM_COMMAND_BASE + 1, \
						struct drm_cgroup_test_stat)
#define DRM_IOCTL_CGROUP_TEST_CREATE	DRM_IOWR(DRM_COMMAND_BASE + 2, \
						 struct drm_cgroup_test_create)
#define DRM_IOCTL_CGROUP_TEST_ORDER	DRM_IOWR(DRM_COMMAND_BASE + 3, \
						 struct drm_cgroup_test_order)

#endif /* _CGROUP_TEST_H_ */
