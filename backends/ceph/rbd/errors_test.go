//go:build ceph && cgo

package rbd_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph/cephtest"
	"github.com/dvol/dvold/backends/ceph/rbd"
	"github.com/dvol/dvold/internal/host/hosttest"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// What is configured wrongly is said in one line, with what to do.
func TestErrors(t *testing.T) {
	namespace := newNamespace(t)
	for what, test := range map[string]struct {
		change func(*rbd.Config)
		want   string
	}{
		"wrong key":    {func(c *rbd.Config) { c.Cluster.Keyring = cephtest.Keyring("wrong") }, "the cluster refuses the key"},
		"no keyring":   {func(c *rbd.Config) { c.Cluster.Keyring = "/nonexistent/keyring" }, "keyring of Ceph user client.host"},
		"other user's": {func(c *rbd.Config) { c.Cluster.Keyring = cephtest.Keyring("fencer") }, "has no key for client.host"},
		"no user":      {func(c *rbd.Config) { c.Cluster.User = "nobody" }, "client.nobody"},
		"no monitor":   {func(c *rbd.Config) { c.Cluster.Monitors = []string{"10.97.0.1:1"} }, "no monitor answers (10.97.0.1:1)"},
		"no pool":      {func(c *rbd.Config) { c.Pool = "missing" }, `the cluster has no pool "missing" (pool)`},
		"no data pool": {func(c *rbd.Config) { c.DataPool = "missing" }, `the cluster has no pool "missing" (data_pool)`},
		"missing caps": {func(c *rbd.Config) { c.Cluster = cephtest.Config(t, "reader") }, "the caps of client.reader do not allow it"},
		"caps of none": {func(c *rbd.Config) { c.Cluster = cephtest.Config(t, "files") }, "the caps of client.files do not allow it"},
		"no conf":      {func(c *rbd.Config) { c.Cluster.Conf, c.Cluster.Monitors = "/nonexistent.conf", nil }, "conf: /nonexistent.conf"},
	} {
		p := inNamespace(t, namespace, test.change)
		begin := time.Now()
		err := p.Create(t.Context(), p.plan(backends.Request{ID: id("db")}))
		if !errors.Is(err, backends.ErrUnavailable) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %s", what, err, test.want)
		}
		if took := time.Since(begin); took > 15*time.Second {
			t.Errorf("%s: it took %v", what, took)
		}
	}
}

// A pool that is full says so, and does not keep anybody waiting.
func TestQuotaOfPool(t *testing.T) {
	for name, change := range map[string]func(*rbd.Config){
		"data alone": func(c *rbd.Config) { c.DataPool = "limited" },
		"all":        func(c *rbd.Config) { c.Pool, c.Namespace = "limited", "" },
	} {
		t.Run(name, func(t *testing.T) { testQuotaOfPool(newPool(t, change)) })
	}
}

