package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"
)

// What a cluster's Ceph has: a pool for images, and a file system, whose pools are
// called cephfs.data and cephfs.meta. All have three copies.
const (
	CephPool       = "rbd"
	CephFileSystem = "cephfs"
)

// Users of Ceph, whose keyrings all hosts have in /etc/ceph: CephUser uses
// images and the file system, and can have the cluster refuse a client that it knows
// the address of. CephFencer can undo that, and end clients' sessions of the file system.
const (
	CephUser   = "dvol"
	CephFencer = "dvol-fencer"
)

// Ceph is the nodes c1, c2 and c3 of a Ceph cluster, each with a monitor, an OSD and
// an MDS, and two of them with a manager. Its clients are the hosts' own business, but for
// /etc/ceph/ceph.conf and the keyrings.
//
// It goes on while two nodes are up. One that falls silent is given up after some
// 10 s: Ceph's own times are 20 s and more.
type Ceph struct {
	nodes []*CephNode
	id    string // of the cluster: its fsid
	made  bool   // the pools are there
}

// cephNodes is how many nodes there are.
const cephNodes = 3

// cephAddress is the address of a node, counted from 0.
func cephAddress(i int) netip.Addr { return address(51 + i) }

// CephAddresses are those of all nodes, where their monitors are, too, whether
// there are any or not.
func CephAddresses() []netip.Addr {
	var all []netip.Addr
	for i := range cephNodes {
		all = append(all, cephAddress(i))
	}
	return all
}

// Nodes are all nodes: c1, c2 and c3.
func (c *Ceph) Nodes() []*CephNode { return c.nodes }

// Node is node cN, counted from 1.
func (c *Ceph) Node(n int) *CephNode { return c.nodes[n-1] }

// MissingCeph says what a cluster with Ceph needs, beside what a cluster needs, and
// this machine lacks, or is empty.
func MissingCeph() string {
	for _, name := range []string{"ceph-mon", "ceph-osd", "ceph-mgr", "ceph-mds", "ceph", "monmaptool", "ceph-fuse", "getfattr", "rbd", "rbd-fuse", "mkfs.ext4"} {
		if _, err := exec.LookPath(name); err != nil {
			return err.Error()
		}
	}
	for _, file := range []string{"/dev/fuse", "/usr/share/ceph/mgr/volumes", "/var/lib/ceph", "/var/log/ceph"} {
		if _, err := os.Stat(file); err != nil {
			return err.Error()
		}
	}
	return ""
}

// addCeph gives a cluster the nodes.
func (c *Cluster) addCeph() {
	c.ceph = &Ceph{id: strings.TrimSpace(newID())}
	for i := range cephNodes {
		m := c.machine(fmt.Sprint("c", i+1))
		c.connect(m, cephAddress(i), nil)
		c.ceph.nodes = append(c.ceph.nodes, newCephNode(m, i))
	}
}

// Ceph is the cluster's Ceph; nil if there is none.
func (c *Cluster) Ceph() *Ceph { return c.ceph }

// StartCeph starts what does not run of Ceph on its nodes, and makes the pools and
// the file system the first time.
func (c *Cluster) StartCeph(ctx context.Context) error {
	if c.ceph == nil {
		return errors.New("start Ceph: the cluster has none")
	}
	return c.ceph.Start(ctx, c.ceph.nodes...)
}

// Kill ends all that nodes run of Ceph, at once as a crash would. The machines stay
// up: their kernels say good-bye to clients.
func (c *Ceph) Kill(nodes ...*CephNode) error {
	return each(nodes, (*CephNode).kill)
}

// Start starts what does not run on nodes that are up, and returns once they serve
// clients: but a node that is the only one serves none.
func (c *Ceph) Start(ctx context.Context, nodes ...*CephNode) error {
	ctx, cancel := context.WithTimeout(ctx, cephTime)
	defer cancel()
	if err := each(nodes, func(n *CephNode) error { return n.startDaemon(ctx, n.Mon) }); err != nil {
		return err
	}
	if len(c.running()) < 2 {
		return nil
	}
	if err := c.awaitQuorum(ctx, nodes); err != nil {
		return err
	}
	if !c.made {
		if err := c.make(ctx); err != nil {
			return fmt.Errorf("make Ceph's pools: %w", err)
		}
		c.made = true
	}
	if err := each(nodes, func(n *CephNode) error { return n.startOthers(ctx) }); err != nil {
		return err
	}
	return c.awaitService(ctx, nodes)
}

// cephTime is how long Ceph may take to start, on a machine that is busy.
const cephTime = 3 * time.Minute

// Exec runs ceph(8) on the first node whose monitor runs, and returns what it
// prints.
func (c *Ceph) Exec(ctx context.Context, args ...string) (string, error) {
	n, cmd, err := c.cephCommand(ctx, args...)
	if err != nil {
		return "", err
	}
	return run(cmd, n.Start)
}

// AwaitClean waits until all copies of all data are there.
func (c *Ceph) AwaitClean(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cephTime)
	defer cancel()
	return c.awaitStatus(ctx, cephStatus.clean)
}

// running are the nodes whose monitor runs.
func (c *Ceph) running() []*CephNode {
	var all []*CephNode
	for _, n := range c.nodes {
		if n.Up() && !n.Frozen() && n.Mon.Running() && !n.Mon.Frozen() {
			all = append(all, n)
		}
	}
	return all
}

// make makes the OSDs known, the pools and the file system.
func (c *Ceph) make(ctx context.Context) error {
	var commands []string
	for _, n := range c.nodes {
		commands = append(commands, fmt.Sprint("osd new ", n.uuid, " ", n.number))
	}
	pools := []string{CephPool, CephFileSystem + ".meta", CephFileSystem + ".data"}
	for _, pool := range pools {
		commands = append(commands, "osd pool create "+pool+" 8 8")
	}
	commands = append(commands, "osd pool application enable "+CephPool+" rbd", "fs new "+CephFileSystem+" "+pools[1]+" "+pools[2],
		"health mute MGR_MODULE_ERROR --sticky") // of the modules that cephNodeConfig leaves out
	return c.order(ctx, commands)
}

// awaitQuorum waits until the monitors of nodes agree with others.
func (c *Ceph) awaitQuorum(ctx context.Context, nodes []*CephNode) error {
	return each(nodes, func(n *CephNode) error {
		return poll(ctx, func() error {
			var status struct {
				State string `json:"state"`
			}
			err := n.ask(ctx, "mon", "mon_status", &status)
			if err == nil && status.State != "leader" && status.State != "peon" {
				err = fmt.Errorf("the monitor of %s is %s", n.name, status.State)
			}
			return err
		})
	})
}

// awaitService waits until the OSDs of nodes are in use, all data is there, and a
// manager and an MDS are at work.
func (c *Ceph) awaitService(ctx context.Context, nodes []*CephNode) error {
	err := each(nodes, func(n *CephNode) error {
		return poll(ctx, func() error {
			var status struct {
				State string `json:"state"`
			}
			err := n.ask(ctx, "osd", "status", &status)
			if err == nil && status.State != "active" {
				err = fmt.Errorf("the OSD of %s is %s", n.name, status.State)
			}
			return err
		})
	})
	if err != nil {
		return err
	}
	return c.awaitStatus(ctx, cephStatus.serves)
}
