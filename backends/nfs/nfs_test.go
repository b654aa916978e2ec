package nfs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/backendtest"
	"github.com/dvol/dvold/internal/host/guesttest"
	"github.com/dvol/dvold/internal/host/hosttest"
	"github.com/dvol/dvold/test/daemon"
)

// clientModules are what a guest needs of its kernel.
var clientModules = []string{"net/sunrpc/sunrpc", "fs/nfs_common/grace", "fs/lockd/lockd", "fs/netfs/netfs", "fs/fscache/fscache", "fs/nfs_common/nfs_acl",
	"net/dns_resolver/dns_resolver", "fs/nfs/nfs", "fs/nfs/nfsv3", "fs/nfs/nfsv4", "drivers/net/veth"}

// In one test, because it needs a guest: a kernel with an NFS client, and a network in
// which a server is in nobody's way.
func TestServer(t *testing.T) {
	hosttest.Root(t)
	for _, command := range []string{"ganesha.nfsd", "rpcbind"} {
		_, err := exec.LookPath(command)
		hosttest.Need(t, command, err == nil)
	}
	if !guesttest.Inside() {
		t.Parallel()
		guesttest.Guest{Load: clientModules, Env: []string{dvoldBinary + "=" + daemon.Build(t, "CGO_ENABLED=0")}}.Run(t)
		return
	}
	s := startServer(t)
	t.Run("Conformance", func(t *testing.T) { testConformance(t, s, "4.2") })
	for _, version := range []string{"", "4.1", "3"} {
		t.Run("Life/"+version, func(t *testing.T) { testLife(t, newPool(t, s.exported, version)) })
	}
	for name, test := range map[string]func(*testing.T, server){
		"Refused": testRefused, "RootSquash": testRootSquash, "Owner": testOwner, "Alone": testAlone, "Hung": testHung, "Shared": testShared, "Changed": testChanged, "Planted": testPlanted, "Share": testShare,
		"ReadOnly": testReadOnly, "Migrate": testMigrateToGanesha, "Restarted": testRestarted, "Stale": testStale, "Many": testMany, "Moved": testMoved, "Daemon": testDaemon,
	} {
		t.Run(name, func(t *testing.T) { test(t, s) })
	}
}

func testConformance(t *testing.T, s server, version string) {
	backendtest.Run(t, func(t *testing.T) backendtest.Fixture {
		run, c := hosttest.Dir(t), newPool(t, s.exported, version)
		return backendtest.Fixture{
			Open: func(t *testing.T) backends.Backend { return openPool(t, run, c) },
			Adopt: func(t *testing.T) string {
				name := "Söme data " + filepath.Base(t.TempDir())
				if err := os.Mkdir(filepath.Join(s.exported, c.Subdir, name), 0o700); err != nil {
					t.Fatal(err)
				}
				return name
			},
			Settles:  100 * time.Millisecond, // so that there are fewer rounds: a guest is slow
			TakeAway: takeAway,
		}
	})
}
