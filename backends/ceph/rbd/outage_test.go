//go:build ceph && cgo

package rbd_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph/cephtest"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// hangOSD stops the cluster's OSD until the test has ended, or it is to go on.
func hangOSD(t *testing.T) (goOn func()) {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range found {
		text, _ := os.ReadFile(file)
		args := strings.Split(string(text), "\x00")
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil || args[0] != "ceph-osd" || len(args) < 3 || args[2] != os.Getenv("CEPH_ADMIN") {
			continue
		}
		return hosttest.Freeze(t, pid)
	}
	t.Fatal("there is no OSD")
	return nil
}

// The OSD says nothing: what is asked fails in time, what containers do waits, and
// all goes on by itself once it is back.
func TestOSDHangs(t *testing.T) {
	p := newPool(t, nil)
	handle, idle := p.create("db"), p.create("idle")
	target, identity := p.own(handle)
	p.write(target, "before")
	planned := p.plan(backends.Request{ID: id("new")})
	goOn := hangOSD(t)
	written := make(chan error, 1)
	go func() { written <- write(target, "meanwhile") }()
	calls := map[string]func(context.Context) error{
		"stat":     func(ctx context.Context) error { _, err := p.Stat(ctx, idle); return err },
		"create":   func(ctx context.Context) error { return p.Create(ctx, planned) },
		"connect":  func(ctx context.Context) error { _, err := p.Connect(ctx, idle, identity); return err },
		"mount":    func(ctx context.Context) error { return p.Mount(ctx, idle, p.run, backends.MountOptions{Alone: true}) },
		"remove":   func(ctx context.Context) error { return p.Remove(ctx, idle) },
		"resize":   func(ctx context.Context) error { return p.Resize(ctx, idle, 32<<20) },
		"describe": func(ctx context.Context) error { return p.Describe(ctx, "db.000000000001", []byte("x")) },
		"stamp":    func(ctx context.Context) error { return p.Stamp(ctx, "db.000000000001", []byte("x")) },
	}
	type result struct {
		what string
		took time.Duration
		err  error
	}
	results := make(chan result)
	for what, call := range calls {
		go func() {
			begin := time.Now()
			err := call(t.Context())
			results <- result{what, time.Since(begin), err}
		}()
	}
	for range calls {
		select {
		case r := <-results:
			t.Logf("%s: %v: %v", r.what, r.took.Round(time.Millisecond), r.err)
			if !errors.Is(r.err, backends.ErrUnavailable) {
				t.Errorf("%s: got %v, want ErrUnavailable", r.what, r.err)
			}
		case <-time.After(60 * time.Second):
			t.Fatal("a call did not return in a minute")
		}
	}
	select {
	case err := <-written:
		t.Errorf("a write did not wait: %v", err)
	default:
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := p.Unmount(ctx, handle, target); err == nil {
		t.Error("unmounted while a write waits")
	}

	goOn()
	if err := <-written; err != nil {
		t.Errorf("what was written meanwhile: %v", err)
	}
	p.want(target, "meanwhile")
	for _, what := range []string{"stat", "create", "describe", "remove"} {
		if err := calls[what](t.Context()); err != nil {
			t.Errorf("%s, then: %v", what, err)
		}
	}
	p.unmount(handle, target)
	target, _ = p.own(handle)
	p.want(target, "meanwhile")
	p.unmount(handle, target)
}

// However often a volume is mounted whose client hangs, one thread waits for it.
func TestClientHangs(t *testing.T) {
	p := newPool(t, nil)
	handle := p.create("db")
	id, target := p.connect(handle), hosttest.Subdir(t, p.run, "mnt")
	goOn := hosttest.Freeze(t, p.clients()[0])
	before := runtime.NumGoroutine()
	for range 10 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second) // ErrUnavailable is promised if it came to the client in that
		if err := p.Mount(ctx, handle, target, backends.MountOptions{Alone: true, Identity: &id}); !errors.Is(err, backends.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want ErrUnavailable and %v", err, context.DeadlineExceeded)
		}
		cancel()
	}
	if n := runtime.NumGoroutine(); n > before+3 {
		t.Errorf("there are %d goroutines, and were %d", n, before)
	}
	goOn()
	target = p.mount(handle, backends.MountOptions{Alone: true, Identity: &id})
	p.write(target, "then")
	p.unmount(handle, target)
}

// A cluster that is slow is used all the same.
func TestSlowCluster(t *testing.T) {
	set := func(key, value string) { cephtest.Admin(t, "ceph", "tell", "osd.0", "config", "set", key, value) }
	p := newPool(t, nil)
	set("osd_debug_inject_dispatch_delay_duration", "0.01")
	set("osd_debug_inject_dispatch_delay_probability", "1")
	defer set("osd_debug_inject_dispatch_delay_probability", "0")
	begin := time.Now()
	handle := p.create("db")
	target, _ := p.own(handle)
	p.write(target, "data")
	p.unmount(handle, target)
	t.Logf("made, mounted, written to and unmounted in %v", time.Since(begin).Round(time.Millisecond))
}
