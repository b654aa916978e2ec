package nfs_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host/hosttest"
	"github.com/dvol/dvold/test/daemon"
)

// dvoldBinary is set in the environment of the guest with the server.
const dvoldBinary = "DVOLD_NFS_BINARY"

// dvold leads volumes of the server through their lives, and through its own death.
func testDaemon(t *testing.T, s server) {
	c := newPool(t, s.exported, "4.2")
	site := hosttest.Subdir(t, s.exported, c.Subdir+"-site")
	share := c.Server + ":" + site
	d := daemon.New(t, os.Getenv(dvoldBinary), "h1", fmt.Sprintf("default_pool: nas\npools:\n  nas: {type: nfs, server: %s, export: %s, subdir: %s, mount_timeout: 3s, mount_grace: 0s, shares: ['%s']}\n  disk: {type: local, path: %s}\n",
		c.Server, c.Export, c.Subdir, share, hosttest.Subdir(t, hosttest.Dir(t), "disk")))
	there := filepath.Join(s.exported, c.Subdir)
	d.Create("shared", map[string]string{"uid": "999"})
	d.Create("own", map[string]string{"access": "exclusive"})
	d.Create("other", map[string]string{"pool": "disk"})
	d.Create("site", map[string]string{"share": share, "access": "readonly"})
	at, readOnly := map[string]string{}, map[string]string{"site": d.Mount("site", "a")}
	for _, name := range []string{"shared", "own"} {
		at[name] = d.Mount(name, "a")
		writeFile(t, filepath.Join(at[name], "file"))
	}

	d.Kill()
	var writers []*writer
	for name, dir := range at {
		in, err := filepath.Glob(filepath.Join(there, "volumes", name+".*"))
		if err != nil || len(in) != 1 {
			t.Fatalf("%s is %v, %v", name, in, err)
		}
		writers = append(writers, startWriter(t, filepath.Join(dir, "written"), filepath.Join(in[0], "written")))
	}
	awaitLines(t, writers, 3)
	d.Start()
	d.HandOver(at)
	d.HandOver(readOnly)
	if err := os.WriteFile(filepath.Join(readOnly["site"], "file"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("write to what is readonly: got %v, want %v", err, unix.EROFS)
	}
	awaitLines(t, writers, 3)

	t.Run("silent server", func(t *testing.T) { testSilent(t, s, d) })

	awaitLines(t, writers, 3)
	for _, w := range writers {
		w.check(t)
	}
	maps.Copy(at, readOnly)
	for name, dir := range at {
		d.Must("Unmount", name, daemon.By("b"))
		d.Unmounted(dir)
		d.Must("Remove", name, nil)
	}
	d.Purge()
	for _, dir := range []string{"volumes", "work"} {
		if left, err := os.ReadDir(filepath.Join(there, dir)); err != nil || len(left) > 0 {
			t.Errorf("left in %s: %v, %v", dir, left, err)
		}
	}
	d.Idle()
}

// While the server is silent another pool's calls are answered, and those that need
// the server fail.
func testSilent(t *testing.T, s server, d *daemon.Daemon) {
	d.Create("third", nil)
	defer d.Must("Remove", "third", nil)
	defer s.freeze(t)()
	if err := d.MountSilent("third", "other"); err == nil || !strings.Contains(err.Error(), "gives no answer") {
		t.Errorf("mount: got %v", err)
	}
}
