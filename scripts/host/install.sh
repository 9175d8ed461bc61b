#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Installs the programs on a host, and takes them away again without a trace:
#
#   install.sh stage DIR     write the files of an installation below DIR
#   install.sh install       install; what is replaced is kept, with a manifest
#   install.sh uninstall     put every replaced file back, remove every new one
#   install.sh status        compare the installed files with the manifest
#
# Environment: DESTDIR (default: the host itself), PREFIX (default /usr/local),
# FROM (folder of the programs, default .build/bin), COMPLETIONS (folder of the
# CLI's contrib/completion), MAN (folder of the manual pages, as make man leaves
# it), FORCE=1 (uninstall: also drop files that were changed since, and go on
# though containers have limits that another Docker does not enforce).
#
# The manifest and the replaced files are in DESTDIR/var/lib/gpu-cgroup/install.
# A line is written before the change it stands for, so that an installation
# that was cut off can be taken back too. Needs no /dev and no /proc: it runs in
# a bare chroot as well.
set -euo pipefail
umask 022
here=$(cd "$(dirname "$0")" && pwd)
DESTDIR=${DESTDIR:-}
DESTDIR=${DESTDIR%/}
PREFIX=${PREFIX:-/usr/local}
FROM=${FROM:-$here/../../.build/bin}
COMPLETIONS=${COMPLETIONS-$here/../../.build/src/cli/contrib/completion}
MAN=${MAN-$here/../../.build/man}
programs=(containerd containerd-shim-runc-v2 docker docker-init docker-proxy dockerd runc)

state=$DESTDIR/var/lib/gpu-cgroup/install
manifest=$state/manifest

