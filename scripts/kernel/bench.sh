#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What the controller costs: GEM create + close with it compiled in and limits
# set two levels deep ÷ without CONFIG_CGROUP_GPU, for 1 and 2 threads.
#
# The machine is emulated, so it is measured twice: in instructions (QEMU's
# -icount makes the guest's clock count them: little noise, but no cache misses,
# and one CPU, as the guest hangs at the second) and in time (two CPUs, and all
# noise of the host included). The two kernels take turns. Printed are the median
# ratio of speeds, over all pairs of turns, and the least and most of them; above
# 1 the kernel with it is faster.
#
# Environment: CLOCKS (one of the two), TURNS (default 5), ON and OFF (bzImages to take instead of building).
set -euo pipefail
cd "$(dirname "$0")/../.."

out=.build/kernel-bench
mkdir -p $out
on=${ON:-.build/kernel/bzImage} off=${OFF:-$out/off/bzImage}
if [ -z "${OFF:-}" ]; then
	.build/bin/tree make linux
	scripts/kernel/build.sh .build/src/linux $out/off gpu-off.config
fi
[ -d $out/headers ] || scripts/kernel/selftest.sh .build/src/linux $out
gcc -O2 -Wall -static -pthread -isystem $out/headers/usr/include scripts/kernel/gembench.c -o $out/gembench

cat > $out/guest.sh <<'EOF'
mount -t cgroup2 none /sys/fs/cgroup
cd /sys/fs/cgroup
if grep -qw gpu cgroup.controllers; then
	echo "# with gpu"
	echo +gpu > cgroup.subtree_control
fi
mkdir -p a
[ ! -f a/gpu.memory.max ] || { echo 1g > a/gpu.memory.max; echo +gpu > a/cgroup.subtree_control; }
mkdir a/b
[ ! -f a/b/gpu.memory.max ] || echo 512m > a/b/gpu.memory.max
echo $$ > a/b/cgroup.procs
for threads in 1 2; do
	gembench $threads 300 1 >/dev/null
	gembench $threads $loops $repeats | sed "s/^/$threads /"
done
EOF

measure() { # measure NAME BZIMAGE WANT: appends "threads ns" to $out/NAME
	APPEND="loops=$loops repeats=$repeats" scripts/kernel/guest.sh "$2" $out/console.log $out/guest.sh $out/gembench > $out/turn
	if [ "$(grep -c '^# with gpu' $out/turn)" != "$3" ]; then
		echo "bench.sh: $2 is not the kernel it should be" >&2
		exit 1
	fi
	# One value a turn: the median of its repeats.
	for threads in 1 2; do
		sed -n "s/^$threads //p" "$out/turn" | sort -n | awk -v t="$threads" '{ v[NR] = $1 } END { print t, v[int((NR + 1) / 2)] }'
	done >> "$out/$1"
}

for clock in ${CLOCKS:-instructions time}; do
	case $clock in
	instructions) turns=2 loops=2000 repeats=3; export CPUS=1 ACCEL=tcg,thread=single DEVICES="-icount shift=0,sleep=off" ;;
	time) turns=${TURNS:-5} loops=4000 repeats=5; export CPUS=2 ACCEL=tcg DEVICES="" ;;
	esac
	rm -f "$out/$clock-on" "$out/$clock-off"
	for ((i = 0; i < turns; i++)); do
		measure "$clock-on" "$on" 1
		measure "$clock-off" "$off" 0
	done
	for threads in 1 2; do
		join <(sort "$out/$clock-off") <(sort "$out/$clock-on") | awk -v t="$threads" '$1 == t { print $2 / $3, $2, $3 }' | sort -n |
			awk -v c="$clock" -v t="$threads" '{ r[NR] = $1; off[NR] = $2; on[NR] = $3 }
				END { m = int((NR + 1) / 2)
				printf "GEM create+close, %s, %d thread(s): %.3f (%.3f to %.3f), e.g. %d ns without, %d with\n", c, t, r[m], r[1], r[NR], off[m], on[m] }'
		paste <(sed -n "s/^$threads //p" "$out/$clock-off") <(sed -n "s/^$threads //p" "$out/$clock-on") |
			awk -v c="$clock" -v t="$threads" '{ printf "bench,gem,%s, %d thread%s,%.6g\n", c, t, (t > 1 ? "s" : ""), $1 / $2 }'
	done
done
