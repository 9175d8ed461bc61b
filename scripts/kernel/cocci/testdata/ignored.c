/* SPDX-License-Identifier: GPL-2.0-only */
/* As rockchip before patch 0037. */
struct x *bad_alone(struct drm_device *dev, struct x *x)
{
	drm_gem_object_init(dev, &x->base, 1);
	return x;
}

void bad_cast(struct drm_file *file, struct x *x, u32 *handle)
{
	(void)drm_gem_handle_create(file, &x->base, handle);
}

int bad_unread(struct drm_file *file, struct x *x, u32 *handle)
{
	int ret;

	ret = drm_gem_handle_create(file, &x->base, handle);
	drm_gem_object_put(&x->base);
	return 0;
}

int good_read(struct drm_file *file, struct x *x, u32 *handle)
{
	int ret;

	ret = drm_gem_handle_create(file, &x->base, handle);
	drm_gem_object_put(&x->base);
	return ret;
}
