package volumes

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func newKnown(t *testing.T) *known {
	t.Helper()
	k, err := openKnown(filepath.Join(t.TempDir(), "known.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

func sample(name string, version uint64) record {
	r := record{Schema: recordSchema, ID: name + ".0123456789ab", Name: name, Pool: "a", State: stateReady}
	stored, err := r.fresh(volumeKey(name))
	if err != nil {
		panic(err)
	}
	r.version, r.stored = version, stored.Value
	return r
}

func TestKnownTellsTheLastOfWhatWasSeenWhileItIsWritten(t *testing.T) {
	k := newKnown(t)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := k.flush(); err != nil {
				t.Error(err)
			}
		}
	})
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			name := fmt.Sprintf("data%d", w)
			for version := uint64(1); version <= 200; version++ {
				k.saw(sample(name, version))
				if r, seen, ok := k.recall(name); !ok || r.version != version || time.Since(seen) > time.Minute {
					t.Errorf("version %d was noted, and %d recalled (%v)", version, r.version, ok)
				}
				if version%10 == 0 {
					k.gone(name)
					if _, _, ok := k.recall(name); ok {
						t.Errorf("%s is known although it is gone", name)
					}
				}
			}
			k.saw(sample(name, 1000))
		})
	}
	writers.Wait()
	close(stop)
	wg.Wait()
	seen := make(map[string]bool)
	if err := k.all(func(name string, _ time.Time) { seen[name] = true }); err != nil || len(seen) != 4 {
		t.Errorf("all are %v, %v", seen, err)
	}
}

// A flush that makes the file larger waits for all who read it, and has others wait who begin to.
func TestKnownIsRecalledWhileTheFileGrows(t *testing.T) {
	k := newKnown(t)
	k.saw(sample("data", 1))
	done := make(chan error, 1)
	go func() {
		var flushed sync.WaitGroup
		err := k.all(func(name string, _ time.Time) {
			for i := range 2000 {
				r := sample(fmt.Sprint("more", i), 1)
				r.stored = append(r.stored, strings.Repeat(" ", 1000)...)
				k.saw(r)
			}
			flushed.Go(func() {
				if err := k.flush(); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(200 * time.Millisecond) // it writes by now, or waits
			if _, _, ok := k.recall(name); !ok {
				t.Errorf("%s is not known any more", name)
			}
		})
		flushed.Wait()
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it waits for ever")
	}
}

func TestDamagedKnownFileIsAnErrorThatSaysWhatToDo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "known.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("not a database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := openKnown(path)
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "remove it to start anew") {
		t.Errorf("open: %v", err)
	}
}
