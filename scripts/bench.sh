#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Times of the edit loop: median, least and most of five runs each, in seconds.
set -euo pipefail
cd "$(dirname "$0")/.."

trees=(moby cli runc cgroups containerd stock-runc)

bench() { # bench NAME PREPARE COMMAND...
	local name=$1 prepare=$2 t=()
	shift 2
	for _ in 1 2 3 4 5; do
		eval "$prepare"
		local start=$EPOCHREALTIME
		"$@" >/dev/null
		t+=("$(bc <<<"scale=3; $EPOCHREALTIME - $start")")
	done
	mapfile -t t < <(printf '%s\n' "${t[@]}" | sort -n)
	printf '%-46s %6.2f  (%.2f to %.2f)\n' "$name" "${t[2]}" "${t[0]}" "${t[4]}"
}

# A copy of the repository, so that nobody's edits in .build are thrown away.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
git ls-files -z | xargs -0 cp --parents -at "$scratch"
mkdir -p "$scratch/.build"

bench "Go trees from pins, hooks and files" 'rm -rf "$scratch/.build/src"' .build/bin/tree -C "$scratch" make "${trees[@]}"
bench "Go trees, nothing changed" : .build/bin/tree -C "$scratch" make "${trees[@]}"
bench "make, nothing changed" : make build

# Against upstream's Docker of the same version, in turns.
GPU_CGROUP_BIN=$PWD/.build/bin BENCH_CONTAINERS=100 go test -count=1 -v -run TestBenchModresources ./integration | grep -E '^(docker |how many|one write|--- FAIL)'
