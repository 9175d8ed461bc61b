// SPDX-License-Identifier: GPL-2.0-only
/// A refusal is logged, and nothing limits the rate: a container at its limit
/// can fill the kernel's log.
///
// Confidence: Moderate: not every caller can be reached by a container
// Options: --no-includes

virtual context

@number depends on context exists@
expression r, E;
identifier f =~ "^(drm_gem_object_init(_offset)?|drm_gem_handle_create|ttm_bo_init_(reserved|validate)|drm_sched_job_init|(__)?drm_gem_(dma|shmem|vram)_create(_with_handle)?|amdgpu_(gem_object_create|bo_create_user)|armada_gem_alloc_(private_)?object|etnaviv_gem_new_.*|exynos_drm_gem_(init|create|handle_create)|gem_create(_obj)?|xen_drm_front_gem_create|i915_gem_publish|lima_(gem_create_handle|sched_task_init)|msm_gem_new(_handle)?|mtk_drm_gem_(init|create)|nouveau_gem_new|omap_gem_new(_handle)?|panfrost_gem_create|psb_gem_create|qxl_(bo_create|gem_object_create.*|alloc_bo_reserved)|radeon_gem_object_create|rockchip_gem_(alloc|create)_object|tegra_bo_(alloc_object|create|create_with_handle)|v3d_(bo_create|job_init)|vc4_bo_create|virtio_gpu_(object|gem)_create|vmw_(gem_object_create(_with_handle)?|bo_create|resource_buf_alloc))$";
identifier log =~ "^(DRM_(DEV_)?(ERROR|WARN|INFO|NOTE)|(dev|drm|pr)_(err|warn|notice|info|crit|alert)|printk|NV_(ERROR|WARN|INFO|PRINTK)|WARN|WARN_ON)$";
@@
  r = f(...);
  ... when != r = E
  if (\(r\|r != 0\|r < 0\|unlikely(r)\|unlikely(r != 0)\|unlikely(r < 0)\)) {
  ...
* log(...);
  ... return ...;
  }

@pointer depends on context exists@
expression x, E;
identifier f =~ "^(drm_gem_object_init(_offset)?|drm_gem_handle_create|ttm_bo_init_(reserved|validate)|drm_sched_job_init|(__)?drm_gem_(dma|shmem|vram)_create(_with_handle)?|amdgpu_(gem_object_create|bo_create_user)|armada_gem_alloc_(private_)?object|etnaviv_gem_new_.*|exynos_drm_gem_(init|create|handle_create)|gem_create(_obj)?|xen_drm_front_gem_create|i915_gem_publish|lima_(gem_create_handle|sched_task_init)|msm_gem_new(_handle)?|mtk_drm_gem_(init|create)|nouveau_gem_new|omap_gem_new(_handle)?|panfrost_gem_create|psb_gem_create|qxl_(bo_create|gem_object_create.*|alloc_bo_reserved)|radeon_gem_object_create|rockchip_gem_(alloc|create)_object|tegra_bo_(alloc_object|create|create_with_handle)|v3d_(bo_create|job_init)|vc4_bo_create|virtio_gpu_(object|gem)_create|vmw_(gem_object_create(_with_handle)?|bo_create|resource_buf_alloc))$";
identifier log =~ "^(DRM_(DEV_)?(ERROR|WARN|INFO|NOTE)|(dev|drm|pr)_(err|warn|notice|info|crit|alert)|printk|NV_(ERROR|WARN|INFO|PRINTK)|WARN|WARN_ON)$";
@@
  x = f(...);
  ... when != x = E
  if (\(IS_ERR(x)\|unlikely(IS_ERR(x))\|!x\|x == NULL\)) {
  ...
* log(...);
  ... return ...;
  }

// Most others are buffers of the kernel, made while the driver loads.
@radeon depends on context exists@
expression r, E;
local idexpression kernel;
expression E1, E2, E3;
identifier log =~ "^(DRM_(DEV_)?(ERROR|WARN|INFO|NOTE)|(dev|drm|pr)_(err|warn|notice|info|crit|alert)|printk|NV_(ERROR|WARN|INFO|PRINTK)|WARN|WARN_ON)$";
@@
  r = radeon_bo_create(E1, E2, E3, kernel, ...);
  ... when != r = E
  if (\(r\|r != 0\|r < 0\|unlikely(r)\|unlikely(r != 0)\|unlikely(r < 0)\)) {
  ...
* log(...);
  ... return ...;
  }
