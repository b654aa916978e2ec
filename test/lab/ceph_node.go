package lab

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// CephNode is a machine with daemons of a Ceph cluster. What they keep is on the
// machine's disk.
type CephNode struct {
	*Machine
	Mon, OSD, MDS *Daemon
	Mgr           *Daemon // nil on c3

	number int      // of its OSD
	uuid   string   // of its OSD's disk
	monmap []string // the command that writes down where all monitors are
}

// managers is how many nodes have a manager, of which one is at work: it is much of
// Python, and not on the way of data.
const managers = 2

// newCephNode describes a node that is to run on a machine.
func newCephNode(m *Machine, number int) *CephNode {
	n := &CephNode{Machine: m, number: number, uuid: strings.TrimSpace(newID())}
	n.Mon, n.OSD, n.MDS = n.daemon("mon"), n.daemon("osd"), n.daemon("mds")
	m.daemons = []*Daemon{n.Mon, n.OSD, n.MDS}
	if number < managers {
		n.Mgr = n.daemon("mgr")
		m.daemons = append(m.daemons, n.Mgr)
	}
	return n
}

// daemon describes one of Ceph's. It answers once it can be asked how it is.
func (n *CephNode) daemon(kind string) *Daemon {
	argv := func(args []string) []string {
		return append([]string{"ceph-" + kind, "--foreground", "--id", n.id(kind)}, args...)
	}
	answers := func(ctx context.Context) error { return n.ask(ctx, kind, "version", nil) }
	d := &Daemon{name: kind, m: n.Machine, argv: argv, answers: answers, patience: cephTime}
	d.prepare = func(*exec.Cmd) error { return n.prepareDaemon(kind) }
	return d
}

// id is what Ceph calls one of the node's daemons.
func (n *CephNode) id(kind string) string {
	if kind == "osd" {
		return fmt.Sprint(n.number)
	}
	return n.name
}

// Data is where a daemon of the node keeps what it has to.
func (n *CephNode) data(kind string) string { return n.Path(filepath.Join("ceph", kind)) }

// prepareDaemon makes what a daemon finds when it starts: its directory, the first
// time, and no socket of one that was killed.
func (n *CephNode) prepareDaemon(kind string) error {
	if err := os.MkdirAll(n.Path("run/ceph"), 0o755); err != nil {
		return err
	}
	if err := os.Remove(n.socket(kind)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Mkdir(n.data(kind), 0o755); errors.Is(err, os.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), cephTime)
	defer cancel()
	var err error
	switch kind {
	case "mon":
		if _, err = n.Exec(ctx, n.monmap...); err != nil {
			break
		}
		_, err = n.Exec(ctx, "ceph-mon", "--mkfs", "--id", n.id(kind), "--monmap", n.Path("etc/ceph/monmap"), "--keyring", n.Path("etc/ceph/ceph.keyring"))
	case "osd":
		_, err = n.Exec(ctx, "ceph-osd", "--mkfs", "--id", n.id(kind), "--osd-uuid", n.uuid)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(n.data(kind))) // to be made again; a directory of our own, where nothing is mounted
	}
	return nil
}

// startDaemon starts one of the node's daemons, unless it runs.
func (n *CephNode) startDaemon(ctx context.Context, d *Daemon) error {
	if !n.Up() || d.Running() {
		return nil
	}
	return d.Start(ctx)
}

// startOthers starts the daemons that need monitors.
func (n *CephNode) startOthers(ctx context.Context) error {
	return each(n.daemons[1:], func(d *Daemon) error { return n.startDaemon(ctx, d) })
}

// kill ends all of Ceph on the node.
func (n *CephNode) kill() error {
	return each(n.daemons, func(d *Daemon) error {
		if !d.Running() {
			return nil
		}
		return d.Kill()
	})
}

// socket is where a daemon of the node can be asked.
func (n *CephNode) socket(kind string) string {
	return n.Path(fmt.Sprintf("run/ceph/%s.%s.asok", kind, n.id(kind)))
}

// ask gives a daemon of the node a command, and reads the answer into a value,
// unless that is nil. (The program ceph does the same, and takes half a second to
// start.)
func (n *CephNode) ask(ctx context.Context, kind, command string, answer any) error {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", n.socket(kind))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "{\"prefix\": %q, \"format\": \"json\"}\x00", command); err != nil {
		return err
	}
	var size uint32
	if err := binary.Read(conn, binary.BigEndian, &size); err != nil {
		return fmt.Errorf("ask the %s of %s: %w", kind, n.name, err)
	}
	text, err := io.ReadAll(io.LimitReader(conn, int64(size)))
	if err != nil || answer == nil {
		return err
	}
	return json.Unmarshal(text, answer)
}
