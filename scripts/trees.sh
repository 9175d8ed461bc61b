# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# For scripts that run go in a tree of .build/src; to be sourced.

# of_train NAME: the tree of that name of the train TRAIN, 29 if it is not set.
of_train() {
	local tree=$1
	[ "${TRAIN:-29}" = 29 ] || tree+=$TRAIN
	echo "$tree"
}

# modules TREE: sets the array of that name to what go needs to take the tree's own pins.
modules() {
	# shellcheck disable=SC2034 # for the caller
	modules=(-mod=readonly)
	[ ! -e ".build/src/$1/vendor.mod" ] || modules+=(-modfile=vendor.mod)
}

# release TREE: the release of Docker that its programs say they are.
release() { sed -n 's/^\t"Release": "\(.*\)",$/\1/p' ".build/src/$1/.tree"; }
