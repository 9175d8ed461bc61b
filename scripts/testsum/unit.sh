#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Unit tests, as `go test -json`:
#
#   scripts/testsum/unit.sh ours                 our tools and test helpers
#   scripts/testsum/unit.sh docs|docs28          docker/cli's generated pages are in sync, its man pages can be made
#   scripts/testsum/unit.sh api|client|moby|cli|moby28|cli28|runc|cgroups [PACKAGE...]
#
# For a tree: upstream's tests and ours in every package that a hook or a file
# of ours touches, or in the packages given. RUN selects tests.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/trees.sh

touched() { # touched TREE: packages with a hooked or an own .go file
	local but=
	case $1 in *28) but=--no-leaves ;; esac # they are tested with the default train
	# shellcheck disable=SC2086 # none or one
	.build/bin/tree touched $but "$1" | sed -n 's|[^/]*\.go$||p' | grep -v -e ^docs/ -e ^man/ | sort -u | sed 's|^|./|; s|/$||'
}

# Upstream assumes that the host's network and mounts are its own to play with.
# A new network starts with lo down, where tests listen, and without forwarding, which one warns of.
apart() { unshare --net --mount sh -c 'ip link set lo up && echo 1 >/proc/sys/net/ipv4/ip_forward && exec "$@"' sh "$@"; }

suite=$1
shift
flags=(-json -count=1 -timeout=30m -run "${RUN:-.}")
modules=()
case $suite in
ours) exec go test "${flags[@]}" ./scripts/... ./integration/internal/... ./integration/place ./integration/cmd/... ;;
docs | docs28) exec go -C ".build/src/cli${suite#docs}" test "${flags[@]}" -modfile=vendor.mod -tags docsgen,manpages ./docs/generate ./man ;;
api | client | moby | cli | moby28 | cli28) modules "$suite" ;;
runc)
	modules runc
	modules+=(-tags seccomp)
	;;
cgroups)
	# Fails on the stock module too where a cgroup2 mount stands beside v1.
	flags+=(-skip '^TestTryDefaultCgroupRoot$')
	;;
*)
	echo "unit.sh: unknown suite: $suite" >&2
	exit 2
	;;
esac
if [ "$suite" = moby ] || [ "$suite" = moby28 ]; then
	# What small kernels do not have fails on the stock module too.
	skip=()
	apart ip link add dummy0 type dummy 2>/dev/null || skip+=(TestMirroredWSL2Workaround)
	[ -d /proc/net/sctp ] || modprobe -q sctp || skip+=(TestPortMappingConfig TestPortMappingV6Config)
	[ ${#skip[@]} -eq 0 ] || flags+=(-skip "^($(IFS='|' && echo "${skip[*]}"))\$")
	export PATH=${GPU_CGROUP_BIN:-$PWD/.build/bin}:$PATH # docker-proxy
fi
packages=("$@")
if [ ${#packages[@]} -eq 0 ]; then
	mapfile -t packages < <(touched "$suite")
fi
# What only the tests import has to be fetched while there is a network.
go -C ".build/src/$suite" list -deps -test "${modules[@]}" "${packages[@]}" >/dev/null
apart go -C ".build/src/$suite" test "${flags[@]}" "${modules[@]}" "${packages[@]}"
