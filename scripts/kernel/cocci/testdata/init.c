/* SPDX-License-Identifier: GPL-2.0-only */
/* As etnaviv before patch 0030; its other list is right. */
static void bad_free(struct drm_gem_object *obj)
{
	struct x *x = to_x(obj);

	list_del(&x->node);
	kfree(x);
}

static void good_free(struct drm_gem_object *obj)
{
	struct x *x = to_x(obj);

	list_del(&x->other);
	kfree(x);
}

static struct x *good_alloc(void)
{
	struct x *x = kzalloc(sizeof(*x), GFP_KERNEL);

	INIT_LIST_HEAD(&x->other);
	return x;
}

int good_create(struct drm_device *dev, struct drm_gem_object *obj)
{
	int ret;

	ret = drm_gem_object_init(dev, obj, 1);
	if (ret)
		goto fail;
	x_add(obj);
	return 0;
fail:
	drm_gem_object_put(obj);
	return ret;
}
