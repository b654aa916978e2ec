package coordtest

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dvol/dvold/coordination"
)

func concurrencyTests() []test {
	return []test{
		{"OneCreateWins", testOneCreateWins},
		{"OneDeleteWins", testOneDeleteWins},
		{"OneMachineWins", testOneMachineWins},
		{"ManyHostsJoin", testManyHostsJoin},
		{"CounterLosesNothing", testCounterLosesNothing},
		{"TransfersKeepTheSum", testTransfersKeepTheSum},
		{"CloseEndsCommits", testCloseEndsCommits},
	}
}

// together runs fn n times at once and waits for all.
func together(n int, fn func(i int)) {
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			fn(i)
		})
	}
	close(start)
	all.Wait()
}

func testOneCreateWins(t *testing.T, s *state) {
	sessions := []coordination.Session{s.join(host("h1")), s.join(host("h2"))}
	var winner atomic.Int64
	winner.Store(-1)
	together(50, func(i int) {
		_, err := sessions[i%2].Commit(t.Context(),
			coordination.Put(coordination.Record{Key: "a", Value: fmt.Append(nil, i)}),
			coordination.Put(coordination.Record{Key: fmt.Sprint("by/", i)}))
		if err == nil && !winner.CompareAndSwap(-1, int64(i)) {
			t.Errorf("both %d and %d made the record", i, winner.Load())
		}
		if err != nil {
			wantError(t, "Commit", err, coordination.ErrConflict)
		}
	})
	want := fmt.Sprint(winner.Load())
	got := s.list("")
	if len(got) != 2 || got["a"] != want {
		t.Errorf("%s won, but got %v", want, got)
	}
	if _, ok := got["by/"+want]; !ok {
		t.Errorf("%s won, but got %v", want, got)
	}
}

// Of two sessions that delete a record at once, and sometimes two that put over
// it, one succeeds.
func testOneDeleteWins(t *testing.T, s *state) {
	sessions := []coordination.Session{s.join(host("h1")), s.join(host("h2"))}
	for round := range 20 {
		r := create(t, sessions[0], fmt.Sprint("a", round), "1")
		by := fmt.Sprintf("by/%d/", round)
		var won atomic.Int64
		together(2+round%2*2, func(i int) {
			op := coordination.Delete(r)
			if i >= 2 {
				op = coordination.Put(r)
			}
			_, err := sessions[i%2].Commit(t.Context(), op, coordination.Put(coordination.Record{Key: fmt.Sprint(by, i)}))
			if err == nil {
				won.Add(1)
			} else {
				wantError(t, "Commit", err, coordination.ErrConflict)
			}
		})
		left := s.list(by)
		_, deleted := left[by+"0"]
		_, deletedToo := left[by+"1"]
		_, err := s.Get(t.Context(), r.Key)
		if won.Load() != 1 || len(left) != 1 || errors.Is(err, coordination.ErrNotFound) != (deleted || deletedToo) {
			t.Errorf("round %d: %d succeeded, left %v; the record: %v", round, won.Load(), left, err)
		}
	}
}

