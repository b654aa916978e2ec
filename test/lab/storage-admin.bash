#!/usr/bin/env bash
# What the administrator's key runs on the storage server. "fence HOST" takes
# the host's key away, kills its sessions and exits with 0 once none is left: no
# write of the host can reach the storage then. "unfence HOST" gives the key
# back, unless a fence had a greater number.
#
# usage: SSH_ORIGINAL_COMMAND="fence|unfence HOST [NUMBER]" admin
set -euo pipefail
cd /etc/ssh

# fence HOST [NUMBER]
fence() {
	if ((${2:-0} > $(latest "$1"))); then
		echo "$2" >"numbers/$1"
	fi
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

# unfence HOST [NUMBER]
unfence() {
	if [[ -n ${2-} ]] && (($2 < $(latest "$1"))); then
		return 0
	fi
	[[ ! -e fenced/$1 ]] || mv "fenced/$1" "keys/$1"
	rm -f "numbers/$1"
	[[ -e keys/$1 ]]
}

# latest HOST prints the greatest number that the host was fenced with.
latest() {
	cat "numbers/$1" 2>/dev/null || echo 0
}

listener=$(</run/sshd.pid)
exec 8<keys
flock 8 # one at a time

read -r action host number <<<"$SSH_ORIGINAL_COMMAND"
if [[ ! $action =~ ^(fence|unfence)$ || ! $host =~ ^h[1-9]$ || ! $number =~ ^([1-9][0-9]{0,17})?$ ]]; then
	echo "not fence or unfence, a host and a number: $SSH_ORIGINAL_COMMAND" >&2
	exit 2
fi
"$action" "$host" "$number"
