package lab

import (
	_ "embed"
	"net/netip"
	"os"
	"path/filepath"
)

//go:embed gluster-management.bash
var managementScript string

//go:embed gluster-node.bash
var managedScript string

// glusterAddress is the address of a node, counted from 0.
func glusterAddress(i int) netip.Addr { return address(41 + i) }

// GlusterAddresses are those of all nodes, whether there are any or not.
func GlusterAddresses() []netip.Addr {
	var all []netip.Addr
	for i := range glusterNodes {
		all = append(all, glusterAddress(i))
	}
	return all
}

// hideGluster gives the machine its own of what GlusterFS writes to, and takes
// geo-replication away: glusterd would start its Python 20 times before it
// answers.
func (m *Machine) hideGluster() error {
	if err := m.hide("/var/lib/glusterd", "/var/log/glusterfs"); err != nil {
		return err
	}
	for _, place := range []string{"/usr/lib*/glusterfs/gsyncd", "/usr/lib/*/glusterfs/gsyncd"} {
		programs, err := filepath.Glob(place)
		if err != nil {
			return err
		}
		for _, program := range programs {
			if err := os.MkdirAll(filepath.Dir(m.Path(program)), 0o755); err != nil {
				return err
			}
			// To start it fails as if it were not there.
			if err := os.WriteFile(m.Path(program), []byte("#!/nowhere\n"), 0o755); err != nil {
				return err
			}
			if err := m.cover(program); err != nil {
				return err
			}
		}
	}
	return nil
}

// prepareGluster puts onto the disks of the nodes and of the hosts what they
// need.
func (c *Cluster) prepareGluster() error {
	nodes := c.gluster.nodes
	key := nodes[0].Path("etc/lab/management_key")
	public, err := newKey(key)
	if err != nil {
		return err
	}
	known := ""
	for _, n := range nodes {
		if err := n.hideGluster(); err != nil {
			return err
		}
		if err := os.Mkdir(n.Path("brick"), 0o755); err != nil {
			return err
		}
		hostKey, err := n.prepareSshd([]string{"management"})
		if err != nil {
			return err
		}
		known += n.name + " " + hostKey
		if err := os.WriteFile(n.Path("etc/ssh/gluster"), []byte(managedScript), 0o755); err != nil {
			return err
		}
		if err := n.authoriseKey("management", public, "/etc/ssh/gluster"); err != nil {
			return err
		}
	}
	private, err := os.ReadFile(key)
	if err != nil {
		return err
	}
	return each(c.hosts, func(h *Host) error { return prepareGlusterHost(h, known, string(private)) })
}

// prepareGlusterHost makes a host a client of the nodes.
func prepareGlusterHost(h *Host, known, private string) error {
	if err := h.hideGluster(); err != nil {
		return err
	}
	for _, f := range []struct {
		name, text string
		mode       os.FileMode
	}{
		{"etc/lab/gluster", managementScript, 0o755},
		{"etc/lab/gluster_ssh_config", glusterSSHConfig, 0o644},
		{"etc/lab/gluster_known_hosts", known, 0o644},
		{"etc/lab/gluster_key", private, 0o600},
	} {
		if err := os.WriteFile(h.Path(f.name), []byte(f.text), f.mode); err != nil {
			return err
		}
	}
	return nil
}

// glusterSSHConfig is that of the hosts. A node that is down or says nothing is
// given up after some seconds, for there are others. Commands that follow each
// other share a connection.
const glusterSSHConfig = `Host *
  User root
  KexAlgorithms curve25519-sha256
  IdentityFile /etc/lab/gluster_key
  IdentitiesOnly yes
  UserKnownHostsFile /etc/lab/gluster_known_hosts
  GlobalKnownHostsFile none
  StrictHostKeyChecking yes
  UpdateHostKeys no
  BatchMode yes
  ConnectTimeout 3
  ServerAliveInterval 1
  ServerAliveCountMax 3
  LogLevel ERROR
  ControlMaster auto
  ControlPath /run/gluster-ssh-%n
  ControlPersist 60
`
