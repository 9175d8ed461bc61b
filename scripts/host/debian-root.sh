#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes a small Debian 12 with systemd in .build/debian, to install in and to
# boot; nothing if it is there. Takes about 100 MB of downloads, as root.
set -euo pipefail
cd "$(dirname "$0")/../.."
to=.build/debian
[ ! -e $to/usr/bin/systemctl ] || exit 0
command -v debootstrap >/dev/null || apt-get install -q -y --no-install-recommends debootstrap
rm -rf $to.new
echo "making $to"
debootstrap --variant=minbase --include=systemd,systemd-sysv,udev,dbus,iptables,iproute2,kmod,ca-certificates,procps \
	bookworm $to.new > $to.log || { tail $to.log; exit 1; }
rm -rf $to.new/var/cache/apt/archives/*.deb $to.new/var/lib/apt/lists/*
mv $to.new $to
