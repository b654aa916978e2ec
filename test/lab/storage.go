package lab

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed storage-session.bash
var sessionScript string

//go:embed storage-admin.bash
var adminScript string

//go:embed storage-fence.bash
var fenceScript string

// FenceCommand is a program on every host, for fence_command: with
// DVOL_ACTION=fence and DVOL_HOST=h1 it has the storage server cut off h1, and
// exits with 0 once nothing that h1 writes can land any more, be h1 up, cut off
// or frozen. With unfence it lets h1 in again, unless a fence had a greater
// DVOL_INCARNATION; what h1 had mounted stays dead until RemountStorage. Either
// may be repeated. It covers the pool.
const FenceCommand = "/etc/lab/fence"

// StorageServer is a machine whose files all hosts have mounted.
type StorageServer struct {
	*Machine
	Sshd *Daemon
}

// MissingStorage says what a cluster with storage needs, beside what a cluster
// needs, and this machine lacks, or is empty.
func MissingStorage() string {
	for _, name := range []string{"sshd", "ssh-keygen", "sshfs", "/usr/lib/openssh/sftp-server"} {
		if _, err := exec.LookPath(name); err != nil {
			return err.Error()
		}
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return err.Error()
	}
	return ""
}

// newStorage describes the storage server of hosts.
func newStorage(m *Machine) *StorageServer {
	s := &StorageServer{Machine: m, Sshd: newSshd(m)}
	m.daemons = []*Daemon{s.Sshd}
	return s
}

// addServer gives a cluster a storage server, and its hosts clients.
func (c *Cluster) addServer() {
	m := c.machine("f1")
	c.connect(m, address(31), nil)
	c.server = newStorage(m)
	c.storage = append(c.storage, m)
	for _, h := range c.hosts {
		h.server = c.server
		h.Storage = newSshfs(h)
		h.daemons = append(h.daemons, h.Storage)
	}
}

// Data is where a file of the storage lies on the server's disk: what the hosts
// see as /dfs is Data(".").
func (s *StorageServer) Data(name string) string { return s.Path(filepath.Join("dfs", name)) }

// Fenced tells whether a host is fenced.
func (s *StorageServer) Fenced(host string) bool {
	_, err := os.Stat(s.Path("etc/ssh/fenced/" + host))
	return err == nil
}

// prepareStorage puts onto the disks of the server and of the hosts what they
// need.
func (c *Cluster) prepareStorage() error {
	s := c.server
	keys := []string{"admin"}
	for _, h := range c.hosts {
		keys = append(keys, h.name)
	}
	hostKey, err := s.prepareSshd(keys)
	if err != nil {
		return err
	}
	for _, dir := range []string{"dfs", "etc/ssh/fenced", "etc/ssh/numbers"} {
		if err := os.Mkdir(s.Path(dir), 0o755); err != nil {
			return err
		}
	}
	for name, script := range map[string]string{"session": sessionScript, "admin": adminScript} {
		if err := os.WriteFile(s.Path("etc/ssh/"+name), []byte(script), 0o755); err != nil {
			return err
		}
	}
	if err := s.authorise("admin", s.Path("etc/ssh/admin_key"), "/etc/ssh/admin"); err != nil {
		return err
	}
	return each(c.hosts, func(h *Host) error { return c.prepareClient(h, hostKey) })
}

// sshConfig is that of the hosts, with the server's address. A mount asks each
// second whether the server still knows it, and doesn't mind to hear nothing: it
// may wait for the answer of a server that, meanwhile, has ended the connection.
// Keys are agreed upon by the cheapest way: the one that SSH prefers takes a tenth
// of a second of a processor for each command.
const sshConfig = `Host storage
  IdentityFile /etc/lab/key
  TCPKeepAlive no
  ServerAliveInterval 1
  ServerAliveCountMax 1000
Host storage-admin
  IdentityFile /etc/lab/admin_key
  ConnectTimeout 5
  ServerAliveInterval 3
  ServerAliveCountMax 2
Host *
  HostName %v
  KexAlgorithms curve25519-sha256
  HostKeyAlias storage
  User root
  IdentitiesOnly yes
  UserKnownHostsFile /etc/lab/known_hosts
  GlobalKnownHostsFile none
  StrictHostKeyChecking yes
  UpdateHostKeys no
  BatchMode yes
  ConnectTimeout 10
  LogLevel ERROR
`

// prepareClient makes a host a client of the storage.
func (c *Cluster) prepareClient(h *Host, hostKey string) error {
	admin, err := os.ReadFile(c.server.Path("etc/ssh/admin_key"))
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name, text string
		mode       os.FileMode
	}{
		{"etc/lab/ssh_config", fmt.Sprintf(sshConfig, c.server.Address()), 0o644},
		{"etc/lab/known_hosts", "storage " + hostKey, 0o644},
		{"etc/lab/admin_key", string(admin), 0o600},
		{"etc/lab/fence", fenceScript, 0o755},
	} {
		if err := os.WriteFile(h.Path(f.name), []byte(f.text), f.mode); err != nil {
			return err
		}
	}
	return c.server.authorise(h.name, h.Path("etc/lab/key"), "exec /etc/ssh/session "+h.name)
}

// StartStorage starts the storage server and mounts its files at /dfs on every
// host that is up and not fenced, unless that is so.
func (c *Cluster) StartStorage(ctx context.Context) error {
	if c.server == nil {
		return errors.New("start storage: the cluster has none")
	}
	if !c.server.Sshd.Running() {
		if err := c.server.Sshd.Start(ctx); err != nil {
			return err
		}
	}
	return each(c.hosts, func(h *Host) error {
		if !h.Up() || h.Storage.Running() || c.server.Fenced(h.name) {
			return nil
		}
		return h.Storage.Start(ctx)
	})
}
