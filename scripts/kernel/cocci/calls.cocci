// SPDX-License-Identifier: GPL-2.0-only
/// Each call of what may be refused. Nothing is wrong with them: what this rule
/// does not find, no other rule sees either, and somebody has to read it.
///
// Confidence: High
// Options: --no-includes

virtual context

@call depends on context@
identifier f =~ "^(@REFUSABLE@)$";
@@
* f(...)
