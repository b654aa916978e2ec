package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
)

// ClusterOptions say what a Cluster is to be.
type ClusterOptions struct {
	Hosts   int    // up to 9; 0 means 3
	Servers int    // Consul servers: 0, 1 or 3
	Consul  string // the consul binary, if there are servers
	Dvold   string // the dvold binary; without it, Start starts none
	Guard   bool   // whether each host runs dvold's guard, if there is a dvold
	Storage bool   // whether there is a StorageServer, f1, whose files all hosts have at /dfs
	Gluster bool   // whether there are GlusterFS nodes
	Ceph    bool   // whether there are nodes of Ceph
	Beat    string // the binary of the command beat, for the image; there may be none
	Clock   string // the binary of the command clock, if there are Rates
	// Rates are how fast time goes for dvold and the guard of a host, by its name: 1.01
	// is 1% too fast. Who is not in it has the clock of this machine.
	Rates map[string]float64
	// Configure returns the configuration of dvold on a host of that name. If
	// it is nil, there is no file.
	Configure func(host string) string
	// Dir is the cluster's directory, which must be empty or not exist. It is
	// gone after Close. If it is "", one is made among the temporary files.
	Dir string
}

// Cluster is hosts h1, h2… and Consul servers s1, s2… on a network of their
// own: h1 has the address 10.99.0.11, s1 has 10.99.0.21. A directory of all
// hosts, /shared, stands for a file system that is mounted everywhere. Each
// host has a Consul agent if there are servers. GlusterFS nodes g1, g2, g3 are at
// 10.99.0.41 and on, those of Ceph, c1, c2, c3, at 10.99.0.51 and on.
//
// Its methods must not be called concurrently, nor with those of its machines;
// but different machines may be changed at once.
type Cluster struct {
	dir     string
	id      string // what the names of all its cgroups begin with
	network *network
	hosts   []*Host
	servers []*Server
	server  *StorageServer // nil if there is none; it is among storage, too
	storage []*Machine
	gluster *Gluster // nil if there is none
	ceph    *Ceph    // nil if there is none
	names   string   // of the hosts and servers, for /etc/hosts
}

