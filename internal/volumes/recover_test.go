package volumes

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/coordination"
)

func TestRestartKeepsMounts(t *testing.T) {
	w := newWorld(t).start()
	w.must(w.Create(t.Context(), "data", nil))
	target := w.mount("data", "c1", me(t))
	w.mount("data", "c1", me(t))
	w.stop()
	if !w.mounted(target) {
		t.Fatal("unmounted by the end of the daemon")
	}
	w.start()
	defer w.stop()
	v, err := w.Get(t.Context(), "data")
	if err != nil || !v.Mounted || v.Mountpoint != target || len(v.Uses) != 1 || v.Uses[0].Count != 2 {
		t.Errorf("after the restart: %+v, %v", v, err)
	}
	w.must(w.Unmount(t.Context(), "data", "c1"))
	if !w.mounted(target) {
		t.Fatal("unmounted although one use is left")
	}
	w.must(w.Unmount(t.Context(), "data", "c1"))
	if w.mounted(target) {
		t.Error("still mounted after the last use")
	}
}

func TestRebootForgetsUses(t *testing.T) {
	t.Run("journal lost", func(t *testing.T) { testReboot(t, true) })
	t.Run("journal kept", func(t *testing.T) { testReboot(t, false) })
}

func testReboot(t *testing.T, lost bool) {
	w := newWorld(t).start()
	w.must(w.Create(t.Context(), "data", nil))
	target := w.mount("data", "c1", me(t))
	w.write(target, "f", "kept")
	w.must(w.journal.db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(metaBucket).Put([]byte("boot_id"), []byte("an earlier boot"))
	}))
	w.stop()
	w.must(unix.Unmount(target, 0)) // as a reboot does
	if lost {
		w.must(os.Remove(filepath.Join(w.dir, "run", "mounts.db")))
	}
	w.start()
	defer w.stop()
	v, err := w.Get(t.Context(), "data")
	if err != nil || v.Mounted || len(v.Uses) != 0 {
		t.Errorf("after the reboot: %+v, %v", v, err)
	}
	w.eventually("the mountpoint is gone", func() bool {
		_, err := os.Lstat(target)
		return errors.Is(err, os.ErrNotExist)
	})
	if got := w.read(w.mount("data", "c1", me(t)), "f"); got != "kept" {
		t.Errorf("read %q", got)
	}
	w.must(w.Unmount(t.Context(), "data", "c1"))
}

// TestRunDirBehindSymlink: mount tables know no symbolic links.
func TestRunDirBehindSymlink(t *testing.T) {
	w := newWorld(t)
	real := w.dir
	w.dir = filepath.Join(real, "link")
	w.must(os.Symlink(".", w.dir))
	w.start()
	w.must(w.Create(t.Context(), "data", nil))
	target := w.mount("data", "c1", me(t))
	w.stop()
	w.start()
	defer w.stop()
	if v, err := w.Get(t.Context(), "data"); err != nil || !v.Mounted || v.Mountpoint != target {
		t.Errorf("after the restart: %+v, %v; want it mounted at %s", v, err, target)
	}
	w.must(w.Unmount(t.Context(), "data", "c1"))
	if w.mounted(target) {
		t.Error("still mounted")
	}
}

// TestMountVanished is a mount that somebody undid by hand.
func TestMountVanished(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	w.must(w.Create(t.Context(), "data", nil))
	target := w.mount("data", "c1", me(t))
	w.write(target, "f", "kept")
	w.must(unix.Unmount(target, 0))
	if got := w.read(w.mount("data", "c2", me(t)), "f"); got != "kept" {
		t.Errorf("read %q", got)
	}
	w.must(w.Unmount(t.Context(), "data", "c1"))
	w.must(w.Unmount(t.Context(), "data", "c2"))
	if w.mounted(target) {
		t.Error("still mounted")
	}
}

// TestFileUnderMountpointSurvives: a mountpoint that isn't empty was written
// to by somebody, and what is in it is not ours to delete.
func TestFileUnderMountpointSurvives(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	w.must(w.Create(t.Context(), "data", nil))
	target := w.mount("data", "c1", me(t))
	w.must(unix.Unmount(target, 0))
	w.write(target, "stray", "precious")
	w.must(w.Unmount(t.Context(), "data", "c1"))
	if got := w.read(target, "stray"); got != "precious" {
		t.Errorf("read %q", got)
	}
	w.must(os.Remove(filepath.Join(target, "stray")))
}

