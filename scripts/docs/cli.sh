#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Writes the sessions of docs/cli.md anew: runs scripts/docs/session.sh in the VM
# and puts what it printed between the marks <!-- session NAME --> and
# <!-- end -->. With LOG=file it takes a session printed before.
set -euo pipefail
cd "$(dirname "$0")/../.."
log=${LOG:-.build/docs-cli.log}
if [ -z "${LOG:-}" ]; then
	.build/bin/vm --mode v1 --file "$PWD/scripts/docs/session.sh:/usr/local/bin/session.sh" -- session.sh | tr -d '\r' > "$log" ||
		{ tail -n 30 "$log" >&2; exit 1; }
fi
grep -qx '=== end' "$log" || { echo "cli.sh: the session did not end, see $log" >&2; exit 1; }
# A container's id is new each time.
sed -E 's/[0-9a-f]{64}/CONTAINER-ID/g' "$log" > .build/docs-cli.session
awk -v log_file=.build/docs-cli.session -v fence='```' '
	BEGIN {
		while ((getline line < log_file) > 0) {
			if (line ~ /^=== /) { name = substr(line, 5); continue }
			if (name != "") text[name] = text[name] line "\n"
		}
	}
	/^<!-- session / {
		print
		if (!($3 in text)) { print "cli.sh: no session " $3 > "/dev/stderr"; bad = 1 }
		sub(/\n+$/, "\n", text[$3])
		printf "%sconsole\n%s%s\n", fence, text[$3], fence
		skip = 1
	}
	/^<!-- end -->/ { skip = 0 }
	!skip { if ($0 !~ /^<!-- session /) print }
	END { exit bad }
' docs/cli.md > .build/cli.md
cp .build/cli.md docs/cli.md
echo "docs/cli.md: $(grep -c '^<!-- session ' docs/cli.md) sessions written"
