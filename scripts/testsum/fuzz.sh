#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs every fuzz target of ours for so many executions (default 1000000) and
# prints one line each. New inputs stay in Go's own cache, a finding is written
# to testdata/fuzz in the tree: turn it into a seed of the target, then fix it.
# ONLY names targets by a regular expression. No input is made smaller, not even a finding:
# Go does it for each new one, and for minutes almost nothing is executed then.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/trees.sh
execs=${1:-1000000}
export GOFLAGS=-buildvcs=false GOWORK=off
failed=0
targets() { # targets TREE: "./package FuzzName" of each
	(.build/bin/tree touched "$1" | grep '_test\.go$' | (cd ".build/src/$1" && xargs grep -oE '^func Fuzz[A-Za-z0-9]+' /dev/null) |
		sed -E 's|^|./|; s|/[^/]*:func | |' | sort)
}
while read -r tree flags; do
	[ -n "$tree" ] || continue
	modules "$tree"
	while read -r package name; do
		[[ $name =~ ${ONLY:-.} ]] || continue
		start=$SECONDS
		log=.build/fuzz-$name.log
		# shellcheck disable=SC2086 # flags is a list
		if go -C ".build/src/$tree" test "${modules[@]}" $flags -run '^$' -fuzz "^$name\$" -fuzztime "${execs}x" -fuzzminimizetime 0 -parallel "${PARALLEL:-1}" "$package" > "$log" 2>&1; then
			n=$(sed -nE 's/.*execs: ([0-9]+) .*/\1/p' "$log" | tail -n 1)
			printf 'ok    %-8s %-24s %9s executions, %d s\n' "$tree" "$name" "${n:-?}" $((SECONDS - start))
		else
			failed=$((failed + 1))
			printf 'FAIL  %-8s %-24s see %s\n' "$tree" "$name" "$log"
			grep -A6 -m1 -E '^ *--- FAIL|panic:' "$log" || tail -n 5 "$log"
		fi
	done < <(targets "$tree")
done <<TREES
$(of_train cli)
cgroups
runc -tags=seccomp
$([ "${TRAIN:-29}" != 29 ] || echo api)
$(of_train moby)
TREES
[ $failed -eq 0 ] || { echo "fuzz.sh: $failed target(s) with findings" >&2; exit 1; }