func testOneMachineWins(t *testing.T, s *state) {
	var mu sync.Mutex
	var won []coordination.Session
	together(20, func(i int) {
		session, err := s.Join(t.Context(), coordination.Host{Name: "h1", ID: fmt.Sprint("machine ", i)})
		if err != nil {
			wantError(t, "Join", err, coordination.ErrConflict)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		won = append(won, session)
	})
	s.sessions = append(s.sessions, won...)
	if len(won) != 1 {
		t.Fatalf("%d machines of one name are live", len(won))
	}
	if h := s.wantHosts("h1 live")[0]; h.Incarnation != won[0].Incarnation() {
		t.Errorf("got incarnation %d, want %d", h.Incarnation, won[0].Incarnation())
	}
	create(t, won[0], "a", "1")
}

func testManyHostsJoin(t *testing.T, s *state) {
	const hosts = 10
	sessions := make([]coordination.Session, hosts)
	together(hosts, func(i int) {
		var err error
		if sessions[i], err = s.Join(t.Context(), host(fmt.Sprint("h", i))); err != nil {
			t.Errorf("Join: %v", err)
		}
		if _, err := s.Hosts(t.Context()); err != nil {
			t.Errorf("Hosts: %v", err)
		}
	})
	for i, session := range sessions {
		if session == nil {
			t.Fatalf("host %d has no session", i)
		}
		s.sessions = append(s.sessions, session)
	}
	s.wantHosts("h0 live", "h1 live", "h2 live", "h3 live", "h4 live", "h5 live", "h6 live", "h7 live", "h8 live", "h9 live")
	together(hosts, func(i int) {
		for range 2 {
			if err := sessions[i/2*2].Close(t.Context()); err != nil { // two close each
				t.Errorf("Close: %v", err)
			}
		}
	})
	s.wantHosts("h0", "h1 live", "h2", "h3 live", "h4", "h5 live", "h6", "h7 live", "h8", "h9 live")
}

// add adds n to the number at key, however often others come first.
func (s *state) add(session coordination.Session, key string, n int) error {
	for {
		r, err := s.Get(s.t.Context(), key)
		if err != nil && !errors.Is(err, coordination.ErrNotFound) {
			return err
		}
		number, _ := strconv.Atoi(string(r.Value)) // none is 0
		r.Key, r.Value = key, strconv.AppendInt(nil, int64(number+n), 10)
		if _, err = session.Commit(s.t.Context(), coordination.Put(r)); !errors.Is(err, coordination.ErrConflict) {
			return err
		}
	}
}

func testCounterLosesNothing(t *testing.T, s *state) {
	const writers, rounds = 8, 20
	sessions := []coordination.Session{s.join(host("h1")), s.join(host("h2"))}
	together(writers, func(i int) {
		for range rounds {
			if err := s.add(sessions[i%2], "counter", 1); err != nil {
				t.Errorf("add: %v", err)
				return
			}
		}
	})
	if got, want := s.list("")["counter"], fmt.Sprint(writers*rounds); got != want {
		t.Errorf("counter: got %s, want %s", got, want)
	}
}

// Each transfer changes two records together. Each List must see both of its
// changes or neither, so the sum is always the same.
func testTransfersKeepTheSum(t *testing.T, s *state) {
	const accounts, sum, writers, rounds = 4, 400, 4, 15
	session := s.join(host("h1"))
	for i := range accounts {
		create(t, session, fmt.Sprint("account/", i), fmt.Sprint(sum/accounts))
	}
	number := func(r coordination.Record) int {
		n, err := strconv.Atoi(string(r.Value))
		if err != nil {
			t.Errorf("%s: %v", r.Key, err)
		}
		return n
	}
	together(writers, func(i int) {
		for done := 0; done < rounds; {
			records, err := s.List(t.Context(), "account/")
			if err != nil || len(records) != accounts {
				t.Errorf("List: %d records, %v", len(records), err)
				return
			}
			total := 0
			for _, r := range records {
				total += number(r)
			}
			if total != sum {
				t.Errorf("sum: got %d, want %d", total, sum)
				return
			}
			from, to := records[(i+done)%accounts], records[(i+done+1+i%2)%accounts]
			from.Value, to.Value = fmt.Append(nil, number(from)-1), fmt.Append(nil, number(to)+1)
			_, err = session.Commit(t.Context(), coordination.Put(from), coordination.Put(to))
			if err == nil {
				done++
			} else if !errors.Is(err, coordination.ErrConflict) {
				t.Errorf("Commit: %v", err)
				return
			}
		}
	})
}

// After Close returned, nothing the session was asked for may still happen.
func testCloseEndsCommits(t *testing.T, s *state) {
	session := s.join(host("h1"))
	var committed atomic.Int64
	running := make(chan struct{}, 1)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for {
				if err := s.add(session, "counter", 1); err != nil {
					wantError(t, "Commit", err, coordination.ErrSessionLost)
					return
				}
				if committed.Add(1) == 10 {
					running <- struct{}{}
				}
			}
		})
	}
	select {
	case <-running:
	case <-time.After(patience):
		t.Error("the commits did not get going")
	}
	if err := session.Close(t.Context()); err != nil {
		t.Errorf("Close: %v", err)
	}
	atClose := s.list("")["counter"]
	all.Wait()
	if got, want := s.list("")["counter"], fmt.Sprint(committed.Load()); got != want || got != atClose {
		t.Errorf("counter: %s when closed, %s later, %s committed", atClose, got, want)
	}
}
