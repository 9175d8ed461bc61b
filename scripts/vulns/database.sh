#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Build govulncheck and, from the pinned state of the Go vulnerability database, the
# files that it reads: its own site is not asked. Both pins are in tools/go.mod.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=$PWD/.build/vulns
mkdir -p "$out"
echo "building the vulnerability database"
go -C scripts/vulns/tools build -o "$out/" golang.org/x/vuln/cmd/govulncheck golang.org/x/vulndb/cmd/indexdb
osv=$(go -C scripts/vulns/tools list -m -f '{{.Dir}}' golang.org/x/vulndb)/data/osv
rm -rf "$out/db"
"$out/indexdb" -vulns "$osv" -out "$out/db.new"
mv "$out/db.new" "$out/db"
