package volumes

import (
	"context"
	"os"

	"github.com/dvol/dvold/internal/host"
)

// operations all work on the volume "data", which holds a file where it exists
// before.
func operations() []operation {
	made := func(w *world) {
		w.must(w.Create(w.t.Context(), "data", nil))
		w.write(w.location("data"), "f", "precious")
	}
	mounted := func(w *world) {
		made(w)
		w.mount("data", "c1", me(w.t))
	}
	ownable := func(w *world) {
		made(w)
		_, err := w.SetAccess(w.t.Context(), "data", AccessExclusive)
		w.must(err)
	}
	owned := func(w *world) {
		ownable(w)
		w.mount("data", "c1", me(w.t))
	}
	removed := func(w *world) {
		made(w)
		w.must(w.Remove(w.t.Context(), "data", nil))
	}
	mount := func(ctx context.Context, m *Manager, engine host.Process) error {
		_, err := m.Mount(ctx, "data", "c1", engine)
		return err
	}
	return []operation{
		{name: "create", prepare: func(w *world) {}, run: func(ctx context.Context, m *Manager, _ host.Process) error {
			return m.Create(ctx, "data", nil)
		}},
		{name: "create with adopt", prepare: func(w *world) {
			w.must(os.MkdirAll(w.adoptable(), 0o755))
			w.write(w.adoptable(), "f", "precious")
		}, run: func(ctx context.Context, m *Manager, _ host.Process) error {
			return m.Create(ctx, "data", map[string]string{"adopt": "old"})
		}},
		{name: "first mount", prepare: made, run: mount},
		{name: "second mount (docker cp)", prepare: mounted, run: mount},
		{name: "last unmount", prepare: mounted, run: func(ctx context.Context, m *Manager, _ host.Process) error {
			return m.Unmount(ctx, "data", "c1")
		}},
		{name: "first mount, exclusive", prepare: ownable, run: mount},
		{name: "last unmount, exclusive", prepare: owned, run: func(ctx context.Context, m *Manager, _ host.Process) error {
			return m.Unmount(ctx, "data", "c1")
		}},
		{name: "first mount, connecting", prepare: ownable, run: mount, connecting: true},
		{name: "last unmount, connecting", prepare: owned, run: func(ctx context.Context, m *Manager, _ host.Process) error {
			return m.Unmount(ctx, "data", "c1")
		}, connecting: true},
		{name: "remove", prepare: made, run: func(ctx context.Context, m *Manager, _ host.Process) error {
			return m.Remove(ctx, "data", nil)
		}},
		{name: "remove with a stale use", prepare: mounted, run: func(ctx context.Context, m *Manager, engine host.Process) error {
			return m.Remove(ctx, "data", &engine)
		}},
		{name: "set access", prepare: made, run: func(ctx context.Context, m *Manager, _ host.Process) error {
			_, err := m.SetAccess(ctx, "data", AccessReadOnly)
			return err
		}},
		{name: "resize", prepare: made, run: func(ctx context.Context, m *Manager, _ host.Process) error {
			_, err := m.Resize(ctx, "data", 8<<20)
			return err
		}},
		{name: "restore", prepare: removed, run: func(ctx context.Context, m *Manager, _ host.Process) error {
			_, err := m.Restore(ctx, "data", "")
			return ignore(err, ErrNotFound) // restored already
		}},
		{name: "purge", prepare: removed, run: func(ctx context.Context, m *Manager, _ host.Process) error {
			_, err := m.Purge(ctx, "data")
			return ignore(err, ErrNotFound) // purged already
		}},
		{name: starting, prepare: func(w *world) {
			made(w)
			w.mount("data", "gone", me(w.t))
			_, err := w.locks.acquire(w.t.Context(), "data") // for good: from the sweeper
			w.must(err)
			w.engineEnds("data")
			w.halfCreate("half")
		}, run: func(ctx context.Context, m *Manager, _ host.Process) error {
			return m.swept(ctx, "half")
		}},
	}
}
