#!/usr/bin/env bash
# gluster(8) on the first GlusterFS node that answers: what management is in the
# configuration of a pool. By ssh, for a host sees of a node no more than what
# is on the network. A node that dies with the command under way has the next one
# do it again.
#
# usage: gluster ARGUMENT...
set -euo pipefail
for node in g1 g2 g3; do
	status=0
	ssh -F /etc/lab/gluster_ssh_config "$node" < <(printf '%s\0' "$@") || status=$?
	[[ $status -eq 255 ]] || exit "$status" # which is ssh's own
done
echo "no GlusterFS node answers" >&2
exit 1
