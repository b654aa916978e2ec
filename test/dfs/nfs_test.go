//go:build ceph && cgo

// Package dfs_test proves that a distributed file system which is exported by NFS serves as any other NFS server does.
package dfs_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph/cephtest"
	"github.com/dvol/dvold/backends/nfs"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

func TestMain(m *testing.M) { cephtest.Main(m) }

// exported is the directory of the CephFS, and server where Ganesha answers, in the guest.
const (
	exported = "/volumes-by-nfs"
	server   = "10.97.0.2"
)

// modules are those of the kernel's clients of NFS and CephFS, and of what they need.
var modules = []string{
	"fs/netfs/netfs", "fs/ceph/ceph",
	"net/sunrpc/sunrpc", "fs/nfs_common/grace", "fs/lockd/lockd", "fs/fscache/fscache", "fs/nfs_common/nfs_acl",
	"net/dns_resolver/dns_resolver", "fs/nfs/nfs", "fs/nfs/nfsv4",
}

// A CephFS exported by NFS-Ganesha, on hosts that have no client of Ceph: all that is written by NFS is in the CephFS, and
// what others write there is in the volume.
func TestCephFS(t *testing.T) {
	hosttest.Need(t, "root", os.Geteuid() == 0)
	cephtest.Need(t)
	library, err := filepath.Glob("/usr/lib/*/ganesha/libfsalceph.so")
	hosttest.Need(t, "ganesha.nfsd", err == nil && len(library) > 0)
	if !cephtest.InGuest(t, modules) {
		return
	}
	ceph := mountCephFS(t)
	if err := os.Mkdir(filepath.Join(ceph, exported), 0o755); err != nil {
		t.Fatal(err)
	}
	startGanesha(t)
	for _, test := range []struct {
		name string
		o    backends.MountOptions
	}{{"shared", backends.MountOptions{}}, {"exclusive", backends.MountOptions{Alone: true}}} {
		t.Run(test.name, func(t *testing.T) { testLife(t, ceph, test.o) })
	}
}

// testLife leads a volume through its life.
func testLife(t *testing.T, ceph string, o backends.MountOptions) {
	c := nfs.DefaultConfig()
	c.Server, c.Export = server, exported
	p, err := nfs.Open(c, "nas", hosttest.Dir(t), slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	v, err := p.Plan(t.Context(), backends.Request{ID: "db.0123456789ab"})
	for range 2 {
		if err == nil {
			err = p.Create(t.Context(), v)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	target := hosttest.Subdir(t, hosttest.Dir(t), "target")
	for range 2 {
		if err := p.Mount(t.Context(), v.Handle, target, o); err != nil {
			t.Fatal(err)
		}
	}
	here, there := filepath.Join(target, "file"), filepath.Join(ceph, exported, v.Handle, "file")
	write(t, here, "by NFS")
	want(t, there, "by NFS")
	write(t, there, "by the CephFS")
	within(t, "what the CephFS has", func() error { return has(here, "by the CephFS") }) // an attribute is believed for some seconds
	if err := os.Rename(here, here+"2"); err != nil {
		t.Error(err)
	}
	want(t, there+"2", "by the CephFS")
	if err := p.Remove(t.Context(), v.Handle); !errors.Is(err, backends.ErrInUse) {
		t.Errorf("remove what is mounted: got %v", err)
	}
	for range 2 {
		if err := p.Unmount(t.Context(), v.Handle, target); err != nil {
			t.Fatal(err)
		}
	}
	if mounted, err := host.IsMountpoint(target); mounted || err != nil {
		t.Errorf("mounted: %t, %v", mounted, err)
	}
	if err := p.Remove(t.Context(), v.Handle); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Dir(there)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("removed, and in the CephFS: %v", err)
	}
}

// mountCephFS mounts all of it.
func mountCephFS(t *testing.T) (dir string) {
	t.Helper()
	dir = hosttest.Dir(t)
	cephtest.MountCephFS(t, "", dir)
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// startGanesha starts one that exports the directory, and ends with the test.
func startGanesha(t *testing.T) {
	t.Helper()
	dir := hosttest.Tmpfs(t, "mode=755")
	config, log, conf := filepath.Join(dir, "ganesha.conf"), filepath.Join(dir, "log"), filepath.Join(dir, "ceph.conf")
	for file, text := range map[string]string{
		conf: "[global]\nmon_host = " + os.Getenv("CEPH_CLUSTER") + "\nkeyring = " + cephtest.Keyring("files") + "\n[client]\nlog_file =\nadmin_socket =\n",
		config: fmt.Sprintf(`NFS_CORE_PARAM { NFS_Port = 2049; Protocols = 4; Enable_NLM = false; Enable_RQUOTA = false; }
NFSv4 { Graceless = true; Lease_Lifetime = 5; RecoveryBackend = fs; RecoveryRoot = %s; Minor_Versions = 1, 2; }
CEPH { Ceph_Conf = %s; }
EXPORT {
  Export_Id = 1; Path = %[3]s; Pseudo = %[3]s; Protocols = 4; Transports = TCP; SecType = sys;
  Access_Type = RW; Squash = No_Root_Squash;
  FSAL { Name = CEPH; User_Id = "files"; Secret_Access_Key = "%[4]s"; }
}
`, hosttest.Subdir(t, dir, "state"), conf, exported, cephtest.Key(t, "files")),
	} {
		write(t, file, text)
	}
	for _, state := range []string{"/var/lib", "/var/log"} { // the root is read-only
		if err := unix.Mount("state", state, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.MkdirAll("/run/ganesha", 0o755), os.MkdirAll("/var/lib/nfs/ganesha", 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("ganesha.nfsd", "-F", "-f", config, "-L", log, "-p", filepath.Join(dir, "pid"), "-N", "NIV_WARN")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if said, err := os.ReadFile(log); err == nil && t.Failed() {
			t.Logf("the server said:\n%s", said)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // reports the kill
	})
	within(t, "server", func() error {
		conn, err := net.Dial("tcp", net.JoinHostPort(server, "2049"))
		if err == nil {
			conn.Close()
		}
		return err
	})
}

func within(t *testing.T, what string, done func() error) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		err := done()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("no %s: %v", what, err)
		}
	}
}

// write writes a file, and has it be with the storage.
func write(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func has(path, text string) error {
	got, err := os.ReadFile(path)
	if err == nil && string(got) != text {
		err = fmt.Errorf("got %q, want %q", got, text)
	}
	return err
}

func want(t *testing.T, path, text string) {
	t.Helper()
	if err := has(path, text); err != nil {
		t.Error(err)
	}
}
