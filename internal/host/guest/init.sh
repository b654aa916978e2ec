#!/bin/sh
# PID 1 of a User-Mode Linux guest whose root is the machine's own, read-only: runs a command and writes what it says,
# then its exit status, to files in a directory of the machine's, /mnt. usage: as init=, with DVOLD_GUEST_DIR, DVOLD_GUEST_MODULES (with commas
# between) and how many pids are left out, DVOLD_GUEST_PIDS, after -- the command
set -u
for argument; do # the kernel adds one
    shift
    [ "$argument" = console=tty0 ] || set -- "$@" "$argument"
done
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t hostfs -o "$DVOLD_GUEST_DIR" none /mnt
# A sign of life. (The machine does not see that a file was touched that is there already.)
while :; do
    : >/mnt/pulse
    sleep 5
done </dev/null >/dev/null 2>&1 &
export DVOLD_GUEST_PULSE=$!
{
    # There are no other modules: each mount of NFS would start modprobe twice, and each device a program that is not there.
    echo >/proc/sys/kernel/modprobe
    echo >/sys/kernel/uevent_helper
    mount -t tmpfs tmpfs /tmp
    mount -t tmpfs tmpfs /run
    ip link set lo up
    kernel=/usr/lib/uml/modules/$(uname -r)/kernel
    for module in $(echo "$DVOLD_GUEST_MODULES" | tr , ' '); do
        busybox insmod "$kernel/$module.ko"
    done
    # Processes of two guests that start at once would have the same pids, and so, with the clock's ticks, what the kernel
    # marks a file by that it creates on NFS: the server would take the second for the first once more (RFC 8881, 18.16.3).
    for _ in $(seq "${DVOLD_GUEST_PIDS:-0}"); do (:); done
    cd /tmp && "$@"
    echo $? >/mnt/status
} >/mnt/output 2>&1 </dev/null
echo o >/proc/sysrq-trigger
sleep 60 # a pid 1 that ends is a panic