die() { echo "install.sh: $*" >&2; exit 1; }
case $PREFIX in /*) ;; *) die "PREFIX is $PREFIX, want an absolute path" ;; esac
case $PREFIX$DESTDIR in *[[:space:]\\]*) die "PREFIX and DESTDIR must not hold white space or backslashes" ;; esac

sum() { # sum FILE: of a file's bytes, or where a link points to
	if [ -L "$1" ]; then echo "link:$(readlink "$1")"; else sha256sum < "$1" | cut -d ' ' -f 1; fi
}

# --- stage ---
put() { # put MODE PATH: from stdin
	mkdir -p "$(dirname "$dir$2")"
	cat > "$dir$2"
	chmod "$1" "$dir$2"
}
unit() { sed "s|@PREFIX@|$PREFIX|g" "$here/systemd/$1"; }

stage() {
	local p
	dir=$1
	for p in "${programs[@]}"; do
		[ -f "$FROM/$p" ] || die "no $FROM/$p; run make first"
		put 755 "$PREFIX/bin/$p" < "$FROM/$p"
	done
	put 755 "$PREFIX/bin/gpu-cgroup-check" < "$here/check-host.sh"
	put 755 "$PREFIX/lib/gpu-cgroup/mount-v1" < "$here/mount-v1.sh"
	put 755 "$PREFIX/lib/gpu-cgroup/limits" < "$here/limits.sh"
	local units=$PREFIX/lib/systemd/system
	for p in docker.service containerd.service gpu-cgroup-v1.service; do
		unit $p | put 644 "$units/$p"
	done
	# A docker.service of the administrator's in /etc comes before ours, so
	# what must hold in any case is a drop-in.
	unit docker-drop-in.conf | put 644 /etc/systemd/system/docker.service.d/gpu-cgroup.conf
	mkdir -p "$dir/etc/systemd/system/multi-user.target.wants"
	ln -sfn "$units/docker.service" "$dir/etc/systemd/system/multi-user.target.wants/docker.service"
	ln -sfn "$units/containerd.service" "$dir/etc/systemd/system/multi-user.target.wants/containerd.service"
	put 644 /etc/containerd/config.toml < "$here/containerd.toml"
	if [ -n "$COMPLETIONS" ]; then
		put 644 "$PREFIX/share/bash-completion/completions/docker" < "$COMPLETIONS/bash/docker"
		put 644 "$PREFIX/share/zsh/vendor-completions/_docker" < "$COMPLETIONS/zsh/_docker"
		put 644 "$PREFIX/share/fish/vendor_completions.d/docker.fish" < "$COMPLETIONS/fish/docker.fish"
	fi
	if [ -n "$MAN" ]; then
		[ -d "$MAN/man1" ] || die "no manual pages in $MAN; run make man, or set MAN= to leave them out"
		mkdir -p "$dir$PREFIX/share/man"
		cp -r "$MAN/." "$dir$PREFIX/share/man/"
	fi
}

# --- install ---
# Lines of the manifest:
#   dirtime SECONDS PATH      a folder that was there, and its time
#   dir - PATH                a folder that was not
#   new SUM PATH              a file that was not there
#   old SUM PATH              a file that replaced the one in backup/PATH
note() { printf '%s %s %s\n' "$1" "$2" "$3" >> "$manifest"; }

folder() { # folder PATH: make it and its parents, and note what was there
	[ "$1" != / ] && [ "$1" != . ] || return 0
	case $noted in *"
$1
"*) return 0 ;; esac
	folder "$(dirname "$1")"
	if [ -d "$DESTDIR$1" ]; then
		note dirtime "$(stat -c %.9Y "$DESTDIR$1")" "$1"
	else
		note dir - "$1"
		mkdir "$DESTDIR$1"
	fi
	noted+="$1
"
}

place() { # place PATH: put the staged file there
	local to=$DESTDIR$1 from=$staged$1
	if [ -d "$to" ] && [ ! -L "$to" ]; then
		die "$to is a folder, a file has to go there"
	fi
	folder "$(dirname "$1")"
	if [ -e "$to" ] || [ -L "$to" ]; then
		mkdir -p "$state/backup$(dirname "$1")"
		cp -a "$to" "$state/backup$1"
		[ "$(sum "$to")" = "$(sum "$state/backup$1")" ] || die "the copy of $to differs from it"
		note old "$(sum "$from")" "$1"
	else
		note new "$(sum "$from")" "$1"
	fi
	cp -dp "$from" "$to.gpu-cgroup-new"
	mv -fT "$to.gpu-cgroup-new" "$to"
}

install_all() {
	local path lib_time
	staged=$(mktemp -d)
	trap 'rm -rf "$staged"' EXIT
	stage "$staged"
	if [ -d "$state" ]; then
		echo "taking back the installation that is there"
		uninstall
	fi
	noted="
"
	# The state folder is no part of the manifest: where it was made and the
	# times of its parents stand in a file of its own.
	lib_time=
	for path in / /var /var/lib /var/lib/gpu-cgroup; do
		if [ -d "$DESTDIR$path" ]; then lib_time+="$(stat -c %.9Y "$DESTDIR$path") $path
"; else lib_time+="- $path
"; fi
	done
	mkdir -p "$state"
	printf '%s' "$lib_time" > "$state/above"
	: > "$manifest"
	# shellcheck disable=SC2154 # the trap sets code
	trap 'code=$?; rm -rf "$staged"; if [ $code -ne 0 ]; then echo "install.sh: failed, taking it back" >&2; FORCE=1; uninstall || true; fi; exit $code' EXIT
	while IFS= read -r path; do
		if [ "$path" = /etc/containerd/config.toml ] && [ -e "$DESTDIR$path" ]; then
			echo "keeping your $path"
			continue
		fi
		place "$path"
	done <<< "$(cd "$staged" && find . \( -type f -o -type l \) -printf '/%P\n' | sort)"
	sync -f "$manifest" 2>/dev/null || sync
	trap 'rm -rf "$staged"' EXIT
	reload
	echo "installed below ${DESTDIR:-/}: $(grep -c '^new ' "$manifest") new files, $(grep -c '^old ' "$manifest" || true) replaced (kept in $state/backup)"
	if [ -z "$DESTDIR" ]; then
		echo "to use them: systemctl restart containerd docker; what this host lacks: $PREFIX/bin/gpu-cgroup-check"
		echo "only root may talk to dockerd; for others: groupadd docker, and add them to it"
	fi
}

reload() {
	if [ -z "$DESTDIR" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
}

# --- uninstall ---
changed() { # changed: files that are not as they were installed
	local kind want path
	while read -r kind want path; do
		case $kind in new | old) ;; *) continue ;; esac
		if [ ! -e "$DESTDIR$path" ] && [ ! -L "$DESTDIR$path" ]; then
			echo "$path is gone"
		elif [ "$(sum "$DESTDIR$path")" != "$want" ]; then
			echo "$path was changed"
		fi
	done < "$manifest"
}

uninstall() {
	local kind what path diff
	[ -d "$state" ] || die "nothing is installed below ${DESTDIR:-/} (no $state)"
	for path in "$manifest" "$state/above"; do # an installation cut off before its first line
		[ -e "$path" ] || : > "$path"
	done
	diff=$(changed)
	if [ -n "$diff" ] && [ "${FORCE:-}" != 1 ]; then
		die "changed since they were installed; save what you need, then FORCE=1 drops the changes:
$diff"
	fi
	while read -r kind what path; do
		case $kind in
		new) rm -f "$DESTDIR$path" "$DESTDIR$path.gpu-cgroup-new" ;;
		old)
			if [ -e "$state/backup$path" ] || [ -L "$state/backup$path" ]; then
				rm -f "$DESTDIR$path.gpu-cgroup-new"
				cp -a "$state/backup$path" "$DESTDIR$path.gpu-cgroup-old"
				mv -fT "$DESTDIR$path.gpu-cgroup-old" "$DESTDIR$path"
			fi
			;;
		dir) [ ! -d "$DESTDIR$path" ] || rmdir "$DESTDIR$path" 2>/dev/null || echo "keeping $path: others have put files there" ;;
		esac
	done <<< "$(tac "$manifest")"
	# Last, as each change above set a folder's time.
	while read -r kind what path; do
		[ "$kind" != dirtime ] || touch -d "@$what" "$DESTDIR$path"
	done < "$manifest"
	local above
	above=$(cat "$state/above")
	rm -rf "$state"
	while read -r what path; do
		[ "$what" != - ] || rmdir "$DESTDIR$path" 2>/dev/null || true
	done <<< "$(tac <<< "$above")"
	rmdir "$DESTDIR/var/lib/gpu-cgroup" 2>/dev/null || true
	while read -r what path; do
		[ "$what" = - ] || [ -z "$path" ] || touch -d "@$what" "$DESTDIR$path"
	done <<< "$above"
	reload
}

case ${1:-} in
stage)
	[ $# -eq 2 ] || die "usage: install.sh stage DIR"
	stage "${2%/}"
	;;
install) install_all ;;
uninstall)
	limited=$("$here/limits.sh" list)
	if [ -n "$limited" ] && [ "${FORCE:-}" != 1 ]; then
		die "these containers have limits that a stock Docker does not enforce, neither at their next start nor, for networks, from now on:
$limited
docker update or docker rm takes them off; FORCE=1 goes on. The limits stay in limits.json of the container's folder: they come back with these programs"
	fi
	# The limits of networks go last: as long as there are programs they hold.
	dockerd=$(mktemp -d)/dockerd
	cp "$DESTDIR$PREFIX/bin/dockerd" "$dockerd" 2>/dev/null || true
	uninstall
	[ -n "$DESTDIR" ] || DOCKERD=$dockerd "$here/limits.sh" clear || true
	rm -rf "$(dirname "$dockerd")"
	[ -z "$limited" ] || echo "not limited any more, or only until they are restarted:
$limited"
	echo "uninstalled below ${DESTDIR:-/}: all is as it was before${FORCE:+ (changed files dropped)}"
	;;
status)
	[ -e "$manifest" ] || die "nothing is installed below ${DESTDIR:-/}"
	diff=$(changed)
	if [ -n "$diff" ]; then echo "$diff"; exit 1; fi
	echo "as installed: $(grep -c '^new \|^old ' "$manifest") files"
	;;
*) die "usage: install.sh stage DIR | install | uninstall | status" ;;
esac
