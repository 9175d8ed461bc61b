#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Mounts the cgroup v1 hierarchy of the gpu controller beside the others, where
# the kernel has the controller and nobody mounted it yet. systemd does so by
# itself when it boots with cgroup v1; other inits do not. A kernel without the
# controller is no error: Docker says so when a limit is asked for.
# ROOT stands for / in tests.
set -eu
root=${ROOT:-}
top=$root/sys/fs/cgroup

grep -q "^gpu[[:space:]].*[[:space:]]1\$" "$root/proc/cgroups" || { echo "this kernel has no gpu controller"; exit 0; }
if awk '$3 == "cgroup" && ("," $4 ",") ~ /,gpu,/ { found = 1 } END { exit !found }' "$root/proc/mounts"; then
	echo "mounted already"
	exit 0
fi
if awk -v top=/sys/fs/cgroup '$2 == top && $3 == "cgroup2" { found = 1 } END { exit !found }' "$root/proc/mounts"; then
	echo "cgroup v2 alone: nothing to mount"
	exit 0
fi
if [ ! -d "$top/gpu" ] && ! mkdir "$top/gpu" 2>/dev/null; then
	# systemd leaves this tmpfs read-only.
	mount -o remount,rw "$top"
	mkdir "$top/gpu"
	mount -o remount,ro "$top"
fi
mount -t cgroup -o nosuid,nodev,noexec,gpu gpu "$top/gpu"
echo "mounted $top/gpu"
