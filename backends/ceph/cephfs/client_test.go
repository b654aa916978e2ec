package cephfs_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph/cephfs"
	"github.com/dvol/dvold/backends/ceph/cephtest"
	"github.com/dvol/dvold/internal/fuseclient"
	"github.com/dvol/dvold/internal/host"
)

// One client serves all volumes that are not exclusive, and one each of the others.
func TestClients(t *testing.T) {
	p := newPool(t, nil)
	for i := range 30 {
		target := p.mount(p.create(fmt.Sprint("shared", i)), backends.MountOptions{})
		p.write(target, "x")
		p.want(target, "x")
	}
	p.wantClients(1)
	handle := p.create("exclusive")
	own := p.mount(handle, backends.MountOptions{Alone: true})
	p.wantClients(2)
	if err := p.Mount(t.Context(), handle, own, backends.MountOptions{Alone: true}); err != nil { // again
		t.Fatal(err)
	}
	p.write(own, "mine")
	m, err := host.MountedAt(own)
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := host.Mounts()
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range mounts {
		if other.Major == m.Major && other.Minor == m.Minor && other.Mountpoint != own {
			t.Errorf("its file system is mounted at %s, too", other.Mountpoint)
		}
	}
	if servers, err := p.Servers(t.Context(), handle, own); err != nil || len(servers) == 0 {
		t.Errorf("its client has the servers %v, %v", servers, err)
	}
	if err := p.Remove(t.Context(), handle); !errors.Is(err, backends.ErrInUse) {
		t.Errorf("remove a mounted volume: %v", err)
	}
	if err := p.Unmount(t.Context(), handle, own); err != nil {
		t.Fatal(err)
	}
	p.wantClients(1) // it has ended by then
	p.want(p.mount(handle, backends.MountOptions{}), "mine")
}

// A dvold that was killed or upgraded restarts no client.
func TestClientsOutliveDvold(t *testing.T) {
	noGrace := func(c *cephfs.Config) { c.ClientGrace = 0 }
	p := newPool(t, noGrace)
	shared := p.mount(p.create("shared"), backends.MountOptions{})
	p.write(shared, "x")
	alone := p.create("alone")
	own := p.mount(alone, backends.MountOptions{Alone: true})
	before := p.wantClients(2)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	again := &pool{t: t, run: p.run, Pool: open(t, p.run, func(c *cephfs.Config) { c.Subdir = p.subdir; noGrace(c) })}
	again.want(shared, "x")
	if err := again.Mount(t.Context(), "volumes/shared.0123456789ab", shared, backends.MountOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := again.Mount(t.Context(), alone, own, backends.MountOptions{Alone: true}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * fuseclient.TendInterval)
	again.write(shared, "after")
	if after := again.wantClients(2); !slices.Equal(before, after) {
		t.Errorf("clients were %v, and are %v", before, after)
	}
	if err := errors.Join(again.Unmount(t.Context(), alone, own), again.Unmount(t.Context(), "volumes/shared.0123456789ab", shared)); err != nil {
		t.Error(err)
	}
}

// What a client served that was killed is served by the next: where it is mounted,
// and in a container that runs. A client that is well is left alone. What the dead one
// had in use waits until its MDS gives it up, a minute later (session_timeout).
func TestClientKilled(t *testing.T) {
	p := newPool(t, nil)
	target := p.mount(p.create("data"), backends.MountOptions{})
	p.write(target, "before")
	if err := fsync(filepath.Join(target, "file")); err != nil {
		t.Fatal(err)
	}
	dead := p.wantClients(1)[0]
	own := p.mount(p.create("other"), backends.MountOptions{Alone: true})
	container := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c",
		`mkdir -p "$1" && mount --bind "$0" "$1" && umount "$0" && echo ready && until [ "$(cat "$1/file" 2>&1)" = after ]; do sleep 0.1; done; echo seen`,
		target, filepath.Join(p.run, "container"))
	out, err := container.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := container.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = container.Process.Kill()
		_ = container.Wait()
	})
	said := make([]byte, 100)
	if n, err := out.Read(said); err != nil || string(said[:n]) != "ready\n" {
		t.Fatalf("container says %q, %v", said[:n], err)
	}
	if err := unix.Kill(dead.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.eventually("a new client", func() bool {
		_, err := os.ReadFile(filepath.Join(target, "file"))
		return err == nil
	})
	p.want(target, "before")
	p.write(target, "after")
	p.write(own, "well")
	if n, err := out.Read(said); err != nil || string(said[:n]) != "seen\n" {
		t.Fatalf("container says %q, %v", said[:n], err)
	}
	if slices.Contains(p.wantClients(2), dead) {
		t.Error("the client lives")
	}
	if err := p.Unmount(t.Context(), "volumes/data.0123456789ab", target); err != nil {
		t.Fatal(err)
	}
	if mounted, err := host.IsMountpoint(target); err != nil || mounted {
		t.Errorf("still mounted: %v", err)
	}
}

