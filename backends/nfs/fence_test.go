package nfs_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dvol/dvold/internal/host/guesttest"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// The server that fences are tried with, and the hosts that it admits, by what it knows
// them by: h1, the other guest, which is fenced, and h2, on the server's own machine.
const (
	serverAddress = "10.96.0.1"
	fencedAddress = "10.96.0.2"
)

// fence-ganesha of examples/fence, with its server and two hosts, which share a volume first.
// In guests of its own, because there is much to wait for.
func TestFence(t *testing.T) {
	hosttest.Root(t)
	needFencing(t)
	if !guesttest.Inside() {
		t.Parallel()
		guesttest.Together(t, guesttest.Guest{
			Load:     append(slices.Clone(clientModules), "drivers/block/loop"),
			Programs: []string{"../../examples/fence/fence-ganesha"},
		}, guesttest.Guest{Load: clientModules, Env: []string{otherHost + "=1"}})
		return
	}
	if os.Getenv(otherHost) != "" {
		m := meet(t, 2)
		t.Run("Hosts", func(t *testing.T) { testHosts(t, m, 2) })
		runFencedHost(t, m)
		return
	}
	prepare(t)
	m := meet(t, 1)
	run(t, "ip", "address", "add", serverAddress+"/24", "dev", "vec0")
	s := newFencing(t, newDisk(t))
	t.Run("Hosts", func(t *testing.T) { testHosts(t, m, 1) })
	h1 := fencedBy(t, m)
	t.Run("DeadClientUnfenced", func(t *testing.T) { testDeadClient(t, s, h1, false) })
	t.Run("Hazard02DeadClientDelivers", func(t *testing.T) { testDeadClient(t, s, h1, true) })
	t.Run("3", func(t *testing.T) { testFrozen(t, s, h1, "3", true) })
	t.Run("4.2", func(t *testing.T) { testFrozen(t, s, h1, "4.2", true) })
	t.Run("Unfenced", func(t *testing.T) { testFrozen(t, s, h1, "4.2", false) })
}

func within(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s", what)
		}
	}
}

// A host that stands still in the middle of a write, which is under way in the server, is
// fenced, and goes on when another host has written. Nothing of it lands any more, not
// when the server was started anew either, until it is let in again.
func testFrozen(t *testing.T, s *fencing, h1 fenced, version string, isFenced bool) {
	name := "numbers-" + filepath.Base(t.Name())
	acked, thaw, goOn := stopInWrite(t, s, h1, version, name)
	if isFenced {
		s.fenceInWrite(t, thaw)
	} else {
		thaw()
	}
	landed := s.has(t, name)
	n := int64(len(landed) / recordSize)
	if n < acked || n > acked+1 || !bytes.Equal(landed, records("h1", n)) {
		t.Errorf("%d records were synced, and the server has %q", acked, landed)
	}

	dir := s.mount(t, version)
	if isFenced && version != "3" {
		lock, err := lockFile(filepath.Join(dir, "lock"))
		if err != nil {
			t.Errorf("what the host that is fenced had locked: %v", err)
		} else {
			lock.Close()
		}
	}
	want := records("h2", acked+5)
	overwrite(t, filepath.Join(dir, name), want)
	goOn()
	check := func(when string) {
		t.Helper()
		if got := s.has(t, name); !bytes.Equal(got, want) {
			t.Errorf("%s the server has %q, want %q", when, got, want)
		}
	}
	if !isFenced {
		within(t, "write of the host that was not fenced", func() bool { return !bytes.Equal(s.has(t, name), want) })
		return
	}
	refused := h1.awaitRefused
	if s.hangs && version != "3" {
		refused = func(t *testing.T) { h1.awaitNoMore(t, n) } // of the last it may be told only now
	}
	refused(t)
	t.Logf("refused: %q", h1.count(t).Last)
	check("when it went on")
	s.kill(t)
	s.start(t)
	refused(t)
	check("when the server was started anew")
	if version != "3" { // where there is a lease to wait for, too
		s.mustFence(t, "fence")
	}
	s.mustFence(t, "unfence")
	h1.awaitAcked(t)
	if text, err := os.ReadFile(s.file); err != nil || string(text) != s.admits {
		t.Errorf("left of the configuration: %v\n%s", err, text)
	}
}

// stopInWrite has h1 write numbers, and stand still until goOn is called while the server is at
// its next write, which is done when the disk was thawed. It has been told of those before.
func stopInWrite(t *testing.T, s *fencing, h1 fenced, version, name string) (acked int64, thaw, goOn func()) {
	t.Helper()
	h1.do(t, "Mount", s.mountArgs(version))
	t.Cleanup(func() { h1.do(t, "Leave", 0) })
	if version != "3" {
		h1.do(t, "Lock", "lock")
	}
	h1.do(t, "Write", name)
	h1.awaitAcked(t)
	thaw = freezeDisk(t, s.disk)
	acked = -1
	within(t, "halt", func() bool {
		before, now := acked, h1.count(t)
		acked = now.Acked
		return now.Writing && acked == before
	})
	goOn = sync.OnceFunc(guesttest.StopOther(t))
	t.Cleanup(goOn)
	return acked, thaw, goOn
}

// fenceInWrite fences h1 while the server is at a write, which must be waited for.
func (s *fencing) fenceInWrite(t *testing.T, thaw func()) {
	t.Helper()
	begin, result := time.Now(), make(chan error, 1)
	go func() { result <- s.fence("fence", "h1") }()
	within(t, "refusal", func() bool {
		text, err := os.ReadFile(s.file)
		return err == nil && string(text) != s.admits
	})
	select {
	case err := <-result:
		t.Fatalf("there was an answer while a write was under way: %v", err)
	case <-time.After(3 * time.Second):
	}
	thaw()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	t.Logf("fence took %v", time.Since(begin).Round(time.Millisecond))
}

// records are those that a host writes first.
func records(host string, n int64) []byte {
	var all []byte
	for i := range n {
		all = append(all, record(host, i+1)...)
	}
	return all
}

// What a process that is dead had written arrives when the network is back: over what another
// host has written meanwhile, unless its host was fenced.
func testDeadClient(t *testing.T, s *fencing, h1 fenced, isFenced bool) {
	name := fmt.Sprint("dead-", isFenced)
	h1.do(t, "Mount", s.mountArgs("3"))
	t.Cleanup(func() { h1.do(t, "Leave", 0) })
	path := filepath.Join(s.mount(t, "3"), name)
	overwrite(t, path, record("h2", 1))
	h1.do(t, "WriteAndDie", name)
	if isFenced {
		s.mustFence(t, "fence")
	}
	want := record("h2", 2)
	overwrite(t, path, want)
	h1.do(t, "Heal", 0)
	within(t, "end of what was to be sent", func() bool {
		var n int64
		if err := h1.Call("Host.Unsent", 0, &n); err != nil {
			t.Fatal(err)
		}
		return n == 0
	})
	if !isFenced {
		within(t, "write of a process that is dead", func() bool { return bytes.Equal(s.has(t, name), record("h1", 1)) })
		return
	}
	time.Sleep(time.Second) // for what the server has received
	if got := s.has(t, name); !bytes.Equal(got, want) {
		t.Errorf("the server has %q, want %q", got, want)
	}
	s.mustFence(t, "unfence")
}
