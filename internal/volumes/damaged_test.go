package volumes

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/dvol/dvold/coordination"
)

// TestNewerWhateverElse: another schema is told from damage before anything
// else is read, for anything else may have another form.
func TestNewerWhateverElse(t *testing.T) {
	if _, err := decode(coordination.Record{Key: "k", Value: []byte(`{"schema":2,"size":"20G","name":[]}`)}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("record: %v, want ErrUnavailable", err)
	}
	m := &Manager{coord: claimed{value: []byte(`{"schema":2,"directories":["old"]}`)}}
	if _, err := m.claim(t.Context(), record{Pool: "a", Handle: "old"}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("claim: %v, want ErrUnavailable", err)
	}
	path := filepath.Join(t.TempDir(), "host.json")
	if err := os.WriteFile(path, []byte(`{"schema":2,"host":{}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadIdentity(path); !errors.Is(err, ErrUnavailable) || strings.Contains(err.Error(), "remove it") {
		t.Errorf("identity: %v, want ErrUnavailable without advice to remove it", err)
	}
}

// TestDamagedNames: names and IDs become paths.
func TestDamagedNames(t *testing.T) {
	for _, value := range []string{
		`{"schema":1,"name":"data","id":"../victim"}`,
		`{"schema":1,"name":"data","id":"data.0123456789ab/.."}`,
		`{"schema":1,"name":"../data","id":"data.0123456789ab"}`,
		`{"schema":1,"name":"data"}`,
		`{}`,
	} {
		if r, err := decode(coordination.Record{Key: "k", Value: []byte(value)}); err == nil {
			t.Errorf("%s was read as %+v", value, r)
		}
		j, err := openJournal(filepath.Join(t.TempDir(), "mounts.db"))
		if err != nil {
			t.Fatal(err)
		}
		err = j.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(mountsBucket).Put([]byte("data"), []byte(value)) })
		if err != nil {
			t.Fatal(err)
		}
		if all, err := j.entries(); err == nil {
			t.Errorf("journal entry %s was read as %+v", value, all)
		}
		j.close()
	}
}

// TestUnknownFieldsSurvive what this dvold writes.
func TestUnknownFieldsSurvive(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	w.must(w.Create(t.Context(), "data", nil))
	stored, err := w.coord.Get(t.Context(), volumeKey("data"))
	w.must(err)
	stored.Value = bytes.Replace(stored.Value, []byte(`{`), []byte(`{"labels":{"a":"b"},`), 1)
	_, err = w.commit(t.Context(), coordination.Put(stored))
	w.must(err)
	w.must(w.Remove(t.Context(), "data", nil))
	_, err = w.Restore(t.Context(), "data", "back")
	w.must(err)
	stored, err = w.coord.Get(t.Context(), volumeKey("back"))
	if err != nil || !bytes.Contains(stored.Value, []byte(`"labels":{"a":"b"}`)) {
		t.Errorf("after a removal and a restore: %s, %v", stored.Value, err)
	}
	if v, err := w.Get(t.Context(), "back"); err != nil || v.Name != "back" {
		t.Errorf("got %+v, %v", v, err)
	}
}
