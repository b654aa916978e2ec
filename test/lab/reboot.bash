#!/usr/bin/env bash
# Ends this machine of the lab as a power cut does, and notes when: a line with
# the seconds since the kernel's boot and the reason.
#
# usage: reboot [REASON]
set -euo pipefail
here=$(dirname "$(realpath "$0")")
disk=${here%/etc/lab}

# Only where PID 1 is this machine's, not in a container, and not outside.
case $(tr '\0' ' ' </proc/1/cmdline) in
"bash $disk/init.bash $disk "*) ;;
*)
	echo "this is not the machine whose disk is $disk" >&2
	exit 1
	;;
esac
read -r now _ </proc/uptime
echo "$now ${1-}" >>"$here/reboots"
# Or else the kernel would say good-bye for those whose connections end.
ip link set eth0 down 2>/dev/null || true # a machine alone has none
kill -PWR 1
exec sleep 60 # it does not come back
