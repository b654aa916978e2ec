package volumes

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/dvol/dvold/backends/local"
	"github.com/dvol/dvold/coordination/embedded"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// BenchmarkMount is a Mount and its Unmount, without Docker's protocol.
func BenchmarkMount(b *testing.B) {
	hosttest.Root(b)
	dir, log := hosttest.Dir(b), slog.New(slog.DiscardHandler)
	pool, err := local.Open(local.Config{Path: filepath.Join(dir, "pool")}, log)
	if err != nil {
		b.Fatal(err)
	}
	coord, err := embedded.Open(b.Context(), embedded.Config{Path: filepath.Join(dir, "cluster.db")}, log)
	if err != nil {
		b.Fatal(err)
	}
	m, err := Open(b.Context(), Config{
		Host: "h1", StateDir: dir, RunDir: filepath.Join(hosttest.Tmpfs(b, ""), "run"), DefaultPool: "local",
		Pools: []Pool{{Name: "local", Backend: pool}},
	}, coord, log)
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := m.Close(b.Context()); err != nil {
			b.Error(err)
		}
		coord.Close()
	}()
	if err := m.Create(b.Context(), "data", nil); err != nil {
		b.Fatal(err)
	}
	engine := me(b)
	for b.Loop() {
		if _, err := m.Mount(b.Context(), "data", "c1", engine); err != nil {
			b.Fatal(err)
		}
		if err := m.Unmount(b.Context(), "data", "c1"); err != nil {
			b.Fatal(err)
		}
	}
}
