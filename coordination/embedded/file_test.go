package embedded_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/dvol/dvold/coordination/embedded"
)

// refuse opens the file at path, which must fail soon, with a message of one
// line that has want in it, and leave the file as it is.
func refuse(t *testing.T, path, want string) {
	t.Helper()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	s, err := embedded.Open(t.Context(), embedded.Config{Path: path}, slog.New(slog.DiscardHandler))
	if err == nil {
		_ = s.Close()
		t.Fatal("Open succeeded")
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("Open took %v", took)
	}
	if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), path) {
		t.Errorf("got error %q, want one line with the path and %q", err, want)
	}
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, after) {
		t.Error("the refused file was changed")
	}
}

// filled makes a coordination file with a few hundred records.
func filled(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "coordination.db")
	s := open(t, path)
	fill(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpenMakesPrivateFile(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "a", "b", "coordination.db")
	open(t, path)
	for name, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700 | os.ModeDir, filepath.Join(root, "a"): 0o700 | os.ModeDir} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s: got mode %v, want %v", name, info.Mode(), want)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("left beside the file: %v", entries)
	}
}

func TestOpenTwiceRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "coordination.db")
	first := open(t, path)
	refuse(t, path, "in use by another dvold")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path)
}

func TestOpenObeysContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	path := filepath.Join(t.TempDir(), "coordination.db")
	if _, err := embedded.Open(ctx, embedded.Config{Path: path}, slog.New(slog.DiscardHandler)); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open with an ended context made the file: %v", err)
	}
}

func TestOpenForeignFile(t *testing.T) {
	for name, content := range map[string]string{
		"empty": "",
		"short": "hello",
		"text":  strings.Repeat("no database, just text\n", 4096),
		"zeros": strings.Repeat("\x00", 64<<10),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			refuse(t, path, "not a coordination file")
		})
	}
}

func TestOpenForeignDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "foreign.db")
	alter(t, path, func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("of another program"))
		return err
	})
	refuse(t, path, "not a coordination file")
}

func TestOpenNewerSchema(t *testing.T) {
	path := filled(t)
	alter(t, path, func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("dvold")).Put([]byte("schema"), []byte("2"))
	})
	refuse(t, path, "its schema 2 is newer than this dvold knows (1)")
}

func TestOpenDamagedContent(t *testing.T) {
	for name, damage := range map[string]func(tx *bbolt.Tx) error{
		"schema":  func(tx *bbolt.Tx) error { return tx.Bucket([]byte("dvold")).Put([]byte("schema"), []byte("x")) },
		"records": func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("records")) },
		"hosts":   func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte("hosts")) },
		"version": func(tx *bbolt.Tx) error { return tx.Bucket([]byte("records")).Put([]byte("a"), []byte("short")) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filled(t)
			alter(t, path, damage)
			refuse(t, path, "damaged")
		})
	}
}

func TestOpenTruncatedFile(t *testing.T) {
	path := filled(t)
	var used int64
	alter(t, path, func(tx *bbolt.Tx) error { used = tx.Size(); return nil })
	for size := used - 1; size > 0; size /= 2 {
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		refuse(t, path, "damaged")
	}
}

func TestOpenOverwrittenPages(t *testing.T) {
	const page = 4096
	path := filled(t)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The first two pages say where the rest is; all of the rest is garbage.
	if err := os.WriteFile(path, append(content[:2*page:2*page], bytes.Repeat([]byte{0xa5}, len(content)-2*page)...), 0o600); err != nil {
		t.Fatal(err)
	}
	refuse(t, path, "damaged")
}

// alter changes a file as another program would.
func alter(t *testing.T, path string, change func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(change), db.Close()); err != nil {
		t.Fatal(err)
	}
}
