//go:build ceph && cgo

package cephfs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph/cephfs"
	"github.com/dvol/dvold/backends/ceph/cephtest"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// A shared client that was killed is replaced at once where its session can be ended,
// and keeps nobody waiting for what it had in use.
func TestClientKilledAndBuried(t *testing.T) {
	p := newFencingPool(t, nil)
	target := p.mount(p.create("data"), backends.MountOptions{})
	p.write(target, "before")
	if err := fsync(filepath.Join(target, "file")); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := unix.Kill(p.wantClients(1)[0].PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.eventually("a new client", func() bool {
		_, err := os.ReadFile(filepath.Join(target, "file"))
		return err == nil
	})
	p.want(target, "before")
	p.write(target, "after")
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("it took %v", took)
	} else {
		t.Logf("it took %v", took)
	}
}

// A host all of whose clients are silent at once, as it loses its power, is taken over
// from in seconds, although its shared client has exclusive use of the pool's directories:
// it has made them, and nobody else has looked at them since.
func TestHostDies(t *testing.T) {
	t.Run("directories", func(t *testing.T) {
		p := newFencingPool(t, nil)
		testHostDies(t, p, func(c *cephfs.Config) {
			c.Subdir, c.Fencer, c.FencerKeyring = p.subdir, "evictor", cephtest.Keyring("evictor")
		})
	})
	t.Run("sub-volumes", func(t *testing.T) {
		p := newGroupPool(t)
		testHostDies(t, fencingPool{p, fencing(t, p.Pool)}, inGroup(t, p.group()))
	})
}

// testHostDies has a host die, and another open the pool by change.
func testHostDies(t *testing.T, p fencingPool, change func(*cephfs.Config)) {
	leaveRoot(t)
	handle := p.create("mine")
	f := p.connect(handle)
	f.ID = "mine.0123456789ab"
	own := p.mount(handle, backends.MountOptions{Alone: true, Identity: &f.Identity})
	p.write(own, "flushed")
	if err := fsync(filepath.Join(own, "file")); err != nil {
		t.Fatal(err)
	}
	if err := p.Stamp(t.Context(), "mine.0123456789ab", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Stat(t.Context(), handle); err != nil { // by the shared client
		t.Fatal(err)
	}
	p.Close()
	for _, c := range p.wantClients(2) {
		hosttest.Freeze(t, c.PID)
		t.Cleanup(func() {
			if err := unix.Kill(c.PID, unix.SIGKILL); err != nil {
				t.Error(err)
			}
		})
	}
	if err := unix.Unmount(own, unix.MNT_DETACH); err != nil { // the taker is the same host here
		t.Fatal(err)
	}

	begin := time.Now()
	step := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		t.Logf("%s after %v", what, time.Since(begin).Round(10*time.Millisecond))
	}
	run := hosttest.Dir(t)
	taker := fencingPool{pool: &pool{t: t, run: run, subdir: p.subdir, Pool: open(t, run, change)}}
	taker.fencer = fencing(t, taker.Pool)
	step("fenced", taker.fencer.Fence(t.Context(), f))
	stamp, err := taker.Stamped(t.Context(), "mine.0123456789ab")
	step("stamp read", err)
	if string(stamp) != "1" {
		t.Errorf("the stamp is %q", stamp)
	}
	step("stamped", taker.Stamp(t.Context(), "mine.0123456789ab", []byte("2")))
	g := taker.connect(handle)
	step("connected", nil)
	target := taker.mount(handle, backends.MountOptions{Alone: true, Identity: &g.Identity})
	taker.want(target, "flushed")
	taker.write(target, "taken")
	step("written", nil)
	if took := time.Since(begin); took > 20*time.Second { // of session_timeout
		t.Errorf("it took %v", took)
	}
}

