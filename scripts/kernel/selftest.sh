#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Build the controller's selftest, static, so that it runs in any guest.
#
#   selftest.sh TREE OUTDIR     TREE: patched kernel source; leaves OUTDIR/test_gpu
#
# What make says goes to OUTDIR/selftest.log.
set -euo pipefail

[ $# -eq 2 ] || { echo "usage: selftest.sh TREE OUTDIR" >&2; exit 1; }
tree=$(realpath -e "$1")
mkdir -p "$2/headers"
out=$(realpath "$2")
if ! {
	make -C "$tree" O="$out/headers" ARCH=x86_64 headers
	make -C "$tree/tools/testing/selftests/cgroup" OUTPUT="$out" LDFLAGS=-static \
		KHDR_INCLUDES="-isystem $out/headers/usr/include" "$out/test_gpu"
} > "$out/selftest.log" 2>&1; then
	tail -n 20 "$out/selftest.log" >&2
	echo "selftest.sh: failed; the whole log is in $out/selftest.log" >&2
	exit 1
fi
