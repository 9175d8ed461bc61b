/* SPDX-License-Identifier: GPL-2.0-only */
int bad_number(struct drm_file *file, struct x *x, u32 *handle)
{
	int ret;

	ret = drm_gem_handle_create(file, &x->base, handle);
	if (ret) {
		DRM_ERROR("no handle\n");
		return ret;
	}
	return 0;
}

struct x *bad_pointer(struct drm_device *dev)
{
	struct x *x = NULL;

	x = drm_gem_dma_create(dev, 1);
	if (IS_ERR(x)) {
		dev_err(dev->dev, "no buffer\n");
		return x;
	}
	return x;
}

/* As radeon before patch 0036. */
int bad_radeon(struct radeon_device *rdev, bool kernel, struct x *x)
{
	int r;

	r = radeon_bo_create(rdev, 1, 1, kernel, 0, 0, NULL, NULL, &x);
	if (r) {
		DRM_ERROR("no buffer\n");
		return r;
	}
	return 0;
}

int good_kernel(struct radeon_device *rdev, struct x *x)
{
	int r;

	r = radeon_bo_create(rdev, 1, 1, true, 0, 0, NULL, NULL, &x);
	if (r) {
		DRM_ERROR("no buffer\n");
		return r;
	}
	return 0;
}

int good_debug(struct drm_file *file, struct x *x, u32 *handle)
{
	int ret;

	ret = drm_gem_handle_create(file, &x->base, handle);
	if (ret) {
		DRM_DEBUG("no handle\n");
		return ret;
	}
	return 0;
}

/* Another failure may be logged. */
int good_other(struct drm_file *file, struct x *x, u32 *handle)
{
	int ret;

	ret = drm_gem_handle_create(file, &x->base, handle);
	if (ret)
		return ret;
	ret = x_map(x);
	if (ret) {
		DRM_ERROR("no map\n");
		return ret;
	}
	return 0;
}
