package nfs_test

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
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
	*ganesha
	exported string // to whoever asks
	squashed string // likewise, but root is nobody there
	readOnly string // likewise, but nothing can be written there
}

// prepare has the guest fit for servers.
func prepare(t *testing.T) {
	t.Helper()
	for _, state := range []string{"/var/lib/nfs", "/var/log"} { // the root is read-only
		if err := unix.Mount("state", state, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll("/run/ganesha", 0o755); err != nil {
		t.Fatal(err)
	}
	start(t, "rpcbind", "-w", "-f")
}

// startServer starts one that ends with the test.
func startServer(t *testing.T) server {
	t.Helper()
	prepare(t)
	dir := hosttest.Tmpfs(t, "mode=755")
	s := server{exported: hosttest.Subdir(t, dir, "exported"), squashed: hosttest.Subdir(t, dir, "squashed"), readOnly: hosttest.Subdir(t, dir, "read-only")}
	addAddress(t)
	s.ganesha = newGanesha(t, dir, address, nil, export{path: s.exported}, export{path: s.squashed, options: "Squash = Root_Squash;"},
		export{path: s.readOnly, options: "Access_Type = RO;"})
	return s
}

// ganesha is a process of NFS-Ganesha, which may be started again.
type ganesha struct {
	t       *testing.T
	args    []string
	address string
	process *os.Process
}

// export is a directory that is exported.
type export struct {
	path    string
	as      string // the path by which clients of version 4 find it; empty means path
	options string // over the defaults
	file    string // unless empty, that of its configuration, and the rest is not used
	more    string // of the configuration, that is of the server
}

// newGanesha starts one that ends with the test, with its state in dir, and waits until it
// answers at the address. in is a command that it is run by, or nil.
func newGanesha(t *testing.T, dir, address string, in []string, exports ...export) *ganesha {
	t.Helper()
	config, log, state := filepath.Join(dir, "ganesha.conf"), filepath.Join(dir, "log"), hosttest.Subdir(t, dir, "state")
	text := `NFS_CORE_PARAM { NFS_Port = 2049; MNT_Port = 20048; Protocols = 3, 4; Enable_NLM = false; Enable_RQUOTA = false; }
NFSv4 { Graceless = true; Lease_Lifetime = 5; RecoveryBackend = fs; RecoveryRoot = ` + state + `; Minor_Versions = 1, 2; Only_Numeric_Owners = true; }
EXPORT_DEFAULTS { Access_Type = RW; Squash = No_Root_Squash; Anonymous_Uid = 65534; Anonymous_Gid = 65534; SecType = sys; Protocols = 3, 4; Transports = TCP; }
`
	for n, e := range exports {
		if e.file != "" {
			text += "%include " + e.file + "\n"
			continue
		}
		protocols := ""
		if e.as == "" {
			e.as = e.path
		} else { // version 3 knows paths alone
			protocols = "Protocols = 4;"
		}
		text += e.more + fmt.Sprintf("EXPORT { Export_Id = %d; Path = %s; Pseudo = %s; %s %s FSAL { Name = VFS; } }\n", n+1, e.path, e.as, protocols, e.options)
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if said, err := os.ReadFile(log); err == nil && t.Failed() {
			t.Logf("the server said:\n%s", said)
		}
	})
	g := &ganesha{t: t, address: address}
	g.args = append(slices.Clone(in), "ganesha.nfsd", "-F", "-f", config, "-L", log, "-p", filepath.Join(dir, "pid"), "-N", "NIV_WARN")
	g.start(t)
	return g
}

// start starts the server, and waits until it answers.
func (g *ganesha) start(t *testing.T) {
	t.Helper()
	g.process = start(g.t, g.args...)
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		conn, err := net.Dial("tcp", net.JoinHostPort(g.address, "2049"))
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the server does not come up: %v", err)
		}
	}
}

// kill ends the server as a crash does.
func (g *ganesha) kill(t *testing.T) {
	t.Helper()
	if err := g.process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = g.process.Wait() // reports the kill
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
func (g *ganesha) freeze(t *testing.T) (thaw func()) {
	t.Helper()
	return hosttest.Freeze(t, g.process.Pid)
}

func run(t *testing.T, args ...string) { t.Helper(); runWith(t, "", args...) }

// runWith is run for what reads its input.
func runWith(t *testing.T, input string, args ...string) {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
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
	return openNamed(t, run, "pool", c)
}

func openNamed(t *testing.T, run, name string, c nfs.Config) *nfs.Pool {
	t.Helper()
	p, err := nfs.Open(c, name, run, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}
