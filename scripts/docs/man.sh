#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes the manual pages of docker and runc, as upstream's own scripts do, in
# .build/man. Their date is that of our last commit, so that they come out the
# same each time.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/trees.sh
tree=$(of_train cli)
modules "$tree"
out=$PWD/.build/$(of_train man)
export GOFLAGS=-buildvcs=false GOWORK=off TZ=UTC LC_ALL=C
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
DOCKER_CONFIG=$(mktemp -d)
export DOCKER_CONFIG # not what the caller has set there
trap 'rm -rf "$DOCKER_CONFIG" "$out.new"' EXIT
rm -rf "$out.new"
mkdir -p "$out.new"/man{1,5,8}
go -C ".build/src/$tree" run "${modules[@]}" -tags manpages ./man --source man/src --target "$out.new/man1" > "$DOCKER_CONFIG/log" 2>&1 || {
	tail "$DOCKER_CONFIG/log" >&2
	exit 1
}
go -C ".build/src/$tree" build "${modules[@]}" -o "$DOCKER_CONFIG/md2man" github.com/cpuguy83/go-md2man/v2
for page in ".build/src/$tree"/man/*.[158].md .build/src/runc/man/*.8.md; do
	name=$(basename "$page" .md)
	"$DOCKER_CONFIG/md2man" -in "$page" -out "$out.new/man${name##*.}/$name"
done
rm -rf "$out"
mv "$out.new" "$out"