// The shared client of a host that was fenced goes on, if it is alive, and is asked for
// what it has in use.
func TestSharedClientOfFencedHost(t *testing.T) {
	p := newFencingPool(t, nil)
	leaveRoot(t)
	handle := p.create("mine")
	f := p.connect(handle)
	f.ID = "mine.0123456789ab"
	shared := p.mount(p.create("shared"), backends.MountOptions{})
	w := write(t, shared)
	before := p.wantClients(2)

	run := hosttest.Dir(t)
	taker := fencingPool{pool: &pool{t: t, run: run, subdir: p.subdir, Pool: open(t, run, func(c *cephfs.Config) {
		c.Subdir, c.Fencer, c.FencerKeyring = p.subdir, "evictor", cephtest.Keyring("evictor")
	})}}
	taker.fencer = fencing(t, taker.Pool)
	if err := taker.fencer.Fence(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(6 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err := taker.Stamp(t.Context(), "mine.0123456789ab", []byte("2")); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Stat(t.Context(), handle); err != nil {
			t.Fatal(err)
		}
	}
	now := w.lines.Load()
	p.eventually("it writes", func() bool { return w.lines.Load() > now+20 })
	w.stop.Store(true)
	w.wait.Wait()
	if len(w.errs) > 0 {
		t.Errorf("the shared client's volume: %v", w.errs)
	}
	if after := p.wantClients(2); !slices.Equal(before, after) {
		t.Errorf("clients were %v, and are %v", before, after)
	}
}

// A shared client that the cluster has cut off is replaced, and what it served is served
// by the next.
func TestSharedClientCutOff(t *testing.T) {
	p := newFencingPool(t, nil)
	target := p.mount(p.create("data"), backends.MountOptions{})
	p.write(target, "before")
	if err := fsync(filepath.Join(target, "file")); err != nil {
		t.Fatal(err)
	}
	before := p.wantClients(1)[0]
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", before.PID))
	if err != nil {
		t.Fatal(err)
	}
	point := filepath.Base(strings.TrimRight(string(args), "\x00")) // it is the last of them
	point = filepath.Join(p.run, "cephfs/pool", point[strings.LastIndexByte(point, 0)+1:])
	cephtest.Admin(t, "ceph", "tell", "mds.cephfs:0", "session", "evict", "client_metadata.mount_point="+point)
	p.eventually("it is replaced", func() bool {
		text, err := os.ReadFile(filepath.Join(target, "file"))
		return err == nil && string(text) == "before"
	})
	p.write(target, "after")
	p.eventually("the other has ended", func() bool { return !before.Alive() })
	p.wantClients(1)
}

// Who is the next owner of a volume after one that died, and was not fenced for that, as it
// has come back since and let go, does not wait until the MDS find out. What it ends is the
// client that the record has, and no other: not that of another volume of the same host.
func TestOwnerDied(t *testing.T) {
	p := newFencingPool(t, nil)
	leaveRoot(t)
	mine, others := p.create("mine"), p.create("others")
	f, g := p.connect(mine), p.connect(others)
	own := p.mount(mine, backends.MountOptions{Alone: true, Identity: &f.Identity})
	p.write(own, "flushed")
	if err := fsync(filepath.Join(own, "file")); err != nil {
		t.Fatal(err)
	}
	other := write(t, p.mount(others, backends.MountOptions{Alone: true, Identity: &g.Identity}))
	shared := write(t, p.mount(p.create("shared"), backends.MountOptions{}))
	dead := p.ownClient(mine)
	hosttest.Freeze(t, dead.PID)
	t.Cleanup(func() {
		if err := unix.Kill(dead.PID, unix.SIGKILL); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Unmount(own, unix.MNT_DETACH); err != nil { // the next owner is the same host here
		t.Fatal(err)
	}

	run := hosttest.Dir(t)
	next := fencingPool{pool: &pool{t: t, run: run, subdir: p.subdir, Pool: open(t, run, func(c *cephfs.Config) {
		c.Subdir, c.Fencer, c.FencerKeyring = p.subdir, "evictor", cephtest.Keyring("evictor")
	})}}
	next.fencer = fencing(t, next.Pool)
	begin := time.Now()
	id, err := next.fencer.Connect(t.Context(), mine, f.Identity)
	if err != nil {
		t.Fatal(err)
	}
	target := next.mount(mine, backends.MountOptions{Alone: true, Identity: &id})
	next.want(target, "flushed")
	next.write(target, "taken")
	if took := time.Since(begin); took > 20*time.Second { // of session_timeout
		t.Errorf("it took %v", took)
	} else {
		t.Logf("it took %v", took)
	}
	for name, w := range map[string]*writers{"the other": other, "the shared": shared} {
		before := w.lines.Load()
		eventually(t, name+" volume is written to", func() bool { return w.lines.Load() > before+20 })
		w.stop.Store(true)
		w.wait.Wait()
		if len(w.errs) > 0 {
			t.Errorf("%s volume: %v", name, w.errs)
		}
	}
}

// leaveRoot ends the client of the tests, which has in use of the file system what a
// client does that looks at it.
func leaveRoot(t *testing.T) {
	t.Helper()
	if err := unix.Unmount(root(t), 0); err != nil {
		t.Fatal(err)
	}
}
