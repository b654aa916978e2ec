package history_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/test/history"
	"github.com/dvol/dvold/test/lab"
)

// lease is lease_ttl of all hosts, the least there is.
const lease = 10 * time.Second

// pool is a kind of pool that a history is made on.
type pool struct {
	line    string // in the configuration
	options lab.ClusterOptions
	faults  []history.Fault
}

// common is the rest of the configuration.
const common = `coordination: {type: consul, lease_ttl: %v}
guard: {reboot_command: ` + lab.RebootCommand + `}
default_pool: pool
pools:
  pool: %s
`

// Pools by name. One that goes by lease is not safe from a machine that stops
// altogether for longer than its lease (docs/takeover.md), and is not taken from one
// whose guard is gone.
var pools = map[string]func() pool{
	"command": func() pool {
		return pool{
			line:    `{type: local, path: /dfs/pool, shared: true, exclusive: {fence_command: [` + lab.FenceCommand + `], fence_covers: pool}}`,
			options: lab.ClusterOptions{Storage: true},
			faults:  slices.Concat(history.OfHosts, history.OfCluster),
		}
	},
	"lease": func() pool {
		return pool{
			line:    `{type: local, path: /dfs/pool, shared: true, exclusive: {takeover: auto, accept_lease: true}}`,
			options: lab.ClusterOptions{Storage: true},
			faults:  without(slices.Concat(history.OfHosts, history.OfCluster), history.FreezeHost, history.KillGuard),
		}
	},
	"gluster": func() pool {
		return pool{
			line: fmt.Sprintf(`{type: gluster, servers: [%s], volume: %s, management: [%s], mount_timeout: 5s}`,
				addresses(lab.GlusterAddresses()), lab.GlusterVolume, lab.GlusterManagement),
			options: lab.ClusterOptions{Gluster: true},
			faults:  slices.Concat(history.OfHosts, history.OfCluster),
		}
	},
	"rbd": func() pool {
		return pool{
			line:    fmt.Sprintf(`{type: rbd, pool: %s, size: 64M, fencer: %s, %s}`, lab.CephPool, lab.CephFencer, cephCluster()),
			options: lab.ClusterOptions{Ceph: true},
			faults:  without(slices.Concat(history.OfHosts, history.OfCluster), history.StopStorage),
		}
	},
	"cephfs": func() pool {
		return pool{
			line:    fmt.Sprintf(`{type: cephfs, filesystem: %s, fencer: %s, %s}`, lab.CephFileSystem, lab.CephFencer, cephCluster()),
			options: lab.ClusterOptions{Ceph: true},
			faults:  without(slices.Concat(history.OfHosts, history.OfCluster), history.StopStorage),
		}
	},
}

func without(faults []history.Fault, some ...history.Fault) []history.Fault {
	return slices.DeleteFunc(faults, func(f history.Fault) bool { return slices.Contains(some, f) })
}

func cephCluster() string {
	return fmt.Sprintf("cluster: {monitors: [%s], user: %s, connect_timeout: 5s, call_timeout: 10s}", addresses(lab.CephAddresses()), lab.CephUser)
}

func addresses[A fmt.Stringer](all []A) string {
	var words []string
	for _, a := range all {
		words = append(words, a.String())
	}
	return strings.Join(words, ", ")
}

// poolNamed is one of the pools.
func poolNamed(t *testing.T, name string) pool {
	t.Helper()
	kind, ok := pools[name]
	if !ok {
		t.Fatalf("there is no pool %q", name)
	}
	p := kind()
	p.options.Dvold = dvold
	if p.options.Ceph {
		binary, err := lab.BuildDvoldWithCeph(built)
		if err != nil {
			t.Fatal(err)
		}
		p.options.Dvold = binary
	}
	return p
}
