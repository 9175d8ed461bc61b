#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Proves that a build can be repeated: builds the programs named (default: runc)
# in a second folder, from a second checkout without any build output, and
# compares them with .build/bin. With --all it makes the whole of make dist
# there and compares SHA256SUMS. Only committed files take part.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ -z "$(git status --porcelain --untracked-files=no)" ] || { echo "twice.sh: uncommitted changes; commit or stash them" >&2; exit 1; }
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
second=$work/another/folder
mkdir -p "$work/another"
git clone -q . "$second"
mkdir -p "$second/.build"
[ ! -d .build/go ] || ln -s "$PWD/.build/go" "$second/.build/go"
if [ "${1:-}" = --all ]; then
	# Not one object of the first build is reused.
	GOCACHE=$work/cache make -C "$second" dist
	diff .build/dist/SHA256SUMS "$second/.build/dist/SHA256SUMS"
	echo "twice.sh: all files of make dist are the same"
	exit
fi
programs=("$@")
[ $# -gt 0 ] || programs=(runc)
[ "${CACHE:-}" = shared ] || export GOCACHE=$work/cache
for p in "${programs[@]}"; do
	make -C "$second" ".build/bin/$p" >/dev/null
	cmp ".build/bin/$p" "$second/.build/bin/$p"
	echo "$p: the same $(stat -c %s ".build/bin/$p") bytes from another folder"
done
