// SPDX-License-Identifier: GPL-2.0-only
/// A function made a GEM object, which is charged from then on, and on a later
/// failure returns without giving it back: the charge stays until reboot.
///
// Confidence: Moderate
// Options: --no-includes

virtual context

@init depends on context exists@
expression r, x, E1, E2, E3;
identifier give =~ "^(?!k?v?free$|kmem_cache_free$|dma_fence_put$)(.*(put|free|destroy|unref|unreference|release|fini)(_object|_locked|_unlocked)?|ttm_bo_init_reserved|ttm_bo_init_validate|nouveau_bo_init)$";
@@
* r = \(drm_gem_object_init\|drm_gem_object_init_offset\)(E1, x, E2);
  ... when != r = E3
  if (\(r\|r != 0\|r < 0\|unlikely(r)\|unlikely(r != 0)\|unlikely(r < 0)\)) { ... return ...; }
  ... when != give(...)
* return \(ERR_PTR(...)\|ERR_CAST(...)\|PTR_ERR(...)\|NULL\);

@make depends on context exists@
expression x, E;
identifier f =~ "^(.*gem.*(create|alloc|new|init).*|.*_bo_(create|alloc|new).*)$";
identifier give =~ "^(?!k?v?free$|kmem_cache_free$|dma_fence_put$)(.*(put|free|destroy|unref|unreference|release|fini)(_object|_locked|_unlocked)?|ttm_bo_init_reserved|ttm_bo_init_validate|nouveau_bo_init)$";
@@
* x = f(...);
  ... when != x = E
  if (\(IS_ERR(x)\|unlikely(IS_ERR(x))\|!x\|x == NULL\)) { ... return ...; }
  ... when != give(...)
* return \(ERR_PTR(...)\|ERR_CAST(...)\|PTR_ERR(...)\|NULL\);
