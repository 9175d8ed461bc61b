#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Puts the kernel into .build/kernel/bzImage, and its selftest and test module
# beside it: from the user's cache folder when the very same sources, hooks, build
# script and compiler made them before, else by building them. Cached bytes are
# checked against the hash kept beside them.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=.build/kernel
digest=$({ .build/bin/tree digest linux; cat scripts/kernel/{build,selftest,module}.sh; gcc --version; ld --version; } | sha256sum)
digest=${digest%% *}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/gpu-cgroup/kernel/$digest
mkdir -p $out
if [ "$digest" = "$(cat $out/digest 2>/dev/null)" ] && [ -f $out/bzImage ] && [ -f $out/test_gpu ] && [ -f $out/cgroup_test_oot.ko ]; then
	exit 0
fi
if ! (cd "$cache" 2>/dev/null && sha256sum --quiet -c sums 2>/dev/null); then
	.build/bin/tree make linux
	scripts/kernel/build.sh .build/src/linux $out
	scripts/kernel/selftest.sh .build/src/linux $out
	scripts/kernel/module.sh .build/src/linux $out
	rm -rf "$cache" "$cache.tmp"
	mkdir -p "$cache.tmp"
	cp $out/bzImage $out/config $out/test_gpu $out/cgroup_test_oot.ko "$cache.tmp"
	(cd "$cache.tmp" && sha256sum bzImage config test_gpu cgroup_test_oot.ko > sums)
	mv "$cache.tmp" "$cache"
fi
cmp -s "$cache/bzImage" $out/bzImage || cp "$cache/bzImage" $out/bzImage
cp "$cache/config" $out/config
cp "$cache/test_gpu" $out/test_gpu
cp "$cache/cgroup_test_oot.ko" $out/cgroup_test_oot.ko
echo "$digest" > $out/digest
echo "kernel: $out/bzImage"
