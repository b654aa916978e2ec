//go:build ceph && cgo

package cephfs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/backendtest"
	"github.com/dvol/dvold/backends/ceph/cephfs"
	"github.com/dvol/dvold/backends/ceph/cephtest"
	"github.com/dvol/dvold/internal/fuseclient"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// TestKernel runs what is below with the kernel's client, in a guest that has one.
func TestKernel(t *testing.T) {
	if !inGuest(t) {
		return
	}
	t.Run("Own", testKernelOwn)
	t.Run("Earlier", testKernelEarlier)
	t.Run("Fence", testKernelFence)
	t.Run("Subvolumes", testKernelSubvolumes)
	t.Run("Silent", testKernelSilent)
	t.Run("Reaped", testKernelReaped)
	t.Run("Causes", testKernelCauses)
}

func TestKernelConformance(t *testing.T) {
	if inGuest(t) {
		backendtest.Run(t, kernelFixture)
	}
}

// kernelPool is a pool by the kernel's client in a directory of its own.
func kernelPool(t *testing.T, change func(*cephfs.Config)) *pool {
	t.Helper()
	run, subdir := hosttest.Dir(t), kernelSubdir(t)
	return &pool{t: t, run: run, subdir: subdir, Pool: open(t, run, func(c *cephfs.Config) {
		c.Subdir, c.MountTimeout = subdir, 10*time.Second // chosen by itself
		c.Fencer, c.FencerKeyring = "evictor", cephtest.Keyring("evictor")
		if change != nil {
			change(c)
		}
	})}
}

// byKernel has exclusive volumes served by the kernel's client, too.
func byKernel(c *cephfs.Config) { c.Client = "kernel" }

func kernelFixture(t *testing.T) backendtest.Fixture {
	p := &pool{t: t, run: hosttest.Dir(t), subdir: kernelSubdir(t)}
	return backendtest.Fixture{
		Open: func(t *testing.T) backends.Backend {
			return open(t, p.run, func(c *cephfs.Config) { c.Subdir, c.MountTimeout = p.subdir, 10*time.Second })
		},
		Adopt: func(t *testing.T) string {
			name := filepath.Base(t.TempDir())
			if err := os.Mkdir(p.there("Söme data "+name), 0o700); err != nil {
				t.Fatal(err)
			}
			return "Söme data " + name
		},
		Sizes: true, SizesUnseen: true, Lags: 10 * time.Second,
		TakeAway: takeCable, Believes: fuseclient.AnswerHolds,
	}
}

// A volume that is exclusive is a file system by itself, which ends with it, and the
// others share one.
func testKernelOwn(t *testing.T) {
	p := kernelPool(t, byKernel)
	for i := range 5 {
		target := p.mount(p.create(fmt.Sprint("shared", i)), backends.MountOptions{})
		p.write(target, "x")
	}
	handle := p.create("exclusive")
	own := p.mount(handle, backends.MountOptions{Alone: true})
	p.wantClients(0)                                                                              // that are processes
	if err := p.Mount(t.Context(), handle, own, backends.MountOptions{Alone: true}); err != nil { // again
		t.Fatal(err)
	}
	if err := p.Mount(t.Context(), handle, own, backends.MountOptions{Alone: true, ReadOnly: true}); !errors.Is(err, backends.ErrInUse) {
		t.Errorf("mount in another way: %v", err)
	}
	p.write(own, "mine")
	mounts, err := host.Mounts()
	if err != nil {
		t.Fatal(err)
	}
	systems := make(map[string]int)
	for _, m := range mounts {
		if m.FSType == "ceph" && strings.HasPrefix(m.Mountpoint, p.run) {
			systems[fmt.Sprint(m.Major, ":", m.Minor)]++
			for _, secret := range []string{"key", "secret"} {
				if value, ok := valueOf(m.VFSOptions, secret); ok && value != "<hidden>" {
					t.Errorf("the mount table says %s=%s", secret, value)
				}
			}
		}
	}
	if len(systems) != 2 {
		t.Errorf("there are %d file systems, want 2: %v", len(systems), systems)
	}
	if servers, err := p.Servers(t.Context(), handle, own); err != nil || len(servers) == 0 {
		t.Errorf("its servers are %v, %v", servers, err)
	}
	if err := p.Remove(t.Context(), handle); !errors.Is(err, backends.ErrInUse) {
		t.Errorf("remove a mounted volume: %v", err)
	}
	if err := p.Unmount(t.Context(), handle, own); err != nil {
		t.Fatal(err)
	}
	p.want(p.mount(handle, backends.MountOptions{}), "mine")
	missing := "volumes/nosuch.0123456789ab"
	if err := p.Mount(t.Context(), missing, p.target(missing), backends.MountOptions{Alone: true}); !errors.Is(err, backends.ErrNotFound) {
		t.Errorf("mount a missing volume: %v", err)
	}
}

