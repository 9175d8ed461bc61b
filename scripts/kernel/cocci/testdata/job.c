/* SPDX-License-Identifier: GPL-2.0-only */
int bad_touched(struct x *x)
{
	int ret;

	ret = drm_sched_job_init(&x->job, x->entity, x);
	if (ret)
		goto fail;
	return 0;
fail:
	drm_sched_job_cleanup(&x->job);
	kfree(x);
	return ret;
}

int bad_kept(struct x *x)
{
	int ret;

	ret = drm_sched_job_init(&x->job, x->entity, x);
	if (ret)
		return ret;
	return 0;
}

/* As amdgpu before patch 0033. */
int bad_direct(struct x *x)
{
	return drm_sched_job_init(&x->job, x->entity, x);
}

/* As lima before patch 0034. */
int bad_objects(struct x *x, int n)
{
	int i, ret;

	for (i = 0; i < n; i++)
		drm_gem_object_get(x->obj[i]);
	ret = drm_sched_job_init(&x->job, x->entity, x);
	if (ret) {
		kfree(x->obj);
		return ret;
	}
	return 0;
}

int good_objects(struct x *x, int n)
{
	int i, ret;

	for (i = 0; i < n; i++)
		drm_gem_object_get(x->obj[i]);
	ret = drm_sched_job_init(&x->job, x->entity, x);
	if (ret) {
		for (i = 0; i < n; i++)
			drm_gem_object_put(x->obj[i]);
		kfree(x->obj);
		return ret;
	}
	return 0;
}

int good_later(struct x *x)
{
	int ret;

	ret = drm_sched_job_init(&x->job, x->entity, x);
	if (ret)
		goto out_put;
	ret = x_deps(x);
	if (ret)
		goto out_cleanup;
	return 0;
out_cleanup:
	drm_sched_job_cleanup(&x->job);
out_put:
	x_put(x);
	return ret;
}
