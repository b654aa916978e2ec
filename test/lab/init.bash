# PID 1 of a test host: gives it what it must not share with the machine, then
# reaps what is left behind by others. usage: bash init.bash DIR NAME
set -euo pipefail
dir=$1 name=$2

mount --make-rprivate /
mount -t proc -o nosuid,nodev,noexec proc /proc
mount --bind "$dir/run" /run
mount --bind "$dir/boot_id" /proc/sys/kernel/random/boot_id
if [[ -d /etc/dvol ]]; then
	mount --bind "$dir/empty" /etc/dvol
fi
mount --make-rshared / # as systemd does
echo "$name" >/proc/sys/kernel/hostname
ip link set lo up
echo ready

# Nothing is ever written to standard input; its end means that the lab is gone.
while read -r _; do :; done
