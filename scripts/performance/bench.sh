#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Measures, and writes docs/performance.md with its pictures.
#
#   bench.sh [PART...]
#
#   build    the edit loop                                       5 min
#   cold     all programs from an empty build cache, once       15 min
#   run      docker run against upstream's, on this host         3 min
#   run-vm   the same in the VM, cgroup v1 and v2               15 min
#   update   modresources against upstream's docker update       3 min
#   disk     rates of disks                                      4 min
#   disk-vm  the same and cached writes, in the VM, cgroup v2    5 min
#   net      rates of networks                                  10 min
#   net-cost, net-start, net-dockerd, net-idle, net-exact
#            packets of others, starts, dockerd's start, dockerd at rest, rates at the qdisc, 10 min each
#   gem      what the controller costs a buffer                 30 min
#
# Without a part all but cold. A part that fails keeps its old figures and makes
# this fail at the end. Everything is in seconds; ROUNDS (20) and VM_ROUNDS (7)
# say how often docker run is timed, NET_ROUNDS how often the parts net-….
set -uo pipefail
cd "$(dirname "$0")/../.." || exit

trees=(moby cli runc cgroups containerd stock-runc)
export GPU_CGROUP_BIN=$PWD/.build/bin RECORD=$PWD/docs/passes.json

bench() { # bench SERIES TIMES PREPARE COMMAND...
	local name=$1 times=$2 prepare=$3
	shift 3
	for ((i = 0; i < times; i++)); do
		eval "$prepare" || return
		local start=$EPOCHREALTIME
		"$@" >/dev/null || return
		echo "bench,build,$name,$(bc <<<"scale=3; ($EPOCHREALTIME - $start) / 1")"
	done
}

# A copy of the repository, so that nobody's edits in .build are thrown away.
copy() {
	scratch=$(mktemp -d) || return
	git ls-files -z | xargs -0 cp --parents -at "$scratch"
	mkdir -p "$scratch/.build"
	[ ! -d .build/go ] || ln -s "$PWD/.build/go" "$scratch/.build/go"
}

# bench evaluates what prepares a turn.
# shellcheck disable=SC2016
part_build() (
	copy && trap 'rm -rf "$scratch"' EXIT
	make build >/dev/null || exit
	bench "trees from pins and hooks" 5 'rm -rf "$scratch/.build/src"' .build/bin/tree -C "$scratch" make "${trees[@]}" &&
		bench "trees, nothing changed" 5 : .build/bin/tree -C "$scratch" make "${trees[@]}" &&
		bench "make, nothing changed" 5 : make build &&
		make -C "$scratch" .build/bin/dockerd .build/bin/docker .build/bin/runc >/dev/null &&
		bench "edit of dockerd, then make" 5 'echo "// edit $i" >> "$scratch/moby/daemon/limits.go"' make -C "$scratch" .build/bin/dockerd &&
		bench "edit of docker, then make" 5 'echo "// edit $i" >> "$scratch/cli/cli/command/container/limits.go"' make -C "$scratch" .build/bin/docker &&
		bench "edit of runc, then make" 5 'echo "// edit $i" >> "$scratch/runc/events_gpu.go"' make -C "$scratch" .build/bin/runc
)

part_cold() (
	copy && trap 'chmod -R u+w "$scratch"; rm -rf "$scratch"' EXIT
	export GOCACHE=$scratch/cache
	bench "all programs, empty build cache" 1 : make -C "$scratch" build
)

part_run() { BENCH_FIGURE=run BENCH_ROUNDS=${ROUNDS:-20} go test -count=1 -timeout=30m -v -run '^TestBenchRun$' ./integration; }

part_run-vm() {
	local mode b=$PWD/.build/bin
	for mode in v1 v2; do
		.build/bin/vm --mode $mode --timeout 1h --env BENCH_FIGURE=run-$mode --env "BENCH_ROUNDS=${VM_ROUNDS:-7}" --env MUST=root,binaries,stock,gpu,net-rate,$mode \
			--file "$b/dockerd-stock:/usr/local/bin/dockerd-stock" --file "$b/docker-stock:/usr/local/bin/docker-stock" \
			-- integration.test -test.v -test.run '^TestBenchRun$' || return
	done
}

part_update() { BENCH_CONTAINERS=100 go test -count=1 -timeout=30m -v -run '^TestBenchModresources$' ./integration; }
part_disk() { RATES=1,8,64 go test -count=1 -timeout=30m -v -run '^TestBlkioRate$' ./integration; }

part_disk-vm() {
	.build/bin/vm --mode v2 --cpus 2 --timeout 1h --env BENCH_FIGURE=disk-v2 --env RATES=1,8,64 --env MUST=root,binaries,loop,v2 \
		-- integration.test -test.v -test.run '^TestBlkioRate$'
}
part_net() { BENCH=1 MUST=root,binaries,net-rate go test -count=1 -timeout=1h -v -run '^TestBenchNetRates$' ./integration; }

net_part() { # net_part PART TEST NAME=VALUE...
	env BENCH_NET="$1" MUST=root,binaries,net-rate "${@:3}" go test -count=1 -timeout=1h -v -run "^$2\$" ./integration
}
part_net-cost() { net_part cost TestBenchNetPacketCost BENCH_ENDPOINTS=0,200,1000,3000 BENCH_CONTAINERS=200 BENCH_PACKETS=300000 BENCH_ROUNDS="${NET_ROUNDS:-7}"; }
part_net-start() { net_part start TestBenchNetStart BENCH_ENDPOINTS=500 BENCH_CONTAINERS=200 BENCH_BATCH=10 BENCH_ROUNDS="${NET_ROUNDS:-7}"; }
part_net-dockerd() { net_part dockerd TestBenchNetDockerd BENCH_CONTAINERS=150 BENCH_SECONDS=5 BENCH_ROUNDS="${NET_ROUNDS:-5}"; }
part_net-idle() { net_part idle TestBenchNetIdle BENCH_CONTAINERS=200 BENCH_SECONDS=60 BENCH_ROUNDS="${NET_ROUNDS:-3}"; }
part_net-exact() { net_part exact TestBenchNetExact RATES=8,80,800,10000 BENCH_SECONDS=10 BENCH_ROUNDS="${NET_ROUNDS:-3}"; }

part_gem() { scripts/kernel/bench.sh; }

parts=("$@")
[ $# -gt 0 ] || parts=(build run run-vm update disk disk-vm net net-cost net-start net-dockerd net-idle net-exact gem)
mkdir -p .build/bench
go build -o .build/bin/performance ./scripts/performance || exit
failed=()
for part in "${parts[@]}"; do
	declare -F "part_$part" >/dev/null || { echo "bench.sh: no part is called $part" >&2; exit 2; }
done
for part in "${parts[@]}"; do
	echo "=== $part"
	read -r BENCH_LOAD _ < /proc/loadavg
	export BENCH_LOAD
	if "part_$part" > ".build/bench/$part.log" 2>&1 && .build/bin/performance add < ".build/bench/$part.log"; then
		grep -vE '^(bench,|=== RUN|--- PASS|PASS|ok )' ".build/bench/$part.log"
	else
		tail -n 30 ".build/bench/$part.log"
		failed+=("$part")
	fi
	# After each, so that what is there is not lost when the next one hangs.
	.build/bin/performance render || exit
done
[ ${#failed[@]} -eq 0 ] || { echo "bench.sh: failed: ${failed[*]}; the whole output is in .build/bench" >&2; exit 1; }
