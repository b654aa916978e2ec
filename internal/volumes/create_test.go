package volumes

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestCreateTwice(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	options := map[string]string{"pool": "b", "uid": "7", "retain": "true"}
	w.must(w.Create(t.Context(), "data", options))
	first, err := w.Get(t.Context(), "data")
	w.must(err)
	for _, agree := range []map[string]string{nil, options, {"uid": "07"}} {
		if err := w.Create(t.Context(), "data", agree); err != nil {
			t.Errorf("create again with %v: %v", agree, err)
		}
	}
	for _, differ := range []map[string]string{{"pool": "a"}, {"uid": "8"}, {"gid": "7"}, {"retain": "false"}} {
		err := w.Create(t.Context(), "data", differ)
		if !errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), "it has ") {
			t.Errorf("create again with %v: %v, want ErrMismatch that says how", differ, err)
		}
	}
	if now, err := w.Get(t.Context(), "data"); err != nil || now.ID != first.ID {
		t.Errorf("the volume is now %+v, %v", now, err)
	}
}

func TestCreateRefused(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	w.must(w.Create(t.Context(), "first", nil)) // makes the pool's directory
	for what, tt := range map[string]struct {
		name    string
		options map[string]string
		want    error
		says    string
	}{
		"illegal name":   {"../x", nil, ErrInvalid, "a-z"},
		"unknown option": {"data", map[string]string{"colour": "red"}, ErrInvalid, "valid: access, adopt, gid, mode, mount_wait, pool, retain, size, takeover, uid"},
		"size":           {"data", map[string]string{"size": "1G"}, ErrInvalid, "size"},
		"unknown pool":   {"data", map[string]string{"pool": "fast"}, ErrUnavailable, `"fast" is not configured`},
		"adopt missing":  {"data", map[string]string{"adopt": "nothing"}, nil, "nothing"},
		"adopt outside":  {"data", map[string]string{"adopt": "../b"}, ErrInvalid, "adopt"},
	} {
		err := w.Create(t.Context(), tt.name, tt.options)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want %v that says %q", what, err, tt.want, tt.says)
		}
		if _, err := w.load(t.Context(), volumeKey("data")); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: left a record, %v", what, err)
		}
	}
}

func TestConcurrentCreatesMakeOne(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if err := w.Create(t.Context(), "data", nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	left, err := os.ReadDir(filepath.Join(w.dir, "pools", "a", "volumes"))
	if err != nil || len(left) != 1 {
		t.Errorf("in the pool: %v, %v; want one volume", left, err)
	}
	all, err := w.List(t.Context())
	if err != nil || len(all) != 1 {
		t.Errorf("listed: %v, %v; want one volume", all, err)
	}
}

func TestAdopt(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	old := filepath.Join(w.dir, "pools", "a", "old stuff", "dätä")
	w.must(os.MkdirAll(old, 0o750))
	w.write(old, "f", "precious")
	w.must(w.Create(t.Context(), "data", map[string]string{"adopt": "old stuff/dätä"}))
	for _, taken := range []string{"old stuff/dätä", "old stuff"} {
		err := w.Create(t.Context(), "other", map[string]string{"adopt": taken})
		if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), `"data"`) {
			t.Errorf("adopt %s again: %v, want ErrInUse that names the volume", taken, err)
		}
	}
	if got := w.read(w.mount("data", "c1", me(t)), "f"); got != "precious" {
		t.Errorf("read %q", got)
	}
	w.must(w.Unmount(t.Context(), "data", "c1"))
	w.must(w.Remove(t.Context(), "data", nil))
	if got := w.read(old, "f"); got != "precious" {
		t.Errorf("after the removal: read %q", got)
	}
	if trash, err := w.Trash(t.Context()); err != nil || len(trash) != 0 {
		t.Errorf("in the trash: %v, %v; adopted data is only let go of", trash, err)
	}
	w.must(w.Create(t.Context(), "again", map[string]string{"adopt": "old stuff"}))
}
