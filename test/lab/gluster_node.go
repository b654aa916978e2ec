package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// GlusterNode is a machine with a brick of the Gluster volume.
type GlusterNode struct {
	*Machine
	Glusterd *Daemon
	Sshd     *Daemon // by which hosts manage the volume
}

// newGlusterNode describes a node that is to run on a machine.
func newGlusterNode(m *Machine) *GlusterNode {
	n := &GlusterNode{Machine: m, Sshd: newSshd(m)}
	argv := func(args []string) []string {
		return append([]string{"glusterd", "--no-daemon", "--pid-file=/run/glusterd.pid", "--log-file=/dev/stderr", "--log-level=ERROR"}, args...)
	}
	answers := func(ctx context.Context) error {
		// One that is too early waits for seconds.
		conn, err := new(net.Dialer).DialContext(ctx, "unix", n.Path("run/glusterd.socket"))
		if err != nil {
			return err
		}
		conn.Close()
		_, err = n.gluster(ctx, "pool", "list")
		return err
	}
	n.Glusterd = &Daemon{name: "glusterd", m: m, argv: argv, answers: answers, patience: startTime}
	n.Glusterd.prepare = func(*exec.Cmd) error { return os.MkdirAll(m.Path("run/gluster"), 0o755) }
	m.daemons = []*Daemon{n.Glusterd, n.Sshd}
	return n
}

// Brick is where a file of the volume lies on the node's disk.
func (n *GlusterNode) Brick(name string) string {
	return n.Path(filepath.Join("brick", GlusterVolume, name))
}

// gluster runs gluster(8) on the node.
func (n *GlusterNode) gluster(ctx context.Context, args ...string) (string, error) {
	return n.Exec(ctx, append([]string{"gluster", "--mode=script"}, args...)...)
}

// start starts the node's daemons. Bricks are glusterd's business.
func (n *GlusterNode) start(ctx context.Context) error {
	for _, d := range n.daemons {
		if d.Running() {
			continue
		}
		if err := d.Start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// kill ends all of GlusterFS on the node, and waits until it is gone.
func (n *GlusterNode) kill() error {
	const script = "for name in glusterd glusterfsd glusterfs gluster; do while busybox killall -q -KILL $name; do sleep 0.02; done; done"
	ctx, cancel := context.WithTimeout(context.Background(), killTime)
	defer cancel()
	if _, err := n.Exec(ctx, "sh", "-c", script); err != nil {
		return fmt.Errorf("kill GlusterFS on %s: %w", n.name, err)
	}
	if !n.Glusterd.Running() {
		return nil
	}
	return n.Glusterd.Kill() // which waits until it is reaped
}

// killTime is how long it may take until what was killed is gone.
const killTime = 30 * time.Second

// BrickPID is the process of the node's brick, as the node counts; 0 if it has
// ended.
func (n *GlusterNode) BrickPID() (int, error) {
	files, err := filepath.Glob(n.Path("run/gluster/vols/" + GlusterVolume + "/*.pid"))
	if err != nil || len(files) == 0 || !n.Up() {
		return 0, err
	}
	f, err := os.OpenFile(files[0], os.O_RDWR, 0)
	if err != nil {
		return 0, fmt.Errorf("brick of %s: %w", n.name, err)
	}
	defer f.Close()
	// A brick holds a lock on the file for as long as it lives.
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
		return 0, fmt.Errorf("brick of %s: %w", n.name, err)
	}
	if lock.Type == unix.F_UNLCK {
		return 0, nil
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		return 0, fmt.Errorf("brick of %s: %w", n.name, err)
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// KillBrick ends the node's brick, and it alone, as a crash would. Gluster.Start
// starts it again.
func (n *GlusterNode) KillBrick(ctx context.Context) error {
	pid, err := n.BrickPID()
	if err == nil && pid == 0 {
		err = errors.New("it does not run")
	}
	if err == nil {
		_, err = n.Exec(ctx, "kill", "-KILL", strconv.Itoa(pid))
	}
	if err == nil {
		err = poll(ctx, func() error {
			if now, err := n.BrickPID(); err != nil || now == pid {
				return fmt.Errorf("it still runs (%w)", err)
			}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("kill brick of %s: %w", n.name, err)
	}
	return nil
}
