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
		{"create", func(w *world) {}, func(ctx context.Context, m *Manager, _ host.Process) error {
			return m.Create(ctx, "data", nil)
		}},
		{"create with adopt", func(w *world) {
			w.must(os.MkdirAll(w.adoptable(), 0o755))
			w.write(w.adoptable(), "f", "precious")
		}, func(ctx context.Context, m *Manager, _ host.Process) error {
			return m.Create(ctx, "data", map[string]string{"adopt": "old"})
		}},
		{"first mount", made, mount},
		{"second mount (docker cp)", mounted, mount},
		{"last unmount", mounted, func(ctx context.Context, m *Manager, _ host.Process) error {
			return m.Unmount(ctx, "data", "c1")
		}},
		{"first mount, exclusive", ownable, mount},
		{"last unmount, exclusive", owned, func(ctx context.Context, m *Manager, _ host.Process) error {
			return m.Unmount(ctx, "data", "c1")
		}},
		{"remove", made, func(ctx context.Context, m *Manager, _ host.Process) error {
			return m.Remove(ctx, "data", nil)
		}},
		{"remove with a stale use", mounted, func(ctx context.Context, m *Manager, engine host.Process) error {
			return m.Remove(ctx, "data", &engine)
		}},
		{"set access", made, func(ctx context.Context, m *Manager, _ host.Process) error {
			_, err := m.SetAccess(ctx, "data", AccessReadOnly)
			return err
		}},
		{"resize", made, func(ctx context.Context, m *Manager, _ host.Process) error {
			_, err := m.Resize(ctx, "data", 8<<20)
			return err
		}},
		{"restore", removed, func(ctx context.Context, m *Manager, _ host.Process) error {
			_, err := m.Restore(ctx, "data", "")
			return ignore(err, ErrNotFound) // restored already
		}},
		{"purge", removed, func(ctx context.Context, m *Manager, _ host.Process) error {
			_, err := m.Purge(ctx, "data")
			return ignore(err, ErrNotFound) // purged already
		}},
		{starting, func(w *world) {
			made(w)
			w.mount("data", "gone", me(w.t))
			_, err := w.locks.acquire(w.t.Context(), "data") // for good: from the sweeper
			w.must(err)
			w.engineEnds("data")
			w.halfCreate("half")
		}, func(ctx context.Context, m *Manager, _ host.Process) error {
			return m.swept(ctx, "half")
		}},
	}
}
