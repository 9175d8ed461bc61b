#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds for systems other than Linux what upstream ships there: docker for
# Windows and macOS, dockerd for Windows; and vets moby's API types and client, which
# programs of others use. Nothing is kept.
set -euo pipefail
cd "$(dirname "$0")/../.."
export GOFLAGS=-buildvcs=false GOWORK=off CGO_ENABLED=0
. scripts/trees.sh
run() { # run TREE VERB ARG...: go VERB there
	local modules
	modules "$1"
	go -C ".build/src/$1" "$2" "${modules[@]}" "${@:3}"
}
cli=$(of_train cli) moby=$(of_train moby)
for os in windows darwin; do
	export GOOS=$os
	run "$cli" build -trimpath -o /dev/null ./cmd/docker
	echo "ok    docker for $os"
	if [ "$moby" = moby ]; then # modules of their own
		run api vet ./types/...
		run client vet ./...
	else
		run "$moby" vet ./api/types/... ./client/...
	fi
	echo "ok    go vet of the client and the API types for $os"
done
export GOOS=windows
run "$moby" build -trimpath -o /dev/null ./cmd/dockerd
echo "ok    dockerd for windows"
