package volumes

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/internal/host"
)

// location is where a volume's data lies.
func (w *world) location(name string) string {
	w.t.Helper()
	d, err := w.Inspect(w.t.Context(), name)
	w.must(err)
	return d.Location
}

func (w *world) gone(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, os.ErrNotExist)
}

func TestRemoveAndRestore(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	w.must(w.Create(t.Context(), "data", map[string]string{"uid": "7"}))
	w.write(w.location("data"), "f", "precious")
	w.must(w.Remove(t.Context(), "data", nil))
	w.must(w.Remove(t.Context(), "data", nil))
	if _, err := w.Get(t.Context(), "data"); !errors.Is(err, ErrNotFound) {
		t.Errorf("get after the removal: %v, want ErrNotFound", err)
	}
	w.must(w.Create(t.Context(), "data", nil)) // a namesake
	if got, err := os.ReadDir(w.location("data")); err != nil || len(got) != 0 {
		t.Errorf("the namesake holds %v, %v", got, err)
	}
	_, err := w.Restore(t.Context(), "data", "")
	wantError(t, "restore over the namesake", err, ErrExists, `give it another name`, `"data"`)
	v, err := w.Restore(t.Context(), "data", "saved")
	if err != nil || v.Name != "saved" || v.Options["uid"] != "7" {
		t.Fatalf("restored %+v, %v", v, err)
	}
	if got := w.read(w.mount("saved", "c1", me(t)), "f"); got != "precious" {
		t.Errorf("read %q", got)
	}
	w.must(w.Unmount(t.Context(), "saved", "c1"))
	if trash, err := w.Trash(t.Context()); err != nil || len(trash) != 0 {
		t.Errorf("in the trash: %v, %v", trash, err)
	}
	if _, err := w.Restore(t.Context(), "saved", ""); !errors.Is(err, ErrNotFound) {
		t.Errorf("restore twice: %v, want ErrNotFound", err)
	}
}

// TestRemoveDropsStaleUses: when an engine removes a volume none of its
// containers refers to it, so an Unmount got lost; an operator may be mistaken.
func TestRemoveDropsStaleUses(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	w.must(w.Create(t.Context(), "data", nil))
	target := w.mount("data", "c1", me(t))
	if err := w.Remove(t.Context(), "data", nil); !errors.Is(err, ErrInUse) {
		t.Errorf("an operator's remove: %v, want ErrInUse", err)
	}
	other := host.Process{PID: 1, Start: 1}
	if err := w.Remove(t.Context(), "data", &other); !errors.Is(err, ErrInUse) {
		t.Errorf("another engine's remove: %v, want ErrInUse", err)
	}
	w.must(w.Remove(t.Context(), "data", new(me(t))))
	if w.mounted(target) {
		t.Error("still mounted")
	}
}

func TestPurge(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	var data []string
	for range 2 {
		w.must(w.Create(t.Context(), "data", nil))
		data = append(data, w.location("data"))
		w.must(w.Remove(t.Context(), "data", nil))
	}
	if _, err := w.Purge(t.Context(), "data"); !errors.Is(err, ErrInvalid) {
		t.Errorf("purge of an ambiguous name: %v, want ErrInvalid", err)
	}
	trash, err := w.Trash(t.Context())
	w.must(err)
	if len(trash) != 2 || trash[1].RemovedAt.After(trash[0].RemovedAt) {
		t.Fatalf("trash is %+v, want two, the last removed first", trash)
	}
	if _, err := w.Purge(t.Context(), trash[0].ID); err != nil {
		t.Fatal(err)
	}
	if w.gone(data[0]) || !w.gone(data[1]) {
		t.Errorf("gone: %v, %v; want the second alone", w.gone(data[0]), w.gone(data[1]))
	}
	if _, err := w.Purge(t.Context(), "data"); err != nil { // no longer ambiguous
		t.Fatal(err)
	}
	if _, err := w.Purge(t.Context(), "data"); !errors.Is(err, ErrNotFound) {
		t.Errorf("purge twice: %v, want ErrNotFound", err)
	}
}

// TestTrashTTL runs days in a moment.
func TestTrashTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.ttl = 24 * time.Hour
		w.start()
		defer w.stop()
		location := make(map[string]string)
		for name, options := range map[string]map[string]string{"short": nil, "kept": {"retain": "true"}, "back": nil} {
			w.must(w.Create(t.Context(), name, options))
			location[name] = w.location(name)
			w.must(w.Remove(t.Context(), name, nil))
		}
		time.Sleep(23 * time.Hour)
		if w.gone(location["short"]) {
			t.Error("purged an hour early")
		}
		_, err := w.Restore(t.Context(), "back", "")
		w.must(err)
		time.Sleep(time.Hour + 2*trashInterval)
		synctest.Wait()
		if !w.gone(location["short"]) {
			t.Error("not purged when due")
		}
		time.Sleep(100 * time.Hour)
		if w.gone(location["kept"]) || w.gone(location["back"]) {
			t.Error("purged what was to be kept, or was restored")
		}
	})
}

// TestTrashTTLZero purges at once, in the background.
func TestTrashTTLZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.ttl = 0
		w.start()
		defer w.stop()
		w.must(w.Create(t.Context(), "data", nil))
		data := w.location("data")
		w.must(w.Remove(t.Context(), "data", nil))
		synctest.Wait()
		if !w.gone(data) {
			t.Error("not purged")
		}
	})
}

// TestInterruptedPurge is a crash between the intent and the end: too late to
// restore, and finished after the restart.
func TestInterruptedPurge(t *testing.T) {
	w := newWorld(t).start()
	w.must(w.Create(t.Context(), "data", nil))
	data := w.location("data")
	w.must(w.Remove(t.Context(), "data", nil))
	heal := w.gates["a"].hang()
	found, err := w.find(t.Context(), "data")
	w.must(err)
	found[0].State = statePurging
	stored, err := found[0].at(trashKey(found[0].ID))
	w.must(err)
	_, err = w.commit(t.Context(), coordination.Put(stored))
	w.must(err)
	if _, err := w.Restore(t.Context(), "data", ""); !errors.Is(err, ErrUnavailable) {
		t.Errorf("restore during the purge: %v, want ErrUnavailable", err)
	}
	heal()
	w.stop()
	w.start()
	defer w.stop()
	w.eventually("purged", func() bool {
		trash, err := w.Trash(t.Context())
		return err == nil && len(trash) == 0 && w.gone(data)
	})
}

// TestLongPurge goes on when the operator's command is over, which says so.
func TestLongPurge(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	w.must(w.Create(t.Context(), "data", nil))
	data := w.location("data")
	w.must(w.Remove(t.Context(), "data", nil))
	heal := w.gates["a"].hang()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	context.AfterFunc(ctx, heal)
	if _, err := w.Purge(ctx, "data"); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "goes on in the background: dvold trash ls") {
		t.Errorf("got %v, want ErrUnavailable and where to look", err)
	}
	w.eventually("purged", func() bool {
		trash, err := w.Trash(t.Context())
		return err == nil && len(trash) == 0 && w.gone(data)
	})
}

// TestRestoreWithoutData does not bring back an empty volume.
func TestRestoreWithoutData(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	w.must(w.Create(t.Context(), "data", nil))
	data := w.location("data")
	w.must(w.Remove(t.Context(), "data", nil))
	w.must(os.Rename(data, data+".away"))
	if _, err := w.Restore(t.Context(), "data", ""); err == nil {
		t.Error("restored a volume whose data is gone")
	}
	w.must(os.Rename(data+".away", data))
	_, err := w.Restore(t.Context(), "data", "")
	w.must(err)
}
