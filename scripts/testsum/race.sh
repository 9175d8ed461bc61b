#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Parallel updates against a dockerd and a runc with the race detector; a race
# fails the test. At the end once more with a race put in, which has to fail.
# Built only here: it takes much longer than the programs themselves.
set -euo pipefail
cd "$(dirname "$0")/../.."
export GOFLAGS=-buildvcs=false GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=1
. scripts/trees.sh
tree=$(of_train moby)
modules "$tree"
out=$PWD/.build/race
mkdir -p "$out/with-a-race"

dockerd() { # dockerd FILE [go build flag...]
	local file=$1
	shift
	echo "building ${file#"$PWD"/} with the race detector"
	go -C ".build/src/$tree" build -race -trimpath "${modules[@]}" -tags netgo,osusergo "$@" -o "$file" ./cmd/dockerd
}
dockerd "$out/dockerd"
echo "building runc with the race detector"
go -C .build/src/runc build -race -trimpath -mod=readonly -tags netgo,osusergo -o "$out/runc-race" .
# Where a container is made, the detector's memory would count as the container's.
cat >"$out/runc" <<END
#!/bin/sh
case "\$*" in
*" update-many"*) exec $out/runc-race "\$@" ;;
esac
exec $PWD/.build/bin/runc "\$@"
END
chmod +x "$out/runc"
go -C .build/src/cgroups test -race -count=1 -run InParallel ./fs
MUST=root,binaries RACE=$out go test -count=1 -v -run '^TestParallel' ./integration

cat >"$out/race.go" <<END
package main

import "time"

var raced int

func init() {
	for range 2 {
		go func() {
			for {
				raced++
				time.Sleep(time.Millisecond)
			}
		}()
	}
}
END
echo "{\"Replace\": {\"$PWD/.build/src/$tree/cmd/dockerd/race.go\": \"$out/race.go\"}}" >"$out/overlay.json"
dockerd "$out/with-a-race/dockerd" -overlay "$out/overlay.json"
cp "$out/runc" "$out/with-a-race/runc"
if MUST=root,binaries RACE=$out/with-a-race go test -count=1 -v -run '^TestParallelUpdatesOfOneContainer$' ./integration >"$out/with-a-race.log"; then
	echo "race.sh: a dockerd with a race passed" >&2
	exit 1
fi
grep -q 'WARNING: DATA RACE' "$out/with-a-race.log" || {
	cat "$out/with-a-race.log"
	echo "race.sh: a dockerd with a race failed, but not for its race" >&2
	exit 1
}
echo "a race that was put in was found"
