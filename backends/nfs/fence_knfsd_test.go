package nfs_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host/guesttest"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// knfsdModules are what a guest needs of its kernel to be a server, too.
var knfsdModules = append(slices.Clone(clientModules), "lib/oid_registry", "net/sunrpc/auth_gss/auth_rpcgss", "fs/nfsd/nfsd", "drivers/block/loop")

// fence-knfsd of examples/fence, with the server of a Linux kernel.
func TestFenceKnfsd(t *testing.T) {
	hosttest.Root(t)
	for _, command := range []string{"exportfs", "rpc.mountd", "rpc.nfsd", "rpcbind", "mkfs.ext4", "perl"} {
		_, err := exec.LookPath(command)
		hosttest.Need(t, command, err == nil)
	}
	if !guesttest.Inside() {
		guesttest.Together(t, guesttest.Guest{
			Load:     knfsdModules,
			Programs: []string{"../../examples/fence/fence-knfsd"},
		}, guesttest.Guest{Load: clientModules, Env: []string{otherHost + "=1"}})
		return
	}
	if os.Getenv(otherHost) != "" {
		runFencedHost(t, meet(t, 2))
		return
	}
	prepare(t)
	m := meet(t, 1)
	run(t, "ip", "address", "add", serverAddress+"/24", "dev", "vec0")
	s := newKnfsd(t, newDisk(t))
	h1 := fencedBy(t, m)
	t.Run("Migrate", func(t *testing.T) { testMigrateToKnfsd(t, s) })
	t.Run("Refused", func(t *testing.T) { testKnfsdRefused(t, s) })
	t.Run("DeadClientUnfenced", func(t *testing.T) { testDeadClient(t, s, h1, false) })
	t.Run("Hazard02DeadClientDelivers", func(t *testing.T) { testDeadClient(t, s, h1, true) })
	t.Run("3", func(t *testing.T) { testFrozen(t, s, h1, "3", true) })
	t.Run("4.2", func(t *testing.T) { testFrozen(t, s, h1, "4.2", true) })
	t.Run("Unfenced", func(t *testing.T) { testFrozen(t, s, h1, "4.2", false) })
}

// knfsd is the server of the kernel.
type knfsd struct{}

// newKnfsd starts one that exports a disk to the hosts.
func newKnfsd(t *testing.T, disk string) *fencing {
	t.Helper()
	ownEtc(t)
	s := &fencing{nfsServer: knfsd{}, program: "fence-knfsd", disk: disk, path: "/", file: "/etc/exports.d/volumes.exports", options: ",timeo=50", hangs: true}
	const options = "rw,sync,fsid=0,no_root_squash,no_subtree_check"
	s.admits = fmt.Sprintf("# who has the volumes\n%s %s(%s) # h1\n%s %s(%s) # h2\n", disk, fencedAddress, options, disk, serverAddress, options)
	writeText(t, s.file, s.admits)
	run(t, "mount", "-t", "nfsd", "nfsd", "/proc/fs/nfsd")
	for file, seconds := range map[string]string{
		"/proc/fs/nfsd/nfsv4leasetime": "10", "/proc/fs/nfsd/nfsv4gracetime": "10",
		"/proc/sys/fs/nfs/nlm_grace_period": "1", // locks of version 4 wait for that, too
	} {
		writeText(t, file, seconds)
	}
	hosttest.Subdir(t, "/var/lib/nfs", "v4recovery")
	writeText(t, "/var/lib/nfs/rmtab", "")
	start(t, "rpc.mountd", "--foreground", "--port", "20048")
	s.start(t)
	t.Cleanup(func() {
		s.kill(t)
		run(t, "exportfs", "-ua") // or the disk is busy
		run(t, "exportfs", "-f")
	})
	return s
}

// ownEtc has the guest's /etc be one that can be written to.
func ownEtc(t *testing.T) {
	t.Helper()
	was := hosttest.Subdir(t, hosttest.Dir(t), "etc")
	if err := unix.Mount("/etc", was, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(was)
	if err == nil {
		err = unix.Mount("etc", "/etc", "tmpfs", 0, "mode=755")
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.Symlink(filepath.Join(was, e.Name()), filepath.Join("/etc", e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	_ = os.Remove("/etc/exports")
	_ = os.Remove("/etc/exports.d")
	writeText(t, "/etc/exports", "") // without it exportfs has an error
	hosttest.Subdir(t, "/etc", "exports.d")
}

func (knfsd) start(t *testing.T) {
	t.Helper()
	run(t, "exportfs", "-r")
	run(t, "rpc.nfsd", "4")
	writeText(t, "/proc/fs/nfsd/v4_end_grace", "Y")
}

func (knfsd) kill(t *testing.T) { t.Helper(); run(t, "rpc.nfsd", "0") }

// What leaves it open whether a host is refused is an error, that says why.
func testKnfsdRefused(t *testing.T, s *fencing) {
	for name, test := range map[string]struct{ also, want string }{
		"everybody":          {s.disk + " *(rw,fsid=0)", "admits * to " + s.disk},
		"a network":          {s.disk + " 10.96.0.0/24(rw,fsid=0)", "admits 10.96.0.0/24 to"},
		"below":              {filepath.Join(s.disk, "lost+found") + " " + fencedAddress + "(rw)", "admits " + fencedAddress + " to " + s.disk + "/lost+found"},
		"a host in no lines": {"", "no line of " + s.file + " is of h3"},
		"another form":       {"", "want nothing in " + s.file},
		"another file":       {"", "and not /run/volumes.exports"},
	} {
		t.Run(name, func(t *testing.T) {
			s, host := *s, "h1"
			other := filepath.Join(filepath.Dir(s.file), "other.exports")
			writeText(t, other, test.also+"\n")
			run(t, "exportfs", "-r")
			switch name {
			case "a host in no lines":
				host = "h3"
			case "another form":
				writeText(t, s.file, s.admits+s.disk+" @netgroup(rw)\n")
			case "another file":
				s.file = "/run/volumes.exports"
			}
			if err := s.fence("fence", host); err == nil || !strings.Contains(err.Error(), test.want) || strings.Count(err.Error(), "\n") > 1 {
				t.Errorf("got %v, want %q", err, test.want)
			}
			s.file = "/etc/exports.d/volumes.exports"
			if err := os.Remove(other); err != nil {
				t.Fatal(err)
			}
			writeText(t, s.file, s.admits)
			run(t, "exportfs", "-r")
		})
	}
}
