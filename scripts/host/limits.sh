#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What limits of ours there are on a host, for whoever goes back to a stock Docker.
# Needs no dockerd:
#
#   limits.sh list       the containers that have any, with them; nothing if there are none
#   limits.sh clear      take rules, interfaces and queueing disciplines of networks away
#
# Environment: DESTDIR (default: the host itself), DATA_ROOT (default: that of
# /etc/docker/daemon.json, else /var/lib/docker).
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

# links TYPE [WORD...]: names of the links of a type
links() { ip -o link show type "$@" 2>/dev/null | sed 's/^[0-9]*: \([^:@]*\).*/\1/'; }

# can_clear_nft tells whether the tables of nftables are gone: they send packets to
# ifbs, and without those all that containers send would be lost.
can_clear_nft() {
	local family table
	if ! command -v nft > /dev/null; then
		[ ! -e /proc/net/netfilter ] || echo "limits.sh: no nft (package nftables): tables docker-limits-* stay until the host restarts, and with them classes of packets" >&2
		return 1
	fi
	# Each dockerd has its own.
	nft list tables 2> /dev/null | sed -n 's/^table \([a-z]*\) \(docker-limits-[^ ]*\)$/\1 \2/p' | while read -r family table; do
		nft delete table "$family" "$table"
	done
}

# clear_tables is for what earlier builds made.
clear_tables() {
	local tables
	for tables in iptables ip6tables; do
		command -v $tables > /dev/null || continue
		$tables -w -t mangle -S DOCKER-NETCLASS > /dev/null 2>&1 || continue
		while $tables -w -t mangle -D POSTROUTING -j DOCKER-NETCLASS 2> /dev/null; do :; done
		$tables -w -t mangle -F DOCKER-NETCLASS
		$tables -w -t mangle -X DOCKER-NETCLASS
	done
}

clear_links() {
	local ifb end
	command -v ip > /dev/null && command -v tc > /dev/null || { echo "limits.sh: no ip or tc (package iproute2): network rates stay until the host restarts" >&2; return; }
	local -A ours=()
	for ifb in $(links ifb group 3340); do ours[$ifb]=1; done
	# The marks are those of moby/libnetwork/netlimit/tc_linux.go.
	for end in $(ip -o link show type veth 2> /dev/null | sed -n 's/^[0-9]*: \([^:@]*\).*\(alias docker endpoint \|altname docker-endpoint-\).*/\1/p'); do
		if tc qdisc show dev "$end" root | grep -q '^qdisc tbf d0[cd]: '; then tc qdisc del dev "$end" root; fi
		ifb=$(tc filter show dev "$end" ingress | sed -n 's/.*Redirect to device \([^) ]*\).*/\1/p' | head -n 1)
		if [ -n "$ifb" ] && [ -n "${ours[$ifb]:-}" ]; then
			tc filter del dev "$end" ingress pref 100
			[ -n "$(tc filter show dev "$end" ingress)" ] || tc qdisc del dev "$end" ingress
		fi
	done
	for ifb in "${!ours[@]}"; do
		if [ "$1" = true ]; then
			ip link del "$ifb"
		elif tc qdisc show dev "$ifb" root | grep -q '^qdisc tbf d0[cd]: '; then
			tc qdisc del dev "$ifb" root
		fi
	done
}

case ${1:-} in
list) list ;;
clear)
	# In a chroot the kernel's tables are those of another system.
	awk '$5 == "/" { found = 1 } END { exit !found }' /proc/self/mountinfo || { echo "limits.sh: in a chroot, or no /proc: what limits of networks left in the kernel stays" >&2; exit 0; }
	if can_clear_nft; then nft=true; else nft=false; fi
	clear_tables
	clear_links $nft
	;;
*) echo "usage: limits.sh list | clear" >&2; exit 2 ;;
esac
