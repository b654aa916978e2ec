#!/usr/bin/env bash
# What the administrator's key runs on the storage server. "fence HOST" takes
# the host's key away, kills its sessions and exits with 0 once none is left: no
# write of the host can reach the storage then. "unfence HOST" gives the key
# back.
#
# usage: SSH_ORIGINAL_COMMAND="fence|unfence HOST" admin
set -euo pipefail
cd /etc/ssh

# fence HOST
fence() {
	[[ ! -e keys/$1 ]] || mv "keys/$1" "fenced/$1"
	exec 9<"fenced/$1"
	for _ in {1..100}; do
		kill_sessions "$1"
		! flock --exclusive --timeout 0.1 9 || return 0
	done
	echo "sessions of $1 do not end" >&2
	return 1
}

# kill_sessions HOST kills those who hold the file as session does, and sshd's
# processes for their connections.
kill_sessions() {
	local fd pid parent
	for fd in /proc/[0-9]*/fd/9; do
		pid=${fd#/proc/} pid=${pid%%/*}
		if [[ $pid -eq $$ || ! $fd -ef fenced/$1 ]]; then
			continue
		fi
		parent=$(sed -n 's/^PPid:\s*//p' "/proc/$pid/status") || continue
		if [[ $parent -le 1 || $parent -eq $listener ]]; then
			parent=
		fi
		# One of them may have ended.
		kill -KILL "$pid" ${parent:+"$parent"} || true
	done
}

# unfence HOST
unfence() {
	[[ ! -e fenced/$1 ]] || mv "fenced/$1" "keys/$1"
	[[ -e keys/$1 ]]
}

listener=$(</run/sshd.pid)
exec 8<keys
flock 8 # one at a time

read -r action host <<<"$SSH_ORIGINAL_COMMAND"
if [[ ! $action =~ ^(fence|unfence)$ || ! $host =~ ^h[1-9]$ ]]; then
	echo "not fence or unfence and a host: $SSH_ORIGINAL_COMMAND" >&2
	exit 2
fi
"$action" "$host"