func fsync(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// A client without a volume ends after the grace period.
func TestClientReaped(t *testing.T) {
	p := newPool(t, func(c *cephfs.Config) { c.ClientGrace = 2 * time.Second })
	handle := p.create("data")
	target := p.mount(handle, backends.MountOptions{})
	time.Sleep(4 * time.Second)
	p.wantClients(1)
	p.write(target, "x")
	if err := p.Unmount(t.Context(), handle, target); err != nil {
		t.Fatal(err)
	}
	p.eventually("its end", func() bool {
		left, err := os.ReadDir(filepath.Join(p.run, "cephfs", "pool"))
		return err == nil && len(left) == 0
	})
	p.wantClients(0)
	p.want(p.mount(handle, backends.MountOptions{}), "x")
}

// An MDS that is short of memory asks clients to let go of what they keep, for which
// they remount what they have mounted. The client of an exclusive volume, whose
// mountpoint is gone by then, survives that.
func TestMDSWantsMemory(t *testing.T) {
	p := newPool(t, func(c *cephfs.Config) { c.ClientGrace = 10 * time.Minute })
	own := p.mount(p.create("mine"), backends.MountOptions{Alone: true})
	before := p.wantClients(2)
	p.eventually("it was asked as often as a client by itself does not forgive (max_retries_on_remount_failure)", func() bool {
		for i := range 200 { // a hundred each client may keep (mds_min_caps_per_client)
			if err := os.WriteFile(filepath.Join(own, fmt.Sprint("file", i)), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		cephtest.Admin(t, "ceph", "tell", "mds.cephfs:0", "cache", "drop", "1")
		log, err := os.ReadFile(filepath.Join(p.run, "dvol-pool-own.log"))
		return err == nil && strings.Count(string(log), "failed to remount") >= 5
	})
	if after := p.wantClients(2); !slices.Equal(before, after) {
		t.Errorf("clients were %v, and are %v", before, after)
	}
	p.write(own, "x")
}

// What one host has closed the others read, at once.
func TestTwoHosts(t *testing.T) {
	p := newPool(t, nil)
	handle := p.create("data")
	here := p.mount(handle, backends.MountOptions{})
	there := filepath.Join(root(t), p.subdir, handle)
	for i := range 3 {
		text := fmt.Sprint("from one, ", i)
		p.write(here, text)
		p.want(there, text)
		text = fmt.Sprint("from the other, ", i)
		p.write(there, text)
		p.want(here, text)
	}
}

// Mounting fails in time, for a reason that is told, and leaves nothing.
func TestCauses(t *testing.T) {
	need(t)
	for _, test := range []struct {
		name, want string
		change     func(*testing.T, *cephfs.Config)
	}{
		{"no directory", "has no directory /nosub", func(_ *testing.T, c *cephfs.Config) { c.Subdir = "nosub" }},
		{"no file system", "has no CephFS nope", func(_ *testing.T, c *cephfs.Config) { c.FileSystem = "nope" }},
		{"no keyring", "there is no keyring", func(_ *testing.T, c *cephfs.Config) { c.Cluster.Keyring = "/nosuch/keyring" }},
		{"wrong key", "refuses the key of client.host", func(_ *testing.T, c *cephfs.Config) {
			c.Cluster.User, c.Cluster.Keyring = "host", cephtest.Keyring("wrong")
		}},
		{"no caps", "the caps of client.reader allow nothing", func(_ *testing.T, c *cephfs.Config) {
			c.Cluster.User, c.Cluster.Keyring = "reader", cephtest.Keyring("reader")
		}},
		{"no monitor", "no answer for 2s", func(t *testing.T, c *cephfs.Config) {
			c.MountTimeout = 2 * time.Second
			root(t) // while it answers
			cephtest.CutOff(t)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPool(t, func(c *cephfs.Config) { test.change(t, c) })
			begin := time.Now()
			_, err := p.Plan(t.Context(), backends.Request{ID: "v.0123456789ab"})
			if !errors.Is(err, backends.ErrUnavailable) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v", err)
			}
			if took := time.Since(begin); took > 16*time.Second {
				t.Errorf("it took %v", took)
			}
			p.wantClients(0)
			if left, err := os.ReadDir(filepath.Join(p.run, "cephfs", "pool")); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}
