package nfs_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/nfs"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// otherHost is set in the environment of the guest that is the second host. The first has
// the server.
const otherHost = "DVOLD_NFS_OTHER_HOST"

// rounds is how often each host takes a lock.
const rounds = 10

// patience is how long one host waits for the other.
const patience = 5 * time.Minute

// forHosts is exported by that path, for a host that does not know any other.
const forHosts = "/hosts"

// Two hosts, each with a kernel of its own, have a volume mounted at once.
func testHosts(t *testing.T, m meeting, number int) {
	c := nfs.DefaultConfig()
	c.Server, c.Export = hostAddress(1), forHosts
	p := openPool(t, hosttest.Dir(t), c)
	handle := "volumes/" + id
	if number == 1 {
		create(t, p, backends.Request{})
	}
	m.wait(t)
	target := mount(t, p, handle, backends.MountOptions{})
	mine, others := filepath.Join(target, fmt.Sprint("of-", number)), filepath.Join(target, fmt.Sprint("of-", 3-number))

	for _, text := range []string{"first", "then", "last, and longer"} { // what one has closed the other sees when it opens it
		want := fmt.Sprintf("%s by %d", text, 3-number)
		if err := os.WriteFile(mine, fmt.Appendf(nil, "%s by %d", text, number), 0o600); err != nil {
			t.Fatal(err)
		}
		m.wait(t)
		if got, err := os.ReadFile(others); string(got) != want {
			t.Errorf("of the other host: got %q, %v, want %q", got, err, want)
		}
		m.wait(t)
	}

	for _, by := range []struct {
		name  string
		count func(path string, number int) error
	}{{"lock-file", countByFile}, {"fcntl", countByFcntl}} {
		path := filepath.Join(target, by.name)
		m.wait(t)
		for range rounds {
			if err := by.count(path, number); err != nil {
				t.Fatalf("%s: %v", by.name, err)
			}
		}
		m.wait(t)
		checkLedger(t, path, 2*rounds)
	}
	unmount(t, p, handle, target)
	m.wait(t)
	if number == 1 {
		if err := p.Remove(t.Context(), handle); err != nil {
			t.Error(err)
		}
	}
}

// countByFile adds a line to a ledger while it has a file that nobody else could make.
func countByFile(path string, number int) error {
	var lock *os.File
	err := locked(func() (err error) {
		lock, err = os.OpenFile(path+".lock", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		return err
	}, os.ErrExist)
	if err != nil {
		return err
	}
	defer lock.Close()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = errors.Join(addLine(f, number), f.Close())
	}
	return errors.Join(err, os.Remove(lock.Name()))
}

// countByFcntl adds a line to a ledger while it has a lock on it.
func countByFcntl(path string, number int) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	all := unix.Flock_t{Type: unix.F_WRLCK}
	if err := locked(func() error { return unix.FcntlFlock(f.Fd(), unix.F_SETLK, &all) }, unix.EAGAIN); err != nil {
		return err
	}
	if err := addLine(f, number); err != nil {
		return err
	}
	all.Type = unix.F_UNLCK
	return unix.FcntlFlock(f.Fd(), unix.F_SETLK, &all)
}

// locked calls lock until it does not fail because the other host has it.
func locked(lock func() error, has error) error {
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if err := lock(); !errors.Is(err, has) || time.Now().After(end) {
			return err
		}
	}
}

// addLine adds a line to a ledger: how many there were, and whose it is.
func addLine(f *os.File, number int) error {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
	if err != nil {
		return err
	}
	_, err = f.WriteAt(fmt.Appendf(nil, "%d of %d\n", strings.Count(string(text), "\n"), number), int64(len(text)))
	return err
}

// checkLedger has the test fail unless each line was written by who saw all before.
func checkLedger(t *testing.T, path string, want int) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(lines) != want {
		t.Errorf("%s has %d lines, want %d", filepath.Base(path), len(lines), want)
	}
	for n, line := range lines {
		if !strings.HasPrefix(line, fmt.Sprintf("%d of ", n)) {
			t.Errorf("%s: line %d is %q", filepath.Base(path), n, line)
		}
	}
}

// meeting is a connection by which the hosts wait for each other.
type meeting struct{ conn net.Conn }

func hostAddress(number int) string { return fmt.Sprint("10.98.0.", number) }

// meet gives a host its name and address, and finds the other. To a server, two clients
// of one name are one that was started again.
func meet(t *testing.T, number int) meeting {
	t.Helper()
	if err := unix.Sethostname(fmt.Append(nil, "host", number)); err != nil {
		t.Fatal(err)
	}
	run(t, "ip", "address", "add", hostAddress(number)+"/24", "dev", "vec0")
	run(t, "ip", "link", "set", "vec0", "up")
	at := net.JoinHostPort(hostAddress(1), "7000")
	var conn net.Conn
	var err error
	if number == 1 {
		var l net.Listener
		if l, err = net.Listen("tcp", at); err == nil {
			_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
			conn, err = l.Accept()
			l.Close()
		}
	} else {
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			if conn, err = net.DialTimeout("tcp", at, time.Second); err == nil {
				break
			}
		}
	}
	if err != nil {
		t.Fatalf("the other host does not come: %v", err)
	}
	t.Cleanup(func() { conn.Close() })
	return meeting{conn}
}

// wait waits until the other host has come as far.
func (m meeting) wait(t *testing.T) {
	t.Helper()
	err := m.conn.SetDeadline(time.Now().Add(patience))
	if err == nil {
		_, err = m.conn.Write([]byte{0})
	}
	if err == nil {
		_, err = io.ReadFull(m.conn, make([]byte, 1))
	}
	if err == nil {
		err = m.conn.SetDeadline(time.Time{})
	}
	if err != nil {
		t.Fatalf("the other host comes no more: %v", err)
	}
}
