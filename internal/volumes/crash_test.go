package volumes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends/local"
	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/coordination/embedded"
	"github.com/dvol/dvold/internal/guard"
	"github.com/dvol/dvold/internal/host"
)

// crashTable is written by TestCrash with DVOLD_TEST_UPDATE=1, and compared
// otherwise.
const crashTable = "../../docs/crash-table.md"

const starting = "start after a crash"

// operation is what a daemon is killed in the middle of.
type operation struct {
	name       string
	prepare    func(w *world)                                                   // what is so before
	run        func(ctx context.Context, m *Manager, engine host.Process) error // in the daemon that is killed
	connecting bool                                                             // in a pool whose fencer knows this host by its connections
}

// world is one for the operation.
func (op operation) world(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.connecting = op.connecting
	return w.start()
}

// swept waits until the sweeper has unmounted everything and undone the create
// of half.
func (m *Manager) swept(ctx context.Context, half string) error {
	for range 2000 {
		_, err := m.loadIntent(ctx, half)
		if errors.Is(err, ErrNotFound) && len(m.idle()) == 0 {
			return m.quiet(ctx, half)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.New("the sweeper was waited for in vain")
}

// quiet waits until nobody is at a volume: what a step is called after can be seen before
// the step.
func (m *Manager) quiet(ctx context.Context, name string) error {
	release, err := m.locks.acquire(ctx, name)
	if err == nil {
		release()
	}
	return err
}

func ignore(err, harmless error) error {
	if errors.Is(err, harmless) {
		return nil
	}
	return err
}

func (w *world) adoptable() string { return filepath.Join(w.dir, "pools", "a", "old") }

// TestCrash kills a daemon after each step of each operation, starts another,
// and looks whether all is whole.
func TestCrash(t *testing.T) {
	table := []string{
		"# What a crash leaves", "",
		"Written by a test (internal/volumes, TestCrash), which kills dvold with SIGKILL after each step, starts it again, and looks. In each row",
		"all data is there, no half-made volume is visible, and nothing is left over in pool, journal or mount table. The last column is the state after the call",
		"was made once more.", "",
		"| operation | killed after | after the restart | after the same call again |", "|---|---|---|---|",
	}
	for _, op := range operations() {
		for _, step := range stepsOf(t, op) {
			after, again := crash(t, op, step)
			table = append(table, fmt.Sprintf("| %s | %s | %s | %s |", op.name, step, after, again))
		}
	}
	got := strings.Join(table, "\n") + "\n"
	if os.Getenv("DVOLD_TEST_UPDATE") != "" && !t.Failed() {
		if err := os.WriteFile(crashTable, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(crashTable)
	if err != nil || string(want) != got {
		t.Errorf("%s does not say what happens (%v); with DVOLD_TEST_UPDATE=1 this test rewrites it. It should say:\n%s", crashTable, err, got)
	}
}

// stepsOf runs op to the end and returns its steps.
func stepsOf(t *testing.T, op operation) []string {
	t.Helper()
	w := op.world(t)
	op.prepare(w)
	w.stop()
	out, err := daemonInChild(w, op, "").Output()
	if err != nil {
		t.Fatalf("%s: %v", op.name, err)
	}
	w.start()
	defer w.end()
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// crash runs op in a daemon that is killed after step, and describes the state
// after a restart, and after a repetition.
func crash(t *testing.T, op operation, step string) (after, again string) {
	t.Helper()
	w := op.world(t)
	op.prepare(w)
	w.stop()
	err := daemonInChild(w, op, step).Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != unix.SIGKILL {
		t.Fatalf("%s, %s: the daemon was to be killed, and ended with %v", op.name, step, err)
	}
	w.start()
	defer w.end()
	w.whole()
	after = w.describe()
	if err := op.run(t.Context(), w.Manager, me(t)); err != nil {
		t.Errorf("%s, killed after %q: again: %v", op.name, step, err)
	}
	w.whole()
	return after, w.describe()
}

// end unmounts what may still be mounted, as a test's end needs it.
func (w *world) end() {
	w.t.Helper()
	for range 5 {
		w.must(w.Unmount(w.t.Context(), "data", "c1"))
	}
	w.whole()
	w.stop()
}

// whole waits until the background work is done, and fails if anything is left
// over or missing.
func (w *world) whole() {
	w.t.Helper()
	w.eventually("the sweeper is done", func() bool {
		stored, err := w.coord.List(w.t.Context(), "")
		w.must(err)
		return len(w.idle()) == 0 && !w.unsettled.Load() && !slices.ContainsFunc(stored, func(s coordination.Record) bool {
			r, err := decode(s)
			return strings.HasPrefix(s.Key, "intents/") || strings.HasPrefix(s.Key, "trash/") && err == nil && r.State != stateTrashed
		})
	})
	w.eventually("the records say what is mounted", func() bool {
		return slices.Equal(w.heldBy("h1"), slices.Sorted(maps.Keys(w.mountsNow())))
	})
	data := make(map[string]bool) // of volumes and the trash
	connections := make(map[string]bool)
	descriptions := make(map[string]bool)
	mounts := make(map[string]bool)
	stored, err := w.coord.List(w.t.Context(), "")
	w.must(err)
	for _, s := range stored {
		if !strings.HasPrefix(s.Key, "volumes/") && !strings.HasPrefix(s.Key, "trash/") {
			continue
		}
		r, err := decode(s)
		w.must(err)
		info, err := w.gates["a"].Stat(w.t.Context(), r.Handle)
		w.must(err)
		if r.Adopted || fileIn(info.Location) != "" {
			if got := w.read(info.Location, "f"); got != "precious" {
				w.t.Errorf("the volume holds %q", got)
			}
		}
		if !r.Adopted {
			data[r.ID] = true
		}
		descriptions[r.ID+".json"] = true
	}
	for _, e := range w.mountsNow() {
		mounts[e.ID] = true
		if w.connecting {
			connections[clientFile("h1", e.Handle)] = true
		}
		if len(e.Uses) == 0 || !w.mounted(w.target(e.ID)) {
			w.t.Errorf("journal entry %+v was left over", e)
		}
	}
	w.dirHolds("pools/a/volumes", data)
	w.dirHolds("pools/a/descriptions", descriptions)
	w.dirHolds("pools/a/work", nil)
	w.dirHolds("run/mnt", mounts)
	w.dirHolds("clients", connections)
	if _, err := os.Stat(w.adoptable()); err == nil && w.read(w.adoptable(), "f") != "precious" {
		w.t.Error("adopted data was changed")
	}
}

func (w *world) mountsNow() map[string]entry {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return maps.Clone(w.mounts)
}

// heldBy lists the volumes that a host holds, as both kinds of records say.
func (w *world) heldBy(host string) []string {
	w.t.Helper()
	reverse, err := w.coord.List(w.t.Context(), "holdings/"+host+"/")
	w.must(err)
	holders, err := w.coord.List(w.t.Context(), "holders/")
	w.must(err)
	var names []string
	for _, s := range reverse {
		name := filepath.Base(s.Key)
		if slices.ContainsFunc(holders, func(h coordination.Record) bool { return h.Key == holderKey(name, host) }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func fileIn(dir string) string {
	if _, err := os.Stat(filepath.Join(dir, "f")); err != nil {
		return ""
	}
	return "f"
}

// holds fails the test unless a directory holds just what it should.
func (w *world) dirHolds(dir string, want map[string]bool) {
	w.t.Helper()
	entries, err := os.ReadDir(filepath.Join(w.dir, dir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	got := make(map[string]bool)
	for _, e := range entries {
		got[e.Name()] = true
	}
	if !maps.Equal(got, want) && len(got)+len(want) > 0 {
		w.t.Errorf("%s holds %v, want %v", dir, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

// describe says in words what became of the volume "data".
func (w *world) describe() string {
	w.t.Helper()
	v, err := w.Get(w.t.Context(), "data")
	if err == nil {
		if !v.Mounted {
			return "there, not mounted" + w.describeSize(v)
		}
		return fmt.Sprintf("there, mounted, %s counted %d times", v.Uses[0].MountID, v.Uses[0].Count)
	}
	if !errors.Is(err, ErrNotFound) {
		w.t.Fatal(err)
	}
	trash, err := w.Trash(w.t.Context())
	w.must(err)
	if len(trash) > 0 {
		return "in the trash"
	}
	return "not there"
}

// describeSize is what the record and the storage say of the volume's size, if
// any of them has one.
func (w *world) describeSize(v Volume) string {
	w.t.Helper()
	info, err := w.gates["a"].Stat(w.t.Context(), v.Handle)
	w.must(err)
	switch {
	case v.Size == 0 && info.Size == 0:
		return ""
	case v.Size == info.Size:
		return fmt.Sprintf(", with size %d", v.Size)
	}
	return fmt.Sprintf(", limited to %d, recorded as %d", info.Size, v.Size)
}

// daemonInChild is a daemon on w's state in a process of its own, which runs
// op and prints its steps, or is killed after one.
func daemonInChild(w *world, op operation, step string) *exec.Cmd {
	c := exec.Command(os.Args[0], w.dir, op.name, step)
	c.Env = append(os.Environ(), "DVOLD_TEST_ROLE=daemon")
	c.Stderr = w.t.Output()
	return c
}

func TestMain(m *testing.M) {
	if os.Getenv("DVOLD_TEST_ROLE") == "daemon" {
		if err := playDaemon(os.Args[1], os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// notSettled tells whether a volume that was owned before the start is yet to be
// reclaimed.
func (m *Manager) notSettled() bool {
	session, err := m.session()
	return err != nil || m.unsettledOwner(session.Incarnation(), "") != ""
}

func playDaemon(dir, name, last string) error {
	ctx, log := context.Background(), slog.New(slog.NewTextHandler(os.Stderr, nil))
	engine, err := host.FindProcess(os.Getppid()) // outlives this daemon
	if err != nil {
		return err
	}
	pool, err := local.Open(local.Config{Path: filepath.Join(dir, "pools", "a")}, log)
	if err != nil {
		return err
	}
	coord, err := embedded.Open(ctx, embedded.Config{Path: filepath.Join(dir, "cluster.db")}, log)
	if err != nil {
		return err
	}
	var armed atomic.Bool // other operations than a start begin when it is over
	armed.Store(name == starting)
	var steps []string
	op := operations()[slices.IndexFunc(operations(), func(op operation) bool { return op.name == name })]
	a := Pool{Name: "a", Type: "local", Backend: sizer{pool, filepath.Join(dir, "sizes", "a")}, TrashTTL: time.Hour}
	if op.connecting {
		c := newConnector(&gate{Backend: a.Backend}, "h1", dir)
		a.Backend, a.Fencer = c, c
	}
	cfg := Config{
		Host: "h1", StateDir: dir, RunDir: filepath.Join(dir, "run"), DefaultPool: "a",
		Pools:   []Pool{a},
		CutTime: time.Second, Guard: guard.Config{RebootCommand: "/bin/true"},
		Step: func(step string) {
			if !armed.Load() {
				return
			}
			steps = append(steps, step) // one after the other: they all belong to one call
			if step == last {
				unix.Kill(os.Getpid(), unix.SIGKILL)
				select {}
			}
		},
	}
	m, err := Open(ctx, cfg, coord, log)
	if err != nil {
		return err
	}
	if name != starting { // what is settled belongs to the start
		for m.notSettled() {
			time.Sleep(time.Millisecond)
		}
		if err := m.quiet(ctx, "data"); err != nil {
			return err
		}
	}
	armed.Store(true)
	if err := op.run(ctx, m, engine); err != nil {
		return err
	}
	if err := m.Close(ctx); err != nil { // and with it the sweeper
		return err
	}
	_, err = fmt.Println(strings.Join(steps, "\n"))
	return err
}
