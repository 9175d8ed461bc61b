#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Parallel updates against a dockerd with the race detector, which ends it at
# the first race. Built only here: it takes twice as long as dockerd itself.
set -euo pipefail
cd "$(dirname "$0")/.."
export GOFLAGS=-buildvcs=false GOTOOLCHAIN=local GOWORK=off

mkdir -p .build/race
echo "building dockerd with the race detector"
CGO_ENABLED=1 go -C .build/src/moby build -race -trimpath -modfile=vendor.mod -mod=readonly -tags netgo,osusergo -o "$PWD/.build/race/dockerd" ./cmd/dockerd
MUST=root,binaries RACE_DOCKERD=$PWD/.build/race/dockerd go test -count=1 -v -run Parallel ./integration
