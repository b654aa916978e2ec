#!/usr/bin/env bash
# What a host's key runs on the storage server, whatever the host asks for: a
# session of SFTP. It has the key's file open, and locked, for as long as it
# lives: who has the lock alone knows that no session is left.
#
# usage: session HOST
set -euo pipefail
cd /etc/ssh

exec 9<"keys/$1"
flock --shared 9
[[ -e keys/$1 ]] # it may have been taken away while this waited
exec /usr/lib/openssh/sftp-server -u 0
