package lab

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"
)

// newSshd describes the SSH server of a machine, which prepareSshd has prepared.
func newSshd(m *Machine) *Daemon {
	argv := func(args []string) []string {
		path, err := exec.LookPath("sshd") // which starts itself again, by this path
		if err != nil {
			path = "sshd"
		}
		return append([]string{path, "-D", "-e", "-f", "/etc/ssh/sshd_config"}, args...)
	}
	d := &Daemon{name: "sshd", m: m, argv: argv, answers: m.greets, patience: 30 * time.Second}
	d.prepare = func(*exec.Cmd) error {
		if err := os.MkdirAll(m.Path("run/sshd"), 0o755); err != nil { // it has to be there
			return err
		}
		return patient(m)
	}
	return d
}

// greets returns nil if the machine's sshd says who it is.
func (m *Machine) greets(ctx context.Context) error {
	conn, err := m.Dial(ctx, "tcp", net.JoinHostPort(m.Address().String(), "22"))
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

// prepareSshd puts onto a machine's disk what its sshd needs, and returns its
// host key. Who may log in, the keys called keys will say. It is sshd's own world
// that the machine has: nothing of this machine's configuration, users or keys
// counts.
func (m *Machine) prepareSshd(keys []string) (hostKey string, err error) {
	for _, dir := range []string{"etc/ssh", "etc/ssh/keys"} {
		if err := os.Mkdir(m.Path(dir), 0o755); err != nil {
			return "", err
		}
	}
	for _, f := range []struct {
		name, text string
		mode       os.FileMode
	}{
		{"etc/passwd", "root:x:0:0::/:/bin/sh\nsshd:x:100:65534::/run/sshd:/bin/false\n", 0o644},
		{"etc/shadow", "root:*:1::::::\nsshd:*:1::::::\n", 0o600},
		{"etc/ssh/sshd_config", fmt.Sprintf(sshdConfig, m.Address(), "/etc/ssh/keys/"+strings.Join(keys, " /etc/ssh/keys/")), 0o644},
	} {
		if err := os.WriteFile(m.Path(f.name), []byte(f.text), f.mode); err != nil {
			return "", err
		}
	}
	return newKey(m.Path("etc/ssh/host_key"))
}

// authorise makes a key, in a file, which may run nothing but the command on the
// machine.
func (m *Machine) authorise(name, file, command string) error {
	public, err := newKey(file)
	if err != nil {
		return err
	}
	return m.authoriseKey(name, public, command)
}

// authoriseKey does so with a public key.
func (m *Machine) authoriseKey(name, public, command string) error {
	line := fmt.Sprintf("restrict,command=%q %s", command, public)
	return os.WriteFile(m.Path("etc/ssh/keys/"+name), []byte(line), 0o644)
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
