#!/usr/bin/env bash
# Brings up a Ceph cluster of one monitor, manager, OSD (in memory) and MDS on a host of its own, at 10.97.0.10, with cephx,
# the pools rbd, data and limited and the file system cephfs, then runs a command at 10.97.0.1. To be run by hack/world, with which all of it
# ends. In the command's environment are
#   CEPH_CLUSTER   the address of the monitor
#   CEPH_KEYRINGS  a directory with USER.keyring for the users below
#   CEPH_ADMIN     a ceph.conf with which the ceph commands are the administrator
#
# usage: cluster.bash COMMAND [ARGUMENT]...
set -euo pipefail
PATH="$PATH:/usr/sbin:/sbin"

dir=$WORLD/ceph
host=10.97.0.10

# on runs a command on the cluster's host.
on() {
    local pid
    pid=$(cat "$dir/pid")
    nsenter --target "$pid" --mount --net "$@"
}

# boot makes a machine with a cable.
boot() {
    local pid
    unshare --mount --net sleep infinity </dev/null >/dev/null 2>&1 &
    pid=$!
    echo "$pid" >"$dir/pid"
    until [ "$(readlink "/proc/$pid/ns/net")" != "$(readlink /proc/self/ns/net)" ] &&
        [ "$(readlink "/proc/$pid/exe")" = "$(readlink -f "$(command -v sleep)")" ]; do sleep 0.01; done
    ip link add ceph type veth peer name eth0 netns "$pid"
    ip link set ceph master switch up
    on ip link set lo up
    on ip addr add "$host/24" dev eth0
    on ip link set eth0 up
}

# ceph(8) takes half a second of a processor to start, and then one command after the other from its standard input. A
# machine that has much to do may take minutes.
admin=(timeout 300 ceph --conf "$dir/ceph.conf" --connect-timeout 300)

