package lab

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
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
	s := &StorageServer{Machine: m}
	argv := func(args []string) []string {
		path, err := exec.LookPath("sshd") // which starts itself again, by this path
		if err != nil {
			path = "sshd"
		}
		return append([]string{path, "-D", "-e", "-f", "/etc/ssh/sshd_config"}, args...)
	}
	s.Sshd = &Daemon{name: "sshd", m: m, argv: argv, answers: s.greets, patience: 30 * time.Second}
	s.Sshd.prepare = func(*exec.Cmd) error {
		if err := os.MkdirAll(s.Path("run/sshd"), 0o755); err != nil { // it has to be there
			return err
		}
		return patient(m)
	}
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

// greets returns nil if sshd says who it is.
func (s *StorageServer) greets(ctx context.Context) error {
	conn, err := s.Dial(ctx, "tcp", net.JoinHostPort(s.Address().String(), "22"))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
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
// need. It is sshd's own world that the server has: nothing of this machine's
// configuration, users or keys counts.
func (c *Cluster) prepareStorage() error {
	s := c.server
	for _, dir := range []string{"dfs", "etc/ssh", "etc/ssh/keys", "etc/ssh/fenced", "etc/ssh/numbers"} {
		if err := os.Mkdir(s.Path(dir), 0o755); err != nil {
			return err
		}
	}
	keyFiles := "/etc/ssh/keys/admin"
	for _, h := range c.hosts {
		keyFiles += " /etc/ssh/keys/" + h.name
	}
	for _, f := range []struct {
		name, text string
		mode       os.FileMode
	}{
		{"etc/passwd", "root:x:0:0::/:/bin/sh\nsshd:x:100:65534::/run/sshd:/bin/false\n", 0o644},
		{"etc/shadow", "root:*:1::::::\nsshd:*:1::::::\n", 0o600},
		{"etc/ssh/session", sessionScript, 0o755},
		{"etc/ssh/admin", adminScript, 0o755},
		{"etc/ssh/sshd_config", fmt.Sprintf(sshdConfig, s.Address(), keyFiles), 0o644},
	} {
		if err := os.WriteFile(s.Path(f.name), []byte(f.text), f.mode); err != nil {
			return err
		}
	}
	hostKey, err := newKey(s.Path("etc/ssh/host_key"))
	if err != nil {
		return err
	}
	if err := c.authorise("admin", s.Path("etc/ssh/admin_key"), "/etc/ssh/admin"); err != nil {
		return err
	}
	return each(c.hosts, func(h *Host) error { return c.prepareClient(h, hostKey) })
}

// sshdConfig is sshd's, with its address and the files of keys. Nobody is asked
// whether he is still there: a client that is cut off is served on when it is
// back.
const sshdConfig = `ListenAddress %v
AuthorizedKeysFile %s
HostKey /etc/ssh/host_key
PidFile /run/sshd.pid
PermitRootLogin forced-commands-only
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PrintMotd no
PrintLastLog no
TCPKeepAlive no
ClientAliveInterval 0
MaxStartups 100
Subsystem sftp internal-sftp
`

// sshConfig is that of the hosts, with the server's address. A mount asks each
// second whether the server still knows it, and doesn't mind to hear nothing: it
// may wait for the answer of a server that, meanwhile, has ended the connection.
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
	return c.authorise(h.name, h.Path("etc/lab/key"), "exec /etc/ssh/session "+h.name)
}

// authorise makes a key which may run nothing but the command on the server.
func (c *Cluster) authorise(name, file, command string) error {
	public, err := newKey(file)
	if err != nil {
		return err
	}
	line := fmt.Sprintf("restrict,command=%q %s", command, public)
	return os.WriteFile(c.server.Path("etc/ssh/keys/"+name), []byte(line), 0o644)
}

// newKey makes a key in a file, and returns the public one.
func newKey(file string) (public string, err error) {
	out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", file).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("make key: %w: %s", err, bytes.TrimSpace(out))
	}
	text, err := os.ReadFile(file + ".pub")
	return strings.TrimSpace(string(text)) + "\n", err
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
