//go:build ceph && cgo

package cephfs_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph/cephfs"
	"github.com/dvol/dvold/backends/ceph/cephtest"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// fencingPool is a pool that fences.
type fencingPool struct {
	*pool
	fencer cephfs.FencingPool
}

func newFencingPool(t *testing.T, change func(*cephfs.Config)) fencingPool {
	t.Helper()
	p := newPool(t, func(c *cephfs.Config) {
		c.Fencer, c.FencerKeyring = "evictor", cephtest.Keyring("evictor")
		if change != nil {
			change(c)
		}
	})
	return fencingPool{p, fencing(t, p.Pool)}
}

func fencing(t *testing.T, p *cephfs.Pool) cephfs.FencingPool {
	t.Helper()
	f, err := p.Fencing(slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// connect makes this host the owner of a volume, connects it, and returns how it is
// to be fenced.
func (p fencingPool) connect(handle string) backends.Fence {
	p.t.Helper()
	id, err := p.fencer.Identity(p.t.Context(), handle)
	if err != nil {
		p.t.Fatal(err)
	}
	if len(id.Facts) > 0 {
		p.t.Errorf("there are facts before there is a client: %v", id.Facts)
	}
	id, err = p.fencer.Connect(p.t.Context(), handle, id)
	if err != nil {
		p.t.Fatal(err)
	}
	return backends.Fence{Host: "h1", Incarnation: 1, Pool: "pool", Volume: "v", ID: "v.0123456789ab", Handle: handle, Epoch: 1, Identity: id}
}

// writers write to a volume for as long as that works: lines to a file, each of them
// flushed, others that are not, and new files.
type writers struct {
	wait  sync.WaitGroup
	stop  atomic.Bool
	lines atomic.Int64 // that were flushed
	mu    sync.Mutex   // guards the field below
	errs  []error
}

func write(dir string) *writers {
	w := new(writers)
	run := func(f func(i int) error) {
		w.wait.Go(func() {
			for i := 0; !w.stop.Load(); i++ {
				if err := f(i); err != nil {
					w.mu.Lock()
					w.errs = append(w.errs, err)
					w.mu.Unlock()
					return
				}
			}
		})
	}
	appendTo := func(name string, flush bool) func(i int) error {
		return func(i int) error {
			f, err := os.OpenFile(filepath.Join(dir, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(f, i)
			if flush && err == nil {
				err = f.Sync()
			}
			if err = errors.Join(err, f.Close()); err == nil && flush {
				w.lines.Add(1)
			}
			return err
		}
	}
	run(appendTo("flushed", true))
	run(appendTo("written", false))
	run(func(i int) error { return os.WriteFile(filepath.Join(dir, fmt.Sprint("new", i)), nil, 0o644) })
	return w
}

// contents is what other clients see of a directory: each file, and what is in it.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(text)
	}
	return all
}

// A fence of a writer ends all that it writes to the volume, and nothing else.
func TestFence(t *testing.T) {
	p := newFencingPool(t, nil)
	handle := p.create("mine")
	f := p.connect(handle)
	own := p.mount(handle, backends.MountOptions{Alone: true, Identity: &f.Identity})
	other := p.create("other")
	f2 := p.connect(other)
	ownOther := p.mount(other, backends.MountOptions{Alone: true, Identity: &f2.Identity})
	shared := p.mount(p.create("shared"), backends.MountOptions{})
	p.wantClients(3)

	w, otherWriters, sharedWriters := write(own), write(ownOther), write(shared)
	p.eventually("they write", func() bool {
		return w.lines.Load() > 20 && otherWriters.lines.Load() > 20 && sharedWriters.lines.Load() > 20
	})
	begin := time.Now()
	if err := p.fencer.Fence(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	t.Logf("fenced after %v, with %d lines", time.Since(begin), w.lines.Load())
	there := filepath.Join(root(t), p.subdir, handle)
	before := contents(t, there)
	time.Sleep(5 * time.Second)
	after := contents(t, there)
	if len(after) != len(before) {
		t.Errorf("there were %d files, and are %d", len(before), len(after))
	}
	for name, text := range after {
		if before[name] != text {
			t.Errorf("%s had %d bytes, and has %d", name, len(before[name]), len(text))
		}
	}
	if got := int64(strings.Count(after["flushed"], "\n")); got < w.lines.Load() {
		t.Errorf("%d lines were flushed, and %d are there", w.lines.Load(), got)
	}
	for _, others := range []*writers{otherWriters, sharedWriters} {
		now := others.lines.Load()
		p.eventually("the others go on", func() bool { return others.lines.Load() > now+20 })
		others.stop.Store(true)
		others.wait.Wait()
		if len(others.errs) > 0 {
			t.Errorf("others: %v", others.errs)
		}
	}
	w.wait.Wait() // each ends by an error
	if len(w.errs) != 3 {
		t.Errorf("the writers ended with %v", w.errs)
	}
	if err := p.fencer.Fence(t.Context(), f); err != nil { // again
		t.Error(err)
	}

	// What is fenced can't be used again, and is unmounted.
	if _, err := p.fencer.Connect(t.Context(), handle, f.Identity); !errors.Is(err, backends.ErrInUse) {
		t.Errorf("connect with what is mounted: %v", err)
	}
	p.eventually("it is unmounted", func() bool {
		err := p.Unmount(t.Context(), handle, own)
		if err != nil {
			t.Log(err)
		}
		return err == nil
	})
	p.wantClients(2)
	if err := p.fencer.Unfence(t.Context(), f); err != nil {
		t.Error(err)
	}
	if err := p.fencer.Unfence(t.Context(), f); err != nil { // again
		t.Error(err)
	}
	if listed := cephtest.Admin(t, "ceph", "osd", "blocklist", "ls"); strings.Contains(listed, f.Identity.Facts["addresses"]) {
		t.Errorf("still on the blocklist: %s", listed)
	}
	again := p.connect(handle)
	if again.Identity.Facts["addresses"] == f.Identity.Facts["addresses"] {
		t.Error("another client has the same address")
	}
	own = p.mount(handle, backends.MountOptions{Alone: true, Identity: &again.Identity})
	p.write(own, "again")
}

// Fence of a host that was not connected has nothing to do, and that of another
// cluster's client, or another volume's, does nothing.
func TestFenceOfNobody(t *testing.T) {
	p := newFencingPool(t, nil)
	handle := p.create("mine")
	f := p.connect(handle)
	before := cephtest.Admin(t, "ceph", "osd", "blocklist", "ls")
	none := f
	none.Identity.Facts = nil
	if err := errors.Join(p.fencer.Fence(t.Context(), none), p.fencer.Unfence(t.Context(), none)); err != nil {
		t.Error(err)
	}
	for _, facts := range []map[string]string{
		{"addresses": f.Identity.Facts["addresses"], "cluster": "00000000-0000-0000-0000-000000000000"},
		{"addresses": "10.97.0.1", "cluster": f.Identity.Facts["cluster"]},
		{"addresses": "10.97.0.0/24", "cluster": f.Identity.Facts["cluster"]},
	} {
		other := f
		other.Identity.Facts = facts
		if err := p.fencer.Fence(t.Context(), other); err == nil {
			t.Errorf("fenced %v", facts)
		}
	}
	other := f
	other.Identity.Domain = "volume/pool/other"
	if err := p.fencer.Fence(t.Context(), other); err == nil {
		t.Error("fenced another volume's client")
	}
	if after := cephtest.Admin(t, "ceph", "osd", "blocklist", "ls"); after != before {
		t.Errorf("the blocklist was %q, and is %q", before, after)
	}
}

// Connect is repeated, found again, undone by Unmount, and replaces what has ended.
func TestConnect(t *testing.T) {
	p := newFencingPool(t, nil)
	handle := p.create("mine")
	f := p.connect(handle)
	again, err := p.fencer.Connect(t.Context(), handle, f.Identity)
	if err != nil || again.Facts["addresses"] != f.Identity.Facts["addresses"] {
		t.Errorf("again: %v, %v", again, err)
	}
	if err := p.Remove(t.Context(), handle); !errors.Is(err, backends.ErrInUse) {
		t.Errorf("remove: %v", err)
	}
	restarted := fencing(t, open(t, p.run, func(c *cephfs.Config) {
		c.Subdir, c.Fencer, c.FencerKeyring = p.subdir, "evictor", cephtest.Keyring("evictor")
	}))
	again, err = restarted.Connect(t.Context(), handle, f.Identity)
	if err != nil || again.Facts["addresses"] != f.Identity.Facts["addresses"] {
		t.Errorf("by another dvold: %v, %v", again, err)
	}
	own := p.mount(handle, backends.MountOptions{Alone: true, Identity: &again})
	p.write(own, "x")
	again, err = p.fencer.Connect(t.Context(), handle, f.Identity)
	if err != nil || again.Facts["addresses"] != f.Identity.Facts["addresses"] {
		t.Errorf("once mounted: %v, %v", again, err)
	}
	if err := p.Unmount(t.Context(), handle, own); err != nil {
		t.Fatal(err)
	}
	p.wantNone()

	// One that was killed before it was mounted.
	f = p.connect(handle)
	if err := unix.Kill(p.ownClient(handle).PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.eventually("its end", func() bool { return p.ownClient(handle).PID == 0 })
	if err := p.Mount(t.Context(), handle, own, backends.MountOptions{Alone: true, Identity: &f.Identity}); !errors.Is(err, backends.ErrUnavailable) {
		t.Errorf("mount without a client: %v", err)
	}
	both, err := p.fencer.Connect(t.Context(), handle, f.Identity)
	if err != nil {
		t.Fatal(err)
	}
	if addresses := strings.Fields(both.Facts["addresses"]); len(addresses) != 2 || addresses[0] != f.Identity.Facts["addresses"] {
		t.Errorf("addresses are %v, want that of the dead client, and another", addresses)
	}
	// Undone, though it was never mounted.
	if err := p.Unmount(t.Context(), handle, own); err != nil {
		t.Fatal(err)
	}
	p.wantNone()

	missing := "volumes/nosuch.0123456789ab"
	if _, err := p.fencer.Connect(t.Context(), missing, backends.Identity{}); !errors.Is(err, backends.ErrNotFound) {
		t.Errorf("connect to a missing volume: %v", err)
	}
	p.wantNone()
	if err := p.Remove(t.Context(), handle); err != nil {
		t.Error(err)
	}
}

// wantNone fails if anything of a volume's own client is left.
func (p fencingPool) wantNone() {
	p.t.Helper()
	left, err := filepath.Glob(filepath.Join(p.run, "cephfs", "pool", "own.*"))
	if err != nil || len(left) > 0 {
		p.t.Errorf("left: %v, %v", left, err)
	}
}

// ownClient is the client of a volume alone that runs, or none.
func (p fencingPool) ownClient(handle string) host.Process {
	p.t.Helper()
	running, err := cephfs.ClientsBelow(filepath.Join(p.run, "cephfs", "pool"))
	if err != nil {
		p.t.Fatal(err)
	}
	for point, processes := range running {
		if point == "own."+cephfs.OwnKey(handle) {
			return processes[0]
		}
	}
	return host.Process{}
}

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

// A host whose clients all end at once, as it loses its power, is taken over from.
// What its shared client had in use of the pool waits until its MDS gives that up.
func TestHostDies(t *testing.T) {
	p := newFencingPool(t, nil)
	handle := p.create("mine")
	f := p.connect(handle)
	own := p.mount(handle, backends.MountOptions{Alone: true, Identity: &f.Identity})
	p.write(own, "flushed")
	if err := fsync(filepath.Join(own, "file")); err != nil {
		t.Fatal(err)
	}
	if err := p.Stamp(t.Context(), "mine.0123456789ab", []byte("1")); err != nil {
		t.Fatal(err)
	}
	p.Close()
	for _, c := range p.wantClients(2) {
		if err := unix.Kill(c.PID, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
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
	change := func(c *cephfs.Config) {
		c.Subdir, c.MountTimeout = p.subdir, 80*time.Second
		c.Fencer, c.FencerKeyring = "evictor", cephtest.Keyring("evictor")
	}
	taker := fencingPool{pool: &pool{t: t, run: run, subdir: p.subdir, Pool: open(t, run, change)}}
	taker.fencer = fencing(t, taker.Pool)
	step("fenced", taker.fencer.Fence(t.Context(), f))
	g := taker.connect(handle)
	step("connected", nil)
	step("stamped", taker.Stamp(t.Context(), "mine.0123456789ab", []byte("2")))
	target := taker.mount(handle, backends.MountOptions{Alone: true, Identity: &g.Identity})
	taker.want(target, "flushed")
	taker.write(target, "taken")
	step("written", nil)
}
