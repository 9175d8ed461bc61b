#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Tells what a host lacks for limits on containers, how to get it, and what will work:
#
#   check-host.sh [KERNEL-CONFIG]
#
# KERNEL-CONFIG defaults to /proc/config.gz or /boot/config-VERSION. Writes and
# loads nothing. Exits with 0 if GPU limits will be enforced, 1 if not, 2 if it
# was called wrongly. Environment, for tests: ROOT (a folder that stands for /),
# PATH (where the programs are).
set -u
LC_ALL=C
export LC_ALL
root=${ROOT:-}

case ${1:-} in
-h | --help) sed -n '3,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
-*) echo "check-host.sh: unknown option $1" >&2; exit 2 ;;
esac
[ $# -le 1 ] || { echo "usage: check-host.sh [KERNEL-CONFIG]" >&2; exit 2; }

lacks=0
ok() { printf '  ok     %s\n' "$1"; }
note() { printf '  note   %s\n' "$1"; }
# lack WHAT HOW: GPU limits cannot work before it is there.
lack() { printf '  LACKS  %s\n         how: %s\n' "$1" "$2"; lacks=$((lacks + 1)); }

# --- kernel options ---
release=$(cat "$root/proc/sys/kernel/osrelease" 2>/dev/null || uname -r)
config=${1:-}
if [ -z "$config" ]; then
	for f in "$root/proc/config.gz" "$root/boot/config-$release" "$root/lib/modules/$release/config"; do
		[ -r "$f" ] && config=$f && break
	done
fi
options=
if [ -n "$config" ]; then
	if ! options=$(case $config in *.gz) gzip -dc "$config" ;; *) cat "$config" ;; esac); then
		echo "check-host.sh: cannot read $config" >&2
		exit 2
	fi
fi
option() { # option NAME: y, m or n; ? without a config
	if [ -z "$options" ]; then echo '?'; return; fi
	v=$(printf '%s\n' "$options" | sed -n "s/^CONFIG_$1=\([ym]\)$/\1/p" | head -n 1)
	echo "${v:-n}"
}

echo "Kernel $release"
if [ -n "$options" ]; then ok "options read from ${config#"$root"}"; else note "no kernel config found: options are judged by what the kernel shows"; fi

# --- the controller ---
cgroups=$(cat "$root/proc/cgroups" 2>/dev/null)
mounts=$(cat "$root/proc/mounts" 2>/dev/null)
cmdline=" $(cat "$root/proc/cmdline" 2>/dev/null) "
# enabled CONTROLLER: 1, 0 (switched off) or nothing (not built in)
enabled() { printf '%s\n' "$cgroups" | awk -v c="$1" '$1 == c { print $4 }'; }
# mounted CONTROLLER: where its v1 hierarchy is
mounted() {
	printf '%s\n' "$mounts" | awk -v c="$1" '$3 == "cgroup" { n = split($4, o, ","); for (i = 1; i <= n; i++) if (o[i] == c) { print $2; exit } }'
}
v2=$(printf '%s\n' "$mounts" | awk '$3 == "cgroup2" { print $2; exit }')
v1=$(printf '%s\n' "$mounts" | awk '$3 == "cgroup" { print $2; exit }')
# What is mounted at /sys/fs/cgroup decides, as for Docker: a v1 hierarchy may
# stand elsewhere on a v2 host.
mode=none
if [ "$v2" = /sys/fs/cgroup ]; then mode=v2; elif [ -n "$v1" ]; then mode=v1; elif [ -n "$v2" ]; then mode=v2; fi
has2() { [ -n "$v2" ] && grep -qw "$1" "$root$v2/cgroup.controllers" 2>/dev/null; }

echo "Cgroups"
case $mode in
v1) ok "cgroup v1${v2:+, with a cgroup2 hierarchy beside it (hybrid); limits use v1}" ;;
v2) ok "cgroup v2 at $v2" ;;
none) lack "no cgroup hierarchy is mounted" "boot with an init that mounts them (systemd), or install cgroupfs-mount" ;;
esac