func testQuotaOfPool(p *pool) {
	t := p.t
	handle, other, gone := p.create("db"), p.create("other"), p.create("gone")
	target, _ := p.own(handle)
	cephtest.Admin(t, "ceph", "osd", "pool", "set-quota", "limited", "max_bytes", "4096")
	restore := sync.OnceFunc(func() { cephtest.Admin(t, "ceph", "osd", "pool", "set-quota", "limited", "max_bytes", "0") })
	defer restore()
	isFull := func(err error) bool {
		return errors.Is(err, backends.ErrNoSpace) && strings.Contains(err.Error(), "it is full, or has reached its quota")
	}
	soon := func(what string, limit time.Duration, do func() error, is func(error) bool) bool {
		begin := time.Now()
		err := do()
		took := time.Since(begin)
		if is(err) && took > limit {
			t.Errorf("%s: it took %v", what, took)
		}
		t.Logf("%s: %v, after %v", what, err, took)
		return is(err)
	}
	v := p.plan(backends.Request{ID: id("db")})
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(500 * time.Millisecond) {
		w := p.plan(backends.Request{ID: id("db")})
		if soon("create", 10*time.Second, func() error { return p.Create(t.Context(), w) }, isFull) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("want ErrNoSpace")
		}
	}
	none := func(err error) bool { return err == nil }
	connect := func() error {
		identity, err := p.Identity(t.Context(), other)
		if err == nil {
			_, err = p.Connect(t.Context(), other, identity)
		}
		return err
	}
	mount := func() error {
		return p.Mount(t.Context(), other, hosttest.Subdir(t, p.run, "mnt-other"), backends.MountOptions{Alone: true})
	}
	answered := func(err error) bool { return err == nil || isFull(err) } // as there is an object for it already, or not
	for what, test := range map[string]struct {
		do func() error
		is func(error) bool
	}{
		"resize":   {func() error { return p.Resize(t.Context(), other, 1<<30) }, isFull},
		"stamp":    {func() error { return p.Stamp(t.Context(), id("other"), []byte("2")) }, answered},
		"describe": {func() error { return p.Describe(t.Context(), id("other"), []byte("text")) }, answered},
		"connect":  {connect, isFull},
		"mount":    {mount, isFull},
		"remove":   {func() error { return p.Remove(t.Context(), gone) }, none},
	} {
		if !soon(what, 10*time.Second, test.do, test.is) {
			t.Errorf("%s where the pool is full", what)
		}
	}
	restore()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(500 * time.Millisecond) {
		err := p.Create(t.Context(), v)
		if err == nil {
			break
		}
		if !errors.Is(err, backends.ErrNoSpace) || time.Now().After(end) {
			t.Fatal(err)
		}
	}
	p.write(target, "data")
	p.unmount(handle, target)
	p.unmount(other, p.mount(other, backends.MountOptions{Alone: true}))
}

// XFS is made, replayed, made larger while it is mounted, and its size is that of the
// image, here and where it is resized by another host.
func TestResizeXFS(t *testing.T) {
	p := newPool(t, func(c *rbd.Config) { c.FileSystem, c.Size = "xfs", 304<<20 })
	handle := p.create("db")
	target, _ := p.own(handle)
	p.write(target, "data")
	blocks := func() int64 {
		var st unix.Statfs_t
		if err := unix.Statfs(target, &st); err != nil {
			t.Fatal(err)
		}
		return int64(st.Blocks) * st.Bsize
	}
	first := blocks()
	if err := p.Resize(t.Context(), handle, 352<<20); err != nil {
		t.Fatal(err)
	}
	if got := blocks(); got < first+40<<20 {
		t.Errorf("resized from %d to %d", first, got)
	}
	other := inNamespace(t, p.config.Namespace, nil)
	if err := other.Resize(t.Context(), handle, 400<<20); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); blocks() < first+88<<20; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("resized by another host from %d to %d", first, blocks())
		}
	}
	p.want(target, "data")
	if info, err := p.Stat(t.Context(), handle); err != nil || info.Size != 400<<20 || info.Used <= 0 {
		t.Errorf("got %+v, %v", info, err)
	}
	p.unmount(handle, target)
	if err := p.Resize(t.Context(), handle, 448<<20); err != nil {
		t.Fatal(err)
	}
	target, _ = p.own(handle)
	if got := blocks(); got < first+136<<20 {
		t.Errorf("resized while not mounted from %d to %d", first, got)
	}
	p.want(target, "data")
	p.unmount(handle, target)
	readOnly := p.mount(handle, backends.MountOptions{ReadOnly: true})
	p.want(readOnly, "data")
	p.unmount(handle, readOnly)
}

// The key is in no argument of what is started, nor in its environment.
func TestKeyIsNotShown(t *testing.T) {
	p := newPool(t, nil)
	handle := p.create("db")
	p.connect(handle)
	keyring, err := os.ReadFile(cephtest.Keyring("host"))
	if err != nil {
		t.Fatal(err)
	}
	_, key, _ := strings.Cut(string(keyring), "key = ")
	key, _, _ = strings.Cut(key, "\n")
	if len(key) < 20 || len(p.clients()) == 0 {
		t.Fatalf("got key of %d bytes and clients %v", len(key), p.clients())
	}
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		for _, name := range []string{file, filepath.Join(filepath.Dir(file), "environ")} {
			if text, err := os.ReadFile(name); err == nil && strings.Contains(string(text), key) {
				t.Errorf("the key is in %s", name)
			}
		}
	}
	p.unmount(handle, p.run+"/nowhere")
}
