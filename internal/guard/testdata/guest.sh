#!/bin/sh
# PID 1 of a User-Mode Linux guest whose root is the machine's own, read-only, and /mnt a directory of the machine's: runs
# a command that is to have the guest reboot, and notes in a file each time it boots, and that it did not. usage: as init=, with GUEST_DIR, after -- the command
set -u
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t hostfs -o "$GUEST_DIR" none /mnt
if ! [ -e /mnt/boots ]; then
    echo first >/mnt/boots
    mount -t tmpfs tmpfs /tmp
    mount -t tmpfs tmpfs /run
    "$@" >/mnt/output 2>&1 </dev/null
    sleep 20
    echo "it is still up" >>/mnt/boots
else
    echo "again" >>/mnt/boots
fi
sleep 60 # a pid 1 that ends is a panic; the test ends the guest