case $(enabled gpu) in
1) ok "the kernel has the gpu controller" ;;
0) lack "the gpu controller is switched off" "boot without cgroup_disable=gpu (see /proc/cmdline)" ;;
*)
	if [ "$(option CGROUP_GPU)" = y ]; then
		lack "this config has CONFIG_CGROUP_GPU, but the running kernel shows no gpu controller" "boot the kernel that the config belongs to"
	else
		lack "the kernel has no gpu controller (CONFIG_CGROUP_GPU)" "install a kernel built with it: make deb-kernel"
	fi
	;;
esac
if [ "$(enabled gpu)" = 1 ]; then
	at=$(mounted gpu)
	case $mode in
	v1)
		case $cmdline in
		*" cgroup_no_v1=all "* | *" cgroup_no_v1=gpu"[\ ,]*)
			lack "the kernel keeps gpu from cgroup v1" "boot without cgroup_no_v1=, or with cgroup v2 only" ;;
		*)
			if [ -z "$at" ]; then
				lack "the v1 gpu hierarchy is not mounted" "mkdir -p /sys/fs/cgroup/gpu && mount -t cgroup -o gpu gpu /sys/fs/cgroup/gpu; at boot: gpu-cgroup-v1.service (make install)"
			elif [ ! -e "$root$at/gpu.usage_in_bytes" ]; then
				lack "the hierarchy at $at is not the kernel's gpu controller (no gpu.usage_in_bytes)" "unmount it, and mount the controller: mount -t cgroup -o gpu gpu /sys/fs/cgroup/gpu"
			elif [ "$at" != /sys/fs/cgroup/gpu ]; then
				note "gpu is mounted at $at; containerd and its shim expect all hierarchies below one folder, as /sys/fs/cgroup/gpu"
			else
				ok "v1 gpu hierarchy at $at"
			fi
			;;
		esac
		;;
	v2)
		if [ -n "$at" ]; then
			lack "gpu is held by a v1 hierarchy at $at" "umount $at, and remove its mount unit"
		elif has2 gpu; then
			ok "gpu is in $v2/cgroup.controllers"
		else
			lack "gpu is not in $v2/cgroup.controllers" "in a container or VM: the host has to delegate it (cgroup.subtree_control of the parent)"
		fi
		;;
	esac
fi

# --- cards ---
echo "GPU"
case $(option DRM) in n) lack "the kernel has no DRM (CONFIG_DRM)" "build it with CONFIG_DRM and the driver of the card" ;; esac
outside="is a module from outside the kernel's tree"
# says NODE DRIVER WORDS: what the kernel says in gpu.devices
says() {
	keeps=
	case " $3 " in *" memory "*) keeps=m ;; esac
	case " $3 " in *" priority "*) keeps=${keeps}p ;; esac
	case " $3 $keeps " in
	*" out-of-tree "*)
		case $2 in
		nvidia*) note "$1: $2 is not in the kernel's tree: its memory is not charged, nouveau's is" ;;
		*) note "$1: $2 $outside: it keeps no limit, and Docker refuses GPU limits with it" ;;
		esac ;;
	*" mp ") ok "$1: $2 keeps --gpu-memory and --gpu-priority" ;;
	*" m ") ok "$1: $2 keeps --gpu-memory; --gpu-priority is refused with it" ;;
	*" p ") ok "$1: $2 keeps --gpu-priority; --gpu-memory is refused with it" ;;
	*) note "$1: $2 keeps no limit, and Docker refuses GPU limits with it" ;;
	esac
}
# guess NODE: its driver, when the kernel does not say what that keeps
guess() {
	link=$(readlink "$root/sys/class/drm/${1##*/}/device/driver" 2>/dev/null || echo unknown)
	driver=${link##*/}
	link=$(readlink "$root/sys/class/drm/${1##*/}/device/driver/module" 2>/dev/null || echo "$driver")
	case $driver$(cat "$root/sys/module/${link##*/}/taint" 2>/dev/null) in
	nvidia*) note "$1: $driver is not in the kernel's tree: its memory is not charged, nouveau's is" ;;
	"$driver"*O*) note "$1: $driver $outside: it would not be limited" ;;
	*) note "$1: $driver; a kernel that has gpu.devices says what it keeps" ;;
	esac
}
nodes=0
devices=
if [ "$(enabled gpu)" = 1 ]; then
	case $mode in
	v1) [ ! -e "$root$at/gpu.usage_in_bytes" ] || devices=$at/gpu.devices ;;
	v2) ! has2 gpu || devices=$v2/gpu.devices ;;
	esac
