package lab

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
)

// cephConfig is that of all machines, with the cluster's ID and the monitors. Who
// falls silent is given up soon, and nobody warns of a small cluster.
const cephConfig = `[global]
fsid = %s
mon_host = %s
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
`

// cephNodeConfig is what a node has on top, with its directory and the number of
// nodes. None of a manager's modules is for a lab: they take much of a processor. So do
// notes of what is done, which nobody reads, and threads. Monitors that look less often
// than an MDS may be silent give it up never.
const cephNodeConfig = `keyring = %[1]s/etc/ceph/ceph.keyring
public_network = 10.99.0.0/24
run_dir = /run/ceph
pid_file = /run/ceph/$name.pid
admin_socket = /run/ceph/$name.asok
log_to_stderr = true
log_file =
debug_asok = 0/0
debug_auth = 0/0
debug_bdev = 0/0
debug_bluefs = 0/0
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
debug_tp = 0/0
ms_async_op_threads = 1
mon_cluster_log_to_file = false
crash_dir = %[1]s/ceph/crash
osd_pool_default_size = %[2]d
osd_pool_default_pg_autoscale_mode = off
osd_heartbeat_interval = 1
osd_heartbeat_grace = 5
mds_beacon_interval = 1
mds_beacon_grace = 8
mgr_tick_period = 1
mgr_disabled_modules = alerts,balancer,cephadm,cli_api,crash,dashboard,devicehealth,diskprediction_local,feedback,hello,influx,insights,iostat,k8sevents,localpool,mds_autoscaler,mirroring,nfs,orchestrator,osd_perf_query,osd_support,pg_autoscaler,progress,prometheus,rbd_support,restful,rook,selftest,snap_schedule,stats,status,telegraf,telemetry,test_orchestrator,volumes,zabbix
mon_mgr_beacon_grace = 10
[mon]
mon_data = %[1]s/ceph/mon
mon_allow_pool_delete = true
mon_osd_min_down_reporters = 1
mon_data_avail_warn = 1
mon_tick_interval = 1
auth_allow_insecure_global_id_reclaim = false
[osd]
osd_data = %[1]s/ceph/osd
osd_objectstore = bluestore
bluestore_block_size = 4294967296
bluestore_cache_autotune = false
bluestore_cache_size = 67108864
osd_class_update_on_start = false
osd_op_num_shards = 1
osd_op_num_threads_per_shard = 2
[mgr]
mgr_data = %[1]s/ceph/mgr
[mds]
mds_data = %[1]s/ceph/mds
mds_cache_memory_limit = 67108864
[client]
admin_socket =
log_to_stderr = false
`

// cephKey is one that a user or a daemon is known by.
func cephKey() string {
	const aes, length = 1, 16
	var b bytes.Buffer
	for _, field := range []any{uint16(aes), uint32(0), uint32(0), uint16(length)} { // the time that it was made at is no matter
		_ = binary.Write(&b, binary.LittleEndian, field) // to memory
	}
	return base64.StdEncoding.EncodeToString(append(b.Bytes(), random(length)...))
}

// cephIdentity is a user or a daemon, with its key and what it may do.
type cephIdentity struct {
	name, key string
	caps      map[string]string
}

// keyring is a file with identities' keys, and, for who is to know, what they may.
func keyring(withCaps bool, all ...cephIdentity) string {
	var s strings.Builder
	for _, i := range all {
		fmt.Fprintf(&s, "[%s]\n\tkey = %s\n", i.name, i.key)
		if !withCaps {
			continue
		}
		for on, what := range i.caps {
			fmt.Fprintf(&s, "\tcaps %s = \"%s\"\n", on, strings.ReplaceAll(what, `"`, `\"`))
		}
	}
	return s.String()
}

