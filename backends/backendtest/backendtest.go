// Package backendtest is the suite of tests that every backend passes.
//
// It knows a backend by its contract alone: volumes appear as file systems
// where they are mounted. What only some backends can do it finds out by type
// assertion or from the [Fixture].
package backendtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// Fixture is a pool that a test has for itself.
type Fixture struct {
	// Open returns a new instance of the backend, on the same pool each time.
	Open func(t *testing.T) backends.Backend

	// Adopt makes an empty thing in the pool that can be adopted and returns
	// what Request.Adopt calls it. It is nil if the backend adopts nothing.
	Adopt func(t *testing.T) string

	// Sizes says that the pool can limit what a volume holds, and SizesUnseen that
	// statfs(2) does not show it.
	Sizes, SizesUnseen bool

	// FullToo are errors that writers of a full volume may get besides ENOSPC and EDQUOT.
	FullToo []error

	// Disk is the size of a volume that asked for none, where a volume is a disk: it
	// always has a size, which can only be raised, and what is used of it is known
	// only while it is mounted. It is 0 elsewhere.
	Disk int64

	// ResizeUnused says that a volume that is mounted can't be resized.
	ResizeUnused bool

	// Alone says that a volume has one writer, and is mounted Alone unless it is
	// mounted read-only.
	Alone bool

	// Lags is how late, at most, the pool notices what a volume with a size takes,
	// or does not take any more: meanwhile its limit may be passed a little.
	Lags time.Duration

	// Settles is how long a host may see a file as it was before another host
	// replaced it; one that is replaced again and again meanwhile may not be
	// readable at all.
	Settles time.Duration

	// TakeAway makes the storage unavailable for the rest of the test.
	TakeAway func(t *testing.T)

	// Believes is how long the pool goes by an answer of its storage: a call that begins so
	// soon after one waits for the storage, for as long as that takes.
	Believes time.Duration
}

// rounds is how often a test replaces what others read meanwhile.
func (f Fixture) rounds() int {
	if f.Settles > 0 {
		return 4
	}
	return 15
}

// firstCut is when a test that cuts calls short at various moments does so first, if not at
// once: over a network nothing has come of a call by then.
func (f Fixture) firstCut(atOnce time.Duration) time.Duration {
	if f.Settles > 0 {
		return 500 * time.Microsecond
	}
	return atOnce
}

// test is one of the suite.
type test struct {
	name string
	run  func(*testing.T, *suite)
}

// Run runs the suite. It calls prepare once for each test. It needs root.
func Run(t *testing.T, prepare func(t *testing.T) Fixture) {
	tests := []test{
		{"Plan", testPlan},
		{"PlanUnknownOption", testPlanUnknownOption},
		{"Create", testCreate},
		{"CreateAgain", testCreateAgain},
		{"CreateOwnerAndMode", testCreateOwnerAndMode},
		{"LongID", testLongID},
		{"Stat", testStat},
		{"Missing", testMissing},
		{"Mount", testMount},
		{"MountTwoTargets", testMountTwoTargets},
		{"MountReadOnly", testMountReadOnly},
		{"MountOverAnother", testMountOverAnother},
		{"MountWithoutTarget", testMountWithoutTarget},
		{"UnmountAgain", testUnmountAgain},
		{"UnmountBusy", testUnmountBusy},
		{"Remove", testRemove},
		{"RemoveMounted", testRemoveMounted},
		{"RemoveNeighbour", testRemoveNeighbour},
		{"PlantedSymlinks", testPlantedSymlinks},
		{"Adopt", testAdopt},
		{"AdoptMissing", testAdoptMissing},
		{"Describe", testDescribe},
		{"DescribeRefused", testDescribeRefused},
		{"DescribeHidden", testDescribeHidden},
		{"DescribeConcurrent", testDescribeConcurrent},
		{"DescribeCutShort", testDescribeCutShort},
		{"DescribeUnavailable", testDescribeUnavailable},
		{"Stamp", testStamp},
		{"StampRefused", testStampRefused},
		{"StampHidden", testStampHidden},
		{"StampConcurrent", testStampConcurrent},
		{"StampCutShort", testStampCutShort},
		{"StampUnavailable", testStampUnavailable},
		{"Reopen", testReopen},
		{"Concurrent", testConcurrent},
		{"Cancelled", testCancelled},
		{"CutShort", testCutShort},
		{"Unavailable", testUnavailable},
	}
	runAll(t, append(tests, sizeTests()...), prepare)
}

// RunSizes runs what of the suite is about sizes, for a backend that has them only
// in some of its pools.
func RunSizes(t *testing.T, prepare func(t *testing.T) Fixture) { runAll(t, sizeTests(), prepare) }

func sizeTests() []test {
	return []test{
		{"Size", testSize},
		{"SizeAgain", testSizeAgain},
		{"SizeAdopt", testSizeAdopt},
		{"SizeRefused", testSizeRefused},
		{"Resize", testResize},
		{"ResizeFull", testResizeFull},
		{"ResizeRefused", testResizeRefused},
	}
}

