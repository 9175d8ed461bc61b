// SPDX-License-Identifier: GPL-2.0-only
/// drm_gem_object_init() failed, the object goes to the driver's own free
/// function by its last reference, and that takes it off a list that it was
/// never on: the entry was not initialised.
///
// Confidence: High
// Options: --no-includes

virtual context

@put exists@
expression r, o, E1, E2, E3;
@@
  r = \(drm_gem_object_init\|drm_gem_object_init_offset\)(E1, o, E2);
  ... when != r = E3
  if (\(r\|r != 0\|r < 0\|unlikely(r)\|unlikely(r != 0)\|unlikely(r < 0)\)) { ... drm_gem_object_put(o); ... return ...; }

@del depends on put@
identifier free, obj, list, x;
type T;
@@
free(struct drm_gem_object *obj)
{
  ...
  T *x = ...;
  <+...
  list_del(&x->list)
  ...+>
}

@init@
identifier del.list;
expression E;
@@
  INIT_LIST_HEAD(&E->list)

@report depends on context && put && !init@
identifier del.list, free, obj;
expression E;
@@
free(struct drm_gem_object *obj)
{
  <+...
* list_del(&E->list)
  ...+>
}
