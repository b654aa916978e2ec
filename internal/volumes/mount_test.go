package volumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/dvol/dvold/internal/host/hosttest"
)

func TestDataOutlivesMounts(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	w.must(w.Create(t.Context(), "data", nil))
	target := w.mount("data", "c1", me(t))
	entries, err := os.ReadDir(target)
	if err != nil || len(entries) != 0 {
		t.Errorf("a fresh volume holds %v, %v: Docker would not copy the image's content", entries, err)
	}
	w.write(target, "f", "hello")
	w.must(w.Unmount(t.Context(), "data", "c1"))
	if _, err := os.Lstat(target); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("mountpoint after the last unmount: %v, want none", err)
	}
	if got := w.read(w.mount("data", "c2", me(t)), "f"); got != "hello" {
		t.Errorf("second mount reads %q", got)
	}
	w.must(w.Unmount(t.Context(), "data", "c2"))
}

func TestLastUnmountUnmounts(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	w.must(w.Create(t.Context(), "data", nil))
	target := w.mount("data", "c1", me(t))
	w.mount("data", "c2", me(t))
	w.mount("data", "c1", me(t)) // docker cp
	for i, id := range []string{"c1", "unknown", "c2", "c1"} {
		if !w.mounted(target) {
			t.Fatalf("unmounted before call %d", i)
		}
		w.must(w.Unmount(t.Context(), "data", id))
	}
	if w.mounted(target) {
		t.Error("still mounted after the last unmount")
	}
	v, err := w.Get(t.Context(), "data")
	if err != nil || v.Mounted || len(v.Uses) != 0 {
		t.Errorf("got %+v, %v", v, err)
	}
}

// No other user of the host comes near what is mounted, by what an earlier dvold has made neither.
func TestMountpointsAreRootsAlone(t *testing.T) {
	w := newWorld(t)
	mnt := filepath.Join(w.dir, "run", "mnt")
	w.must(os.MkdirAll(mnt, 0o711))
	w.start()
	defer w.stop()
	w.must(w.Create(t.Context(), "data", nil))
	if target := w.mount("data", "c1", me(t)); filepath.Dir(target) != mnt {
		t.Errorf("mounted at %s, want %s", target, mnt)
	}
	if info, err := os.Stat(mnt); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mountpoints are in a directory that is %v, %v", info.Mode(), err)
	}
	w.must(w.Unmount(t.Context(), "data", "c1"))
}

func TestMountUnknown(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	if _, err := w.Mount(t.Context(), "nobody", "c1", me(t)); !errors.Is(err, ErrNotFound) {
		t.Errorf("mount of the unknown: %v, want ErrNotFound", err)
	}
	w.must(w.Unmount(t.Context(), "nobody", "c1"))
	for what, name := range hostileNames {
		if _, err := w.Mount(t.Context(), name, "c1", me(t)); !errors.Is(err, ErrInvalid) {
			t.Errorf("mount of %s: %v, want ErrInvalid", what, err)
		}
		w.must(w.Unmount(t.Context(), name, "c1"))
		if _, err := w.Get(t.Context(), name); !errors.Is(err, ErrNotFound) {
			t.Errorf("get of %s: %v, want ErrNotFound", what, err)
		}
	}
	left, err := os.ReadDir(w.mountDir())
	if err != nil || len(left) != 0 {
		t.Errorf("mountpoints left: %v, %v", left, err)
	}
}

// TestMissingDataIsNeverABareDirectory is what users of other plugins met: a
// container that writes into the mountpoint of what isn't mounted.
func TestMissingDataIsNeverABareDirectory(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	w.must(w.Create(t.Context(), "data", nil))
	d, err := w.Inspect(t.Context(), "data")
	w.must(err)
	w.must(os.Rename(d.Location, d.Location+".away"))
	if target, err := w.Mount(t.Context(), "data", "c1", me(t)); err == nil {
		t.Errorf("mounted %s although the data is gone", target)
	}
	if left, _ := os.ReadDir(w.mountDir()); len(left) != 0 {
		t.Errorf("mountpoints left: %v", left)
	}
	w.must(os.Rename(d.Location+".away", d.Location))
	w.mount("data", "c1", me(t))
	w.must(w.Unmount(t.Context(), "data", "c1"))
}

func TestParallelMounts(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	w.must(w.Create(t.Context(), "data", nil))
	engine := me(t)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			id := fmt.Sprint("c", i)
			target, err := w.Mount(t.Context(), "data", id, engine)
			if err != nil {
				t.Error(err)
				return
			}
			if err := os.WriteFile(filepath.Join(target, id), nil, 0o644); err != nil {
				t.Error(err)
			}
			if err := w.Unmount(t.Context(), "data", id); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	target := w.mount("data", "last", engine)
	entries, err := os.ReadDir(target)
	if err != nil || len(entries) != 100 {
		t.Errorf("%d files, %v; want 100: some were written beside the volume", len(entries), err)
	}
	w.must(w.Unmount(t.Context(), "data", "last"))
	if left, _ := os.ReadDir(w.mountDir()); len(left) != 0 {
		t.Errorf("mountpoints left: %v", left)
	}
}

// container starts what has the volume as a container has it: a process in a
// mount namespace of its own, with the volume bound to a place of its own.
func container(t *testing.T, target string) (stop func()) {
	t.Helper()
	place := hosttest.Dir(t)
	c := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c",
		`mount --bind "$1" "$2" && umount "$1" && echo ready && exec sleep 1000`, "sh", target, place)
	hosttest.Start(t, c)
	return func() {
		c.Process.Kill()
		c.Wait()
	}
}

