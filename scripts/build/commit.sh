#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Writes our commit, which all programs show as theirs, to .build/commit; only
# when it changed, so that make relinks only then.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p .build
commit=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
[ "$commit" = "$(cat .build/commit 2>/dev/null)" ] || echo "$commit" > .build/commit
