package nfs_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dvol/dvold/internal/host/guesttest"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// fence runs the fencer, as fence-server does.
func (s *server) fence(action, host string) error {
	out, err := exec.Command(filepath.Join(guesttest.Shared, s.fencer), s.fences, action, host).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", action, host, err, out)
	}
	return nil
}

func (s *server) mustFence(t *testing.T, action string, h fencedHost) {
	t.Helper()
	begin := time.Now()
	if err := s.fence(action, h.name); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s %s took %v", action, h.name, time.Since(begin).Round(time.Millisecond))
}

// testFence tries fence-ganesha.
func testFence(t *testing.T, s server) {
	h1, h2 := addHosts(t)
	outer := t // with which a server that is started anew ends
	t.Run("Writer", func(t *testing.T) { testFencedWriter(t, outer, &s, h1, h2) })
	t.Run("UnderWay", func(t *testing.T) { testFenceWaits(t, &s, h1) })
	for _, fenced := range []bool{false, true} {
		t.Run(fmt.Sprintf("Hazard02DeadClientDelivers/%t", fenced), func(t *testing.T) { testDeadClient(t, &s, h1, h2, fenced) })
	}
	t.Run("Refused", func(t *testing.T) { testNoFence(t, &s, h1) })
}

// From the yes on nothing of the host lands, and the other host goes on; likewise once the
// server was killed and started anew, and if it is said twice, at once. Let in, the host writes
// again.
func testFencedWriter(t, outer *testing.T, s *server, h1, h2 fencedHost) {
	one, two := startWriter(t, s, h1.mount(t, s, "4.0"), "one"), startWriter(t, s, h2.mount(t, s, "4.0"), "two")
	one.awaitMore(t)
	two.awaitMore(t)
	s.mustFence(t, "fence", h1)
	landed := one.landed(t)
	if acked := one.acked.Load(); acked > landed {
		t.Errorf("%d was synced, and the server has %d", acked, landed)
	}
	one.stays(t, landed)
	if _, err := h1.try(t, s, "4.0"); err == nil {
		t.Error("the host mounted the export anew")
	}
	two.awaitMore(t)

	if err := s.process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = s.process.Wait() // reports the kill
	if err := s.fence("fence", h1.name); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("without a server: got %v", err)
	}
	s.start(outer)
	two.awaitMore(t)
	one.stays(t, landed)

	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if err := s.fence("fence", h1.name); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	two.awaitMore(t)
	if n := two.refused.Load(); n > 0 {
		t.Errorf("the other host was refused %d writes", n)
	}
	one.stays(t, landed)
	s.mustFence(t, "unfence", h1)
	one.awaitMore(t)
	if text, err := os.ReadFile(s.fences); err != nil || string(text) != s.admits {
		t.Errorf("left of the configuration: %v\n%s", err, text)
	}
}

// As long as the server has a write under way there is no yes.
func testFenceWaits(t *testing.T, s *server, h1 fencedHost) {
	one := startWriter(t, s, h1.mount(t, s, "3"), "waits")
	one.awaitMore(t)
	thaw := freezeDisk(t, s)
	acked := int64(-1)
	within(t, "halt", func() bool {
		before := acked
		acked = one.acked.Load()
		time.Sleep(200 * time.Millisecond)
		return acked == before
	})
	before := h1.unsent(t)
	result := make(chan error, 1)
	go func() { result <- s.fence("fence", h1.name) }()
	within(t, "end of the connections", func() bool { // after which it waits for the write alone
		for end := range h1.unsent(t) {
			if _, ok := before[end]; ok {
				return false
			}
		}
		return true
	})
	select {
	case err := <-result:
		t.Errorf("there was an answer while a write was under way: %v", err)
	case <-time.After(3 * time.Second):
	}
	thaw()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	one.stays(t, one.landed(t))
	s.mustFence(t, "unfence", h1)
}

// What a process that is dead had written arrives when the network is back: over what another
// host has written meanwhile, unless its host was fenced.
func testDeadClient(t *testing.T, s *server, h1, h2 fencedHost, fenced bool) {
	dir, file := h1.mount(t, s, "3"), filepath.Join(s.fencing, "dead")
	if err := writeRecord(filepath.Join(dir, "dead"), 1); err != nil {
		t.Fatal(err)
	}
	victim := exec.Command("sh", "-c", `exec 3<>"$0" && echo opened && read go && exec dd conv=notrunc,fsync status=none >&3`, filepath.Join(dir, "dead"))
	input, err := victim.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	hosttest.Start(t, victim)
	h1.cable(t, "down")
	if _, err := input.Write([]byte("go\n000000002")); err != nil {
		t.Fatal(err)
	}
	input.Close()
	within(t, "bytes to send", func() bool { return h1.hasUnsent(t) })
	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if fenced {
		s.mustFence(t, "fence", h1)
	}
	if err := writeRecord(filepath.Join(h2.mount(t, s, "3"), "dead"), 3); err != nil {
		t.Fatal(err)
	}
	t.Logf("the host of a dead process has to send, by its end of the connection: %v", h1.unsent(t))
	h1.cable(t, "up")
	_ = victim.Wait() // reports the kill; its file is closed only when the server has answered
	within(t, "end of what was to be sent", func() bool { return !h1.hasUnsent(t) })
	time.Sleep(time.Second) // for what the server has received
	want := "000000003"
	if !fenced {
		want = "000000002"
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != want {
		t.Errorf("fenced %t: the server has %q, %v, want %q", fenced, text, err, want)
	}
	if fenced {
		s.mustFence(t, "unfence", h1)
	}
}

// What can't be made sure is no yes.
func testNoFence(t *testing.T, s *server, h1 fencedHost) {
	good := s.admits
	own := "  CLIENT { Clients = " + h1.address + "; Access_Type = RW;"
	for text, says := range map[string]string{
		strings.Replace(good, own, own+" } # h3\n"+own, 1):               "admits 10.99.0.11 still",
		strings.Replace(good, "SecType = sys;", "SecType = nothing;", 1): "the server does not take",
	} {
		if err := os.WriteFile(s.fences, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.fence("fence", h1.name); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want %s", err, says)
		}
	}
	elsewhere := *s
	elsewhere.fences = filepath.Join(filepath.Dir(s.fences), "elsewhere.conf")
	for _, path := range []string{s.fences, elsewhere.fences} {
		if err := os.WriteFile(path, []byte(good), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := elsewhere.fence("fence", h1.name); err == nil || !strings.Contains(err.Error(), "would start without") {
		t.Errorf("a file of no server: got %v", err)
	}
	thaw := s.freeze(t)
	if err := s.fence("fence", h1.name); err == nil {
		t.Error("a server that is frozen: got a yes")
	}
	thaw()
	s.mustFence(t, "unfence", h1)
}
