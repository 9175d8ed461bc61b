// SPDX-License-Identifier: GPL-2.0-only
/// drm_sched_job_init() failed and the job is cleaned up all the same, or the
/// function returns without freeing it or what it took for it.
///
// Confidence: Moderate
// Options: --no-includes

virtual context

@touched depends on context exists@
expression r, E;
@@
* r = drm_sched_job_init(...);
  ... when != r = E
  if (\(r\|r != 0\|r < 0\|unlikely(r)\|unlikely(r != 0)\|unlikely(r < 0)\)) {
  ...
* drm_sched_job_cleanup(...);
  ... return ...;
  }

@kept depends on context exists@
expression r, E;
identifier give =~ "(put|free|destroy|unref|unreference|release|fini)(_object|_locked|_unlocked)?$";
@@
* r = drm_sched_job_init(...);
  ... when != r = E
  if (\(r\|r != 0\|r < 0\|unlikely(r)\|unlikely(r != 0)\|unlikely(r < 0)\)) {
  ... when != give(...)
* return ...;
  }

@direct depends on context@
@@
* return drm_sched_job_init(...);

// A loop that gives them back might, for all Coccinelle knows, run no time.
@given exists@
expression r, E;
identifier put =~ "_(put|unreference|unref)$";
position p;
@@
  r = drm_sched_job_init@p(...);
  ... when != r = E
  if (\(r\|r != 0\|r < 0\|unlikely(r)\|unlikely(r != 0)\|unlikely(r < 0)\)) {
  ...
  put(...);
  ... return ...;
  }

@objects depends on context exists@
expression r, E;
identifier get =~ "_get$";
position p != given.p;
@@
  get(...);
  ...
* r = drm_sched_job_init@p(...);
  ... when != r = E
  if (\(r\|r != 0\|r < 0\|unlikely(r)\|unlikely(r != 0)\|unlikely(r < 0)\)) {
  ...
* return ...;
  }
