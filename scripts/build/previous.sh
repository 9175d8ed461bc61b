#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds dockerd, docker and runc of an earlier commit of ours, for the tests that
# take over what such a build left on a host, as .build/bin/*-previous:
#
#   scripts/build/previous.sh COMMIT
#
# They are built by that commit's own Makefile from its own files.
set -euo pipefail
cd "$(dirname "$0")/../.."

commit=$1
programs=(dockerd docker runc)
bin=$PWD/.build/bin
dir=$PWD/.build/previous

built() {
	[ "$commit" = "$(cat "$dir/built" 2>/dev/null)" ] || return 1
	for p in "${programs[@]}"; do [ -x "$bin/$p-previous" ] || return 1; done
}
if built; then
	exit 0
fi
if ! git cat-file -e "$commit^{commit}" 2>/dev/null; then
	echo "previous.sh: this checkout does not have commit $commit; run: git fetch --unshallow" >&2
	exit 1
fi
echo "building ${programs[*]} of $commit"
rm -rf "$dir"
mkdir -p "$dir"
git clone -q --shared --no-checkout . "$dir/tree"
git -C "$dir/tree" checkout -q --detach "$commit"
# No make variable of this run may reach that Makefile.
env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -C "$dir/tree" "${programs[@]/#/.build/bin/}"
for p in "${programs[@]}"; do
	cp "$dir/tree/.build/bin/$p" "$bin/$p-previous"
done
rm -rf "$dir/tree"
echo "$commit" >"$dir/built"