// users are the hosts', each with the least that it needs.
func cephUsers() []cephIdentity {
	return []cephIdentity{
		{"client." + CephUser, cephKey(), map[string]string{
			"mon": "allow r, profile rbd",
			"osd": fmt.Sprintf("profile rbd pool=%s, allow rw tag cephfs data=%s", CephPool, CephFileSystem),
			"mds": "allow rwp",
		}},
		{"client." + CephFencer, cephKey(), map[string]string{"mon": `allow r, allow command "osd blocklist"`, "mds": "allow *"}},
	}
}

// identities are all of a node's: its daemons', the administrator's and the users'.
func (c *Ceph) identities(users []cephIdentity) []cephIdentity {
	all := func(on ...string) map[string]string {
		caps := make(map[string]string)
		for _, kind := range on {
			caps[kind] = "allow *"
		}
		return caps
	}
	ids := append([]cephIdentity{
		{"mon.", cephKey(), all("mon")},
		{"client.admin", cephKey(), all("mon", "osd", "mds", "mgr")},
	}, users...)
	for _, n := range c.nodes {
		ids = append(ids,
			cephIdentity{"osd." + n.id("osd"), cephKey(), map[string]string{"mon": "allow profile osd", "osd": "allow *", "mgr": "allow profile osd"}},
			cephIdentity{"mgr." + n.id("mgr"), cephKey(), map[string]string{"mon": "allow profile mgr", "osd": "allow *", "mds": "allow *"}},
			cephIdentity{"mds." + n.id("mds"), cephKey(), map[string]string{"mon": "allow profile mds", "osd": "allow rwx", "mds": "allow", "mgr": "allow profile mds"}})
	}
	return ids
}

// prepareCeph puts onto the disks of the nodes and of the hosts what they need.
func (c *Cluster) prepareCeph() error {
	var monitors []string
	monmap := []string{"monmaptool", "--create", "--clobber", "--enable-all-features", "--fsid", c.ceph.id}
	for _, n := range c.ceph.nodes {
		monitors = append(monitors, cephMonitor(n))
		monmap = append(monmap, "--addv", n.id("mon"), cephMonitor(n))
	}
	conf := fmt.Sprintf(cephConfig, c.ceph.id, strings.Join(monitors, ","))
	users := cephUsers()
	ids := c.ceph.identities(users)
	for _, n := range c.ceph.nodes {
		n.monmap = append(slices.Clip(monmap), n.Path("etc/ceph/monmap"))
		if err := n.hide("/var/lib/ceph", "/var/log/ceph"); err != nil {
			return err
		}
		for _, dir := range []string{"etc/ceph", "ceph", "ceph/crash"} {
			if err := os.Mkdir(n.Path(dir), 0o755); err != nil {
				return err
			}
		}
		err := writeAll(n.Machine, "etc/ceph/", map[string]string{
			"ceph.conf":                 conf + fmt.Sprintf(cephNodeConfig, n.dir, len(c.ceph.nodes)),
			"ceph.keyring":              keyring(true, ids...),
			"ceph.client.admin.keyring": keyring(false, ids[1]),
		})
		if err != nil {
			return err
		}
	}
	return each(c.hosts, func(h *Host) error {
		if err := h.hide("/var/lib/ceph", "/var/log/ceph"); err != nil {
			return err
		}
		if err := os.Mkdir(h.Path("etc/ceph"), 0o755); err != nil {
			return err
		}
		files := map[string]string{"ceph.conf": conf}
		for _, u := range users {
			files["ceph."+u.name+".keyring"] = keyring(false, u)
		}
		return writeAll(h.Machine, "etc/ceph/", files)
	})
}

// cephMonitor is where a node's monitor listens.
func cephMonitor(n *CephNode) string {
	return fmt.Sprintf("[v2:%[1]v:3300,v1:%[1]v:6789]", n.Address())
}

// writeAll writes files that are for root alone.
func writeAll(m *Machine, dir string, files map[string]string) error {
	for name, text := range files {
		if err := os.WriteFile(m.Path(dir+name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}
