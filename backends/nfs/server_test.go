package nfs_test

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends/nfs"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// address is the server's: another one than lo's own, so that it can be taken
// away.
const address = "10.99.0.1"

// server is an NFS server in the guest.
type server struct {
	process  *os.Process
	args     []string
	exported string // to whoever asks
	squashed string // likewise, but root is nobody there
	fencing  string // to those that fences names
	fences   string // the configuration of that, which the fencer changes
	fencer   string // of examples/fence
	admits   string // what fences says before
}

// startServer starts one that ends with the test.
func startServer(t *testing.T) server {
	t.Helper()
	dir := hosttest.Tmpfs(t, "mode=755")
	s := server{exported: hosttest.Subdir(t, dir, "exported"), squashed: hosttest.Subdir(t, dir, "squashed")}
	for _, state := range []string{"/var/lib/nfs", "/var/log"} { // the root is read-only
		if err := unix.Mount("state", state, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	for _, state := range []string{"/var/lib/nfs/ganesha", "/run/ganesha"} {
		if err := os.MkdirAll(state, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	addAddress(t)
	start(t, "rpcbind", "-w", "-f")
	hosttest.Subdir(t, "/run", "dbus")
	start(t, "dbus-daemon", "--system", "--nofork", "--nopidfile")
	config := filepath.Join(dir, "ganesha.conf")
	text := `NFS_CORE_PARAM { NFS_Port = 2049; MNT_Port = 20048; Protocols = 3, 4; Enable_NLM = false; Enable_RQUOTA = false; }
NFSv4 { Graceless = true; Lease_Lifetime = 5; RecoveryBackend = fs; Minor_Versions = 0, 2; }
`
	for id, export := range []struct{ path, squash string }{{s.exported, "No_Root_Squash"}, {s.squashed, "Root_Squash"}} {
		text += fmt.Sprintf("EXPORT { Export_Id = %d; Path = %s; Pseudo = %s; Access_Type = RW; Squash = %s; Anonymous_Uid = 65534; Anonymous_Gid = 65534; SecType = sys; Protocols = 3, 4; Transports = TCP; FSAL { Name = VFS; } }\n",
			id+1, export.path, export.path, export.squash)
	}
	s.fencing, s.fences, s.fencer = hosttest.Subdir(t, dir, "fencing"), filepath.Join(dir, "fences.conf"), "fence-ganesha"
	s.admits = ganeshaAdmits(s.fencing)
	text += "%include " + s.fences + "\n"
	for path, text := range map[string]string{config: text, s.fences: s.admits} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := filepath.Join(dir, "log")
	t.Cleanup(func() {
		if said, err := os.ReadFile(log); err == nil && t.Failed() {
			t.Logf("the server said:\n%s", said)
		}
	})
	s.args = []string{"ganesha.nfsd", "-F", "-f", config, "-L", log, "-p", filepath.Join(dir, "pid"), "-N", "NIV_WARN"}
	s.start(t)
	return s
}

// start starts the server, and returns when it answers.
func (s *server) start(t *testing.T) {
	t.Helper()
	s.process = start(t, s.args...)
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		conn, err := net.Dial("tcp", net.JoinHostPort(address, "2049"))
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the server does not come up: %v", err)
		}
	}
}

// start starts a process that ends with the test.
func start(t *testing.T, args ...string) *os.Process {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // reports the kill
	})
	return cmd.Process
}

func addAddress(t *testing.T) { run(t, "ip", "address", "add", address+"/32", "dev", "lo") }

// takeAway has nothing reach the server until the test has ended.
func takeAway(t *testing.T) {
	t.Helper()
	run(t, "ip", "address", "delete", address+"/32", "dev", "lo")
	t.Cleanup(func() { addAddress(t) })
}

// freeze has the server say nothing until it is thawed, or the test has ended.
func (s server) freeze(t *testing.T) (thaw func()) {
	t.Helper()
	signal := func(n unix.Signal) {
		if err := s.process.Signal(n); err != nil {
			t.Error(err)
		}
	}
	signal(unix.SIGSTOP)
	thaw = func() { signal(unix.SIGCONT) }
	t.Cleanup(thaw)
	return thaw
}

func run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
}

// newPool makes a directory of an export for a test, and returns what a pool in it
// is configured with.
func newPool(t *testing.T, export, version string) nfs.Config {
	t.Helper()
	dir, err := os.MkdirTemp(export, "pool-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c := nfs.DefaultConfig()
	c.Server, c.Export, c.Subdir, c.Version = address, export, filepath.Base(dir), version
	if version == "3" {
		c.Options = []string{"nolock", "mountport=20048"}
	}
	return c
}

// openPool opens a pool whose mounts go with the test.
func openPool(t *testing.T, run string, c nfs.Config) *nfs.Pool {
	t.Helper()
	p, err := nfs.Open(c, "pool", run, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}
