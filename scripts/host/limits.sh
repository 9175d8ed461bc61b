#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What limits of ours there are on a host, for whoever goes back to a stock Docker.
# Needs no dockerd:
#
#   limits.sh list       the containers that have any, with them; nothing if there are none
#   limits.sh clear      take tables, interfaces and queueing disciplines of networks away
#
# Environment: DESTDIR (default: the host itself), DATA_ROOT (default: that of
# /etc/docker/daemon.json, else /var/lib/docker), DOCKERD (for clear; default: that in
# PATH).
set -euo pipefail
DESTDIR=${DESTDIR:-}
DESTDIR=${DESTDIR%/}

data_root() {
	local root=${DATA_ROOT:-}
	if [ -z "$root" ] && [ -r "$DESTDIR/etc/docker/daemon.json" ]; then
		root=$(tr -d '\n' < "$DESTDIR/etc/docker/daemon.json" | sed -n 's/.*"data-root"[[:space:]]*:[[:space:]]*"\([^"]*\)".*/\1/p')
	fi
	echo "$DESTDIR${root:-/var/lib/docker}"
}

list() {
	local copy name
	# dockerd keeps this file for the containers that have limits, and no others. A
	# folder below the data-root may be one of user namespaces (UID.GID).
	for copy in "$(data_root)"/containers/*/limits.json "$(data_root)"/[0-9]*.[0-9]*/containers/*/limits.json; do
		[ -f "$copy" ] || continue
		name=$(sed -n 's/.*"Name":"\/\([^"]*\)".*/\1/p' "$(dirname "$copy")/config.v2.json" 2>/dev/null || true)
		printf '  %s (%.12s): %s\n' "${name:-unknown}" "$(basename "$(dirname "$copy")")" \
			"$(sed -n 's/.*"Limits":{\(.*\)}}.*/\1/p' "$copy" | tr -d '"')"
	done
}

# dockerd knows what is its own: moby/daemon/netlimit_clear_linux.go.
clear_networks() {
	local dockerd=${DOCKERD:-$(command -v dockerd || true)}
	# A stock one would start.
	if [ -z "$dockerd" ] || ! "$dockerd" --version 2>/dev/null | grep -qF +gpu; then
		echo "limits.sh: no dockerd of gpu-cgroup (set DOCKERD): limits of networks stay until the host restarts" >&2
		return 1
	fi
	(exec -a docker-limits-clear "$dockerd")
}

case ${1:-} in
list) list ;;
clear)
	# In a chroot the kernel's tables are those of another system.
	awk '$5 == "/" { found = 1 } END { exit !found }' /proc/self/mountinfo || { echo "limits.sh: in a chroot, or no /proc: what limits of networks left in the kernel stays" >&2; exit 0; }
	clear_networks
	;;
*) echo "usage: limits.sh list | clear" >&2; exit 2 ;;
esac
