package volumes

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/local"
	"github.com/dvol/dvold/coordination/embedded"
	"github.com/dvol/dvold/internal/guard"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// world is a state directory and the daemon that runs on it, with a real
// coordinator and two real pools, a and b, that can be made to hang.
type world struct {
	t     *testing.T
	dir   string
	ttl   time.Duration
	gates map[string]*gate

	connecting bool // the fencer of pool a knows hosts by their connections
	oneWriter  bool // at a time has a volume of pool a

	*Manager
	coord *embedded.Store
}

func newWorld(t *testing.T) *world {
	t.Helper()
	hosttest.Root(t)
	w := &world{t: t, dir: hosttest.Dir(t), ttl: time.Hour}
	w.gates = map[string]*gate{"a": w.newGate("a"), "b": w.newGate("b")}
	return w
}

func (w *world) newGate(pool string) *gate {
	c := local.DefaultConfig()
	c.Path = filepath.Join(w.dir, "pools", pool)
	b, err := local.Open(c, slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	return &gate{Backend: sizer{b, filepath.Join(w.dir, "sizes", pool)}}
}

// start starts the daemon, or starts it again.
func (w *world) start() *world {
	w.t.Helper()
	ctx := context.WithoutCancel(w.t.Context())
	log := slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	w.coord, err = embedded.Open(ctx, embedded.Config{Path: filepath.Join(w.dir, "cluster.db")}, log)
	if err != nil {
		w.t.Fatal(err)
	}
	cfg := Config{Host: "h1", StateDir: w.dir, RunDir: filepath.Join(w.dir, "run"), DefaultPool: "a", CutTime: time.Second, Guard: guard.Config{RebootCommand: "/bin/true"}}
	for name, g := range w.gates {
		p := Pool{Name: name, Type: "local", Backend: g, TrashTTL: w.ttl}
		p.OneWriter = w.oneWriter && name == "a"
		if w.connecting && name == "a" {
			c := newConnector(g, "h1", w.dir)
			p.Backend, p.Fencer = c, c
		}
		cfg.Pools = append(cfg.Pools, p)
	}
	w.Manager, err = Open(ctx, cfg, w.coord, log)
	if err != nil {
		w.t.Fatal(err)
	}
	return w
}

// stop ends the daemon.
func (w *world) stop() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.t.Context()), 10*time.Second)
	defer cancel()
	if err := w.Manager.Close(ctx); err != nil {
		w.t.Errorf("close: %v", err)
	}
	if err := w.coord.Close(); err != nil {
		w.t.Errorf("close the coordinator: %v", err)
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// mountID is as good as Docker's.
func (w *world) mount(name, id string, engine host.Process) string {
	w.t.Helper()
	target, err := w.Mount(w.t.Context(), name, id, engine)
	w.must(err)
	return target
}

// engineEnds makes the uses of a volume those of an engine that has ended. The
// sweeper may act on it at once.
func (w *world) engineEnds(name string) {
	w.t.Helper()
	e, _ := w.entry(name)
	for id := range e.Uses {
		e = e.drop(id).add(id, host.Process{PID: os.Getpid(), Start: 1}, time.Now()) // another start: not alive
	}
	w.must(w.record(e))
}

// mounted says what the kernel says.
func (w *world) mounted(target string) bool {
	w.t.Helper()
	info, err := host.MountedAt(target)
	w.must(err)
	return info != nil
}

func (w *world) write(target, file, text string) {
	w.t.Helper()
	w.must(os.WriteFile(filepath.Join(target, file), []byte(text), 0o644))
}

func (w *world) read(target, file string) string {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(target, file))
	w.must(err)
	return string(text)
}

// eventually waits for what happens in the background.
func (w *world) eventually(what string, is func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("still not so: %s", what)
		}
	}
}

// me is a process that lives as long as the test.
func me(t testing.TB) host.Process {
	t.Helper()
	p, err := host.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// sizer is a pool that has sizes, which files in dir tell and nobody enforces.
type sizer struct {
	*local.Pool
	dir string
}

func (s sizer) Resize(ctx context.Context, handle string, size int64) error {
	if _, err := s.Pool.Stat(ctx, handle); err != nil {
		return err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.dir, filepath.Base(handle)), []byte(strconv.FormatInt(size, 10)), 0o600)
}

func (s sizer) Stat(ctx context.Context, handle string) (backends.Info, error) {
	info, err := s.Pool.Stat(ctx, handle)
	if err != nil {
		return info, err
	}
	text, err := os.ReadFile(filepath.Join(s.dir, filepath.Base(handle)))
	if errors.Is(err, os.ErrNotExist) {
		return info, nil
	}
	if err == nil {
		info.Size, err = strconv.ParseInt(string(text), 10, 64)
	}
	return info, err
}

// gate is a pool that can be made to hang, as a server that does not answer
// makes it: without regard to ctx.
type gate struct {
	backends.Backend

	mu        sync.Mutex
	hung      chan struct{} // calls wait until it is closed; nil: they don't
	asked     []backends.MountOptions
	unmounted int // calls
}

func (g *gate) hang() (heal func()) {
	hung := make(chan struct{})
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hung = hung
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.hung = nil
		close(hung)
	})
}

func (g *gate) wait() {
	g.mu.Lock()
	hung := g.hung
	g.mu.Unlock()
	if hung != nil {
		<-hung
	}
}

func (g *gate) Stat(ctx context.Context, handle string) (backends.Info, error) {
	g.wait()
	return g.Backend.Stat(ctx, handle)
}

func (g *gate) Resize(ctx context.Context, handle string, size int64) error {
	g.wait()
	return g.Backend.(backends.Resizer).Resize(context.WithoutCancel(ctx), handle, size)
}

func (g *gate) Stamp(ctx context.Context, id string, text []byte) error {
	return g.Backend.(backends.Stamper).Stamp(ctx, id, text)
}

func (g *gate) Stamped(ctx context.Context, id string) ([]byte, error) {
	return g.Backend.(backends.Stamper).Stamped(ctx, id)
}

func (g *gate) Create(ctx context.Context, v backends.Volume) error {
	g.wait()
	return g.Backend.Create(context.WithoutCancel(ctx), v)
}

func (g *gate) Remove(ctx context.Context, handle string) error {
	g.wait()
	return g.Backend.Remove(ctx, handle)
}

func (g *gate) Mount(ctx context.Context, handle, target string, o backends.MountOptions) error {
	g.wait()
	g.mu.Lock()
	g.asked = append(g.asked, o)
	g.mu.Unlock()
	return g.Backend.Mount(context.WithoutCancel(ctx), handle, target, o)
}

func (g *gate) Unmount(ctx context.Context, handle, target string) error {
	g.wait()
	g.mu.Lock()
	g.unmounted++
	g.mu.Unlock()
	return g.Backend.Unmount(context.WithoutCancel(ctx), handle, target)
}
