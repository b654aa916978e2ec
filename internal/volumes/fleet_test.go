package volumes

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dvol/dvold/coordination/embedded"
	"github.com/dvol/dvold/internal/guard"
	"github.com/dvol/dvold/internal/host/hosttest"
	"github.com/dvol/dvold/internal/standing"
)

// fleet is several hosts in one process, on one real coordinator.
type fleet struct {
	t     *testing.T
	dir   string
	store *embedded.Store
	nodes []*node
}

// node is one host of a fleet: a world with the fleet's store as its
// coordinator, behind a line that can fail. Its pool a is the same place on all
// hosts, its pool b is its own.
type node struct {
	*world
	fleet   *fleet
	name    string
	line    *line
	running bool
	fencer  *fencer   // of its pool a; nil: none
	terms   Exclusive // of its pool a

	connector *connector // is its pool a, and that one's fencer; nil: none

	hookMu sync.Mutex // guards hook; mu is the Manager's
	hook   func(step string)
}

// newFleet starts hosts of those names.
func newFleet(t *testing.T, names ...string) *fleet {
	t.Helper()
	t.Parallel()
	hosttest.Root(t)
	f := &fleet{t: t, dir: hosttest.Tmpfs(t, "")} // of its own: cuts look at all that is open in it
	f.store = f.openStore("cluster.db")
	t.Cleanup(f.end)
	for _, name := range names {
		f.add(name).start()
	}
	return f
}

func (f *fleet) openStore(file string) *embedded.Store {
	f.t.Helper()
	store, err := embedded.Open(context.Background(), embedded.Config{Path: filepath.Join(f.dir, file)}, f.log("store"))
	if err != nil {
		f.t.Fatal(err)
	}
	return store
}

func (f *fleet) log(who string) *slog.Logger {
	var to io.Writer = f.t.Output()
	return slog.New(slog.NewTextHandler(to, &slog.HandlerOptions{Level: slog.LevelDebug})).With("at", who)
}

// add makes a host that is yet to be started.
func (f *fleet) add(name string) *node {
	f.t.Helper()
	n := &node{fleet: f, name: name, line: newLine(f.store)}
	n.terms = Exclusive{Takeover: TakeoverManual, OnSessionLoss: standing.Cut, MountWait: time.Second}
	n.world = &world{t: f.t, dir: filepath.Join(f.dir, name), ttl: time.Hour, coord: f.store}
	n.must(os.MkdirAll(n.dir, 0o755))
	n.gates = map[string]*gate{"a": (&world{t: f.t, dir: f.dir}).newGate("a"), "b": n.newGate("b")}
	f.nodes = append(f.nodes, n)
	return n
}

func (f *fleet) node(name string) *node {
	f.t.Helper()
	i := slices.IndexFunc(f.nodes, func(n *node) bool { return n.name == name })
	if i < 0 {
		f.t.Fatalf("no host %q", name)
	}
	return f.nodes[i]
}

// end stops all hosts.
func (f *fleet) end() {
	for _, n := range f.nodes {
		if n.running {
			n.line.fail(nil)
			n.stop()
		}
	}
	if err := f.store.Close(); err != nil {
		f.t.Errorf("close the store: %v", err)
	}
}

// start starts the host's daemon, or starts it again.
func (n *node) start() *node {
	n.t.Helper()
	n.must(n.open())
	return n
}