fi
if [ -n "$devices" ] && [ ! -e "$root$devices" ]; then
	note "the kernel does not say which GPUs keep a limit (no $devices): Docker goes by the name of the driver; a kernel of this version says it (make deb-kernel)"
	devices=
fi
if [ -n "$devices" ]; then
	# The read sees the end of the file in this shell: a pipe would count elsewhere.
	while read -r number driver _ words; do
		case $number in
		226:*)
			minor=${number#*:}
			if [ "$minor" -lt 128 ]; then node=/dev/dri/card$minor; else node=/dev/dri/renderD$minor; fi ;;
		*) node=/dev/$driver ;;
		esac
		nodes=$((nodes + 1))
		says "$node" "$driver" "$words"
	done <"$root$devices"
else
	for d in "$root"/dev/dri/card* "$root"/dev/dri/renderD*; do
		[ -e "$d" ] || continue
		nodes=$((nodes + 1))
		guess "${d#"$root"}"
	done
fi
# Its cards may have no node of DRM at all, so nothing above names it.
if [ -e "$root/dev/nvidiactl" ]; then
	note "/dev/nvidia*: NVIDIA's own driver $outside: the gpu controller keeps no limit there"
fi
[ "$nodes" -gt 0 ] || note "no /dev/dri: limits can be set, but there is no card to use; load the card's driver (modprobe vgem for a test)"
case $(option CGROUP_GPU)$(option DRM_SCHED) in
yn) note "CONFIG_DRM_SCHED is not set: no driver has a queue of the DRM scheduler, so --gpu-priority is stored, but shares nothing out" ;;
esac

# --- programs ---
echo "Programs"
program() { command -v "$1" 2>/dev/null; }
if [ -z "$(program dockerd)" ]; then
	lack "no dockerd in PATH" "make install, or apt-get install the packages of make dist"
else
	v=$(dockerd --version 2>/dev/null)
	case $v in
	*+gpu*) ok "$(program dockerd): $v" ;;
	*) lack "$(program dockerd) is not ours: $v" "make install, then systemctl restart docker" ;;
	esac
