package fuseclient_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/fuseclient"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// tell has clients be told by what they show; those of dvold were not, once.
func (w *world) tell() { w.spec.Shows = []string{"--volfile=" + w.fs.volfile, "--none="} }

// reopen starts dvold anew.
func (w *world) reopen() {
	w.Helper()
	w.Close()
	w.open()
	w.shared()
	w.Tend()
}

// What a client of another configuration serves is its own to the end, and nothing else is.
func TestOtherConfiguration(t *testing.T) {
	for name, before := range map[string]func(*world){"told": (*world).tell, "not told": func(*world) {}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			before(w)
			old := w.data
			target := w.bind(w.enter(), w.db)
			first := w.processes()[0]
			w.show(hosttest.Dir(t))
			w.tell()
			w.reopen()
			next := w.bind(w.enter(), w.db)
			for file, want := range map[string]string{next + "/new": filepath.Join(w.data, w.db, "new"), target + "/file": filepath.Join(old, w.db, "file")} {
				if err := os.WriteFile(file, nil, 0o600); err != nil {
					t.Error(err)
				}
				if _, err := os.Stat(want); err != nil {
					t.Errorf("what was written to %s: %v", file, err)
				}
			}
			w.wantClients(2)
			if err := unix.Kill(first.PID, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			w.eventually("it has ended", func() bool { return !first.Alive() })
			time.Sleep(3 * fuseclient.TendInterval)
			if _, err := os.Stat(target + "/file"); !errors.Is(err, unix.ENOTCONN) {
				t.Errorf("the volume of a client that has ended: %v", err)
			}
			if err := unix.Unmount(target, 0); err != nil {
				t.Fatal(err)
			}
			w.wantClients(1)
			if _, err := os.Stat(next + "/new"); err != nil {
				t.Error(err)
			}
		})
	}
}

// A client of another configuration that serves nothing any more is ended.
func TestOtherConfigurationIdle(t *testing.T) {
	w := newWorld(t)
	target := w.bind(w.enter(), w.db)
	w.show(hosttest.Dir(t))
	w.tell()
	w.reopen()
	time.Sleep(2 * fuseclient.TendInterval)
	w.wantClients(1)
	if err := unix.Unmount(target, 0); err != nil {
		t.Fatal(err)
	}
	w.wantClients(0)
}

// A client of a dvold that did not tell clients so goes on, and is replaced once it has ended.
func TestEarlierDvold(t *testing.T) {
	w := newWorld(t)
	target := w.bind(w.enter(), w.db)
	first := w.processes()[0]
	w.tell()
	w.reopen()
	w.enter()
	w.wantClients(1)
	if !first.Alive() {
		t.Fatal("another client has taken its place")
	}
	if err := unix.Kill(first.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.eventually("it is healed", func() bool { return os.WriteFile(filepath.Join(target, "file"), nil, 0o600) == nil })
	w.wantClients(1)
}
