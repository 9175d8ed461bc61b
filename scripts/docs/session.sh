#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs in the test machine for make docs-cli: prints the sessions of docs/cli.md,
# each after a line "=== NAME". A command that does not exit as expected ends it.
set -u

die() { echo "session.sh: $*" >&2; tail -n 20 /var/log/dockerd.log >&2; exit 1; }

# ok COMMAND... and no COMMAND...: show it, run it, want success or failure.
show() {
	line=
	for word in "$@"; do
		case $word in *[\ \{\'\$\*]*) word="'$word'" ;; esac
		line="$line $word"
	done
	printf '$%s\n' "$line"
}
ok() { show "$@"; "$@" 2>&1 || die "failed: $*"; }
no() { show "$@"; "$@" 2>&1 && die "not refused: $*"; true; }
part() { printf '\n=== %s\n' "$1"; }
wait_for() {
	left=$1
	shift
	until "$@" >/dev/null 2>&1; do
		left=$((left - 1))
		[ $left -gt 0 ] || die "waited in vain for $*"
		sleep 1
	done
}
group() { echo "/sys/fs/cgroup/gpu/docker/$(docker inspect --format '{{.Id}}' "$1")"; }

containerd >/var/log/containerd.log 2>&1 &
wait_for 120 test -S /run/containerd/containerd.sock
dockerd --containerd=/run/containerd/containerd.sock --add-runtime=stock=/usr/local/bin/runc-stock >/var/log/dockerd.log 2>&1 &
wait_for 240 docker version
mkdir -p /tmp/rootfs/bin /tmp/rootfs/dev /tmp/rootfs/proc /tmp/rootfs/sys
cp /bin/busybox /usr/local/bin/gem /tmp/rootfs/bin/
for applet in $(busybox --list); do
	[ "$applet" = busybox ] || ln -s busybox "/tmp/rootfs/bin/$applet"
done
tar -c -C /tmp/rootfs . | docker import -c "ENV PATH=/bin" -c "STOPSIGNAL SIGKILL" - busybox >/dev/null || die "no image"

part run
ok docker run -d --name=web --device=/dev/dri/renderD128 --gpu-priority=50 --gpu-memory=8m busybox sleep 3600
ok docker inspect --format '{{.HostConfig.GPUPriority}} {{.HostConfig.GPUMemory}}' web
cd "$(group web)" || die "no cgroup"
printf '$ cd /sys/fs/cgroup/gpu/docker/CONTAINER-ID\n'
ok grep . gpu.priority gpu.max_mem_in_bytes gpu.usage_in_bytes
cd /

part enforced
ok docker exec web gem alloc --size=1m --count=8
no docker exec web gem alloc --size=1m --count=9

part refused
no docker run --gpu-memory=0 busybox true
no docker run --gpu-priority=2000 busybox true
no docker run --runtime=stock --gpu-memory=8m busybox true
no docker run --net-egress-rate=7 busybox true
no docker run --net-classid=10000:1 busybox true

part warned
ok docker create --name=small --gpu-memory=10240 busybox true

part update
ok docker update --gpu-memory=16m web
ok docker exec web gem alloc --size=1m --count=9
ok docker update --gpu-memory=-1 web
ok cat "$(group web)/gpu.max_mem_in_bytes"

part modresources
ok docker run -d --name=db busybox sleep 3600
ok docker modresources --gpu-memory=4g --pids-limit=100 web db
ok docker modresources --dry-run --gpu-priority=-200 web db
ok docker modresources --format '{{.Container}} {{.Resource}}: {{.Old}} -> {{.New}}' --gpu-priority=-200 --container=web db
no docker modresources --gpu-memory=1g web nobody
ok docker inspect --format '{{.Name}} {{.HostConfig.GPUMemory}}' web db
no docker modresources --quiet --partial --gpu-memory=1g web nobody

part file
ok docker modresources --show web
printf '$ cat limits.yaml\n'
printf 'GPUMemory: 512m\nGPUPriority: 10\n' | tee /tmp/limits.yaml
cd /tmp || die "no /tmp"
ok docker modresources --resources-file=limits.yaml --gpu-priority=20 db
cd /

part disks
ok docker run -d --name=files --blkio-read-limit=10m --blkio-write-limit=10m busybox sleep 3600
ok docker modresources --blkio-read-limit=20m --blkio-write-limit=-1 files
ok docker inspect --format '{{json .BlkioLimitDisks}}' files

part network
ok docker run -d --name=client --net-egress-rate=20mbit --net-ingress-rate=100mbit --net-classid=10:1 busybox sleep 3600
ok docker modresources --net-egress-rate=5mbit --net-classid=0 client

part seen
ok docker stats --no-stream --format 'table {{.Name}}\t{{.GPUMemUsage}}\t{{.GPUMemPerc}}\t{{.GPUPriority}}' web db
printf '$ docker info\n...\n'
docker info 2>/dev/null | awk '/^ Resource Limits:/ { print; on = 1; next } on && /^  / { print; n++; next } { on = 0 } END { exit !n }' || die "no limits in info"
echo ...

part inside
ok docker exec web sh -c 'cat /sys/fs/cgroup/gpu/gpu.max_mem_in_bytes; echo 1 > /sys/fs/cgroup/gpu/gpu.max_mem_in_bytes || true'
echo
echo "=== end"
