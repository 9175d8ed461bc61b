#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes what is handed out, in .build/dist (or the folder given):
#
#   docker-VERSION.tgz             static programs in a folder docker/, as upstream's tarball
#   gpu-cgroup-engine_*.deb        dockerd, containerd, runc and their units
#   gpu-cgroup-cli_*.deb           docker with completions
#   sbom.cdx.json                  CycloneDX, from the programs' own build info
#   THIRD-PARTY-LICENSES.txt       what is linked, with the licence texts
#   SHA256SUMS
#
# All times are that of our last commit (or SOURCE_DATE_EPOCH), so two runs in
# two folders give the same bytes; scripts/dist/twice.sh proves it.
set -euo pipefail
umask 022
cd "$(dirname "$0")/../.."
export LC_ALL=C TZ=UTC
out=$(realpath -m "${1:-.build/dist}")
. scripts/trees.sh
bin=${GPU_CGROUP_BIN:-$PWD/.build/bin}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

version=$(release "$(of_train moby)")+gpu.$(cat .build/commit)
arch=$(dpkg --print-architecture)

scripts/build.sh ctr
[ -e "$bin/ctr" ] || ln -s ../ctr "$bin/ctr"
rm -rf "$out"
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
programs=(containerd containerd-shim-runc-v2 ctr docker docker-init docker-proxy dockerd runc)

mkdir "$work/docker"
for p in "${programs[@]}"; do install -m 755 "$bin/$p" "$work/docker/$p"; done
tar -C "$work" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --format=gnu -cf - docker |
	gzip -6n > "$out/docker-$version.tgz"

(cd "$bin" && go -C "$OLDPWD" run ./scripts/dist sbom "${programs[@]/#/$bin/}") > "$out/sbom.cdx.json"
go run ./scripts/dist licenses "${programs[@]/#/$bin/}" > "$out/THIRD-PARTY-LICENSES.txt"

# The packages hold what install.sh would put there, but for what only a
# package manager can do better: replacing and enabling.
PREFIX=/usr scripts/host/install.sh stage "$work/all"
rm -r "$work/all/etc/systemd"
install -m 755 "$bin/ctr" "$work/all/usr/bin/ctr"
move() { # move PACKAGE PATH...
	local p
	for p in "${@:2}"; do
		mkdir -p "$work/$1$(dirname "$p")"
		mv "$work/all$p" "$work/$1$p"
	done
}
move gpu-cgroup-engine /usr/share/man/man8
move gpu-cgroup-cli /usr/bin/docker /usr/share
cp -a "$work/all/." "$work/gpu-cgroup-engine"

deb() { # deb PACKAGE DEPENDS INSTEAD-OF DESCRIPTION
	local root=$work/$1
	mkdir -p "$root/DEBIAN" "$root/usr/share/doc/$1"
	cp LICENSE "$root/usr/share/doc/$1/copyright"
	cp "$out/sbom.cdx.json" "$out/THIRD-PARTY-LICENSES.txt" "$root/usr/share/doc/$1/"
	gzip -9n "$root/usr/share/doc/$1/THIRD-PARTY-LICENSES.txt"
	cat > "$root/DEBIAN/control" <<-CONTROL
		Package: $1
		Version: $version
		Architecture: $arch
		Maintainer: $(git log -1 --format='%an <%ae>')
		Installed-Size: $(du -sk --apparent-size "$root" --exclude=DEBIAN | cut -f 1)
		Section: admin
		Priority: optional
		$2
		Conflicts: $3
		Replaces: $3
		Provides: $3
		Description: $4
	CONTROL
	(cd "$root" && find . -type f -not -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum) > "$root/DEBIAN/md5sums"
	find "$root" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
	dpkg-deb --root-owner-group -Zgzip -z6 -b "$root" "$out/$1_${version}_$arch.deb" >/dev/null
}
mkdir -p "$work/gpu-cgroup-engine/DEBIAN"
cd "$work/gpu-cgroup-engine/DEBIAN"
echo /etc/containerd/config.toml > conffiles
cat > postinst <<'POSTINST'
#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
getent group docker >/dev/null || groupadd --system docker || true
command -v systemctl >/dev/null || exit 0
systemctl enable containerd.service docker.service
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl restart containerd.service docker.service || true
fi
POSTINST
cat > prerm <<'PRERM'
#!/bin/sh
set -e
[ "$1" = remove ] && command -v systemctl >/dev/null || exit 0
[ ! -d /run/systemd/system ] || systemctl stop docker.service containerd.service || true
systemctl disable containerd.service docker.service || true
limited=$(/usr/lib/gpu-cgroup/limits list || true)
[ -z "$limited" ] || printf 'not limited any more, or only until they are restarted:\n%s\n' "$limited"
/usr/lib/gpu-cgroup/limits clear || true
PRERM
chmod 755 postinst prerm
cd "$OLDPWD"
deb gpu-cgroup-engine "Depends: iptables, kmod
Recommends: gpu-cgroup-cli, ca-certificates, iproute2" \
	"docker.io, docker-ce, containerd, containerd.io, runc" "Docker with limits on GPU memory and priority
 dockerd, containerd (stock), runc and their systemd units. GPU limits need a
 kernel with CONFIG_CGROUP_GPU: gpu-cgroup-check tells what a host lacks."
deb gpu-cgroup-cli "Recommends: gpu-cgroup-engine" "docker-cli, docker-ce-cli" "docker command with limits on GPU memory and priority
 docker run --gpu-memory, docker modresources and the rest of docker."

(cd "$out" && sha256sum -- * > "$work/sums" && mv "$work/sums" SHA256SUMS)
cat "$out/SHA256SUMS"
