#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Run the selftest in a kernel that checks itself (gpu-debug.config) and fail on
# the first thing that kernel complains about. Four boots: cgroup v2 and v1 with
# fault injection and the random test, then cgroup_disable=gpu and
# cgroup_no_v1=gpu. The result goes into docs/results/kernel-debug.md.
#
# Environment: OPERATIONS of the random test (default 10000), KERNEL (a bzImage
# to take instead of building one; the docs are left alone then).
set -euo pipefail
cd "$(dirname "$0")/../.."

out=.build/kernel-debug
mkdir -p $out
kernel=${KERNEL:-$out/bzImage}
if [ -z "${KERNEL:-}" ]; then
	.build/bin/tree make linux
	scripts/kernel/build.sh .build/src/linux $out gpu-debug.config
fi
scripts/kernel/selftest.sh .build/src/linux $out

# A card of each kind that QEMU has: TTM, TTM with private objects (qxl), shmem.
export DEVICES="-device bochs-display -device qxl -device virtio-gpu-pci"
export MEMORY=3072 LIMIT=${LIMIT:-3600}

cat > $out/guest.sh <<EOF
operations=${OPERATIONS:-10000}
EOF
cat >> $out/guest.sh <<'EOF'
fail() { echo "not ok - $*"; code=1; }
code=0
leaks=/sys/kernel/debug/kmemleak
v1() { mount -t tmpfs none /sys/fs/cgroup && mkdir /sys/fs/cgroup/gpu && mount -t cgroup -o gpu none /sys/fs/cgroup/gpu; }
v2() { mount -t cgroup2 -o nsdelegate none /sys/fs/cgroup; }

case $gpumode in
v1 | v2)
	$gpumode || exit 9
	# Nobody has asked for a buffer yet, but each card has one for the console.
	used=$(cat /sys/fs/cgroup/gpu.memory.current /sys/fs/cgroup/gpu/gpu.usage_in_bytes 2>/dev/null)
	[ "$used" = 0 ] || fail "$used bytes are charged after the boot"
	# Not ours: what the boot has left.
	if [ -f $leaks ]; then echo scan > $leaks; echo clear > $leaks; fi
	test_gpu -f -n $operations || code=1
	if [ -f $leaks ]; then
		# An object is suspect when it is not found and 5 s old.
		sleep 6
		echo scan > $leaks
		echo scan > $leaks
		cat $leaks
		[ -z "$(cat $leaks)" ] || fail kmemleak
	fi
	;;
disable)
	v2
	grep -qw gpu /sys/fs/cgroup/cgroup.controllers && fail "cgroup_disable=gpu: listed on v2"
	ls /sys/fs/cgroup | grep -q ^gpu && fail "cgroup_disable=gpu: files on v2"
	grep -q "^gpu.*0$" /proc/cgroups || fail "cgroup_disable=gpu: enabled in /proc/cgroups"
	mkdir /tmp/v1
	mount -t cgroup -o gpu none /tmp/v1 2>/dev/null && fail "cgroup_disable=gpu: v1 can be mounted"
	# Lists the cards on which it could make a buffer, then has nothing to test.
	test_gpu | tee /tmp/out
	grep -q "card0: cgroup_test" /tmp/out || fail "cgroup_disable=gpu: no buffer from cgroup_test"
	grep -q SKIP /tmp/out || fail "cgroup_disable=gpu: no skip"
	;;
no_v1)
	mkdir /tmp/v1
	mount -t cgroup -o gpu none /tmp/v1 2>/dev/null && fail "cgroup_no_v1=gpu: v1 can be mounted"
	v2
	test_gpu test_gpu_max || code=1
	;;
esac
exit $code
EOF

splats='BUG:|WARNING:|KASAN|Oops|general protection|ODEBUG|refcount_t:|INFO: task|INFO: rcu|INFO: trying to register|possible (circular|recursive)|inconsistent lock|suspicious RCU|invalid context|unreferenced object'

failed=()
lines=()
began=$SECONDS
for mode in v2 v1 disable no_v1; do
	append="gpumode=$mode"
	case $mode in
	disable) append+=" cgroup_disable=gpu" ;;
	no_v1) append+=" cgroup_no_v1=gpu" ;;
	esac
	echo "== $mode"
	code=0
	APPEND=$append scripts/kernel/guest.sh "$kernel" $out/console-$mode.log $out/guest.sh $out/test_gpu |
		tee $out/output-$mode.log || code=$?
	[ $code -eq 0 ] || failed+=("$mode: exit $code")
	if grep -nE "$splats" $out/console-$mode.log* $out/output-$mode.log; then
		failed+=("$mode: see $out/console-$mode.log and output-$mode.log")
	fi
	if [ -z "${KERNEL:-}" ] && grep "SKIP test_gpu_fail" $out/output-$mode.log; then
		failed+=("$mode: no fault injection in the debug kernel")
	fi
	totals=$(sed -n 's/^# Totals: //p' $out/output-$mode.log)
	lines+=("| $mode | ${totals:-as documented} | exit $code |")
done

result="passed"
[ ${#failed[@]} -eq 0 ] || result="FAILED: $(printf '%s; ' "${failed[@]}")"
if [ -z "${KERNEL:-}" ]; then
	{
		sed '/^Last run/,$d' docs/results/kernel-debug.md
		echo "Last run of \`make kernel-debug-test\`: $(date -u +%F), $result, $((SECONDS - began)) s under emulation, commit $(git rev-parse --short HEAD)."
		echo
		echo "| boot | selftest | |"
		echo "|---|---|---|"
		printf '%s\n' "${lines[@]}"
	} > $out/result.md
	cp $out/result.md docs/results/kernel-debug.md
fi
echo "kernel-debug-test: $result"
[ ${#failed[@]} -eq 0 ]
