package migrate

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dvol/dvold/backends/local"
	"github.com/dvol/dvold/internal/host/hosttest"
	"github.com/dvol/dvold/internal/volumes"
)

func TestMigrateByMove(t *testing.T) {
	w := newWorld(t, local.Config{})
	data := w.local("data")
	must(t, w.run("data", true))
	w.wantData("data")
	if _, err := os.Lstat(data); !os.IsNotExist(err) {
		t.Errorf("original after the move: %v", err)
	}
	// A later volume of that name must not fall together with the data of
	// the first.
	must(t, w.manager.Remove(t.Context(), "data", nil))
	w.local("data")
	if err := w.run("data", true); !errors.Is(err, volumes.ErrExists) {
		t.Errorf("move onto other data: %v, want %v", err, volumes.ErrExists)
	}
	w.wantNone("data")
	must(t, w.run("data", false))
	w.wantData("data")
}

func TestInterruptedMoveIsFinished(t *testing.T) {
	w := newWorld(t, local.Config{})
	data := w.local("data")
	moved := filepath.Join(hosttest.Subdir(t, w.dir, "pool/migrated"), "data")
	must(t, os.Rename(data, moved)) // and a crash
	if err := w.run("data", false); !errors.Is(err, volumes.ErrNotFound) || !strings.Contains(err.Error(), "--move") {
		t.Errorf("copy after half a move: %v, want %v and what to do", err, volumes.ErrNotFound)
	}
	release := use(t, moved) // a container that came before the rename
	if err := w.run("data", true); !errors.Is(err, volumes.ErrInUse) || !strings.Contains(err.Error(), moved) {
		t.Errorf("repeat while it is used: %v, want %v and where the data is", err, volumes.ErrInUse)
	}
	w.wantNone("data")
	release()
	for range 2 { // again, as after a crash behind the last write
		must(t, w.run("data", true))
		w.wantData("data")
	}

	// The local volume may be gone by now.
	gone := filepath.Join(filepath.Dir(moved), "gone")
	must(t, os.Rename(w.local("gone"), gone), os.Remove(filepath.Join(w.dir, "docker/volumes/gone")))
	must(t, w.run("gone", true))
	w.wantData("gone")

	// Who comes too late with the repeat is told where the data is.
	late := filepath.Join(filepath.Dir(moved), "late")
	must(t, os.Rename(w.local("late"), late), w.manager.Create(t.Context(), "late", nil))
	if err := w.run("late", true); !errors.Is(err, volumes.ErrExists) || !strings.Contains(err.Error(), late) {
		t.Errorf("repeat, where somebody made the name meanwhile: %v, want %v and where the data is", err, volumes.ErrExists)
	}
}

// Nobody adopts what an earlier call takes back, for a container came in between.
func TestRepeatWhileDataGoesBack(t *testing.T) {
	w := newWorld(t, local.Config{})
	data := w.local("data")
	moved := filepath.Join(w.dir, "pool/migrated/data")
	release := func() {}
	w.atStep = func(step string) {
		if step != "move: renamed" {
			return
		}
		if err := w.run("data", true); !errors.Is(err, volumes.ErrInUse) {
			t.Errorf("repeat while the first goes on: %v, want %v", err, volumes.ErrInUse)
		}
		release = use(t, moved)
	}
	if err := w.run("data", true); !errors.Is(err, volumes.ErrInUse) {
		t.Errorf("move of what somebody uses since it was looked at: %v, want %v", err, volumes.ErrInUse)
	}
	w.wantNone("data")
	if text, err := os.ReadFile(filepath.Join(data, "file")); err != nil || string(text) != "data" {
		t.Errorf("original after the failure: %q, %v", text, err)
	}
	release()
	w.atStep = nil
	must(t, w.run("data", true))
	w.wantData("data")
}

// Once nobody uses what was moved, a caller who leaves is too late.
func TestMoveGoesOnWithoutItsCaller(t *testing.T) {
	w := newWorld(t, local.Config{})
	w.local("data")
	ctx, cancel := context.WithCancel(t.Context())
	w.atStep = func(step string) {
		if step == "move: looked at again" {
			cancel()
		}
	}
	if _, err := w.Migrate(ctx, Request{Name: "data", DockerRoot: filepath.Join(w.dir, "docker"), Move: true}); err != nil || ctx.Err() == nil {
		t.Errorf("%v (its caller: %v)", err, ctx.Err())
	}
	w.wantData("data")
}

