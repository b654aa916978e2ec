//go:build ceph && cgo

package cephfs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/backends/ceph/cephtest"
	"github.com/dvol/dvold/internal/fuseclient"
	"github.com/dvol/dvold/internal/host/guesttest"
	"github.com/dvol/dvold/internal/host/hosttest"
	"github.com/dvol/dvold/test/daemon"
)

// dvoldBinary is set in the environment of the guest.
const dvoldBinary = "DVOLD_CEPH_BINARY"

// TestDaemon has a dvold in a guest that serves a CephFS and RBD by the kernel's clients: it
// leads their volumes through their lives, and through its own death.
func TestDaemon(t *testing.T) {
	var environment []string
	if !guesttest.Inside() {
		need(t)
		environment = []string{dvoldBinary + "=" + daemon.Build(t)}
	}
	if !inGuest(t, environment...) {
		return
	}
	subdir := kernelSubdir(t)
	cluster := func(user string) string {
		return fmt.Sprintf("cluster: {monitors: [%s], user: %s, keyring: %s, connect_timeout: 5s, call_timeout: 5s}", os.Getenv("CEPH_CLUSTER"), user, cephtest.Keyring(user))
	}
	d := daemon.New(t, os.Getenv(dvoldBinary), "h1", strings.Join([]string{
		"default_pool: files\npools:",
		"  files: {type: cephfs, subdir: " + subdir + ", client: kernel, mount_timeout: 10s, client_grace: 0s, " + cluster("files") + "}",
		"  images: {type: rbd, mapper: krbd, size: 16M, mount_timeout: 20s, " + cluster("host") + "}",
		"  disk: {type: local, path: " + hosttest.Subdir(t, hosttest.Dir(t), "disk") + "}\n",
	}, "\n"))
	for name, options := range map[string]map[string]string{
		"shared": {"uid": "999"},
		"own":    {"access": "exclusive"},
		"image":  {"pool": "images"},
		"idle":   nil,
		"other":  {"pool": "disk"},
	} {
		d.Create(name, options)
	}
	at, written := map[string]string{}, map[string]*writers{}
	for _, name := range []string{"shared", "own", "image"} {
		at[name] = d.Mount(name, "a")
		written[name] = write(t, at[name])
	}
	goOn := func() {
		t.Helper()
		for name, w := range written {
			before := w.lines.Load()
			eventually(t, name+" is written to", func() bool { return w.lines.Load() > before+10 })
		}
	}
	goOn()

	d.Kill()
	goOn()
	d.Start()
	d.HandOver(at)
	goOn()

	t.Run("silent cluster", func(t *testing.T) { testSilentCluster(t, d) })

	goOn()
	for name, w := range written {
		w.stop.Store(true)
		w.wait.Wait()
		text, err := os.ReadFile(filepath.Join(at[name], "flushed"))
		if err != nil || int64(strings.Count(string(text), "\n")) != w.lines.Load() || len(w.errs) > 0 {
			t.Errorf("%s has %d lines of %d: %v, %v", name, strings.Count(string(text), "\n"), w.lines.Load(), err, w.errs)
		}
		d.Must("Unmount", name, daemon.By("b"))
		d.Unmounted(at[name])
	}
	for _, name := range []string{"shared", "own", "image", "idle", "other"} {
		d.Must("Remove", name, nil)
	}
	d.Purge()
	d.Idle()
	if left, err := os.ReadDir(filepath.Join(kernelRoot(t), filepath.Base(subdir), "volumes")); err != nil || len(left) > 0 {
		t.Errorf("left in the file system: %v, %v", left, err)
	}
	if left := cephtest.Admin(t, "rbd", "ls"); left != "" {
		t.Errorf("left in the pool: %s", left)
	}
	if left, err := filepath.Glob("/sys/bus/rbd/devices/*"); err != nil || len(left) > 0 {
		t.Errorf("left mapped: %v, %v", left, err)
	}
}

// While the cluster is silent another pool's calls are answered, and those that need the
// cluster fail.
func testSilentCluster(t *testing.T, d *daemon.Daemon) {
	takeCable(t)
	time.Sleep(fuseclient.AnswerHolds)
	if err := d.MountSilent("idle", "other", "image"); err == nil || !strings.Contains(err.Error(), "answer") {
		t.Errorf("mount: got %v", err)
	}
}
