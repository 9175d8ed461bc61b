#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that building and testing need and that are not
# here yet. One apt run at most; nothing is asked of apt when all are here.
# Without a Go that is new enough it puts one into .build/go, where make looks
# first: Debian 12 has only 1.19, but that can fetch and verify a newer one.
set -euo pipefail
cd "$(dirname "$0")/.."

go_wanted=1.26.8 # what is fetched
go_least=1.26.8  # what will do: go.mod, as containerd 2.3.7 asks for it

packages=(
	git gcc libc6-dev make patch xz-utils # Go with cgo (runc), the trees
	pkg-config libseccomp-dev tini        # runc with seccomp, docker-init
	flex bison bc cpio libelf-dev         # the kernel
	busybox-static e2fsprogs kmod         # the VM's root disk, the test image
	iptables iproute2                     # dockerd's networks, on the host and in the VM
	nftables                              # tests of networks look at dockerd's tables, and uninstall
	lvm2                                  # a test of its volumes in the VM
	shellcheck                            # make check
	btrfs-progs                           # tests of a data-root and of disks on btrfs
	qemu-system-x86                       # the VM
	ca-certificates                       # fetching Go modules
	coccinelle                            # make check: what kernel drivers do when they are told no
)

new_enough() { # new_enough GO
	local v
	v=$(GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) || return 1
	[ "$(printf '%s\n' "$go_least" "${v#go}" | sort -V | head -n 1)" = "$go_least" ]
}

fetch_go=false
if ! new_enough go && ! new_enough .build/go/bin/go; then
	fetch_go=true
	packages+=(golang-go)
fi

missing=()
for p in "${packages[@]}"; do
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
done
if [ ${#missing[@]} -gt 0 ]; then
	if [ "$(id -u)" != 0 ]; then
		echo "packages.sh: as root, run: apt-get install --no-install-recommends ${missing[*]}" >&2
		exit 1
	fi
	echo "installing ${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -q
	apt-get install -q -y --no-install-recommends "${missing[@]}"
fi

if $fetch_go; then
	module=golang.org/toolchain@v0.0.1-go$go_wanted.linux-$(dpkg --print-architecture)
	echo "fetching Go $go_wanted"
	# In an empty folder: an old Go cannot read our go.mod.
	(cd "$(mktemp -d)" && GOTOOLCHAIN=local GOFLAGS='' go mod download "$module")
	dir=$(GOTOOLCHAIN=local go env GOMODCACHE)/$module
	rm -rf .build/go .build/go.tmp
	mkdir -p .build
	cp -r "$dir" .build/go.tmp
	# A module zip has no mode bits.
	chmod -R u+w .build/go.tmp
	chmod +x .build/go.tmp/bin/* .build/go.tmp/pkg/tool/*/*
	mv .build/go.tmp .build/go
fi