// TestInterruptedMount is a crash between the intent and the answer.
func TestInterruptedMount(t *testing.T) {
	w := newWorld(t).start()
	w.must(w.Create(t.Context(), "data", nil))
	target := w.mount("data", "c1", me(t))
	e, _ := w.entry("data")
	w.must(w.journal.put(e.drop("c1")))
	w.stop()
	w.start()
	defer w.stop()
	w.eventually("the interrupted mount is undone", func() bool { return !w.mounted(target) })
}

// halfCreate does what Create does before a crash between the intent and the
// result. It keeps the volume's lock, so that the sweeper leaves that alone.
func (w *world) halfCreate(name string) (in intent, release func()) {
	w.t.Helper()
	release, err := w.locks.acquire(w.t.Context(), name)
	w.must(err)
	s, err := parseOptions(nil)
	w.must(err)
	r, v, err := w.plan(w.t.Context(), name, nil, s)
	w.must(err)
	in, err = w.intend(w.t.Context(), r)
	w.must(err)
	w.must(w.gates["a"].Create(w.t.Context(), v))
	return in, release
}

func TestInterruptedCreate(t *testing.T) {
	w := newWorld(t).start()
	w.halfCreate("data")
	if _, err := w.Get(t.Context(), "data"); !errors.Is(err, ErrNotFound) {
		t.Errorf("get of a volume half made: %v, want ErrNotFound", err)
	}
	w.stop()
	w.start()
	defer w.stop()
	w.eventually("the half-made volume is gone", func() bool {
		left, err := os.ReadDir(filepath.Join(w.dir, "pools", "a", "volumes"))
		return err == nil && len(left) == 0
	})
	w.must(w.Create(t.Context(), "data", nil))
}

// TestInterruptedCreateIsReplaced by the next one of that name, at once.
func TestInterruptedCreateIsReplaced(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	r, release := w.halfCreate("data")
	release()
	w.must(w.Create(t.Context(), "data", map[string]string{"uid": "7"}))
	got, err := w.Get(t.Context(), "data")
	if err != nil || got.ID == r.Record.ID {
		t.Errorf("got %+v, %v", got, err)
	}
	left, err := os.ReadDir(filepath.Join(w.dir, "pools", "a", "volumes"))
	if err != nil || len(left) != 1 {
		t.Errorf("in the pool: %v, %v; want the new volume alone", left, err)
	}
}

func TestJournalRefused(t *testing.T) {
	for what, spoil := range map[string]func(t *testing.T, path string){
		"newer schema": func(t *testing.T, path string) {
			j, err := openJournal(path)
			if err == nil {
				err = j.db.Update(func(tx *bbolt.Tx) error {
					return tx.Bucket(metaBucket).Put([]byte("schema"), []byte("99"))
				})
			}
			if err == nil {
				err = j.close()
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		"not a journal": func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(strings.Repeat("not a database\n", 1000)), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "host.db")
			spoil(t, path)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if j, err := openJournal(path); err == nil {
				j.close()
				t.Fatal("opened")
			}
			if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
				t.Errorf("the file was changed, %v", err)
			}
		})
	}
}

// TestNewerRecord: what a newer dvold wrote, this one neither shows nor touches.
func TestNewerRecord(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	value := []byte(`{"schema":2,"id":"data.0","name":"data","pool":"a","handle":"x","state":"frozen"}`)
	_, err := w.commit(t.Context(), coordination.Put(coordination.Record{Key: volumeKey("data"), Value: value}))
	w.must(err)
	if _, err := w.Get(t.Context(), "data"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("get: %v, want ErrUnavailable", err)
	}
	if err := w.Create(t.Context(), "data", nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("create: %v, want ErrUnavailable", err)
	}
	if err := w.Remove(t.Context(), "data", nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("remove: %v, want ErrUnavailable", err)
	}
	stored, err := w.coord.Get(t.Context(), volumeKey("data"))
	if err != nil || string(stored.Value) != string(value) {
		t.Errorf("the record is now %s, %v", stored.Value, err)
	}
}

// TestIdentity outlives restarts, and a damaged one is not replaced: another
// ID makes another host.
func TestIdentity(t *testing.T) {
	path := filepath.Join(t.TempDir(), "host.json")
	first, err := loadIdentity(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := loadIdentity(path)
	if err != nil || again != first || len(first.HostID) != 24 {
		t.Errorf("first %+v, then %+v, %v", first, again, err)
	}
	for _, damaged := range []string{"", "{", `{"schema":1}`, `{"schema":2,"host_id":"x"}`} {
		if err := os.WriteFile(path, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if id, err := loadIdentity(path); err == nil {
			t.Errorf("%q was read as %+v", damaged, id)
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != damaged {
			t.Errorf("%q was changed to %q, %v", damaged, text, err)
		}
	}
}
