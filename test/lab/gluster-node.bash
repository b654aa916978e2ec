#!/usr/bin/env bash
# What the hosts' key runs on a GlusterFS node, whatever they ask for: gluster(8)
# with the arguments that come on standard input, each with a NUL after it. It
# exits with 255 if another node is to be asked, for the glusterd here does not
# answer.
set -euo pipefail
mapfile -d '' -t arguments
timeout 3 gluster --mode=script pool list </dev/null >/dev/null 2>&1 || exit 255
status=0
gluster "${arguments[@]}" </dev/null || status=$?
exit $((status < 255 ? status : 1))
