package fuseclient_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/fuseclient"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// A volume's own client serves nothing else, and ends with it; what was begun and not handed out
// leaves nothing.
func TestOwn(t *testing.T) {
	w := newWorld(t)
	own := fuseclient.Own{Spec: w.spec, Key: "db", Path: w.db}
	buried := 0
	own.Bury = func(context.Context, string) error { buried++; return nil }
	target := hosttest.Dir(t)
	bind := func(root string) error { return w.bindTo(root, w.db, target) }
	why := errors.New("it is not what it should be")

	fails := func(context.Context, *fuseclient.Client) error { return why }
	if err := w.MountOwn(t.Context(), own, target, false, fails, bind); !errors.Is(err, why) {
		t.Errorf("a check that fails: %v", err)
	}
	bindsHalf := func(root string) error { return errors.Join(bind(root), why) }
	if err := w.MountOwn(t.Context(), own, target, false, nil, bindsHalf); !errors.Is(err, why) {
		t.Errorf("a bind that fails in the end: %v", err)
	}
	if mounted, err := host.IsMountpoint(target); err != nil || mounted || buried != 2 {
		t.Errorf("mounted %t, %v; %d of 2 clients were buried", mounted, err, buried)
	}
	w.wantClients(0)

	for range 2 {
		if err := w.MountOwn(t.Context(), own, target, false, nil, bind); err != nil {
			t.Fatal(err)
		}
	}
	w.wantClients(1)
	if err := w.MountOwn(t.Context(), own, target, true, nil, bind); !errors.Is(err, backends.ErrInUse) {
		t.Errorf("in another way: %v", err)
	}
	if err := w.checkUnused(); !errors.Is(err, backends.ErrInUse) {
		t.Errorf("is it used: %v", err)
	}
	if err := w.UnmountOwn(t.Context(), own.Key, target); err != nil {
		t.Error(err)
	}
	w.wantClients(0)
	if err := w.checkUnused(); err != nil {
		t.Error(err)
	}
}

// checkUnused is CheckUnused of the volume of TestOwn.
func (w *world) checkUnused() error { return w.config.CheckUnused(w.db) }

// A client that was started and handed out nowhere is ended, unless something shows its file
// system after all.
func TestOwnLeftOver(t *testing.T) {
	w := newWorld(t)
	own := fuseclient.Own{Spec: w.spec, Key: "db", Path: w.db}
	c, err := w.StartOwn(t.Context(), own)
	if err != nil {
		t.Fatal(err)
	}
	target := w.bind(c.Mountpoint, w.db)
	if err := w.EndOwn(t.Context(), own.Key); !errors.Is(err, backends.ErrInUse) {
		t.Errorf("end what something shows: %v", err)
	}
	if _, err := w.StartOwn(t.Context(), own); !errors.Is(err, backends.ErrInUse) {
		t.Errorf("start in the place of what something shows: %v", err)
	}
	w.wantClients(1)
	if err := unix.Unmount(target, 0); err != nil {
		t.Fatal(err)
	}
	next, err := w.StartOwn(t.Context(), own)
	if err != nil {
		t.Fatal(err)
	}
	if c.Alive() || !next.Alive() {
		t.Errorf("the first is alive %t, the next %t", c.Alive(), next.Alive())
	}
	if err := unix.Kill(next.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.eventually("it has ended", func() bool { return !next.Alive() })
	bind := func(root string) error { return w.bindTo(root, w.db, target) }
	if err := w.PlaceOwn(t.Context(), own, target, false, bind); !errors.Is(err, backends.ErrUnavailable) {
		t.Errorf("mount by a client that has ended: %v", err)
	}
	for range 2 {
		if err := w.EndOwn(t.Context(), own.Key); err != nil {
			t.Error(err)
		}
	}
	w.wantClients(0)
}

// A client of a dvold that was killed while it mounted a volume ends with the next unmount, and
// serves nothing else once the volume is mounted again.
func TestOwnCutShort(t *testing.T) {
	w := newWorld(t)
	own := fuseclient.Own{Spec: w.spec, Key: "db", Path: w.db}
	target := hosttest.Dir(t)
	bind := func(root string) error { return w.bindTo(root, w.db, target) }
	mount := func() error { return w.MountOwn(t.Context(), own, target, false, nil, bind) }
	place := func() error { return w.PlaceOwn(t.Context(), own, target, false, bind) }
	for _, test := range []struct {
		name  string
		bound bool
		again func() error
	}{{"started", false, nil}, {"bound", true, nil}, {"bound, and mounted again", true, mount}, {"bound, and placed again", true, place}} {
		c, err := w.StartOwn(t.Context(), own)
		if err == nil && test.bound {
			err = bind(c.Mountpoint)
		}
		if err != nil {
			t.Fatal(err)
		}
		if test.again != nil {
			if err := test.again(); err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
			if _, err := os.Lstat(c.Mountpoint); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: its mountpoint is there still: %v", test.name, err)
			}
		}
		if err := w.UnmountOwn(t.Context(), own.Key, target); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if c.Alive() {
			t.Errorf("%s: its client runs on", test.name)
		}
		w.wantClients(0)
	}
}

// As long as the client has not ended, no unmount succeeds.
func TestOwnDoesNotEnd(t *testing.T) {
	w := newWorld(t)
	w.config.EndTime = 100 * time.Millisecond
	w.open()
	own := fuseclient.Own{Spec: w.spec, Key: "db", Path: w.db}
	target := hosttest.Dir(t)
	if err := w.MountOwn(t.Context(), own, target, false, nil, func(root string) error { return w.bindTo(root, w.db, target) }); err != nil {
		t.Fatal(err)
	}
	c := w.processes()[0]
	if err := unix.Kill(c.PID, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.UnmountOwn(t.Context(), own.Key, target); !errors.Is(err, backends.ErrInUse) {
			t.Errorf("got %v", err)
		}
	}
	if err := unix.Kill(c.PID, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	w.eventually("it has ended", func() bool { return !c.Alive() })
	if err := w.UnmountOwn(t.Context(), own.Key, target); err != nil {
		t.Error(err)
	}
}
