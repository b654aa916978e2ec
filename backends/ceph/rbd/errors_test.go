//go:build ceph && cgo

package rbd_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph/cephtest"
	"github.com/dvol/dvold/backends/ceph/rbd"
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
