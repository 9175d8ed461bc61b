#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs runc's own bats suite as root on this host against a runc of .build/bin:
#
#   bats.sh RUNC FILTER [FILE.bats...]
#
# and prints what bats prints, each file's tests after a line "# file NAME". The
# suite's images come from a registry; here they are busybox-static and the
# Debian of make debian-root. Without that one the few tests with it fail, in
# the stock build as well. FILTER is a regular expression of names, "" for all.
set -euo pipefail
cd "$(dirname "$0")/../.."
runc=$PWD/.build/bin/$1 filter=$2
shift 2
source=.build/src/stock-runc
suite=.build/upstream/bats
missing=()
for p in bats jq gawk; do
	command -v $p >/dev/null || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] || apt-get install -q -y --no-install-recommends "${missing[@]}" >&2

if [ ! -e $suite/ready ]; then
	rm -rf $suite
	mkdir -p $suite
	cp -rL $source/tests $suite/
	chmod -R u+w $suite
	chmod +x $suite/tests/integration/*.sh
	for p in recvtty sd-helper seccompagent fs-idmap pidfd-kill remap-rootfs; do
		go -C $source build -mod=readonly -tags seccomp -o "$PWD/$suite/tests/cmd/_bin/$p" "./tests/cmd/$p"
	done
	arch=$(go env GOARCH) data=$suite/tests/integration/testdata
	root=$suite/root
	mkdir -p $root/{bin,dev,etc,home,root,usr/{bin,sbin},var/lib}
	mkdir -m 1777 $root/tmp
	cp "$(command -v busybox)" $root/bin/busybox
	for applet in $(busybox --list); do
		[ "$applet" = busybox ] || ln $root/bin/busybox "$root/bin/$applet"
	done
	printf 'root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n' > $root/etc/passwd
	printf 'root:x:0:\ndaemon:x:1:\nusers:x:100:\nnogroup:x:65534:\n' > $root/etc/group
	# tar looks at what is in a file, not at its name.
	tar -c -C $root . > "$data/busybox-$arch.tar.xz"
	rm -rf $root
	if [ -d .build/debian ]; then
		# Without what a test of runc does not need: it is unpacked for each.
		tar -c -C .build/debian --exclude='./dev/*' --exclude='./var/*' --exclude=./usr/share --exclude=./usr/lib/{udev,systemd,apt} \
			--exclude='./usr/lib/*/perl*' --exclude='./usr/lib/*/gconv' --exclude='./usr/lib/*/systemd' --exclude='./usr/bin/perl*' . > "$data/debian-$arch.tar.xz"
	fi
	touch $suite/ready
fi

cd $suite/tests/integration
files=("$@")
[ $# -gt 0 ] || files=(*.bats)
# Paths of sockets are short.
TMPDIR=$(mktemp -d /tmp/gpucg-bats.XXXXXX)
mkdir "$TMPDIR/bin"
ln -s "$runc" "$TMPDIR/bin/runc" # the help has the program's name
export TMPDIR RUNC=$TMPDIR/bin/runc
# Some make cgroups for all that /proc/cgroups names, also in the tmpfs that the
# hierarchies are mounted on.
clean() {
	find /sys/fs/cgroup -mindepth 1 -maxdepth 3 -type d -path '*runc-cgroups-integration-test*' -depth -exec rmdir {} + 2>/dev/null || true
	rm -rf "$TMPDIR"
}
trap clean EXIT
# Many tests want a terminal, on which nobody types and which has no end.
mkfifo "$TMPDIR/typed"
exec 3<> "$TMPDIR/typed"
for f in "${files[@]}"; do
	echo "# file $f"
	export FILE=$f FILTER=${filter:-.}
	# shellcheck disable=SC2016 # for the inner shell
	timeout -k 10 "${LIMIT:-600}" unshare --mount --net script -qec 'ip link set lo up && bats -t -f "$FILTER" "$FILE"' /dev/null <&3 | tr -d '\r' || true
done
