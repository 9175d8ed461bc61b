/* SPDX-License-Identifier: GPL-2.0-only */
/* As vmwgfx before patch 0031. */
int bad_kfree(struct ttm_device *bdev, struct x *x)
{
	int ret;

	ret = ttm_bo_init_reserved(bdev, &x->tbo, x_destroy);
	if (unlikely(ret))
		goto error;
	return 0;
error:
	kfree(x);
	return ret;
}

int good_return(struct ttm_device *bdev, struct x *x)
{
	int ret;

	ret = ttm_bo_init_reserved(bdev, &x->tbo, x_destroy);
	if (ret)
		return ret;
	return 0;
}