// open is start for those that may fail.
func (n *node) open() error {
	n.coord = n.fleet.store
	cfg := Config{
		Host: n.name, StateDir: n.dir, RunDir: filepath.Join(n.dir, "run"), DefaultPool: "a",
		CutTime: 5 * time.Second, Guard: guard.Config{RebootCommand: "/bin/true"},
		Step: func(step string) {
			n.hookMu.Lock()
			hook := n.hook
			n.hookMu.Unlock()
			if hook != nil {
				hook(step)
			}
		},
	}
	if n.gates["a"] == nil {
		cfg.DefaultPool = "b"
	}
	for name, g := range n.gates {
		p := Pool{Name: name, Type: "local", Location: "/" + name, Backend: g, Shared: name == "a", TrashTTL: n.ttl, Exclusive: n.terms}
		if n.fencer != nil && name == "a" {
			p.Fencer = n.fencer
		}
		if n.connector != nil && name == "a" {
			p.Backend, p.Fencer = n.connector, n.connector
		}
		cfg.Pools = append(cfg.Pools, p)
	}
	m, err := Open(context.Background(), cfg, n.line, n.fleet.log(n.name))
	if err != nil {
		return err
	}
	n.Manager, n.running = m, true
	return nil
}

// stop ends the host's daemon in good order.
func (n *node) stop() {
	n.t.Helper()
	n.running = false
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := n.Manager.Close(ctx); err != nil {
		n.t.Errorf("stop %s: %v", n.name, err)
	}
}

// die ends the host without a last word: its records stay as they are, what it
// mounted stays mounted.
func (n *node) die() {
	n.t.Helper()
	n.line.fail(away)
	n.Manager.stop()
	n.Manager.calls.Wait()
	n.must(n.line.loseSession())
	n.must(errors.Join(n.journal.close(), n.known.close()))
	n.line.fail(nil)
	n.running = false
}

// at has fn run when a call of this host has done a step for the first time.
func (n *node) at(step string, fn func()) {
	var once sync.Once
	n.hookMu.Lock()
	defer n.hookMu.Unlock()
	n.hook = func(s string) {
		if s == step {
			once.Do(fn)
		}
	}
}

// dieDuring has the host die in the middle of a call, after a step of it.
func (n *node) dieDuring(step string, call func(ctx context.Context) error) {
	n.t.Helper()
	ctx, cancel := context.WithCancel(n.t.Context())
	defer cancel()
	reached, ended := make(chan struct{}), make(chan error, 1)
	n.at(step, func() {
		n.line.fail(away) // nothing that it still does has an effect
		close(reached)
		runtime.Goexit()
	})
	go func() { ended <- call(ctx) }()
	select {
	case <-reached:
	case err := <-ended:
		n.t.Fatalf("the call ended with %v before it came to %q", err, step)
	}
	n.die()
	cancel()
	<-ended
}

// settled waits until the records say what the host holds and nothing of an
// interrupted call is left.
func (n *node) settled() *node {
	n.t.Helper()
	n.eventually(n.name+" has settled", func() bool {
		return !n.unsettled.Load() && !n.unfinished.Load() && len(n.idle()) == 0 && len(n.keys("intents/")) == 0 &&
			slices.Equal(n.heldBy(n.name), n.mountedNames())
	})
	return n
}

func (n *node) mountedNames() []string {
	var names []string
	for name := range n.mountsNow() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// keys lists what is in the store.
func (n *node) keys(prefix string) []string {
	n.t.Helper()
	keys, err := n.coord.Keys(context.Background(), prefix)
	n.must(err)
	return keys
}

// data lists the directories of volumes in the pool that all share.
func (f *fleet) data() []string { return dirNames(f.t, filepath.Join(f.dir, "pools", "a", "volumes")) }

// data lists the directories of volumes in the host's own pool.
func (n *node) data() []string { return dirNames(n.t, filepath.Join(n.dir, "pools", "b", "volumes")) }

func dirNames(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// wantError fails the test unless err is target and says all of words.
func wantError(t *testing.T, what string, err, target error, words ...string) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("%s: got error %v, want %v", what, err, target)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%s: the error does not say %q: %v", what, word, err)
		}
	}
}

// together runs fn for each host at once and returns what it returned.
func (f *fleet) together(fn func(n *node) error) map[string]error {
	errs := make(map[string]error)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, n := range f.nodes {
		wg.Go(func() {
			err := fn(n)
			mu.Lock()
			defer mu.Unlock()
			errs[n.name] = err
		})
	}
	wg.Wait()
	return errs
}