func runAll(t *testing.T, tests []test, prepare func(t *testing.T) Fixture) {
	hosttest.Root(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := prepare(t)
			test.run(t, &suite{Backend: open(t, f), fixture: f, dir: hosttest.Dir(t)})
		})
	}
}

// open opens the pool and closes it with the test.
func open(t *testing.T, f Fixture) backends.Backend {
	t.Helper()
	b := f.Open(t)
	t.Cleanup(func() { closeBackend(t, b) })
	return b
}

func closeBackend(t *testing.T, b backends.Backend) {
	t.Helper()
	if c, ok := b.(io.Closer); ok {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

// suite is what a test has at hand.
type suite struct {
	backends.Backend
	fixture Fixture
	dir     string // for mountpoints
	count   atomic.Int64
}

// takeAway makes the storage unavailable, and returns when nobody believes in it any more.
func (s *suite) takeAway(t *testing.T) {
	t.Helper()
	s.fixture.TakeAway(t)
	time.Sleep(s.fixture.Believes)
}

// Mount is that of the backend, in the way that the pool wants it.
func (s *suite) Mount(ctx context.Context, handle, target string, o backends.MountOptions) error {
	o.Alone = o.Alone || s.fixture.Alone && !o.ReadOnly
	return s.Backend.Mount(ctx, handle, target, o)
}

// id returns a new volume ID, which no pool has ever seen.
func (s *suite) id() string {
	return fmt.Sprintf("Vol_%d.%012x", s.count.Add(1), rand.Uint64()>>16)
}

// plan plans a volume with a new ID, unless r has one.
func (s *suite) plan(t *testing.T, r backends.Request) backends.Volume {
	t.Helper()
	if r.ID == "" {
		r.ID = s.id()
	}
	v, err := s.Plan(t.Context(), r)
	if err != nil {
		t.Fatalf("plan: %v", err)
	}
	return v
}

// create makes a new volume and returns its handle.
func (s *suite) create(t *testing.T) string {
	t.Helper()
	v := s.plan(t, backends.Request{})
	if err := s.Create(t.Context(), v); err != nil {
		t.Fatalf("create: %v", err)
	}
	return v.Handle
}

// target makes a new directory to mount at.
func (s *suite) target(t *testing.T) string {
	t.Helper()
	return hosttest.Subdir(t, s.dir, fmt.Sprintf("target %d", s.count.Add(1)))
}

// mount mounts the volume at a new target and returns that.
func (s *suite) mount(t *testing.T, handle string) string {
	t.Helper()
	target := s.target(t)
	if err := s.Mount(t.Context(), handle, target, backends.MountOptions{}); err != nil {
		t.Fatalf("mount: %v", err)
	}
	if !mounted(t, target) {
		t.Fatalf("after mount %s is not a mountpoint", target)
	}
	return target
}

func (s *suite) unmount(t *testing.T, handle, target string) {
	t.Helper()
	if err := s.Unmount(t.Context(), handle, target); err != nil {
		t.Fatalf("unmount: %v", err)
	}
	if mounted(t, target) {
		t.Fatalf("after unmount %s is still a mountpoint", target)
	}
	if info, err := os.Lstat(target); err != nil || !info.IsDir() {
		t.Fatalf("after unmount the directory is gone: %v", err)
	}
}

// expect fails the test unless err is one of wanted, nil being an error too.
func expect(t *testing.T, what string, err error, wanted ...error) {
	t.Helper()
	for _, want := range wanted {
		if errors.Is(err, want) {
			return
		}
	}
	t.Errorf("%s: got error %v, want one of %v", what, err, wanted)
}

// expectForUser also wants a text that fits into one line of a message.
func expectForUser(t *testing.T, what string, err, want error) {
	t.Helper()
	expect(t, what, err, want)
	if err != nil && strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: the error has several lines: %q", what, err)
	}
}

// unavailable makes calls, which may wait for the storage for a while, side by side, and expects ErrUnavailable of each.
func unavailable(t *testing.T, calls map[string]func() error) {
	t.Helper()
	var all sync.WaitGroup
	for what, call := range calls {
		all.Go(func() { expectForUser(t, what, call(), backends.ErrUnavailable) })
	}
	all.Wait()
}

func mounted(t *testing.T, target string) bool {
	t.Helper()
	m, err := host.MountedAt(target)
	if err != nil {
		t.Fatal(err)
	}
	return m != nil
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func expectFile(t *testing.T, dir, name, want string) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil || string(got) != want {
		t.Errorf("file %s: got %q, %v, want %q", name, got, err, want)
	}
}

func expectEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 0 {
		t.Errorf("%s: got %v, %v, want an empty directory", dir, entries, err)
	}
}