func valueOf(options, name string) (string, bool) {
	for o := range strings.SplitSeq(options, ",") {
		if n, value, _ := strings.Cut(o, "="); n == name {
			return value, true
		}
	}
	return "", false
}

// A fence of a writer ends all that it writes to the volume, and nothing else.
func testKernelFence(t *testing.T) {
	p := fencingPool{pool: kernelPool(t, byKernel)}
	p.fencer = fencing(t, p.Pool)
	handle := p.create("mine")
	f := p.connect(handle)
	again, err := p.fencer.Connect(t.Context(), handle, f.Identity)
	if err != nil || again.Facts["address"] != f.Identity.Facts["address"] {
		t.Errorf("again: %v, %v", again, err)
	}
	own := p.mount(handle, backends.MountOptions{Alone: true, Identity: &f.Identity})
	again, err = p.fencer.Connect(t.Context(), handle, f.Identity)
	if err != nil || again.Facts["address"] != f.Identity.Facts["address"] {
		t.Errorf("once mounted: %v, %v", again, err)
	}
	shared := p.mount(p.create("shared"), backends.MountOptions{})
	w, others := write(t, own), write(t, shared)
	p.eventually("they write", func() bool { return w.lines.Load() > 20 && others.lines.Load() > 20 })
	begin, flushed := time.Now(), w.lines.Load()
	if err := p.fencer.Fence(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	t.Logf("fenced after %v, with %d lines", time.Since(begin), w.lines.Load())
	before := contents(t, p.there(handle))
	time.Sleep(3 * time.Second)
	after := contents(t, p.there(handle))
	if len(after) != len(before) || after["flushed"] != before["flushed"] || after["written"] != before["written"] {
		t.Error("something was written after the fence")
	}
	// Not of what it flushed in the moment of the fence: the kernel's fsync(2) says then
	// that all is well, and the MDS knows nothing of it.
	if got := int64(strings.Count(after["flushed"], "\n")); got < flushed {
		t.Errorf("%d lines were flushed before the fence, and %d are there", flushed, got)
	}
	now := others.lines.Load()
	p.eventually("the others go on", func() bool { return others.lines.Load() > now+20 })
	others.stop.Store(true)
	others.wait.Wait()
	if len(others.errs) > 0 {
		t.Errorf("others: %v", others.errs)
	}
	w.wait.Wait() // each ends by an error
	if _, err := p.fencer.Connect(t.Context(), handle, f.Identity); !errors.Is(err, backends.ErrInUse) {
		t.Errorf("connect with what is mounted: %v", err)
	}
	if err := p.Mount(t.Context(), handle, own, backends.MountOptions{Alone: true, Identity: &f.Identity}); !errors.Is(err, backends.ErrUnavailable) {
		t.Errorf("mount by what was fenced: %v", err)
	}
	p.eventually("it is unmounted", func() bool { return p.Unmount(t.Context(), handle, own) == nil })
	if err := p.fencer.Unfence(t.Context(), f); err != nil {
		t.Error(err)
	}
	next := p.connect(handle)
	if next.Identity.Facts["address"] == f.Identity.Facts["address"] {
		t.Error("another client has the same address")
	}
	own = p.mount(handle, backends.MountOptions{Alone: true, Identity: &next.Identity})
	p.write(own, "again")
	if err := p.Unmount(t.Context(), handle, own); err != nil {
		t.Fatal(err)
	}
	// Undone, though it was never mounted.
	p.connect(handle)
	if err := p.Remove(t.Context(), handle); !errors.Is(err, backends.ErrInUse) {
		t.Errorf("remove: %v", err)
	}
	if err := p.Unmount(t.Context(), handle, own); err != nil {
		t.Fatal(err)
	}
	p.wantNone()
	if err := p.Remove(t.Context(), handle); err != nil {
		t.Error(err)
	}
}

// Sub-volumes are mounted by the kernel's client as directories are: of one that is
// exclusive, its data.
func testKernelSubvolumes(t *testing.T) {
	p := &pool{t: t, run: hosttest.Dir(t), subdir: "volumes/" + guestGroup}
	p.Pool = open(t, p.run, func(c *cephfs.Config) {
		inGroup(t, guestGroup)(c)
		byKernel(c)
	})
	f := fencingPool{p, fencing(t, p.Pool)}
	handle := p.create("mine")
	target := p.mount(handle, backends.MountOptions{})
	p.write(target, "shared")
	if err := p.Unmount(t.Context(), handle, target); err != nil {
		t.Fatal(err)
	}
	id := f.connect(handle).Identity
	alone := backends.MountOptions{Alone: true, Identity: &id}
	for range 2 {
		p.want(p.mount(handle, alone), "shared")
	}
	p.write(target, "own")
	if entries, err := os.ReadDir(target); err != nil || len(entries) != 1 {
		t.Errorf("there are %v, %v", entries, err)
	}
	if err := p.Remove(t.Context(), handle); !errors.Is(err, backends.ErrInUse) {
		t.Errorf("remove: %v", err)
	}
	if err := p.Unmount(t.Context(), handle, target); err != nil {
		t.Fatal(err)
	}
	f.wantNone()
	if err := p.Mount(t.Context(), handle, target, backends.MountOptions{Alone: true}); err != nil { // without a fence
		t.Fatal(err)
	}
	p.want(target, "own")
	if err := p.Unmount(t.Context(), handle, target); err != nil {
		t.Fatal(err)
	}
	if err := p.Remove(t.Context(), handle); err != nil {
		t.Error(err)
	}
	missing := "nosuch.0123456789ab"
	if err := p.Mount(t.Context(), missing, p.target(missing), backends.MountOptions{Alone: true}); !errors.Is(err, backends.ErrNotFound) {
		t.Errorf("mount a missing volume: %v", err)
	}
}

// Storage that is silent is found out, keeps nobody for long, and is used again.
func testKernelSilent(t *testing.T) {
	p := kernelPool(t, nil)
	handle := p.create("data")
	target := p.mount(handle, backends.MountOptions{})
	p.write(target, "x")
	t.Run("cut off", func(t *testing.T) {
		takeCable(t)
		time.Sleep(fuseclient.AnswerHolds)
		begin := time.Now()
		if _, err := p.Stat(t.Context(), handle); !errors.Is(err, backends.ErrUnavailable) {
			t.Errorf("stat: %v", err)
		}
		if took := time.Since(begin); took > 30*time.Second {
			t.Errorf("it took %v", took)
		}
		p.eventually("it is known", func() bool { return p.Silent() > 0 })
	})
	p.eventually("it answers again", func() bool { return p.Silent() == 0 })
	p.want(target, "x")
	if _, err := p.Stat(t.Context(), handle); err != nil {
		t.Error(err)
	}
}

// The shared mount is taken away when nothing is mounted of it, and found again by a
// dvold that was started anew, also if that has another configuration.
func testKernelReaped(t *testing.T) {
	grace := func(c *cephfs.Config) { c.ClientGrace = 2 * time.Second }
	p := kernelPool(t, grace)
	handle := p.create("data")
	target := p.mount(handle, backends.MountOptions{})
	points := func() []string {
		found, err := filepath.Glob(filepath.Join(p.run, "cephfs/pool/kernel.*"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	time.Sleep(4 * time.Second)
	if got := points(); len(got) != 1 {
		t.Fatalf("mounts are %v, want one", got)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, p.run, func(c *cephfs.Config) { c.Subdir = p.subdir; grace(c) })
	if err := again.Mount(t.Context(), handle, target, backends.MountOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := points(); len(got) != 1 {
		t.Fatalf("mounts are %v, want one", got)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	changed := &pool{t: t, run: p.run, subdir: kernelSubdir(t)} // another file system for the kernel
	changed.Pool = open(t, p.run, func(c *cephfs.Config) { c.Subdir = changed.subdir; grace(c) })
	elsewhere := changed.create("elsewhere")
	other := changed.mount(elsewhere, backends.MountOptions{})
	time.Sleep(4 * time.Second)
	if got := points(); len(got) != 2 {
		t.Fatalf("mounts are %v, want two", got)
	}
	if err := host.Unmount(target); err != nil {
		t.Fatal(err)
	}
	p.eventually("the end of what the earlier configuration mounted", func() bool { return len(points()) == 1 })
	changed.write(other, "x")
	if err := changed.Unmount(t.Context(), elsewhere, other); err != nil {
		t.Fatal(err)
	}
	p.eventually("its end", func() bool { return len(points()) == 0 })
}

// Mounting fails in time, for a reason that is told, and leaves nothing.
func testKernelCauses(t *testing.T) {
	for _, test := range []struct {
		name, want string
		change     func(*testing.T, *cephfs.Config)
	}{
		{"no directory", "has no directory /nosub", func(_ *testing.T, c *cephfs.Config) { c.Subdir = "nosub" }},
		{"no file system", "there is no such file system", func(_ *testing.T, c *cephfs.Config) { c.FileSystem = "nope" }},
		{"no keyring", "no such file", func(_ *testing.T, c *cephfs.Config) { c.Cluster.Keyring = "/nosuch/keyring" }},
		{"wrong key", "refuses the key of client.host", func(_ *testing.T, c *cephfs.Config) {
			c.Cluster.User, c.Cluster.Keyring = "host", cephtest.Keyring("wrong")
		}},
		{"no monitor", "no answer", func(t *testing.T, c *cephfs.Config) {
			c.MountTimeout = 2 * time.Second
			takeCable(t)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := kernelPool(t, func(c *cephfs.Config) { test.change(t, c) })
			begin := time.Now()
			_, err := p.Plan(t.Context(), backends.Request{ID: "v.0123456789ab"})
			if !errors.Is(err, backends.ErrUnavailable) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(begin); took > 16*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}
