/* SPDX-License-Identifier: GPL-2.0-only */
/* As qxl before patch 0008. */
int bad_branch(struct drm_file *file, u32 *handle)
{
	struct drm_gem_object *obj = x_create();
	int ret;

	ret = drm_gem_handle_create(file, obj, handle);
	if (ret)
		return ret;
	drm_gem_object_put(obj);
	return 0;
}

/* As vmwgfx before patch 0031. */
int bad_same(struct drm_file *file, struct x **x, u32 *handle)
{
	int ret = x_make(x);

	if (ret != 0)
		goto out;
	ret = drm_gem_handle_create(file, &(*x)->base, handle);
out:
	return ret;
}

/* kfree() of something else is no way to drop the object. */
int bad_goto(struct drm_file *file, u32 *handle)
{
	struct drm_gem_object *obj = x_create();
	int ret;

	ret = drm_gem_handle_create(file, obj, handle);
	if (unlikely(ret != 0))
		goto fail;
	drm_gem_object_put(obj);
	return 0;
fail:
	kfree(handle);
	return ret;
}

int bad_direct(struct drm_file *file, u32 *handle)
{
	return drm_gem_handle_create(file, x_create(), handle);
}

int good_branch(struct drm_file *file, u32 *handle)
{
	struct drm_gem_object *obj = x_create();
	int ret;

	ret = drm_gem_handle_create(file, obj, handle);
	if (ret)
		goto fail;
	drm_gem_object_put(obj);
	return 0;
fail:
	x_gem_free_object(obj);
	return ret;
}

int good_same(struct drm_file *file, u32 *handle)
{
	struct drm_gem_object *obj = x_create();
	int ret;

	ret = drm_gem_handle_create(file, obj, handle);
	drm_gem_object_put(obj);
	if (ret)
		return ret;
	return 0;
}

/* The caller gets object and handle, or neither. */
int good_both(struct drm_file *file, struct x **x, u32 *handle)
{
	int ret = x_make(x);

	if (ret != 0)
		goto out;
	ret = drm_gem_handle_create(file, &(*x)->base, handle);
	if (ret) {
		drm_gem_object_put(&(*x)->base);
		*x = NULL;
	}
out:
	return ret;
}
