#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs one of upstream's suites that need a daemon, in daemon.sh, with the tests
# of the unpatched tree:
#
#   suite.sh moby|cli|moby28|cli28 ours|stock FILTER PACKAGE[@REGEXP]...
#
# and prints go test -json. FILTER is for -run; "" takes the package's REGEXP.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
tree=$1 which=$2 filter=$3
shift 3
src=$root/.build/src/stock-$tree
out=$root/.build/upstream
mkdir -p "$out"
. scripts/trees.sh
modules "stock-$tree"
module=$(go -C "$src" list "${modules[@]}" -m)
case $tree in
cli*)
	export DOCKER_CLI_E2E_PLUGINS_EXTRA_DIRS=$out/plugins
	CGO_ENABLED=0 go -C "$src" build "${modules[@]}" -trimpath -o "$out/plugins/docker-helloworld" ./cli-plugins/examples/helloworld
	;;
esac
list=$(mktemp)
trap 'rm -f "$list"' EXIT
for part in "$@"; do
	p=${part%%@*} run=$filter
	[ -n "$run" ] || case $part in *@*) run=${part#*@} ;; *) run=. ;; esac
	binary=$out/$tree-${p//[.\/]/_}.test
	go -C "$src" test -c "${modules[@]}" -trimpath -o "$binary" "$p" >&2
	printf '%s\t%s\t%s\t%s\n' "$module/${p#./}" "$src/${p#./}" "$binary" "$run" >> "$list"
done
case $tree in *28) export GPU_CGROUP_BIN=$root/.build/bin/28 ;; esac
export LIST=$list TEST_DOCKER_HOST=unix:///run/docker.sock
# shellcheck disable=SC2016 # for the inner shell
exec_all='
set -uo pipefail
if [ -n "${DOCKER_CLI_E2E_PLUGINS_EXTRA_DIRS:-}" ]; then
	docker tag busybox registry:5000/busybox:frozen
	docker tag busybox registry:5000/alpine:frozen
	docker swarm init --advertise-addr 127.0.0.1 >/dev/null || true
fi
while IFS=$(printf "\t") read -r package dir binary run; do
	cd "$dir" || exit
	go tool test2json -t -p "$package" "$binary" -test.v=test2json -test.timeout=30m -test.run "$run" < /dev/null
done < "$LIST"
true'
scripts/upstream/daemon.sh "$which" bash -c "$exec_all"