fail() {
    echo "$1" >&2
    tail -n 20 "$dir"/log/*.log >&2
    exit 1
}

# served tells whether a manager and an MDS are at work, once they are.
served() {
    while sleep 0.1; do echo status || break; done 2>/dev/null |
        PYTHONUNBUFFERED=1 "${admin[@]}" --format json 2>/dev/null |
        grep --max-count 1 --quiet '"up:active".*"available":true'
    ((PIPESTATUS[2] == 0))
}

mkdir -p "$dir"/{log,run,keyrings,mon,mgr,osd,mds} /run/ceph
ip link add switch type bridge
ip addr add 10.97.0.1/24 dev switch
ip link set switch up
boot

fsid=$(cat /proc/sys/kernel/random/uuid)
cat >"$dir/ceph.conf" <<CONF
[global]
fsid = $fsid
mon_host = $host
public_network = 10.97.0.0/24
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
keyring = $dir/admin.keyring
run_dir = $dir/run
pid_file = $dir/run/\$name.pid
admin_socket = $dir/run/\$name.\$pid.asok
log_file = $dir/log/\$name.log
log_to_stderr = false
err_to_stderr = true
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_allow_pool_delete = true
mon_warn_on_pool_no_redundancy = false
mon_data = $dir/mon
mgr_data = $dir/mgr
mds_data = $dir/mds
# Nobody needs one of them (volumes stays), or reads what a daemon notes at every step, and all of that takes much of a processor.
mgr_disabled_modules = alerts,balancer,crash,devicehealth,influx,insights,iostat,localpool,mirroring,nfs,orchestrator,osd_perf_query,osd_support,pg_autoscaler,progress,prometheus,rbd_support,restful,selftest,snap_schedule,stats,status,telegraf,telemetry,test_orchestrator,zabbix
debug_auth = 0/0
debug_bluestore = 0/0
debug_mds = 0/0
debug_mds_balancer = 0/0
debug_mds_log = 0/0
debug_mgr = 0/0
debug_mgrc = 0/0
debug_mon = 0/0
debug_monc = 0/0
debug_osd = 0/0
debug_paxos = 0/0
debug_rocksdb = 0/0
ms_async_op_threads = 1
[client]
admin_socket =
log_file =
[mds]
# What a client waits for that another's work has to be written down for: 5 s else, and the manager is such a client.
mds_tick_interval = 1
[osd]
osd_data = $dir/osd
osd_objectstore = memstore
memstore_device_bytes = 4294967296
# Else a write to an object takes as long as it has had writes.
memstore_page_set = true
osd_class_update_on_start = false
osd_client_watch_timeout = 15
# An OSD that is alone and was frozen for longer than this lease, 16 s otherwise, may leave requests waiting for good.
osd_pool_default_read_lease_ratio = 100
osd_op_num_shards = 1
osd_op_num_threads_per_shard = 2
CONF

key() { ceph-authtool "$dir/admin.keyring" --gen-key --name "$@" >/dev/null; }
ceph-authtool --create-keyring "$dir/admin.keyring" --gen-key --name mon. --cap mon 'allow *' >/dev/null
key client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mds 'allow *' --cap mgr 'allow *'
key osd.0 --cap mon 'allow profile osd' --cap osd 'allow *' --cap mgr 'allow profile osd'
key mgr.x --cap mon 'allow profile mgr' --cap osd 'allow *' --cap mds 'allow *'
key mds.a --cap mon 'allow profile mds' --cap osd 'allow rwx' --cap mds 'allow' --cap mgr 'allow profile mds'

# user NAME CAPS... makes a user and its keyring.
user() {
    local name=$1
    shift
    key "client.$name" "$@"
    cat >"$dir/keyrings/$name.keyring" <<KEYRING
[client.$name]
    key = $(ceph-authtool "$dir/admin.keyring" --print-key --name "client.$name")
KEYRING
    chmod 600 "$dir/keyrings/$name.keyring"
}
# What a host with RBD volumes may: maps images, and has other hosts' clients refused.
user host --cap mon 'profile rbd' --cap osd 'profile rbd pool=rbd, profile rbd pool=data, profile rbd pool=limited'
# What undoes that, too.
user fencer --cap mon 'allow r, allow command "osd blocklist"'
# What may look, and change nothing.
user reader --cap mon 'profile rbd-read-only' --cap osd 'profile rbd-read-only pool=rbd'
# What a host with CephFS volumes may, in the directories of its pools.
user files --cap mon 'allow r' --cap mds 'allow rwp' --cap osd 'allow rw tag cephfs data=cephfs'
# The same of one whose pools are groups of sub-volumes: it sets no quotas, and asks the manager for nothing else.
user subvolumes --cap mon 'allow r' --cap mds 'allow rw fsname=cephfs path=/volumes' --cap osd 'allow rw tag cephfs data=cephfs' \
    --cap mgr 'allow command "fs subvolume create" with vol_name=cephfs, allow command "fs subvolume resize" with vol_name=cephfs, allow command "fs subvolume rm" with vol_name=cephfs'
# What has the CephFS clients of other hosts refused, and sees that they are.
user evictor --cap mon 'allow r, allow command "osd blocklist"' --cap mds 'allow *'
cat >"$dir/keyrings/wrong.keyring" <<KEYRING
[client.host]
    key = $(ceph-authtool --gen-print-key)
KEYRING

monmaptool --create --clobber --add a "$host:6789" --enable-all-features --fsid "$fsid" "$dir/monmap" >/dev/null
monmaptool --rm a "$dir/monmap" >/dev/null
monmaptool --addv a "[v2:$host:3300,v1:$host:6789]" "$dir/monmap" >/dev/null

# start DAEMON ARGUMENT... starts one in the background of the world.
start() {
    local daemon=$1
    shift
    on "$daemon" --conf "$dir/ceph.conf" --foreground "$@" </dev/null >>"$dir/log/$daemon.out" 2>&1 &
}

on ceph-mon --conf "$dir/ceph.conf" --mkfs --id a --monmap "$dir/monmap" --keyring "$dir/admin.keyring" >/dev/null 2>&1
start ceph-mon --id a
start ceph-mgr --id x
uuid=$(cat /proc/sys/kernel/random/uuid)
{
    echo "osd new $uuid"
    for pool in rbd data limited; do
        echo "osd pool create $pool 8 8"
        echo "osd pool application enable $pool rbd"
    done
    echo "osd pool create cephfs.meta 8 8"
    echo "osd pool create cephfs.data 8 8"
    echo "fs new cephfs cephfs.meta cephfs.data"
} | "${admin[@]}" >/dev/null 2>&1 || fail "no monitor"
start ceph-mds --id a
on ceph-osd --conf "$dir/ceph.conf" --id 0 --mkfs --osd-uuid "$uuid" >/dev/null 2>&1
start ceph-osd --id 0
served || fail "no manager or no MDS is at work"
export CEPH_CLUSTER=$host CEPH_KEYRINGS=$dir/keyrings CEPH_ADMIN=$dir/ceph.conf
"$@"