// NewCluster boots the machines of a cluster, and starts no daemon. Close it,
// also if ctx ended.
func NewCluster(ctx context.Context, o ClusterOptions) (*Cluster, error) {
	if o.Hosts == 0 {
		o.Hosts = 3
	}
	if o.Hosts < 1 || o.Hosts > 9 {
		return nil, fmt.Errorf("make cluster: %d hosts, not 1 to 9", o.Hosts)
	}
	if !slices.Contains([]int{0, 1, 3}, o.Servers) {
		return nil, fmt.Errorf("make cluster: %d Consul servers, not 0, 1 or 3", o.Servers)
	}
	if o.Servers > 0 && o.Consul == "" {
		return nil, errors.New("make cluster: Consul servers without a consul binary")
	}
	dir, err := clusterDir(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("make cluster: %w", err)
	}
	c := &Cluster{dir: dir, id: fmt.Sprintf("lab%x", random(5))}
	if err := c.build(o); err != nil {
		return nil, errors.Join(fmt.Errorf("make cluster: %w", err), c.Close())
	}
	if err := c.boot(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func clusterDir(dir string) (string, error) {
	if dir == "" {
		return os.MkdirTemp("", "lab")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o755)
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// build puts onto disks what the machines need.
func (c *Cluster) build(o ClusterOptions) error {
	if err := os.Mkdir(c.Path("shared"), 0o755); err != nil {
		return err
	}
	var servers []netip.Addr
	for i := range o.Servers {
		servers = append(servers, address(21+i))
	}
	c.network = &network{c.machine("switch")}
	for i := range o.Servers {
		s := &Server{Machine: c.machine(fmt.Sprint("s", i+1))}
		c.connect(s.Machine, servers[i], servers)
		s.Consul = newConsul(s.Machine, o.Consul)
		s.daemons = []*Daemon{s.Consul}
		c.servers = append(c.servers, s)
	}
	for i := range o.Hosts {
		h := newHost(c.machine(fmt.Sprint("h", i+1)), o.Dvold)
		c.connect(h.Machine, address(11+i), servers)
		h.beat = o.Beat
		if rate, ok := o.Rates[h.name]; ok {
			h.clock = []string{o.Clock, fmt.Sprint(rate)}
		}
		if o.Servers > 0 {
			h.Agent = newConsul(h.Machine, o.Consul)
			h.daemons = append(h.daemons, h.Agent)
		}
		if o.Guard && o.Dvold != "" {
			h.Guard = newGuard(h)
			h.daemons = append(h.daemons, h.Guard)
		}
		c.hosts = append(c.hosts, h)
	}
	if o.Storage {
		c.addServer()
	}
	if o.Gluster {
		c.addGluster()
	}
	if o.Ceph {
		c.addCeph()
	}
	if err := each(c.Machines(), c.prepare); err != nil {
		return err
	}
	if o.Storage {
		if err := c.prepareStorage(); err != nil {
			return err
		}
	}
	if o.Gluster {
		if err := c.prepareGluster(); err != nil {
			return err
		}
	}
	if o.Ceph {
		if err := c.prepareCeph(); err != nil {
			return err
		}
	}
	return c.configure(o, servers)
}

// configure writes the configuration of all daemons.
func (c *Cluster) configure(o ClusterOptions, servers []netip.Addr) error {
	for _, h := range c.hosts {
		if o.Configure != nil {
			if err := h.Configure(o.Configure(h.name)); err != nil {
				return err
			}
		}
		if err := writeConsulConfig(h.Machine, servers, false); err != nil {
			return err
		}
	}
	for _, s := range c.servers {
		if err := writeConsulConfig(s.Machine, servers, true); err != nil {
			return err
		}
	}
	return nil
}

// machine describes one of the cluster.
func (c *Cluster) machine(name string) *Machine {
	return &Machine{name: name, group: c.id + "-" + name, dir: c.Path(name)}
}

// address is one on the cluster's network.
func address(last int) netip.Addr { return netip.AddrFrom4([4]byte{10, 99, 0, byte(last)}) }

// connect gives a machine a place on the network.
func (c *Cluster) connect(m *Machine, a netip.Addr, servers []netip.Addr) {
	storage := append(GlusterAddresses(), CephAddresses()...)
	for i := range maxStorage { // where storage servers are, if there are any
		storage = append(storage, address(31+i))
	}
	m.port = &port{
		network: c.network, name: m.name, address: a,
		peers: map[Peer][]netip.Addr{Consul: servers, Storage: storage}, cut: map[Peer]bool{},
	}
	c.names += fmt.Sprintln(a, m.name)
}

// boot boots all machines, the switch before what is plugged into it.
func (c *Cluster) boot(ctx context.Context) error {
	if err := c.network.start(ctx); err != nil {
		return err
	}
	return each(c.Machines()[1:], func(m *Machine) error { return m.Boot(ctx) })
}

// StartConsul starts the servers, and the agents on the hosts, unless they run,
// and waits until each of them knows a leader.
func (c *Cluster) StartConsul(ctx context.Context) error {
	daemons := c.consulServers()
	for _, h := range c.hosts {
		daemons = append(daemons, h.Agent)
	}
	return startThose(ctx, daemons)
}

// StartServers is StartConsul for the servers alone: hosts may be down.
func (c *Cluster) StartServers(ctx context.Context) error {
	return startThose(ctx, c.consulServers())
}

func (c *Cluster) consulServers() (daemons []*Daemon) {
	for _, s := range c.servers {
		daemons = append(daemons, s.Consul)
	}
	return daemons
}

// startThose starts those that don't run.
func startThose(ctx context.Context, daemons []*Daemon) error {
	return each(daemons, func(d *Daemon) error {
		if d == nil || d.Running() {
			return nil
		}
		return d.Start(ctx)
	})
}

// Start starts every daemon there is to be, and makes the image on each host.
func (c *Cluster) Start(ctx context.Context) error {
	starts := []func() error{func() error { return c.StartConsul(ctx) }}
	if c.server != nil {
		starts = append(starts, func() error { return c.StartStorage(ctx) })
	}
	if c.gluster != nil {
		starts = append(starts, func() error { return c.StartGluster(ctx) })
	}
	if c.ceph != nil {
		starts = append(starts, func() error { return c.StartCeph(ctx) })
	}
	for _, h := range c.hosts {
		starts = append(starts, func() error {
			if err := h.StartDocker(ctx); err != nil {
				return err
			}
			return h.Image(ctx)
		})
	}
	if err := each(starts, func(start func() error) error { return start() }); err != nil {
		return err
	}
	return each(c.hosts, func(h *Host) error { return h.StartAll(ctx) })
}

// Machines are all machines: first the switch, then the Consul servers, the
// hosts, the storage servers and the nodes of GlusterFS and of Ceph.
func (c *Cluster) Machines() []*Machine {
	var all []*Machine
	if c.network != nil {
		all = append(all, c.network.Machine)
	}
	for _, s := range c.servers {
		all = append(all, s.Machine)
	}
	for _, h := range c.hosts {
		all = append(all, h.Machine)
	}
	all = append(all, c.storage...)
	if c.gluster != nil {
		for _, n := range c.gluster.nodes {
			all = append(all, n.Machine)
		}
	}
	if c.ceph != nil {
		for _, n := range c.ceph.nodes {
			all = append(all, n.Machine)
		}
	}
	return all
}

// AddStorage boots one more machine, f1, f2… at 10.99.0.31 and on, for a storage
// server of another kind.
func (c *Cluster) AddStorage(ctx context.Context) (*Machine, error) {
	n := len(c.storage)
	if n == maxStorage {
		return nil, fmt.Errorf("add storage: there are %d servers", n)
	}
	m := c.machine(fmt.Sprint("f", n+1))
	c.connect(m, address(31+n), nil)
	c.storage = append(c.storage, m)
	if err := c.prepare(m); err != nil {
		return nil, fmt.Errorf("add storage: %w", err)
	}
	return m, m.Boot(ctx)
}

// maxStorage is how many storage servers there may be.
const maxStorage = 9

// prepare makes a machine's disk.
func (c *Cluster) prepare(m *Machine) error {
	if err := os.Mkdir(m.dir, 0o755); err != nil {
		return err
	}
	return m.prepare(c.names)
}

// Hosts are the Docker hosts: h1, h2…
func (c *Cluster) Hosts() []*Host { return c.hosts }

// Host is host hN, counted from 1.
func (c *Cluster) Host(n int) *Host { return c.hosts[n-1] }

// Servers are the Consul servers: s1, s2…
func (c *Cluster) Servers() []*Server { return c.servers }

// Storage is the storage server, f1; nil if there is none.
func (c *Cluster) Storage() *StorageServer { return c.server }

// Path is where a file of the cluster lies. The hosts' /shared is Path("shared").
func (c *Cluster) Path(name string) string { return filepath.Join(c.dir, name) }

// Close ends all machines and removes every trace of the cluster. A closed one
// is closed again without error.
func (c *Cluster) Close() error {
	all := c.Machines()
	slices.Reverse(all) // the switch comes last
	err := each(all[:max(0, len(all)-1)], (*Machine).Close)
	if c.network != nil {
		err = errors.Join(err, c.network.Close())
	}
	if err == nil {
		err = removeUnmounted(c.dir)
	}
	if err != nil {
		return fmt.Errorf("close cluster: %w", err)
	}
	return nil
}
