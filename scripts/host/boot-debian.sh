#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Boots the Debian of make debian-root, with systemd as init and the patched
# kernel, after make install into it: the units come up by themselves, a
# container gets its limit, uninstall takes everything away.
#
#   boot-debian.sh v1|v2
#
# Needs .build/kernel/bzImage. The console is .build/boot-debian-MODE.log; the
# exit code is 0 only if everything was as promised.
set -euo pipefail
cd "$(dirname "$0")/../.."
mode=${1:?v1 or v2}
case $mode in
v1) append="systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1" ;;
v2) append="systemd.unified_cgroup_hierarchy=1" ;;
*) echo "usage: boot-debian.sh v1|v2" >&2; exit 2 ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -a .build/debian "$work/root"
root=$work/root
MAN='' DESTDIR=$root scripts/host/install.sh install
mkdir -p "$root/opt/gpu-cgroup"
cp -r scripts/host/. "$root/opt/gpu-cgroup/"
cp "$(command -v busybox)" "$root/opt/busybox"
cat > "$root/opt/proof" <<'EOF2'
#!/bin/bash
# Runs as a service at the end of the boot.
exec > /dev/ttyS1 2>&1
fail() { echo "not ok - $*"; systemctl --no-pager --failed; journalctl -b --no-pager -u docker -u containerd -u gpu-cgroup-v1 | tail -n 40; echo "proof: 1"; sleep 1; systemctl poweroff -ff; exit 1; }
for ((i = 0; i < 240; i++)); do docker version >/dev/null 2>&1 && break; sleep 1; done
docker version --format '{{.Server.Version}}' || fail "dockerd did not come up"
systemctl is-active docker.service containerd.service || fail "units are not active"
[ "$(systemctl show -p MainPID --value docker)" -gt 0 ] || fail "no main process"
gpu-cgroup-check || fail "the host check finds something missing"
mkdir -p /tmp/r/bin; cp /opt/busybox /tmp/r/bin/busybox; ln -s busybox /tmp/r/bin/sleep
tar -c -C /tmp/r . | docker import - busybox >/dev/null || fail "no image"
docker run -d --network=none --name=box --gpu-memory=10240 --gpu-priority=50 busybox /bin/sleep 600 || fail "docker run"
pid=$(docker inspect --format '{{.State.Pid}}' box)
path=$(sed -n 's/^[0-9]*:gpu:/\/sys\/fs\/cgroup\/gpu/p' /proc/$pid/cgroup)
[ -n "$path" ] || path=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/$pid/cgroup)
max=$path/gpu.memory.max
[ -e "$max" ] || max=$path/gpu.max_mem_in_bytes
cat "$max"
[ "$(cat "$max")" = 10240 ] && [ "$(cat "$path/gpu.priority")" = 50 ] || fail "the kernel's files"
docker update --gpu-memory=20480 box || fail "update"
docker rm -f box >/dev/null
systemctl stop docker containerd || fail "stop"
/opt/gpu-cgroup/install.sh uninstall || fail "uninstall"
[ ! -e /usr/local/bin/dockerd ] && ! systemctl cat docker.service >/dev/null 2>&1 || fail "something is left"
echo "ok - installed, booted, limited, updated and uninstalled under systemd"
echo "proof: 0"
sleep 1
systemctl poweroff -ff
EOF2
chmod 755 "$root/opt/proof"
cat > "$root/etc/systemd/system/proof.service" <<'EOF2'
[Unit]
After=docker.service
[Service]
ExecStart=/opt/proof
[Install]
WantedBy=multi-user.target
EOF2
ln -s ../proof.service "$root/etc/systemd/system/multi-user.target.wants/proof.service"
ln -sf /dev/null "$root/etc/systemd/system/serial-getty@ttyS1.service"
truncate -s 3G "$work/disk"
mke2fs -q -t ext4 -d "$root" "$work/disk"
rm -rf "$root"
timeout "${LIMIT:-900}" qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot \
	-machine q35 -accel "${ACCEL:-tcg}" -cpu max -smp 2 -m 2048 \
	-kernel .build/kernel/bzImage -append "root=/dev/vda rw console=ttyS0 panic=-1 random.trust_cpu=on systemd.default_timeout_start_sec=600 systemd.show_status=0 systemd.journald.forward_to_console=1 systemd.journald.max_level_console=info $append" \
	-drive "file=$work/disk,if=none,id=root,format=raw" -device virtio-blk-pci,drive=root -device virtio-rng-pci \
	-serial "file:.build/boot-debian-$mode.log" -serial stdio -monitor none </dev/null | tr -d '\r' | tee "$work/out" || true
grep -qx 'proof: 0' "$work/out" || { tail -n 20 ".build/boot-debian-$mode.log" >&2; exit 1; }