fi
# What is set for dockerd, if it is no list or folder of settings.
configured() { sed -n "s/.*\"$1\"[[:space:]]*:[[:space:]]*\"\([^\"]*\)\".*/\1/p" "$root/etc/docker/daemon.json" 2>/dev/null | head -n 1; }
# A graph driver is a Go package of the program, whose function names stay in it.
has_driver() { [ -n "$(program dockerd)" ] && grep -q "graphdriver/$1\.Init" "$(program dockerd)"; }
data=$(configured data-root)
data=${data:-/var/lib/docker}
for driver in btrfs zfs overlay2 fuse-overlayfs vfs overlay aufs devicemapper; do
	# The folder of a driver that was never used is empty.
	used=
	for f in "$root$data/$driver"/*; do [ -e "$f" ] && used=1 && break; done
	[ "$(configured storage-driver)" != "$driver" ] || used=1
	if [ -z "$used" ] || [ -z "$(program dockerd)" ]; then
		:
	elif has_driver "$driver"; then
		ok "dockerd has the storage driver $driver, with which $data was made"
	else
		lack "dockerd has no storage driver $driver, with which $data was made: it will not start" "make the images and containers anew with another one (docker save, docker commit and docker load; \"storage-driver\" in daemon.json), or keep the dockerd that is there"
	fi
done
if [ "$(configured log-driver)" = journald ]; then
	note "log driver journald: this dockerd is a static program and writes to the journal, but cannot read it (that takes the host's libsystemd); docker logs shows what was logged since, from a cache of its own; for older logs: journalctl CONTAINER_NAME=NAME"
fi
if [ -z "$(program runc)" ]; then
	lack "no runc in PATH" "make install"
elif runc features 2>/dev/null | grep -q '"io.github.gpu-cgroup.unified-v1": *"[^"]*gpu.memory.max'; then
	ok "$(program runc) takes GPU limits on cgroup v1 and v2"
elif [ "$mode" = v2 ]; then
	note "$(program runc) is a stock runc: enough on cgroup v2"
else
	lack "$(program runc) takes no GPU limits on cgroup v1" "make install"
fi
[ -n "$(program containerd)" ] || lack "no containerd in PATH" "make install, or apt-get install containerd"
case $(docker --version 2>/dev/null) in
*+gpu*) ok "$(program docker) has the flags" ;;
*) note "the docker command in PATH has no --gpu-memory; API clients work all the same" ;;
esac

# --- what will work ---
all() { # all OPTION...: no option is known to be missing
	for o in "$@"; do [ "$(option "$o")" != n ] || { missing=CONFIG_$o; return 1; }; done
}
controller() { # controller V1-NAME V2-NAME
	case $mode in
	v1) missing="the v1 hierarchy $1"; [ -n "$(mounted "$1")" ] ;;
	v2) missing="the controller $2"; [ -n "$2" ] && has2 "$2" ;;
	*) missing=cgroups; false ;;
	esac
}
echo "What will work"
works() { printf '  yes    %s\n' "$1"; }
fails() { printf '  no     %s: %s\n' "$1" "$2"; }
if [ $lacks -eq 0 ]; then works "--gpu-memory, --gpu-priority"; else fails "--gpu-memory, --gpu-priority" "see LACKS above; Docker refuses them"; fi
if controller memory memory && all MEMCG; then works "--memory"; else fails "--memory" "$missing"; fi
if controller blkio io && all BLK_CGROUP BLK_DEV_THROTTLING; then
	works "--blkio-read-limit, --device-read-bps and the like"
else
	fails "--blkio-read-limit, --device-read-bps and the like" "$missing"
fi
# What dockerd itself tries out before it takes one of these (docker info shows it).
rates="--net-egress-rate, --net-ingress-rate"
if all NET_SCHED NET_SCH_TBF IFB NF_TABLES NF_TABLES_NETDEV NFT_FWD_NETDEV ||
	{ ! all NF_TABLES && all NET_SCHED NET_SCH_TBF IFB NET_SCH_INGRESS NET_CLS_BPF NET_CLS_U32 NET_ACT_MIRRED; }; then works "$rates"; else fails "$rates" "$missing"; fi
pps="--net-egress-pps, --net-ingress-pps"
if all NF_TABLES NF_TABLES_NETDEV NETFILTER_EGRESS NFT_LIMIT; then works "$pps"; else fails "$pps" "$missing"; fi
class="--net-classid, --net-prio on bridge networks"
if all NF_TABLES NF_TABLES_INET NF_TABLES_BRIDGE NF_TABLES_NETDEV NFT_REJECT_NETDEV ||
	{ ! all NF_TABLES && all NET_SCH_INGRESS NET_CLS_BPF IP_NF_MANGLE NETFILTER_XT_TARGET_CLASSIFY; }; then works "$class"; else fails "$class" "$missing"; fi
if [ "$mode" = v2 ]; then
	class="--net-classid, --net-prio with --network=host"
	if all BPF_SYSCALL CGROUP_BPF; then works "$class"; else fails "$class" "$missing"; fi
else
	for pair in net_cls:--net-classid net_prio:--net-prio; do
		class="${pair#*:} with --network=host"
		if controller "${pair%%:*}" ""; then works "$class"; else fails "$class" "$missing"; fi
	done
fi
if [ $lacks -gt 0 ]; then
	echo "GPU limits will NOT work: $lacks thing(s) missing"
	exit 1
fi
echo "GPU limits will work"
