package fuseclient_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/fuseclient"
	"github.com/dvol/dvold/internal/host"
)

// Whoever comes first, and however many at once, there is one shared client, also for a dvold that
// is started anew; it ends when nothing is mounted of it.
func TestOneClient(t *testing.T) {
	w := newWorld(t)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, leave, err := w.shared().Enter(t.Context()); err != nil {
				t.Error(err)
			} else {
				leave()
			}
		})
	}
	all.Wait()
	w.wantClients(1)
	target := w.bind(w.enter(), w.db)
	w.Close()
	w.open()
	before := w.processes()
	w.shared()
	w.Tend()
	w.enter()
	if after := w.processes(); len(after) != 1 || after[0] != before[0] {
		t.Errorf("clients were %v, and are %v", before, after)
	}
	time.Sleep(2 * fuseclient.TendInterval) // there is no grace, and a volume
	w.wantClients(1)
	if err := unix.Unmount(target, 0); err != nil {
		t.Fatal(err)
	}
	w.eventually("it has ended, and its mountpoint is gone", func() bool {
		points, err := os.ReadDir(w.Dir())
		return err == nil && len(points) == 0
	})
	w.wantClients(0)
	if n := w.fs.started.Load(); n != 1 {
		t.Errorf("%d clients were started", n)
	}
}

// What a client that was killed served is served by the next, after the servers were told.
func TestHealed(t *testing.T) {
	w := newWorld(t)
	var buried atomic.Value
	w.spec.Bury = func(_ context.Context, mountpoint string) error {
		buried.Store(mountpoint)
		return errors.New("they can't be reached") // and it goes on all the same
	}
	root := w.enter()
	target := w.bind(root, w.db)
	w.Tend()
	killed := w.processes()[0]
	if err := unix.Kill(killed.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.eventually("it is healed", func() bool { return os.WriteFile(filepath.Join(target, "file"), nil, 0o600) == nil })
	if got := buried.Load(); got != root {
		t.Errorf("buried is %v, want %s", got, root)
	}
	w.eventually("what was mounted at first is gone", func() bool {
		points, err := os.ReadDir(w.Dir())
		return err == nil && len(points) == 1
	})
	w.wantClients(1)
}

// A client that its servers refuse is replaced.
func TestRefused(t *testing.T) {
	w := newWorld(t)
	var refused atomic.Bool
	w.spec.Ask = []string{"sh", "-c", "! test -e " + w.data + "/refused"}
	w.spec.CutOff = func(host.Process) bool { return refused.Swap(false) }
	w.enter()
	first := w.processes()[0]
	target := w.bind(w.enter(), w.db)
	refused.Store(true)
	if err := os.WriteFile(w.data+"/refused", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.Tend()
	w.eventually("it is gone", func() bool { return !first.Alive() })
	if err := os.Remove(w.data + "/refused"); err != nil {
		t.Fatal(err)
	}
	w.eventually("its volume is healed", func() bool { return os.WriteFile(filepath.Join(target, "file"), nil, 0o600) == nil })
	w.wantClients(1)
}

// A client that does not come up leaves nothing, and keeps nobody for longer than Wait.
func TestNotUp(t *testing.T) {
	for name, change := range map[string]func(*world){
		"it ends": func(w *world) { w.fs.volfile = "/nosuch" },
		"what it has started does not end": func(w *world) {
			w.config.Program = "sh"
			w.spec.Kind, w.spec.FileSystem = w.config.Kind, script(`sh -c "read never <`+w.fifo()+`" "$0" & exit 1`)
		},
		"servers say nothing": func(w *world) {
			w.fs.args = func(ctx context.Context) error {
				<-ctx.Done()
				return fmt.Errorf("no word: %w: %w", backends.ErrUnavailable, context.Cause(ctx))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.config.Wait = time.Second
			change(w)
			w.open()
			begin := time.Now()
			if _, _, err := w.shared().Enter(t.Context()); !errors.Is(err, backends.ErrUnavailable) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
			if points, err := os.ReadDir(w.Dir()); err != nil || len(points) > 0 {
				t.Errorf("it left the mountpoints %v, %v", points, err)
			}
			if left := w.processes(); len(left) > 0 {
				t.Errorf("it left the processes %v", left)
			}
		})
	}
}