// TestContainerKeepsVolume is live-restore: the engine was replaced while the
// container ran on, and the new one's docker cp ends the only use it knows.
func TestContainerKeepsVolume(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	w.must(w.Create(t.Context(), "data", nil))
	target := w.mount("data", "c1", me(t))
	stop := container(t, target)
	w.engineEnds("data")
	w.mount("data", "c1", me(t))
	w.must(w.Unmount(t.Context(), "data", "c1"))
	if !w.mounted(target) {
		t.Fatal("unmounted under a running container")
	}
	if err := w.Remove(t.Context(), "data", new(me(t))); !errors.Is(err, ErrInUse) {
		t.Errorf("remove under a running container: %v, want ErrInUse", err)
	}
	d, err := w.Inspect(t.Context(), "data")
	if err != nil || len(d.Users) != 1 {
		t.Errorf("inspect names %v, %v; want the container's process", d.Users, err)
	}
	stop()
	w.must(w.Unmount(t.Context(), "data", "c1")) // which is not counted any more
	if w.mounted(target) {
		t.Error("still mounted after the container ended")
	}
}

// TestDeadEngine is a container that was run with --rm, or removed while the
// engine was down: its Unmount never comes.
func TestDeadEngine(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	w.must(w.Create(t.Context(), "data", nil))
	target := w.mount("data", "c1", me(t))
	stop := container(t, target)
	w.engineEnds("data")
	w.sweepMounts(t.Context())
	if !w.mounted(target) {
		t.Fatal("unmounted under a container that outlived its engine")
	}
	stop()
	w.sweepMounts(t.Context())
	if w.mounted(target) {
		t.Error("still mounted after the container ended")
	}
}

// TestEngineEndsWithManyVolumes: all are unmounted but the one that a
// container has.
func TestEngineEndsWithManyVolumes(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	var held string
	for i := range 3 * sweepChunk {
		name := fmt.Sprint("data", i)
		w.must(w.Create(t.Context(), name, nil))
		target := w.mount(name, "c1", me(t))
		if i == 5 {
			held = target
			defer container(t, target)()
		}
		w.engineEnds(name)
	}
	w.eventually("all but one are unmounted", func() bool {
		w.sweepMounts(t.Context())
		left, err := os.ReadDir(w.mountDir())
		return err == nil && len(left) == 1 && filepath.Join(w.mountDir(), left[0].Name()) == held
	})
}

// TestHungPool: calls for a pool that hangs end with their callers, calls for
// another are not delayed, and what the storage does later is undone.
func TestHungPool(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	w.must(w.Create(t.Context(), "slow", nil))
	w.must(w.Create(t.Context(), "fine", map[string]string{"pool": "b"}))
	w.must(w.Create(t.Context(), "used", nil))
	w.mount("used", "c1", me(t))
	heal := w.gates["a"].hang()
	defer heal()
	short := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	if _, err := w.Mount(short(), "slow", "c1", me(t)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("mount: %v, want ErrUnavailable", err)
	}
	if _, err := w.Mount(short(), "slow", "c2", me(t)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("mount behind one that hangs: %v, want ErrUnavailable", err)
	}
	if err := w.Create(short(), "new", nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("create: %v, want ErrUnavailable", err)
	}
	if err := w.Unmount(short(), "slow", "c1"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("unmount: %v, want ErrUnavailable", err)
	}
	if _, err := w.Get(t.Context(), "new"); !errors.Is(err, ErrNotFound) {
		t.Errorf("get of a volume half made: %v, want ErrNotFound", err)
	}
	if _, err := w.List(t.Context()); err != nil {
		t.Errorf("list: %v", err)
	}
	if d, err := w.Inspect(short(), "slow"); err != nil || d.Problem == "" {
		t.Errorf("inspect: %+v, %v; want a problem", d, err)
	}
	if d, err := w.Inspect(short(), "used"); err != nil || d.Problem == "" || len(d.Uses) != 1 {
		t.Errorf("inspect: %+v, %v; want a problem", d, err)
	}
	if err := w.Unmount(short(), "used", "c1"); err != nil && !errors.Is(err, ErrUnavailable) { // nil if its time is up before it comes to the storage
		t.Errorf("unmount: %v, want ErrUnavailable", err)
	}
	if e, _ := w.entry("used"); len(e.Uses) > 0 {
		t.Errorf("the engine, which does not say it again, uses it still: %+v", e)
	}
	began := time.Now()
	w.mount("fine", "c1", me(t))
	w.must(w.Unmount(t.Context(), "fine", "c1"))
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("a call for another pool took %v", took)
	}
	heal()
	w.eventually("the abandoned mount is undone", func() bool {
		left, err := os.ReadDir(w.mountDir())
		return err == nil && len(left) == 0
	})
	w.eventually("the abandoned create is undone", func() bool {
		left, err := os.ReadDir(filepath.Join(w.dir, "pools", "a", "volumes"))
		_, getErr := w.load(t.Context(), volumeKey("new"))
		return err == nil && len(left) == 2 && errors.Is(getErr, ErrNotFound)
	})
	w.mount("slow", "c3", me(t))
	w.must(w.Unmount(t.Context(), "slow", "c3"))
}

func TestManyHungCallsSpareThreads(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	heal := w.gates["a"].hang()
	defer heal()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	for i := range 3 * poolSlots {
		wg.Go(func() { w.Create(ctx, fmt.Sprint("v", i), nil) })
	}
	wg.Wait()
	if got := len(w.pools["a"].slots); got > poolSlots {
		t.Errorf("%d calls wait for the storage, want at most %d", got, poolSlots)
	}
	if err := w.Create(t.Context(), "fine", map[string]string{"pool": "b"}); err != nil {
		t.Errorf("create in another pool: %v", err)
	}
}
