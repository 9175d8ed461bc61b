#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs in the test machine (make demo): starts containerd and dockerd as anyone
# would, shows that the kernel holds what docker run was told, and that it means
# it. Every command is printed as it is run. The exit code is 0 only if
# everything was as promised.
set -u

broken=0

say() { printf '\n# %s\n' "$*"; }

wrong() {
	printf 'WRONG: %s\n' "$*"
	broken=1
}

# run COMMAND... : print it, then do it.
run() {
	printf '$ %s\n' "$*"
	"$@"
}

# want TEXT COMMAND... : run it and compare what it prints.
want() {
	wanted=$1
	shift
	got=$(run "$@" 2>&1)
	printf '%s\n' "$got"
	[ "$(printf '%s\n' "$got" | tail -n 1)" = "$wanted" ] || wrong "not '$wanted'"
}

# wait_for SECONDS COMMAND...
wait_for() {
	left=$1
	shift
	until "$@" >/dev/null 2>&1; do
		left=$((left - 1))
		[ $left -gt 0 ] || return 1
		sleep 1
	done
}

give_up() {
	wrong "$1"
	tail -n 30 /var/log/containerd.log /var/log/dockerd.log
	exit 1
}

# gpu_dir CONTAINER : its folder in the hierarchy that has the gpu controller.
gpu_dir() {
	pid=$(docker inspect --format '{{.State.Pid}}' "$1")
	v1=$(sed -n 's/^[0-9]*:gpu://p' "/proc/$pid/cgroup")
	v2=$(sed -n 's/^0:://p' "/proc/$pid/cgroup")
	if [ -n "$v1" ]; then
		echo "/sys/fs/cgroup/gpu$v1"
	else
		echo "/sys/fs/cgroup$v2"
	fi
}

say "A machine with the patched kernel: $(uname -sr), cgroup $([ -e /sys/fs/cgroup/cgroup.controllers ] && echo v2 || echo v1)"
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
	memory=gpu.memory.max
else
	memory=gpu.max_mem_in_bytes
fi
run grep gpu /proc/cgroups
run ls -l /dev/dri

printf '$ containerd & dockerd &\n'
containerd >/var/log/containerd.log 2>&1 &
wait_for 120 test -S /run/containerd/containerd.sock || give_up "containerd did not start"
dockerd --containerd=/run/containerd/containerd.sock >/var/log/dockerd.log 2>&1 &
wait_for 240 test -S /var/run/docker.sock || give_up "dockerd did not start"
wait_for 60 docker version || give_up "dockerd does not answer"
printf '(after %s seconds)\n' "$(cut -d. -f1 /proc/uptime)"

mkdir -p /tmp/rootfs/bin /tmp/rootfs/dev /tmp/rootfs/proc /tmp/rootfs/sys
cp /bin/busybox /usr/local/bin/gem /tmp/rootfs/bin/
for applet in $(busybox --list); do
	[ "$applet" = busybox ] || ln -s busybox "/tmp/rootfs/bin/$applet"
done
printf '$ tar -c -C /tmp/rootfs . | docker import -c "ENV PATH=/bin" -c "STOPSIGNAL SIGKILL" - busybox\n'
tar -c -C /tmp/rootfs . | docker import -c "ENV PATH=/bin" -c "STOPSIGNAL SIGKILL" - busybox >/dev/null || give_up "no image"

if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
	devices=/sys/fs/cgroup/gpu.devices
else
	devices=/sys/fs/cgroup/gpu/gpu.devices
fi
printf '$ cat %s\n' "$devices"
cat "$devices" || wrong "the kernel does not say which GPUs keep a limit"
grep -q '^226:128 .* memory priority\( \|$\)' "$devices" || wrong "/dev/dri/renderD128 does not keep both limits"

say "1. Both limits, and the files the kernel shows"
run docker run -d --name=both --device=/dev/dri/renderD128 --gpu-priority=50 --gpu-memory=10240 busybox sleep 600 || wrong "docker run failed"
printf '(first container after %s seconds)\n' "$(cut -d. -f1 /proc/uptime)"
dir=$(gpu_dir both)
printf '$ ls %s/gpu.*\n' "$dir"
(cd "$dir" && ls gpu.*) || wrong "no such files"
want 50 cat "$dir/gpu.priority"
want 10240 cat "$dir/$memory"
want "50 10240" docker inspect --format '{{.HostConfig.GPUPriority}} {{.HostConfig.GPUMemory}}' both

say "2. The memory limit is a limit: 8 MiB, buffers of 1 MiB on the same device"
run docker run -d --name=mem --device=/dev/dri/renderD128 --gpu-memory=8m busybox sleep 600 || wrong "docker run failed"
want "allocated 8 of 8" docker exec mem gem alloc --size=1m --count=8
want "allocated 8 of 9: ENOMEM" docker exec mem gem alloc --size=1m --count=9

say "3. The same after stop and start"
run docker stop mem both
run docker start mem both || wrong "docker start failed"
want 8388608 cat "$(gpu_dir mem)/$memory"
want "allocated 8 of 9: ENOMEM" docker exec mem gem alloc --size=1m --count=9
want 50 cat "$(gpu_dir both)/gpu.priority"
want 10240 cat "$(gpu_dir both)/$memory"

say "4. A container without the flags has no limit"
run docker run -d --name=free --device=/dev/dri/renderD128 busybox sleep 600 || wrong "docker run failed"
want 0 cat "$(gpu_dir free)/gpu.priority"
want "allocated 20 of 20" docker exec free gem alloc --size=1m --count=20

if [ $broken -ne 0 ]; then
	printf '\nNot everything was as promised: look for WRONG above.\n'
	exit 1
fi
printf '\nAll as promised.\n'
