// SPDX-License-Identifier: GPL-2.0-only
/// ttm_bo_init_reserved() and ttm_bo_init_validate() call the destroy function
/// when they fail, so the caller must not touch the object any more.
///
// Confidence: Moderate
// Options: --no-includes

virtual context

@twice depends on context exists@
expression r, E;
identifier give =~ "(put|free|destroy|unref|unreference|release|fini)(_object|_locked|_unlocked)?$";
identifier f =~ "^(ttm_bo_init_reserved|ttm_bo_init_validate|nouveau_bo_init|vmw_bo_init)$";
@@
* r = f(...);
  ... when != r = E
  if (\(r\|r != 0\|r < 0\|unlikely(r)\|unlikely(r != 0)\|unlikely(r < 0)\)) {
  ...
* give(...);
  ... return ...;
  }