// The volume can't be made, for another has adopted the directory around its
// data: the data has to go back.
func TestFailedMoveIsUndone(t *testing.T) {
	w := newWorld(t, local.Config{})
	data := w.local("data")
	hosttest.Subdir(t, w.dir, "pool/migrated")
	must(t, w.manager.Create(t.Context(), "all", map[string]string{"adopt": "migrated"}))
	if err := w.run("data", true); !errors.Is(err, volumes.ErrInUse) {
		t.Errorf("move: %v, want %v", err, volumes.ErrInUse)
	}
	if text, err := os.ReadFile(filepath.Join(data, "file")); err != nil || string(text) != "data" {
		t.Errorf("original after the failure: %q, %v", text, err)
	}
}

// Somebody makes a volume of that name after it was asked for: the data has to
// go back, for that volume is not its.
func TestMoveIsUndoneIfTheNameIsTakenMeanwhile(t *testing.T) {
	w := newWorld(t, local.Config{})
	hosttest.Subdir(t, w.dir, "pool/other")
	for name, options := range map[string]map[string]string{
		"made":    {},
		"adopted": {"adopt": "other"},
	} {
		data := w.local(name)
		w.atStep = func(step string) {
			if step == "move: looked at" {
				must(t, w.manager.Create(t.Context(), name, options))
			}
		}
		if err := w.run(name, true); !errors.Is(err, volumes.ErrMismatch) {
			t.Errorf("%s: move: %v, want %v", name, err, volumes.ErrMismatch)
		}
		if text, err := os.ReadFile(filepath.Join(data, "file")); err != nil || string(text) != name {
			t.Errorf("%s: original after the failure: %q, %v", name, text, err)
		}
	}
}

// What becomes of moved data whose move failed.
func TestMoveBack(t *testing.T) {
	w := newWorld(t, local.Config{})
	root, failed := filepath.Join(w.dir, "docker"), errors.New("no answer")
	for name, at := range map[string]string{
		"none":    "docker/volumes/none/_data", // no volume of the name
		"ours":    "pool/migrated/ours",        // it has the data after all
		"foreign": "pool/migrated/foreign",     // somebody else's, and so is what is in the way
	} {
		data := w.local(name)
		moved := filepath.Join(hosttest.Subdir(t, w.dir, "pool/migrated"), name)
		must(t, os.Rename(data, moved))
		switch name {
		case "ours":
			must(t, w.manager.Create(t.Context(), name, map[string]string{"adopt": "migrated/" + name}))
		case "foreign":
			must(t, w.manager.Create(t.Context(), name, nil), os.Mkdir(data, 0o700))
		}
		from, err := openVolume(root, name)
		must(t, err)
		defer from.Close()
		err = w.moveBack(t.Context(), failed, volumes.Pool{Name: "p"}, from, open(t, filepath.Dir(moved)), name)
		if (err == nil) != (name == "ours") || err != nil && !errors.Is(err, failed) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "foreign" && !strings.Contains(err.Error(), "data is at "+moved) {
			t.Errorf("%s: %v, want where its data is", name, err)
		}
		if text, err := os.ReadFile(filepath.Join(w.dir, at, "file")); err != nil || string(text) != name {
			t.Errorf("%s: data at %s: %q, %v", name, at, text, err)
		}
	}
}

// Data must not vanish below a mountpoint whose file system is missing.
func TestMoveNeedsThePoolMounted(t *testing.T) {
	pool := filepath.Join(hosttest.Dir(t), "pool")
	w := newWorld(t, local.Config{Path: pool, RequireMount: true})
	data := w.local("data")
	refused := func() {
		t.Helper()
		if err := w.run("data", true); !errors.Is(err, volumes.ErrUnavailable) {
			t.Errorf("move: %v, want %v", err, volumes.ErrUnavailable)
		}
		if _, err := os.Stat(filepath.Join(data, "file")); err != nil {
			t.Error(err)
		}
	}
	refused()
	if _, err := os.Lstat(pool); !os.IsNotExist(err) {
		t.Errorf("mountpoint that was missing: %v, want none", err)
	}
	must(t, os.MkdirAll(pool, 0o755))
	refused()
	if made, err := os.ReadDir(pool); err != nil || len(made) > 0 {
		t.Errorf("made below the mountpoint: %v (%v)", made, err)
	}
}

func TestMoveToAnotherFileSystemIsRefused(t *testing.T) {
	w := newWorld(t, local.Config{Path: hosttest.Tmpfs(t, "size=1m")})
	w.local("data")
	if err := w.run("data", true); !errors.Is(err, volumes.ErrInvalid) || !strings.Contains(err.Error(), "leave out --move") {
		t.Errorf("move: %v, want %v and what to do", err, volumes.ErrInvalid)
	}
	must(t, w.run("data", false))
	w.wantData("data")
}
