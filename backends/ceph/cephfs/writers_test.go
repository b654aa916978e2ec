//go:build ceph && cgo

package cephfs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// writers write to a volume for as long as that works: lines to a file, each of them
// flushed, others that are not, and new files. They leave some of the processors to what
// serves them.
type writers struct {
	wait  sync.WaitGroup
	stop  atomic.Bool
	lines atomic.Int64 // that were flushed
	mu    sync.Mutex   // guards the field below
	errs  []error
}

func write(t *testing.T, dir string) *writers {
	w := new(writers)
	t.Cleanup(func() { w.stop.Store(true) }) // before nothing is mounted there any more
	run := func(f func(i int) error) {
		w.wait.Go(func() {
			for i := 0; !w.stop.Load(); i++ {
				time.Sleep(5 * time.Millisecond)
				if err := f(i); err != nil {
					w.mu.Lock()
					w.errs = append(w.errs, err)
					w.mu.Unlock()
					return
				}
			}
		})
	}
	appendTo := func(name string, flush bool) func(i int) error {
		return func(i int) error {
			f, err := os.OpenFile(filepath.Join(dir, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(f, i)
			if flush && err == nil {
				err = f.Sync()
			}
			if err = errors.Join(err, f.Close()); err == nil && flush {
				w.lines.Add(1)
			}
			return err
		}
	}
	run(appendTo("flushed", true))
	run(appendTo("written", false))
	run(func(i int) error { return os.WriteFile(filepath.Join(dir, fmt.Sprint("new", i)), nil, 0o644) })
	return w
}

// contents is what other clients see of a directory: each file, and what is in it.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(text)
	}
	return all
}
