// SPDX-License-Identifier: GPL-2.0-only
/// drm_gem_handle_create() failed and the function returns without giving its
/// own reference to the object back: the object, and with it its charge, stays
/// until reboot.
///
// Confidence: Moderate: a function that did not make the object has none to give
// Options: --no-includes

virtual context

// The failure has a branch of its own.
@branch depends on context exists@
expression r, E;
identifier give =~ "^(?!k?v?free$|kmem_cache_free$|dma_fence_put$).*(put|free|destroy|unref|unreference|release|fini)(_object|_locked|_unlocked)?$";
@@
* r = \(drm_gem_handle_create\|exynos_drm_gem_handle_create\)(...);
  ... when != give(...)
      when != r = E
  if (\(r\|r != 0\|r < 0\|unlikely(r)\|unlikely(r != 0)\|unlikely(r < 0)\))
  {
  ... when != give(...)
* return ...;
  }

// Success and failure go the same way.
@same depends on context exists@
expression r, E;
statement S1, S2;
identifier give =~ "^(?!k?v?free$|kmem_cache_free$|dma_fence_put$).*(put|free|destroy|unref|unreference|release|fini)(_object|_locked|_unlocked)?$";
@@
* r = \(drm_gem_handle_create\|exynos_drm_gem_handle_create\)(...);
  ... when != give(...)
      when != r = E
      when != if (\(r\|r != 0\|r < 0\|unlikely(r)\|unlikely(r != 0)\|unlikely(r < 0)\|!r\|r == 0\)) S1 else S2
* return r;

@direct depends on context@
@@
* return drm_gem_handle_create(...);
