#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Build the guest kernel: tinyconfig + kernel/kernel/configs/gpu.config.
#
#   build.sh TREE OUTDIR [FRAGMENT…]
#
# TREE: patched kernel source; OUTDIR: made if missing; FRAGMENT: more files of
# kernel/configs, each applied on top of those before it.
#
# Leaves OUTDIR/bzImage, OUTDIR/config, OUTDIR/build.log and the object tree
# OUTDIR/obj, which a later run reuses. Environment: LOCALVERSION (appended to
# the version), JOBS (default: number of CPUs), SOURCE_DATE_EPOCH (build time
# stamp, default 2024-01-01 UTC).
set -euo pipefail

die() { echo "build.sh: $*" >&2; exit 1; }

[ $# -ge 2 ] || die "usage: build.sh TREE OUTDIR [FRAGMENT…]"
tree=$(realpath -e "$1") || die "no kernel tree at $1"
fragments=(gpu.config "${@:3}")
for f in "${fragments[@]}"; do
	[ -f "$tree/kernel/configs/$f" ] || die "$1 has no kernel/configs/$f: is it the patched tree?"
done
# The last one has the last word: it may take back options of those before it.
fragment=$tree/kernel/configs/${fragments[-1]}
mkdir -p "$2/obj"
out=$(realpath "$2")
obj=$out/obj
log=$out/build.log
: > "$log"

# With these fixed, two builds of one tree give the same bytes.
export LC_ALL=C KBUILD_BUILD_USER=gpu KBUILD_BUILD_HOST=cgroup KBUILD_BUILD_VERSION=1
KBUILD_BUILD_TIMESTAMP=$(date -u -d "@${SOURCE_DATE_EPOCH:-1704067200}")
export KBUILD_BUILD_TIMESTAMP
export LOCALVERSION=${LOCALVERSION-}

kmake() { make -C "$tree" O="$obj" ARCH=x86_64 "$@"; }

failed() {
	tail -n 40 "$log" >&2
	die "$1 failed; the whole log is in $log"
}

# kconfig drops an option whose dependencies are missing without a word that
# stops the build, so compare what was asked for with what came out.
lost_options() {
	local line want name have
	while IFS= read -r line; do
		case $line in
		CONFIG_*=*) name=${line%%=*} want=$line ;;
		"# CONFIG_"*" is not set") name=${line#\# } name=${name%% *} want="" ;;
		*) continue ;;
		esac
		have=$(grep -m1 "^$name=" "$1" || true)
		[ "$have" = "$want" ] || echo "  asked: ${line}; got: ${have:-not set}"
	done < "$fragment"
}

# A .config that did not change gets its old time stamp back, or kbuild would
# link everything again.
echo "configuring (tinyconfig ${fragments[*]})"
[ ! -f "$obj/.config" ] || cp -p "$obj/.config" "$obj/.config.before"
kmake tinyconfig "${fragments[@]}" >> "$log" 2>&1 || failed "configuration"
lost=$(lost_options "$obj/.config")
[ -z "$lost" ] || die "options of ${fragments[-1]} that did not make it into .config:
$lost"
if cmp -s "$obj/.config" "$obj/.config.before"; then
	mv "$obj/.config.before" "$obj/.config"
fi

# One line every ten seconds: how many objects were built and which is current.
progress() {
	local start=$SECONDS
	while sleep 10; do
		awk -v t=$((SECONDS - start)) '
			/^  [A-Z]/ { n++; last = $NF }
			END { printf "%4d s: %d steps, %s\n", t, n, last }' "$log"
	done
}

echo "building bzImage, log in $log"
progress &
ticker=$!
trap 'kill "$ticker" 2>/dev/null || true' EXIT
kmake -j"${JOBS:-$(nproc)}" bzImage >> "$log" 2>&1 || failed "the kernel build"

install_file() {
	cmp -s "$1" "$2" && return
	cp "$1" "$2.tmp"
	mv "$2.tmp" "$2"
}
install_file "$obj/arch/x86/boot/bzImage" "$out/bzImage"
install_file "$obj/.config" "$out/config"
echo "done: $out/bzImage ($(stat -c %s "$out/bzImage") bytes, $(kmake -s kernelrelease))"
