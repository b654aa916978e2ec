package migrate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends/local"
	"github.com/dvol/dvold/coordination/embedded"
	"github.com/dvol/dvold/internal/host/hosttest"
	"github.com/dvol/dvold/internal/volumes"
)

func startUser(t *testing.T, argv []string) {
	t.Helper()
	hosttest.Start(t, exec.Command(argv[0], argv[1:]...))
}

// use has a process use a directory until release, or the end of the test.
func use(t *testing.T, dir string) (release func()) {
	t.Helper()
	user := exec.Command("sh", "-c", "cd \"$0\"; echo; exec sleep 1000", dir)
	hosttest.Start(t, user)
	return func() {
		must(t, user.Process.Kill())
		_ = user.Wait() // it was killed
	}
}

// world is a Docker data root and a daemon with one pool beside it.
type world struct {
	t       *testing.T
	dir     string
	manager *volumes.Manager
	created func() // called when a volume has been made; may be nil
	*Migrator
}

// watcher tells a world when a volume has been made.
type watcher struct {
	slog.Handler
	w *world
}

func (h watcher) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "volume created" && h.w.created != nil {
		h.w.created()
	}
	return h.Handler.Handle(ctx, r)
}

func newWorld(t *testing.T, c local.Config) *world {
	t.Helper()
	hosttest.Root(t)
	w := &world{t: t, dir: hosttest.Dir(t)}
	if c.Path == "" {
		c.Path = filepath.Join(w.dir, "pool")
	}
	ctx, log := context.WithoutCancel(t.Context()), slog.New(watcher{slog.NewTextHandler(t.Output(), nil), w})
	backend, err := local.Open(c, log)
	must(t, err)
	coord, err := embedded.Open(ctx, embedded.Config{Path: filepath.Join(w.dir, "cluster.db")}, log)
	must(t, err)
	w.manager, err = volumes.Open(ctx, volumes.Config{
		Host: "h1", StateDir: w.dir, RunDir: filepath.Join(w.dir, "run"), DefaultPool: "p",
		Pools: []volumes.Pool{{Name: "p", Type: "local", Location: c.Path, Backend: backend, TrashTTL: time.Hour}},
	}, coord, log)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		if err := errors.Join(w.manager.Close(ctx), coord.Close()); err != nil {
			t.Error(err)
		}
	})
	w.Migrator = New(w.manager, log)
	return w
}

// local makes a volume of Docker's local driver with one file in it.
func (w *world) local(name string) (data string) {
	w.t.Helper()
	data = hosttest.Subdir(w.t, w.dir, "docker/volumes/"+name+"/_data")
	must(w.t, os.WriteFile(filepath.Join(data, "file"), []byte(name), 0o600))
	return data
}

func (w *world) run(name string, move bool) error {
	_, err := w.Migrate(w.t.Context(), Request{Name: name, DockerRoot: filepath.Join(w.dir, "docker"), Move: move})
	return err
}

// wantData checks what dvol has under a name.
func (w *world) wantData(name string) {
	w.t.Helper()
	d, err := w.manager.Inspect(w.t.Context(), name)
	must(w.t, err)
	text, err := os.ReadFile(filepath.Join(d.Location, "file"))
	if err != nil || string(text) != name {
		w.t.Errorf("data of %s = %q (%v), want its name", name, text, err)
	}
}

func (w *world) wantNone(name string) {
	w.t.Helper()
	if _, err := w.manager.Get(w.t.Context(), name); !errors.Is(err, volumes.ErrNotFound) {
		w.t.Errorf("dvol has a volume %s: %v", name, err)
	}
}

func TestMigrateByCopy(t *testing.T) {
	w := newWorld(t, local.Config{})
	w.local("data")
	must(t, w.run("data", false))
	w.wantData("data")
	if err := w.run("data", false); !errors.Is(err, volumes.ErrExists) {
		t.Errorf("repeat: %v, want %v", err, volumes.ErrExists)
	}
}

// Who leaves once the volume is there is too late: it was migrated.
func TestMigrateSucceedsOnceTheVolumeIsMade(t *testing.T) {
	w := newWorld(t, local.Config{})
	for name, move := range map[string]bool{"copied": false, "moved": true} {
		w.local(name)
		ctx, cancel := context.WithCancel(t.Context())
		w.created = cancel
		got, err := w.Migrate(ctx, Request{Name: name, DockerRoot: filepath.Join(w.dir, "docker"), Move: move})
		if err != nil || ctx.Err() == nil || got.Name != name || got.Pool != "p" || !strings.HasPrefix(got.ID, name+".") || got.Moved != move {
			t.Errorf("migrate %s: %+v, %v (its caller: %v)", name, got, err, ctx.Err())
		}
		w.wantData(name)
	}
}

