/* SPDX-License-Identifier: GPL-2.0-only */
/* As xen before patch 0032. */
struct x *bad_gem(struct drm_device *dev)
{
	struct x *x;
	int ret;

	x = gem_create_obj(dev);
	if (IS_ERR(x))
		return x;
	ret = x_pages(x);
	if (ret < 0)
		goto fail;
	return x;
fail:
	kfree(x->pages);
	return ERR_PTR(ret);
}

struct x *bad_init(struct drm_device *dev, struct x *x)
{
	int ret;

	ret = drm_gem_object_init_offset(dev, &x->base, 1);
	if (ret < 0)
		return ERR_PTR(ret);
	if (!x_pages(x))
		return NULL;
	return x;
}

struct x *good_gem(struct drm_device *dev)
{
	struct x *x;
	int ret;

	x = gem_create_obj(dev);
	if (IS_ERR(x))
		return x;
	ret = x_pages(x);
	if (ret < 0)
		goto fail;
	return x;
fail:
	drm_gem_object_release(&x->base);
	kfree(x);
	return ERR_PTR(ret);
}

struct x *good_ttm(struct drm_device *dev, struct x *x)
{
	int ret;

	ret = drm_gem_object_init(dev, &x->base, 1);
	if (ret)
		return ERR_PTR(ret);
	ret = ttm_bo_init_validate(dev, x);
	if (ret)
		return ERR_PTR(ret);
	return x;
}
