#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes .deb packages of Debian's kernel with the gpu controller:
#
#   deb-kernel.sh            configure and build everything (hours, about 25 GB)
#   deb-kernel.sh check      configure, and build only the objects we changed
#
# The config is Debian's own of the pinned version (package linux-config-6.1),
# plus CONFIG_CGROUP_GPU. The packages come from the kernel's own bindeb-pkg, not from
# Debian's source package: no signed modules, no udebs, one flavour. Result in
# .build/deb-kernel.
set -euo pipefail
cd "$(dirname "$0")/../.."
die() { echo "deb-kernel.sh: $*" >&2; exit 1; }

read -r pkg version < <(sed -n 's/^linux *| *deb:\([^ ]*\) \([^ ]*\) .*/\1 \2/p' patches/trees)
series=${pkg#linux-source-}
out=$PWD/.build/deb-kernel
obj=$out/obj
mkdir -p "$obj"
.build/bin/tree make linux
tree=$PWD/.build/src/linux

config=$out/config.debian
if [ ! -f "$config" ]; then
	(cd "$out" && apt-get download -q "linux-config-$series=$version") ||
		die "apt has no linux-config-$series $version; put that .deb into $out"
	dpkg-deb --fsys-tarfile "$out"/linux-config-"$series"_*.deb |
		tar -xO "./usr/src/linux-config-$series/config.amd64_none_amd64.xz" | xz -dc > "$config.new"
	mv "$config.new" "$config"
fi

kmake() { make -C "$tree" O="$obj" ARCH=x86_64 "$@"; }
cp "$config" "$obj/.config"
change() { "$tree/scripts/config" --file "$obj/.config" "$@"; }
change --enable CGROUP_GPU
# Debian signs with a key that only Debian has.
change --set-str SYSTEM_TRUSTED_KEYS "" --disable MODULE_SIG_ALL
if ! command -v pahole >/dev/null; then
	echo "no pahole (package dwarves): without BTF and debug info" >&2
	change --disable DEBUG_INFO --enable DEBUG_INFO_NONE --disable DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT
fi
kmake olddefconfig > "$out/config.log" 2>&1 || { tail "$out/config.log" >&2; die "the configuration failed"; }
grep -qx CONFIG_CGROUP_GPU=y "$obj/.config" || die "CONFIG_CGROUP_GPU did not make it into the config"

# What differs from Debian's must be named here.
allowed='CONFIG_(CGROUP_GPU|DRM_SCHED_CGROUP[A-Z_]*|DRM_CGROUP_TEST|BUILD_SALT|MODULE_SIG_KEY|SYSTEM_TRUSTED_KEYS|MODULE_SIG_ALL|DEBUG_INFO[A-Z0-9_]*|GDB_SCRIPTS|PAHOLE[A-Z0-9_]*|DEBUG_INFO_BTF[A-Z_]*|MODULE_ALLOW_BTF_MISMATCH|BPF_PRELOAD[A-Z_]*|CC_VERSION_TEXT|GCC_VERSION|[A-Z]*_VERSION|CC_HAS_[A-Z_0-9]*|HAVE_KCSAN_COMPILER|BUILDTIME_MCOUNT_SORT|GCC_PLUGIN[A-Z_]*|STACKPROTECTOR[A-Z_]*)[ =]'
diff <(grep CONFIG_ "$config" | sort) <(grep CONFIG_ "$obj/.config" | sort) | sed -n 's/^[<>] //p' | sed 's/^# //' > "$out/config.diff" || true
if grep -vE "^$allowed" "$out/config.diff"; then
	die "these options differ from Debian's without need"
fi
echo "config: Debian's $version and CONFIG_CGROUP_GPU; all differences are in $out/config.diff"

case ${1:-} in
check)
	kmake -j"${JOBS:-2}" prepare kernel/cgroup/gpu.o kernel/cgroup/cgroup.o drivers/gpu/drm/drm_gem.o drivers/gpu/drm/drm_drv.o drivers/gpu/drm/scheduler/ > "$out/check.log" 2>&1 ||
		{ tail -n 30 "$out/check.log" >&2; die "an object failed; the log is $out/check.log"; }
	ls -l "$obj"/kernel/cgroup/gpu.o "$obj"/drivers/gpu/drm/drm_gem.o
	;;
"")
	kmake -j"${JOBS:-$(nproc)}" LOCALVERSION=-gpu KDEB_PKGVERSION="$version+gpu1" bindeb-pkg 2>&1 | tee "$out/build.log" | grep -E '^(dpkg-deb|make.*Error)' ||
		die "the build failed; the log is $out/build.log"
	ls -l "$out"/*.deb
	;;
*) die "usage: deb-kernel.sh [check]" ;;
esac
