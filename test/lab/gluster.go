package lab

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// GlusterVolume is the Gluster volume of a cluster that has one: a replica of
// three, one brick on each node.
const GlusterVolume = "gv0"

// GlusterManagement is a program on every host, for management: it runs
// gluster(8) on the first node that answers.
const GlusterManagement = "/etc/lab/gluster"

// Gluster is the GlusterFS nodes g1, g2 and g3, and their volume. Its clients
// are the hosts' own business.
//
// Clients notice a node that is frozen, cut off or killed as by a power cut after
// 5 to 10 s, and wait meanwhile; with GlusterFS's own timeouts, of 42 s, it would
// be up to 84 s. What Gluster.Kill has ended they notice at once.
type Gluster struct {
	nodes []*GlusterNode
	made  bool // the volume is there
}

// glusterNodes is how many nodes there are.
const glusterNodes = 3

// glusterOptions are the volume's. A client that goes on sending does not count
// the time that no ping is answered: there the kernel does, unless the node is
// frozen.
func glusterOptions() []string {
	return []string{"network.ping-timeout", "5", "client.tcp-user-timeout", "10"}
}

// Nodes are all nodes: g1, g2 and g3.
func (g *Gluster) Nodes() []*GlusterNode { return g.nodes }

// Node is node gN, counted from 1.
func (g *Gluster) Node(n int) *GlusterNode { return g.nodes[n-1] }

// MissingGluster says what a cluster with GlusterFS needs, beside what a cluster
// needs, and this machine lacks, or is empty.
func MissingGluster() string {
	for _, name := range []string{"glusterd", "gluster", "glusterfs", "sshd", "ssh-keygen"} {
		if _, err := exec.LookPath(name); err != nil {
			return err.Error()
		}
	}
	for _, file := range []string{"/dev/fuse", "/var/lib/glusterd", "/var/log/glusterfs"} {
		if _, err := os.Stat(file); err != nil {
			return err.Error()
		}
	}
	return ""
}

// addGluster gives a cluster the nodes.
func (c *Cluster) addGluster() {
	c.gluster = new(Gluster)
	for i := range glusterNodes {
		m := c.machine(fmt.Sprint("g", i+1))
		c.connect(m, glusterAddress(i), nil)
		c.gluster.nodes = append(c.gluster.nodes, newGlusterNode(m))
	}
}

// Gluster is the GlusterFS nodes; nil if there are none.
func (c *Cluster) Gluster() *Gluster { return c.gluster }

// StartGluster starts what does not run of GlusterFS on its nodes, and makes the
// volume the first time.
func (c *Cluster) StartGluster(ctx context.Context) error {
	if c.gluster == nil {
		return errors.New("start GlusterFS: the cluster has none")
	}
	return c.gluster.Start(ctx, c.gluster.nodes...)
}

// Kill ends glusterd and the bricks of nodes, and their other daemons of
// GlusterFS, all at once as a crash would. The machines stay up: their kernels
// say good-bye to clients.
func (g *Gluster) Kill(nodes ...*GlusterNode) error {
	return each(nodes, (*GlusterNode).kill)
}

// Start starts what does not run on nodes that are up, and returns once their
// bricks are there for clients; but a glusterd that is the only one does not start
// its brick until it sees another. What bricks have missed is healed later.
func (g *Gluster) Start(ctx context.Context, nodes ...*GlusterNode) error {
	if err := each(nodes, func(n *GlusterNode) error { return n.start(ctx) }); err != nil {
		return err
	}
	if len(g.running()) < 2 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if !g.made {
		if err := g.make(ctx); err != nil {
			return fmt.Errorf("make volume %s: %w", GlusterVolume, err)
		}
		g.made = true
	}
	// A glusterd that ran all the time does not miss its brick; one that has just
	// come is not in time for everything.
	err := poll(ctx, func() error {
		_, err := g.Exec(ctx, "volume", "start", GlusterVolume, "force")
		return err
	})
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if err := g.awaitBrick(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// startTime is how long GlusterFS may take to start.
const startTime = 60 * time.Second

// Exec runs gluster(8) on the first node whose glusterd runs, and returns what
// it prints.
func (g *Gluster) Exec(ctx context.Context, args ...string) (string, error) {
	running := g.running()
	if len(running) == 0 {
		return "", errors.New("run gluster: no glusterd runs")
	}
	return running[0].gluster(ctx, args...)
}

// MakeDir makes a directory of the volume.
func (g *Gluster) MakeDir(ctx context.Context, name string) error {
	const script = `d=$(mktemp -d) && glusterfs --volfile-server=127.0.0.1 --volfile-id="$0" "$d" && mkdir "$d/$1" && umount "$d" && rmdir "$d"`
	_, err := g.Node(1).Exec(ctx, "sh", "-c", script, GlusterVolume, name)
	return err
}

// running are the nodes whose glusterd runs.
func (g *Gluster) running() []*GlusterNode {
	var all []*GlusterNode
	for _, n := range g.nodes {
		if n.Up() && !n.Frozen() && n.Glusterd.Running() && !n.Glusterd.Frozen() {
			all = append(all, n)
		}
	}
	return all
}

// make has the nodes know each other, and makes the volume.
func (g *Gluster) make(ctx context.Context) error {
	volume := []string{"volume", "create", GlusterVolume, "replica", fmt.Sprint(len(g.nodes))}
	for i, n := range g.nodes {
		if i > 0 {
			if _, err := g.Exec(ctx, "peer", "probe", n.Address().String()); err != nil {
				return err
			}
		}
		volume = append(volume, n.Address().String()+":"+n.Brick("."))
	}
	if err := g.awaitPeers(ctx); err != nil {
		return err
	}
	for _, args := range [][]string{append(volume, "force"), append([]string{"volume", "set", GlusterVolume}, glusterOptions()...)} {
		if _, err := g.Exec(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// awaitPeers waits until each node is connected to all others.
func (g *Gluster) awaitPeers(ctx context.Context) error {
	return each(g.nodes, func(n *GlusterNode) error {
		return poll(ctx, func() error {
			var list struct {
				Peers []struct {
					Connected int    `xml:"connected"`
					State     string `xml:"stateStr"`
				} `xml:"peerStatus>peer"`
			}
			text, err := n.gluster(ctx, "--xml", "peer", "status")
			if err == nil {
				err = xml.Unmarshal([]byte(text), &list)
			}
			friends := 0
			for _, p := range list.Peers {
				if p.Connected == 1 && p.State == "Peer in Cluster" {
					friends++
				}
			}
			if err == nil && friends != len(g.nodes)-1 {
				err = fmt.Errorf("%s sees %d peers", n.name, friends)
			}
			return err
		})
	})
}

// awaitBrick waits until the brick of a node listens to clients.
func (g *Gluster) awaitBrick(ctx context.Context, n *GlusterNode) error {
	return poll(ctx, func() error {
		var status struct {
			Nodes []struct {
				Path string `xml:"path"`
				Port string `xml:"port"`
				Up   int    `xml:"status"`
			} `xml:"volStatus>volumes>volume>node"`
		}
		text, err := n.gluster(ctx, "--xml", "volume", "status", GlusterVolume)
		if err == nil {
			err = xml.Unmarshal([]byte(text), &status)
		}
		if err != nil {
			return err
		}
		for _, b := range status.Nodes {
			if b.Path == filepath.Clean(n.Brick(".")) && b.Up == 1 && b.Port != "N/A" {
				return nil
			}
		}
		return fmt.Errorf("the brick of %s is not up", n.name)
	})
}
