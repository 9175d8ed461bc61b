/* SPDX-License-Identifier: GPL-2.0-only */
int bad_any(struct drm_device *dev, struct x *x)
{
	return drm_gem_object_init(dev, &x->base, 1);
}

int good_none(struct drm_device *dev, struct x *x)
{
	drm_gem_private_object_init(dev, &x->base, 1);
	return 0;
}