func TestMigrateRefuses(t *testing.T) {
	w := newWorld(t, local.Config{})
	root := filepath.Join(w.dir, "docker/volumes")
	options := func(name, text string) {
		w.local(name)
		must(t, os.WriteFile(filepath.Join(root, name, "opts.json"), []byte(text), 0o600))
	}
	options("nfs", `{"MountType":"nfs","MountOpts":"addr=nas","MountDevice":":/x","Quota":{"Size":0}}`)
	options("quota", `{"MountType":"","MountOpts":"","MountDevice":"","Quota":{"Size":1048576}}`)
	options("damaged", `{`)
	must(t, os.Mkdir(filepath.Join(root, "empty"), 0o700))
	must(t, os.Mkdir(filepath.Join(root, "elsewhere"), 0o700))
	must(t, os.Symlink(w.local("real"), filepath.Join(root, "elsewhere/_data")))
	must(t, os.Symlink("real", filepath.Join(root, "link")))
	w.local("whole")
	for _, path := range []string{w.local("mounted"), filepath.Join(root, "whole")} {
		must(t, unix.Mount("dvold-test", path, "tmpfs", 0, ""))
	}
	for name, want := range map[string]error{
		"nfs": volumes.ErrInvalid, "quota": volumes.ErrInvalid, "damaged": volumes.ErrInvalid, "elsewhere": volumes.ErrInvalid,
		"link": volumes.ErrInvalid, "mounted": volumes.ErrInvalid, "whole": volumes.ErrInvalid,
		"empty": volumes.ErrNotFound, "nobody": volumes.ErrNotFound, "..": volumes.ErrInvalid, "a/b": volumes.ErrInvalid, "": volumes.ErrInvalid,
	} {
		for _, move := range []bool{false, true} {
			if err := w.run(name, move); !errors.Is(err, want) {
				t.Errorf("%q, move %t: %v, want %v", name, move, err, want)
			}
			w.wantNone(name)
		}
	}
	w.local("sized")
	for _, move := range []bool{false, true} {
		_, err := w.Migrate(t.Context(), Request{Name: "sized", DockerRoot: filepath.Join(w.dir, "docker"), Size: "big", Move: move})
		if !errors.Is(err, volumes.ErrInvalid) || !strings.Contains(err.Error(), "size") {
			t.Errorf("with a size that is none, move %t: %v, want %v", move, err, volumes.ErrInvalid)
		}
	}
	options("plain", `{"MountType":"","MountOpts":"","MountDevice":"","Quota":{"Size":0}}`)
	must(t, w.run("plain", false))
}

// What is in use is not touched at all.
func TestUsedIsLeftAlone(t *testing.T) {
	w := newWorld(t, local.Config{})
	use(t, w.local("data"))
	w.atStep = func(step string) { t.Errorf("it goes on: %q", step) }
	for _, move := range []bool{false, true} {
		if err := w.run("data", move); !errors.Is(err, volumes.ErrInUse) {
			t.Errorf("move %t: %v, want %v", move, err, volumes.ErrInUse)
		}
	}
}

func TestFullPoolLeavesNothing(t *testing.T) {
	pool := hosttest.Tmpfs(t, "size=1m")
	w := newWorld(t, local.Config{Path: pool})
	data := w.local("data")
	must(t, os.WriteFile(filepath.Join(data, "large"), make([]byte, 2<<20), 0o600))
	must(t, write(filepath.Join(data, "large"), 1<<20, strings.Repeat("x", 1<<20)))
	if err := w.run("data", false); err == nil {
		t.Error("2 MiB fit into 1")
	}
	w.wantNone("data")
	if left, _ := filepath.Glob(pool + "/*/*"); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestList(t *testing.T) {
	w := newWorld(t, local.Config{})
	w.local("there")
	w.local("busy")
	w.local(strings.Repeat("0a", 32))
	w.local(strings.Repeat("long", 60))
	must(t, w.run("there", false))
	use(t, filepath.Join(w.dir, "docker/volumes/busy/_data"))
	all, err := w.List(t.Context(), filepath.Join(w.dir, "docker"))
	must(t, err)
	var got []string
	for _, l := range all {
		got = append(got, fmt.Sprintf("%.5s %t %t %t", l.Name, l.Anonymous, l.Exists, l.Problem != ""))
	}
	if want := "0a0a0 true false false, busy false false true, longl false false true, there false true true"; strings.Join(got, ", ") != want {
		t.Errorf("list = %v, want %s", got, want)
	}
}
