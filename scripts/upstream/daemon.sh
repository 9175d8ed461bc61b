#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs a command beside a dockerd that has a machine of its own: network, mounts,
# processes, and all of /run, /var/lib/docker and /docker-frozen-images.
#
#   daemon.sh ours|stock COMMAND [ARG...]
#
# PATH has our programs or upstream's of the same version under their usual
# names, DOCKER_HOST the socket. The images that upstream's tests expect are
# made of busybox-static. Everything ends with the command; the end of dockerd's
# log is shown if it did not come up.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
if [ "${INSIDE:-}" = "" ]; then
	which=$1
	shift
	work=$(mktemp -d /tmp/gpucg-up.XXXXXX)
	bin=${GPU_CGROUP_BIN:-$root/.build/bin}
	mkdir "$work"/{bin,run,docker,dest,frozen,tmp}
	for p in containerd containerd-shim-runc-v2 ctr docker-init docker-proxy docker dockerd runc; do
		[ ! -e "$bin/$p" ] || ln -s "$bin/$p" "$work/bin/$p"
	done
	if [ "$which" = stock ]; then
		for p in docker dockerd runc; do
			ln -sf "$bin/$p-stock" "$work/bin/$p"
		done
	fi
	# The tests look for the images here and nowhere else.
	made=()
	for d in /docker-frozen-images /var/lib/docker; do
		[ -d $d ] || { mkdir -p $d && made=("$d" "${made[@]}"); }
	done
	# shellcheck disable=SC2317 # trap calls it
	clean() {
		find /sys/fs/cgroup -mindepth 1 -maxdepth 3 -type d -path '*/docker*' -depth -exec rmdir {} + 2>/dev/null || true
		[ ${#made[@]} -eq 0 ] || rmdir "${made[@]}" || true
		rm -rf "$work"
	}
	trap clean EXIT
	INSIDE=$work unshare --mount --net --uts --ipc --pid --fork --kill-child --mount-proc "$0" "$@"
	exit
fi

work=$INSIDE
unset INSIDE
mount --make-rprivate /
mount --bind "$work/run" /run
mount --bind "$work/docker" /var/lib/docker
mount --bind "$work/frozen" /docker-frozen-images
ip link set lo up
hostname gpucg-upstream
export PATH=$work/bin:$PATH DOCKER_HOST=unix:///run/docker.sock DEST=$work/dest DOCKER_INTEGRATION_DAEMON_DEST=$work/dest
export DOCKER_GRAPHDRIVER=overlay2 DOCKER_USERLANDPROXY=true TEST_CLIENT_BINARY=docker DOCKER_CONFIG=$work/dest/config TMPDIR=$work/tmp
mkdir -p "$DOCKER_CONFIG"
dockerd --host "$DOCKER_HOST" --pidfile "$DEST/docker.pid" --storage-driver overlay2 --debug > "$DEST/docker.log" 2>&1 &
for ((i = 0; ; i++)); do
	docker version >/dev/null 2>&1 && break
	if [ $i -ge 60 ] || ! kill -0 $! 2>/dev/null; then
		tail -n 30 "$DEST/docker.log" >&2
		exit 1
	fi
	sleep 1
done

image=$work/tmp/image
mkdir -p "$image"/{bin,dev,etc,home,proc,root,sys,usr/{bin,sbin},var}
mkdir -m 1777 "$image/tmp"
cp "$(command -v busybox)" "$image/bin/busybox"
for applet in $(busybox --list); do
	[ "$applet" = busybox ] || ln -s busybox "$image/bin/$applet"
done
ln -s /bin/env "$image/usr/bin/env"
printf 'root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nwww-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n' > "$image/etc/passwd"
printf 'root:x:0:\ndaemon:x:1:\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n' > "$image/etc/group"
printf '#!/bin/sh\necho "Hello from Docker!"\n' > "$image/hello"
printf '#!/bin/sh\nexec sh "$@"\n' > "$image/bin/bash"
chmod 755 "$image/hello" "$image/bin/bash"
env='ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
tar -c -C "$image" . > "$work/tmp/image.tar"
for name in busybox:latest busybox:glibc debian:bookworm-slim; do
	docker import -c "$env" -c 'CMD ["sh"]' "$work/tmp/image.tar" $name >/dev/null
done
docker import -c "$env" -c 'CMD ["/hello"]' "$work/tmp/image.tar" hello-world:frozen >/dev/null
docker tag hello-world:frozen hello-world:latest
docker tag hello-world:frozen hello-world:amd64
docker import --platform linux/arm64 -c "$env" -c 'CMD ["/hello"]' "$work/tmp/image.tar" hello-world:arm64 >/dev/null
docker save busybox:latest busybox:glibc debian:bookworm-slim hello-world:latest hello-world:amd64 hello-world:arm64 | tar -x -C /docker-frozen-images
docker rmi hello-world:latest >/dev/null
rm -rf "$image" "$work/tmp/image.tar"
code=0
"$@" || code=$?
if [ -n "${KEEP_LOG:-}" ]; then
	cp "$DEST/docker.log" "$KEEP_LOG"
fi
exit $code
