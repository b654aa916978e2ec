package scale_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/local"
	"github.com/dvol/dvold/coordination/consul"
	"github.com/dvol/dvold/coordination/consul/consultest"
	"github.com/dvol/dvold/internal/guard"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
	"github.com/dvol/dvold/internal/standing"
	"github.com/dvol/dvold/internal/volumes"
)

// fleet is many hosts in this process, with three real Consul servers. Each has
// its own Manager and its own client of Consul, as dvold has, and the same pool,
// a directory in memory.
type fleet struct {
	testing.TB
	dir    string
	ttl    time.Duration
	consul *consultest.Cluster
	hosts  []*member
	engine host.Process // this process takes the place of all engines
	log    *tally
	puts   atomic.Int64
	first  usage // before the first host was started
}

// member is a host of the fleet.
type member struct {
	*volumes.Manager
	name  string
	line  *line // nil if it calls a server itself
	store *consul.Store
}

// newFleet starts n hosts. All have lines if there are few: two ends more of each
// connection are too many open files for a thousand.
func newFleet(tb testing.TB, n int, ttl time.Duration) *fleet {
	tb.Helper()
	hosttest.Root(tb)
	f := &fleet{TB: tb, dir: hosttest.Tmpfs(tb, ""), ttl: ttl, log: &tally{said: make(map[string]int)}}
	f.consul = consultest.Start(tb, consultest.Options{Servers: 3, Slow: n > 10})
	var err error
	if f.engine, err = host.FindProcess(os.Getpid()); err != nil {
		tb.Fatal(err)
	}
	f.first = f.usage()
	f.hosts = make([]*member, n)
	tb.Cleanup(func() { f.end(f.hosts) })
	f.each(f.hosts, func(i int, _ *member) error { return f.start(i) })
	return f
}

// lined tells whether host i has a line.
func (f *fleet) lined(i int) bool { return len(f.hosts) < 10 || i%5 < 2 }

// callers is how many of the hosts are called at once, but where it is said that all are.
const callers = 16

// each calls do for some hosts, with their numbers among these.
func (f *fleet) each(some []*member, do func(i int, h *member) error) {
	f.Helper()
	f.atOnce(callers, some, do)
}

func (f *fleet) atOnce(n int, some []*member, do func(i int, h *member) error) {
	f.Helper()
	slots := make(chan struct{}, n)
	var all sync.WaitGroup
	for i, h := range some {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if err := do(i, h); err != nil {
				f.Errorf("host %d: %v", i, err)
			}
		})
	}
	all.Wait()
	if f.Failed() {
		f.FailNow()
	}
}

// start starts host i.
func (f *fleet) start(i int) error {
	name := fmt.Sprintf("h%04d", i)
	dir := filepath.Join(f.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	h := &member{name: name}
	cfg := consul.DefaultConfig()
	cfg.Addresses, cfg.TTL = []string{f.consul.Address(i % 3)}, f.ttl
	if f.lined(i) {
		h.line = newLine(f, filepath.Join(dir, "consul"), f.consul.Address(i%3))
		cfg.Addresses = []string{"unix://" + h.line.socket}
	}
	log := slog.New(f.log)
	var err error
	if h.store, err = consul.Open(cfg, log); err != nil {
		return err
	}
	pool := local.DefaultConfig()
	pool.Path = filepath.Join(f.dir, "pool")
	backend, err := local.Open(pool, log)
	if err != nil {
		return err
	}
	h.Manager, err = volumes.Open(f.Context(), volumes.Config{
		Host: name, StateDir: dir, RunDir: filepath.Join(dir, "run"), DefaultPool: "pool",
		CutTime: 5 * time.Second, Guard: guard.Config{RebootCommand: "/bin/true"},
		Pools: []volumes.Pool{{
			Name: "pool", Type: "local", Location: pool.Path, Backend: backend, Shared: true, TrashTTL: time.Hour, Fencer: fencer(name),
			Exclusive: volumes.Exclusive{Takeover: volumes.TakeoverAuto, OnSessionLoss: standing.Keep, MountWait: 90 * time.Second},
		}},
	}, h.store, log)
	f.hosts[i] = h
	return err
}

// end stops hosts.
func (f *fleet) end(some []*member) {
	slots := make(chan struct{}, callers)
	var all sync.WaitGroup
	for _, h := range some {
		if h == nil || h.Manager == nil {
			continue
		}
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := h.Close(ctx); err != nil {
				f.Errorf("stop %s: %v", h.name, err)
			}
			_ = h.store.Close() // of sessions that nobody hears of any more
			if h.Manager = nil; h.line != nil {
				h.line.cut()
			}
		})
	}
	all.Wait()
}

// kill ends hosts without a last word to Consul: what they have mounted and own
// stays so in the records.
func (f *fleet) kill(some []*member) {
	for _, h := range some {
		h.line.cut()
	}
	f.end(some)
}

// counts are those of all lines.
func (f *fleet) counts() (sum counts) {
	for _, h := range f.hosts {
		if h == nil || h.line == nil {
			continue
		}
		c := h.line.counts()
		for k := range consultest.Kinds {
			sum.requests[k] += c.requests[k]
		}
		sum.bytes += c.bytes
	}
	return sum
}

// eventually waits for what happens in the background, and returns how long it took.
func (f *fleet) eventually(what string, is func() bool) time.Duration {
	f.Helper()
	began := time.Now()
	for !is() {
		if time.Since(began) > 5*time.Minute {
			f.Fatalf("still not so after %v: %s; logged: %v", time.Since(began), what, f.log.take())
		}
		time.Sleep(20 * time.Millisecond)
	}
	return time.Since(began)
}

// count counts those that are something.
func count(some []*member, is func(*member) bool) (n int) {
	for _, h := range some {
		if is(h) {
			n++
		}
	}
	return n
}

// fencer is a fence of a storage that obeys at once.
type fencer string

func (fencer) Method() string               { return "none" }
func (fencer) Effect(backends.Fence) string { return "nothing" }
func (f fencer) Identity(_ context.Context, handle string) (backends.Identity, error) {
	return backends.Identity{Domain: "none/" + handle, Facts: map[string]string{"machine": string(f)}}, nil
}
func (fencer) Fence(context.Context, backends.Fence) error   { return nil }
func (fencer) Unfence(context.Context, backends.Fence) error { return nil }

// tally counts what is logged as a warning, or worse.
type tally struct {
	mu   sync.Mutex // guards said
	said map[string]int
}

func (t *tally) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }
func (t *tally) WithAttrs([]slog.Attr) slog.Handler           { return t }
func (t *tally) WithGroup(string) slog.Handler                { return t }
func (t *tally) Handle(_ context.Context, r slog.Record) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.said[r.Message]++
	return nil
}

// take returns what was said since it was called last.
func (t *tally) take() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	said := t.said
	t.said = make(map[string]int)
	return said
}
