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
}

// From the yes on nothing of the host lands, and the other host goes on; likewise once the
// server was killed and started anew, and if it is said twice, at once. Let in, the host writes
// again.
func testFencedWriter(t, outer *testing.T, s *server, h1, h2 fencedHost) {
	one, two := startWriter(t, s, h1.mount(t, s), "one"), startWriter(t, s, h2.mount(t, s), "two")
	one.awaitMore(t)
	two.awaitMore(t)
	s.mustFence(t, "fence", h1)
	landed := one.landed(t)
	if acked := one.acked.Load(); acked > landed {
		t.Errorf("%d was synced, and the server has %d", acked, landed)
	}
	one.stays(t, landed)
	if _, err := h1.try(t, s); err == nil {
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
