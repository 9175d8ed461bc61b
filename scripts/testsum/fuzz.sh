#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs every fuzz target of ours for so many executions (default 1000000) and
# prints one line each. New inputs stay in Go's own cache, a finding is written
# to testdata/fuzz in the tree: turn it into a seed of the target, then fix it.
# ONLY names targets by a regular expression. No input is made smaller, not even a finding:
# Go does it for each new one, and for minutes almost nothing is executed then.
set -euo pipefail
cd "$(dirname "$0")/../.."
execs=${1:-1000000}
export GOFLAGS=-buildvcs=false GOWORK=off
failed=0
targets() { # targets TREE OWNFOLDER: "./package FuzzName" of each
	(cd "$2" && grep -rnoE --include='*_test.go' '^func Fuzz[A-Za-z0-9]+' . | grep -v '^\./vendor/' |
		sed -E 's|^(.*)/[^/]*:[0-9]+:func (.*)$|\1 \2|' | sort)
}
while read -r tree own flags; do
	while read -r package name; do
		[[ $name =~ ${ONLY:-.} ]] || continue
		start=$SECONDS
		log=.build/fuzz-$name.log
		# shellcheck disable=SC2086 # flags is a list
		if go -C ".build/src/$tree" test $flags -run '^$' -fuzz "^$name\$" -fuzztime "${execs}x" -fuzzminimizetime 0 -parallel "${PARALLEL:-1}" "$package" > "$log" 2>&1; then
			n=$(sed -nE 's/.*execs: ([0-9]+) .*/\1/p' "$log" | tail -n 1)
			printf 'ok    %-8s %-24s %9s executions, %d s\n' "$tree" "$name" "${n:-?}" $((SECONDS - start))
		else
			failed=$((failed + 1))
			printf 'FAIL  %-8s %-24s see %s\n' "$tree" "$name" "$log"
			grep -A6 -m1 -E '^ *--- FAIL|panic:' "$log" || tail -n 5 "$log"
		fi
	done < <(targets "$tree" "$own")
done <<'TREES'
cli cli -modfile=vendor.mod -mod=readonly
cgroups runc/vendor/github.com/opencontainers/cgroups
runc runc -mod=readonly -tags=seccomp
moby moby -modfile=vendor.mod -mod=readonly
TREES
[ $failed -eq 0 ] || { echo "fuzz.sh: $failed target(s) with findings" >&2; exit 1; }
