// SPDX-License-Identifier: GPL-2.0-only
/// What may be refused is called as if it could not fail, or its answer is
/// kept and never looked at.
///
// Confidence: High
// Options: --no-includes

virtual context

@alone depends on context@
identifier f =~ "^(@PASSED_ON@)$";
@@
* f(...);

@voided depends on context@
identifier f =~ "^(@PASSED_ON@)$";
@@
* (void)f(...);

@unread depends on context@
identifier f =~ "^(@PASSED_ON@)$";
local idexpression x;
@@
* x = f(...);
  ... when != x
