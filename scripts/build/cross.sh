#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds for systems other than Linux what upstream ships there: docker for
# Windows and macOS, dockerd for Windows; and vets moby's API types and client, which
# programs of others use. Nothing is kept.
set -euo pipefail
cd "$(dirname "$0")/../.."
export GOFLAGS=-buildvcs=false GOWORK=off CGO_ENABLED=0
flags=(-modfile=vendor.mod -mod=readonly)
for os in windows darwin; do
	export GOOS=$os
	go -C .build/src/cli build "${flags[@]}" -trimpath -o /dev/null ./cmd/docker
	echo "ok    docker for $os"
	go -C .build/src/moby vet "${flags[@]}" ./api/types/... ./client/...
	echo "ok    go vet of the client and the API types for $os"
done
export GOOS=windows
go -C .build/src/moby build "${flags[@]}" -trimpath -o /dev/null ./cmd/dockerd
echo "ok    dockerd for windows"
