#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Build the software GPU once more as a module from outside the kernel's tree, as
# vendors ship their drivers, for tests of what such a module may not promise.
#
#   module.sh TREE OUTDIR     OUTDIR: of build.sh; leaves OUTDIR/cgroup_test_oot.ko
#
# What make says goes to OUTDIR/module.log.
set -euo pipefail

[ $# -eq 2 ] || { echo "usage: module.sh TREE OUTDIR" >&2; exit 1; }
tree=$(realpath -e "$1")
out=$(realpath -e "$2")
driver=$tree/drivers/gpu/drm/cgroup_test
mkdir -p "$out/oot"
cp -L "$driver/cgroup_test.h" "$out/oot/"
# Another name, or it would be the driver that is built in.
cp -L "$driver/cgroup_test.c" "$out/oot/cgroup_test_oot.c"
echo "obj-m := cgroup_test_oot.o" > "$out/oot/Makefile"

# As in build.sh, or the kernel would be linked again next time.
export LC_ALL=C KBUILD_BUILD_USER=gpu KBUILD_BUILD_HOST=cgroup KBUILD_BUILD_VERSION=1
KBUILD_BUILD_TIMESTAMP=$(date -u -d "@${SOURCE_DATE_EPOCH:-1704067200}")
export KBUILD_BUILD_TIMESTAMP LOCALVERSION=${LOCALVERSION-}
kmake() { make -C "$tree" O="$out/obj" ARCH=x86_64 "$@"; }
# The kernel has no modules, so there was no "make modules" with its Module.symvers,
# and what the module asks for is found out when it is loaded.
if ! {
	kmake modules_prepare
	kmake M="$out/oot" modules
} > "$out/module.log" 2>&1; then
	tail -n 20 "$out/module.log" >&2
	echo "module.sh: failed; the whole log is in $out/module.log" >&2
	exit 1
fi
cp "$out/oot/cgroup_test_oot.ko" "$out/cgroup_test_oot.ko"
