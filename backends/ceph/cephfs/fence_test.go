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

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph/cephfs"
	"github.com/dvol/dvold/backends/ceph/cephtest"
	"github.com/dvol/dvold/internal/host/hosttest"
)

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

	w, otherWriters, sharedWriters := write(t, own), write(t, ownOther), write(t, shared)
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
	if listed := cephtest.Admin(t, "ceph", "osd", "blocklist", "ls"); strings.Contains(listed, f.Identity.Facts["address"]) {
		t.Errorf("still on the blocklist: %s", listed)
	}
	again := p.connect(handle)
	if again.Identity.Facts["address"] == f.Identity.Facts["address"] {
		t.Error("another client has the same address")
	}
	own = p.mount(handle, backends.MountOptions{Alone: true, Identity: &again.Identity})
	p.write(own, "again")
}

// Who is cut off before it has synced what it wrote is not told that this is on the disk, unless
// it is: a client that keeps what is written for a while loses it then, and says all is well.
func TestSyncOfWhoIsFenced(t *testing.T) {
	p := newFencingPool(t, nil)
	handle := p.create("mine")
	f := p.connect(handle)
	own := p.mount(handle, backends.MountOptions{Alone: true, Identity: &f.Identity})
	written := map[string]string{"file": "after!", "longer": strings.Repeat("after ", 100_000), "new": "after"}
	files := make(map[string]*os.File)
	for name, text := range written {
		path := filepath.Join(own, name)
		if name != "new" {
			if err := os.WriteFile(path, []byte("before"), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := fsync(path); err != nil {
				t.Fatal(err)
			}
		}
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.WriteString(text); err != nil {
			t.Fatal(err)
		}
		files[name] = file
	}
	if err := p.fencer.Fence(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	p.eventually("the client knows", func() bool {
		_, err := os.Create(filepath.Join(own, "other"))
		return errors.Is(err, unix.ESHUTDOWN)
	})
	for name, file := range files {
		synced := file.Sync()
		there, err := os.ReadFile(filepath.Join(root(t), p.subdir, handle, name))
		if synced == nil && string(there) != written[name] {
			t.Errorf("%s: it was told that what it wrote is on the disk, and there are %d bytes, %.10q, %v", name, len(there), there, err)
		}
		t.Logf("%s: sync: %v, and there are %d bytes, %.10q", name, synced, len(there), there)
	}
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
		{"address": f.Identity.Facts["address"], "cluster": "00000000-0000-0000-0000-000000000000"},
		{"address": "10.97.0.1", "cluster": f.Identity.Facts["cluster"]},
		{"address": "10.97.0.0/24", "cluster": f.Identity.Facts["cluster"]},
	} {
		other := f
		other.Identity.Facts = facts
		if err := p.fencer.Fence(t.Context(), other); err == nil {
			t.Errorf("fenced %v", facts)
		}
	}
	for _, facts := range []map[string]string{nil, {"address": f.Identity.Facts["address"]}} {
		foreign := f
		foreign.Identity = backends.Identity{Domain: "host", Facts: facts}
		if p.fencer.Fence(t.Context(), foreign) == nil || p.fencer.Unfence(t.Context(), foreign) == nil {
			t.Errorf("fenced, or let in again, by what a command knows: %v", facts)
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

// What another fencer knows this host by, such as a command, says nothing of a client: the volume is mounted as
// if there were none. One that names another volume, or no client, is refused.
func TestForeignIdentity(t *testing.T) {
	p := newFencingPool(t, nil)
	handle, other := p.create("mine"), p.create("other")
	for _, domain := range []string{"host", "volume/pool/0123456789abcdef0123456789abcdef"} {
		id := &backends.Identity{Domain: domain, Facts: map[string]string{"address": "10.97.0.1"}}
		target := p.mount(handle, backends.MountOptions{Alone: true, Identity: id})
		p.write(target, "data")
		if err := p.Unmount(t.Context(), handle, target); err != nil {
			t.Fatal(err)
		}
	}
	f := p.connect(handle)
	for what, id := range map[string]backends.Identity{
		"no client": {Domain: f.Identity.Domain}, "another volume": p.connect(other).Identity,
	} {
		target := hosttest.Subdir(t, p.run, "refused")
		if err := p.Mount(t.Context(), handle, target, backends.MountOptions{Alone: true, Identity: &id}); !errors.Is(err, backends.ErrUnavailable) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	for _, h := range []string{handle, other} {
		if err := p.Unmount(t.Context(), h, p.run+"/nowhere"); err != nil {
			t.Error(err)
		}
	}
	p.wantNone()
}

// What a record calls a volume may be damaged: nothing outside of the pool is looked at.
func TestDamagedHandle(t *testing.T) {
	p := newFencingPool(t, nil)
	for _, handle := range []string{"", ".", "..", "../other", "/volumes/db.0123456789ab", "volumes//db", "volumes/../../db", "a\x00b"} {
		domain := fmt.Sprintf("volume/pool/cephfs.%s", cephfs.OwnKey(handle))
		facts := map[string]string{"address": "10.97.0.1:0/1", "cluster": strings.TrimSpace(cephtest.Admin(t, "ceph", "fsid"))}
		f := backends.Fence{Host: "h1", Incarnation: 1, Pool: "pool", Volume: "v", ID: "v.0123456789ab", Handle: handle, Epoch: 1, Identity: backends.Identity{Domain: domain, Facts: facts}}
		_, connecting := p.fencer.Connect(t.Context(), handle, backends.Identity{Domain: domain})
		for what, err := range map[string]error{
			"fence": p.fencer.Fence(t.Context(), f), "unfence": p.fencer.Unfence(t.Context(), f), "connect": connecting,
			"mount": p.Mount(t.Context(), handle, p.run, backends.MountOptions{Alone: true}),
		} {
			if !errors.Is(err, backends.ErrInvalid) {
				t.Errorf("%s of %q: got %v", what, handle, err)
			}
		}
	}
}
