#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Boot a kernel with nothing but busybox and a few static programs, run a shell
# script in it, and exit with the script's code.
#
#   guest.sh BZIMAGE CONSOLE SCRIPT [PROGRAM…]
#
# SCRIPT is run by busybox's sh with proc, sys, dev and debugfs mounted and the
# programs in PATH; its output comes out on stdout, what the kernel says goes to
# the file CONSOLE. Environment: APPEND (more kernel parameters), DEVICES (more
# arguments for QEMU), ACCEL (default tcg: KVM may open and yet not run), MEMORY
# (MiB, default 2048), CPUS (default 2), LIMIT (seconds, default 900), UP (seconds
# until the script has to run, default 300; then one more try: a debug kernel was
# seen to hang in its RCU self test on a loaded host). Exits with 3 if the machine
# itself failed: did not boot, died or ran out of time.
set -euo pipefail

die() { echo "guest.sh: $*" >&2; exit 3; }

[ $# -ge 3 ] || die "usage: guest.sh BZIMAGE CONSOLE SCRIPT [PROGRAM…]"
kernel=$1 console=$2 script=$3
shift 3
for f in "$kernel" "$script" "$@"; do
	[ -f "$f" ] || die "no file $f"
done
busybox=$(command -v busybox) || die "no busybox; on Debian: apt-get install busybox-static"
command -v qemu-system-x86_64 >/dev/null || die "no qemu-system-x86_64; on Debian: apt-get install qemu-system-x86"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/root"/{bin,proc,sys,dev,tmp}
cp "$busybox" "$work/root/bin/busybox"
cp "$@" "$work/root/bin/" 2>/dev/null || [ $# -eq 0 ]
cp "$script" "$work/root/script"
cat > "$work/root/init" <<'EOF'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t debugfs debug /sys/kernel/debug 2>/dev/null
exec </dev/null >/dev/ttyS1 2>&1
stty -F /dev/ttyS1 raw 2>/dev/null
echo "guest.sh: up"
sh /script
echo "guest.sh: exit $?"
sleep 1
poweroff -f
EOF
chmod 755 "$work/root/init" "$work/root/bin"/*
(cd "$work/root" && find . | cpio -o -H newc -R 0:0 --quiet | gzip -1) > "$work/initrd"

cpu=max
case ${ACCEL:-tcg} in tcg*) ;; *) cpu=host ;; esac
machine() {
	: > "$work/out"
	( # Ends with the script's first word, or ends QEMU.
		for ((i = 0; i < ${UP:-300}; i++)); do
			sleep 1
			! grep -q '^guest.sh: up' "$work/out" || exit 0
		done
		echo "guest.sh: not up in ${UP:-300} s" >&2
		kill "$(cat "$work/pid")"
	) &
	local watch=$!
	# Not tr: it keeps the first word until it has a page of them.
	# shellcheck disable=SC2086 # DEVICES is a list
	timeout -k 5 "${LIMIT:-900}" qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot \
		-machine q35 -accel "${ACCEL:-tcg}" -cpu $cpu -smp "${CPUS:-2}" -m "${MEMORY:-2048}" ${DEVICES:-} \
		-kernel "$kernel" -initrd "$work/initrd" -append "console=ttyS0 panic=-1 ${APPEND:-}" -pidfile "$work/pid" \
		-serial "file:$console" -serial stdio -monitor none </dev/null 2>"$work/qemu" |
		sed -u 's/\r//g' | tee "$work/out" | grep --line-buffered -v '^guest.sh: ' || true
	kill $watch 2>/dev/null || true
	grep -q '^guest.sh: up' "$work/out"
}
# What the first boot said is kept beside the console of the second.
rm -f "$console.first"
machine || { cp "$console" "$console.first" && machine; } || true # the exit line decides
code=$(sed -n 's/^guest.sh: exit //p' "$work/out")
if [ -z "$code" ]; then
	cat "$work/qemu" >&2
	tail -n 30 "$console" >&2
	die "the machine died, or ran longer than ${LIMIT:-900} s"
fi
exit "$code"
