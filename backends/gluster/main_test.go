package gluster_test

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends/gluster"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// servers are the addresses of the GlusterFS nodes.
func servers() []string { return strings.Fields(os.Getenv("GLUSTER_NODES")) }

// open opens a pool on gv0, whose clients end with the test.
func open(t *testing.T, run string, change func(*gluster.Config)) *gluster.Pool {
	t.Helper()
	c := gluster.DefaultConfig()
	c.Servers, c.Volume, c.LogDir = servers(), "gv0", run
	if change != nil {
		change(&c)
	}
	p, err := gluster.Open(c, "pool", run, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close()
		endClients(t, filepath.Join(run, "gluster", "pool"))
	})
	return p
}

// endClients ends what clients a pool has, and what is mounted of them.
func endClients(t *testing.T, dir string) {
	t.Helper()
	points, err := os.ReadDir(dir)
	if err != nil {
		t.Error(err)
	}
	for _, point := range points {
		path := filepath.Join(dir, point.Name())
		processes, err := gluster.ClientsAt(path)
		if err != nil {
			t.Error(err)
		}
		for _, p := range processes {
			_ = unix.Kill(p.PID, unix.SIGKILL)
			for p.Alive() {
				time.Sleep(time.Millisecond)
			}
		}
		for unix.Unmount(path, unix.MNT_DETACH) == nil {
		}
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

// root is where a client of the tests has all of gv0 mounted.
func root(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(os.Getenv("WORLD"), "gv0")
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	args := []string{"--process-name=fuse", "--volfile-id=gv0", "--log-file=" + dir + ".log"}
	for _, s := range servers() {
		args = append(args, "--volfile-server="+s)
	}
	pools := filepath.Join(dir, "pools")
	for range 100 {
		mounted, err := host.IsMountpoint(dir)
		if err != nil {
			t.Fatal(err)
		}
		if mounted {
			// What is made is new, so that it is the bricks that answer.
			if err := os.MkdirAll(filepath.Join(pools, fmt.Sprintf("%08x", rand.Uint32())), 0o755); err == nil {
				return dir
			}
			_ = unix.Unmount(dir, unix.MNT_DETACH) // a client that was refused has ended
		}
		_ = exec.Command("glusterfs", append(args, dir)...).Run() // it may be refused
		time.Sleep(50 * time.Millisecond)                         // one that is refused ends a moment later
	}
	t.Fatal("gv0 can't be mounted")
	return ""
}

// newSubdir makes a directory of gv0 for the test, on all bricks: one that has just
// come back, and was not healed yet, refuses a client with a root that it lacks, and
// the client ends.
func newSubdir(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("pools/%08x", rand.Uint32())
	if err := os.Mkdir(filepath.Join(root(t), name), 0o755); err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		found, err := filepath.Glob(filepath.Join(nodeDir("g[123]"), "brick/gv0", name))
		if err != nil || time.Now().After(limit) {
			t.Fatalf("%s is on %v alone: %v", name, found, err)
		}
		if len(found) == 3 {
			return name
		}
		_ = onNode(t, "g1", "gluster", "volume", "heal", "gv0").Run() // not all may be ready for it
	}
}

// cutOff has the servers refuse this host's packets until the test has ended.
func cutOff(t *testing.T) {
	t.Helper()
	for _, s := range servers() {
		rule := []string{"OUTPUT", "-d", s, "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"}
		if out, err := exec.Command("iptables", append([]string{"-w", "-I"}, rule...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		t.Cleanup(func() {
			if out, err := exec.Command("iptables", append([]string{"-w", "-D"}, rule...)...).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// TestMain runs the tests in a world with three GlusterFS nodes, in which the
// test program is started once more.
func TestMain(m *testing.M) {
	if len(servers()) > 0 || missing() != "" {
		os.Exit(m.Run())
	}
	os.Exit(hosttest.InWorld("backends/gluster/testdata/nodes.bash"))
}

// missing says what the tests need and this machine lacks, or is empty.
func missing() string {
	if os.Geteuid() != 0 {
		return "root"
	}
	for _, name := range []string{"glusterd", "gluster", "glusterfs", "ip", "nsenter", "iptables"} {
		if _, err := exec.LookPath(name); err != nil {
			return name
		}
	}
	return ""
}

// need skips the test, or fails it where it is required, without GlusterFS.
func need(t *testing.T) {
	t.Helper()
	hosttest.Need(t, "root", os.Geteuid() == 0)
	hosttest.Need(t, "gluster", len(servers()) > 0)
}
