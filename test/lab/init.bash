# PID 1 of a machine: gives it what it must not share with this one, then reaps
# what is left behind by others. usage: bash init.bash DIR NAME
set -euo pipefail
dir=$1 name=$2

mount --make-rprivate /

# What others have mounted in /tmp, for tests of theirs, is to stay theirs alone.
foreign=()
while read -r _ _ _ _ at _; do
	printf -v at %b "$at" # it has \040 for a space
	if [[ $at == /tmp/* && $dir/ != "$at"/* ]]; then
		foreign=("$at" "${foreign[@]}")
	fi
done </proc/self/mountinfo
if [[ ${#foreign[@]} -gt 0 ]]; then # without a look at them: they may hang
	umount --lazy --no-canonicalize "${foreign[@]}" 2>/dev/null || true # some are gone by now, with their directories
fi

# A root of its own, with all that is in this machine's, so that there is room
# for a directory that this machine has not. Few commands, for there may be many
# machines: the mounts are made from a list.
root=$dir/root
mount -t tmpfs -o mode=0755 tmpfs "$root"
made=(/.before /.etc) links=() mounts=("/etc /.etc none bind")
for entry in /*; do
	[[ -d $entry && ! -L $entry ]] && made+=("$entry")
	case $entry in
	/proc) mounts+=("proc $entry proc nosuid,nodev,noexec") ;;
	/run) mounts+=("$dir$entry $entry none bind") ;;
	/etc) ;; # comes below
	*)
		if [[ -L $entry ]]; then
			links+=("$entry")
		elif [[ -d $entry ]]; then
			mounts+=("${entry// /\\040} ${entry// /\\040} none rbind")
		fi
		;;
	esac
done
if [[ -d $dir/../shared ]]; then
	made+=(/shared)
	mounts+=("$dir/../shared /shared none bind")
fi
if [[ -e $dir/etc/lab/ssh_config ]]; then
	made+=(/dfs) # for the storage
fi
if [[ -e $dir/mounts ]]; then
	mapfile -t -O "${#mounts[@]}" mounts <"$dir/mounts"
fi
mounts+=("$dir/boot_id /proc/sys/kernel/random/boot_id none bind")
# What is written there would reach the kernel that all machines share. Without
# it reboot(2) ends the machine, for it is of a PID namespace.
if [[ -e /proc/sysrq-trigger ]]; then
	mounts+=("$dir/boot_id /proc/sysrq-trigger none bind,ro")
fi
mkdir "${made[@]/#/$root}"
cp -a "${links[@]}" "$root"
# Nobody is to write to it while the storage isn't mounted.
[[ ! -d $root/dfs ]] || chattr +i "$root/dfs" || true
# Its /etc is this machine's, but for what its disk has in etc.
etc=(/etc/*)
ln -s "${etc[@]/#"/etc/"/"/.etc/"}" "$root/etc"
ln -sfn "$dir"/etc/* "$root/etc"
printf "%s\n" "${mounts[@]}" | sed "s: /: $root/:" >"$dir/fstab"
mount --all --fstab "$dir/fstab"

cd "$root"
pivot_root . .before
cd /
umount -l /.before
rmdir /.before
umount -l "$root" # which came along with the directory that it's in

mount --make-rshared / # as systemd does
echo "$name" >/proc/sys/kernel/hostname
ip link set lo up
trap exit PWR # which ends everything in here at once, as a power cut does
echo ready

# Nothing is ever written to standard input; its end means that the lab is gone.
while read -r _; do :; done
