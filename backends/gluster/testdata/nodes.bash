#!/usr/bin/env bash
# Brings up three GlusterFS nodes, g1 to g3 at 10.98.0.41 to 43, and gv0, a replica of three on them, and two other hosts,
# v1 and v2 at 10.98.0.51 and 52, then runs a command at 10.98.0.1, with GLUSTER_NODES set to the addresses of the nodes. To
# be run by hack/world, with which all of it ends.
#
# usage: nodes.bash COMMAND [ARGUMENT]...
#        nodes.bash boot NODE ADDRESS   makes another node, in the same world
#        nodes.bash start NODE          starts the glusterd of a node, and it the bricks, likewise
set -euo pipefail

nodes=$WORLD/nodes

# on NODE COMMAND... runs a command on a node.
on() {
    local pid
    pid=$(cat "$nodes/$1/pid")
    shift
    nsenter --target "$pid" --mount --net "$@"
}

# boot NODE ADDRESS makes a machine with a cable, and the directories of glusterd for itself.
boot() {
    local dir=$nodes/$1 pid
    mkdir -p "$dir"/{lib,log,run/gluster,brick}
    unshare --mount --net sleep infinity </dev/null >/dev/null 2>&1 &
    pid=$!
    echo "$pid" >"$dir/pid"
    until [ "$(readlink "/proc/$pid/ns/net")" != "$(readlink /proc/self/ns/net)" ] &&
        [ "$(readlink "/proc/$pid/exe")" = "$(readlink -f "$(command -v sleep)")" ]; do sleep 0.01; done
    ip link add "$1" type veth peer name eth0 netns "$pid"
    ip link set "$1" master switch up
    on "$1" ip link set lo up
    on "$1" ip addr add "$2/24" dev eth0
    on "$1" ip link set eth0 up
    ip neigh flush to "$2" # another may have been there
    on "$1" mount --make-rprivate /
    on "$1" mount --bind "$dir/run" /run
    on "$1" mount --bind "$dir/lib" /var/lib/glusterd
    on "$1" mount --bind "$dir/log" /var/log/glusterfs
}

# await WHAT COMMAND... waits until it succeeds.
await() {
    local what=$1
    shift
    for _ in {1..200}; do
        "$@" >/dev/null 2>&1 && return
        sleep 0.05
    done
    echo "no $what" >&2
    return 1
}

start() {
    on "$1" glusterd --pid-file=/run/glusterd.pid
    await "glusterd on $1" on "$1" gluster --mode=script peer status
}

# connected tells whether each node is done with taking in both others; before that, glusterd makes no volume on them.
connected() {
    local i
    for i in 1 2 3; do
        [ "$(on g$i gluster peer status | grep -c 'Peer in Cluster (Connected)')" = 2 ] || return
    done
}

case $1 in
boot | start)
    "$@"
    exit
    ;;
esac

mkdir -p /var/lib/glusterd /var/log/glusterfs
mount -t tmpfs tmpfs /var/log/glusterfs
# Without geo-replication: each gluster and glusterd starts its Python, which takes longer than most of what they do.
printf '#!/nowhere\n' >"$WORLD/gsyncd"
chmod 755 "$WORLD/gsyncd"
for program in /usr/lib*/glusterfs/gsyncd /usr/lib/*/glusterfs/gsyncd; do
    [ ! -e "$program" ] || mount --bind "$WORLD/gsyncd" "$program"
done
ip link add switch type bridge
ip addr add 10.98.0.1/24 dev switch
ip link set switch up
for i in 1 2 3; do boot g$i 10.98.0.4$i; done
for i in 1 2; do boot v$i 10.98.0.5$i; done
starting=()
for i in 1 2 3; do
    start g$i &
    starting+=($!)
done
for pid in "${starting[@]}"; do wait "$pid"; done
for i in 2 3; do on g1 gluster --mode=script peer probe 10.98.0.4$i >/dev/null; done
await "peers" connected
bricks=()
for i in 1 2 3; do bricks+=("10.98.0.4$i:$nodes/g$i/brick/gv0"); done
on g1 gluster --mode=script volume create gv0 replica 3 "${bricks[@]}" force >/dev/null
on g1 gluster --mode=script volume start gv0 >/dev/null
export GLUSTER_NODES="10.98.0.41 10.98.0.42 10.98.0.43"
"$@"
