package coordtest

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dvol/dvold/coordination"
)

func hostTests() []test {
	return []test{
		{"HostVersions", testHostVersions},
		{"SameVersionNobodyLive", testSameVersionNobodyLive},
	}
}

// A host's version grows whenever a session of it begins, and neither while it
// lasts nor once it has ended.
func testHostVersions(t *testing.T, s *state) {
	session := s.join(host("h1"))
	last := s.named("h1")
	joined := func(what string) {
		t.Helper()
		h := s.named("h1")
		if !h.Live || h.Version <= last.Version {
			t.Errorf("%s: live %t, version %d follows %d", what, h.Live, h.Version, last.Version)
		}
		last = h
	}
	rest := func(what string) {
		t.Helper()
		if h := s.named("h1"); h != last {
			t.Errorf("%s: %+v became %+v", what, last, h)
		}
	}
	for range 3 {
		commit(t, session, coordination.Delete(create(t, session, "a", "1")))
		rest("committed")
		taken := session
		session = s.join(host("h1"))
		joined("taken over")
		if err := taken.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		rest("closed the one taken over")
		if err := session.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		h := s.named("h1")
		if h.Live || h.Version < last.Version {
			t.Errorf("closed: live %t, version %d follows %d", h.Live, h.Version, last.Version)
		}
		last = h
		if err := session.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := session.Commit(t.Context(), coordination.Put(coordination.Record{Key: "b"})); err == nil {
			t.Error("committed after Close")
		}
		rest("closed again")
		session = s.join(host("h1"))
		joined("joined")
	}
}

// Who twice finds a host not live, and at one version, knows that it has not
// been live in between.
func testSameVersionNobodyLive(t *testing.T, s *state) {
	const rounds, observers = 30, 2
	s.left("h1")
	var began, joined atomic.Int64
	done := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		defer close(done)
		for range rounds {
			began.Add(1)
			session, err := s.Join(t.Context(), host("h1"))
			if err != nil {
				t.Errorf("Join: %v", err)
				return
			}
			joined.Add(1)
			if err := session.Close(t.Context()); err != nil {
				t.Errorf("Close: %v", err)
				return
			}
		}
	})
	for range observers {
		all.Go(func() {
			var last coordination.Host
			var beganBefore int64 // joins, before last was there
			silent := 0
			for {
				joinedBefore := joined.Load()
				hosts, err := s.Hosts(t.Context())
				if err != nil || len(hosts) != 1 {
					t.Errorf("Hosts: %+v, %v", hosts, err)
					return
				}
				h := hosts[0]
				if !h.Live && !last.Live && h.Version == last.Version && joinedBefore > beganBefore {
					t.Errorf("not live at version %d, again, though %d joins came between", h.Version, joinedBefore-beganBefore)
					return
				}
				if h.Version < last.Version {
					t.Errorf("version %d follows %d", h.Version, last.Version)
				}
				if !h.Live {
					silent++
				}
				last, beganBefore = h, began.Load()
				select {
				case <-done:
					if silent == 0 {
						t.Error("it was never seen not live; this tests nothing")
					}
					return
				default:
				}
			}
		})
	}
	all.Wait()
}
