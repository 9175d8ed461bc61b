#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Compares upstream's tests in our trees (default: all) with the baselines of
# the stock trees, and notes the result in docs/results/upstream.md.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
go build -o .build/bin/upstream ./scripts/upstream || exit 1
trees=("$@")
if [ $# -gt 0 ]; then
	:
elif [ "${TRAIN:-29}" = 29 ]; then
	trees=(cgroups runc api client cli moby runc-bats cli-e2e moby-integration)
else
	trees=(cli28 moby28 cli28-e2e moby28-integration)
fi
code=0
for t in "${trees[@]}"; do
	out=$(.build/bin/upstream compare "$t") || code=1
	echo "$out"
	line=$(head -n 1 <<< "$out")
	[ -n "$line" ] || continue
	row="| $t | $(date -u +%F) | $(git rev-parse --short HEAD) | ${line#*: } |"
	file=docs/results/upstream.md
	grep -v "^| $t | 20" $file | sed "/^|---/a\\
$row
" > .build/upstream.md && cp .build/upstream.md $file
done
exit $code
