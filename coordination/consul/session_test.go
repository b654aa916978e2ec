package consul_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/coordination/consul"
	"github.com/dvol/dvold/coordination/consul/consultest"
)

// soon is how long what is noticed "at once" may take on a busy machine.
const soon = 5 * time.Second

var op = coordination.Put(coordination.Record{Key: "a", Value: []byte("1")})

func wantLost(t *testing.T, session coordination.Session) {
	t.Helper()
	if _, err := session.Commit(t.Context(), op); !errors.Is(err, coordination.ErrSessionLost) {
		t.Errorf("Commit of a lost session: got error %v", err)
	}
	if _, err := session.Commit(t.Context()); !errors.Is(err, coordination.ErrSessionLost) {
		t.Errorf("Commit of nothing of a lost session: got error %v", err)
	}
}

// What ends a session from outside is noticed at once, by a Store of its own
// as by one of another process.
func TestEndedFromOutside(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, consultest.Options{})
	for name, end := range map[string]func(t *testing.T, cfg consul.Config){
		"Takeover": func(t *testing.T, cfg consul.Config) { join(t, open(t, cfg), "h1") },
		"Destroyed": func(t *testing.T, cfg consul.Config) {
			cluster.Must(http.MethodPut, "/v1/session/destroy/"+holder(t, cluster, cfg), nil, nil)
		},
		"NodeGone": func(t *testing.T, cfg consul.Config) {
			cluster.Must(http.MethodPut, "/v1/catalog/deregister", map[string]string{"Node": strings.ReplaceAll(cfg.Prefix, "/", "-") + "-h1"}, nil)
		},
		"KeyGone": func(t *testing.T, cfg consul.Config) {
			cluster.Must(http.MethodDelete, "/v1/kv/"+cfg.Prefix+"/hosts/h1", nil, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(cluster)
			cfg.TTL = time.Minute // so that no renewal comes in between
			store := open(t, cfg)
			first := join(t, store, "h1")
			commit(t, first)
			before := hostOf(t, store)
			deadline := first.Deadline()
			end(t, cfg)
			wantEnd(t, first, soon)
			wantLost(t, first)
			if now := consul.BootTime(); first.Deadline() != deadline || deadline <= now || deadline > now+cfg.TTL {
				t.Errorf("at %v, after the end, the deadline is %v; it was %v", now, first.Deadline(), deadline)
			}
			if after := hostOf(t, store); name != "KeyGone" && (after.Live != (name == "Takeover") || after.Version <= before.Version) {
				t.Errorf("live %t, version %d follows %d", after.Live, after.Version, before.Version)
			}
			if err := first.Close(t.Context()); err != nil {
				t.Errorf("Close of a lost session: %v", err)
			}
			if second := join(t, store, "h1"); second.Incarnation() <= first.Incarnation() {
				t.Errorf("incarnation %d follows %d", second.Incarnation(), first.Incarnation())
			}
		})
	}
}

// The name of a host whose session was ended is free at once: no lock-delay,
// which is 15 s by default, keeps another machine waiting.
func TestNoLockDelay(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, consultest.Options{})
	cfg := config(cluster)
	store, other := open(t, cfg), open(t, cfg)
	for i := range 10 {
		name := fmt.Sprint("h", i)
		join(t, store, name)
		var pairs []struct{ Session string }
		cluster.Must(http.MethodGet, "/v1/kv/"+cfg.Prefix+"/hosts/"+name, nil, &pairs)
		cluster.Must(http.MethodPut, "/v1/session/destroy/"+pairs[0].Session, nil, nil)
		began := time.Now()
		if _, err := other.Join(t.Context(), coordination.Host{Name: name, ID: "another"}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > soon {
			t.Errorf("the next Join took %v", took)
		}
	}
}

// holder is the session that has locked the key of host h1.
func holder(t *testing.T, cluster *consultest.Cluster, cfg consul.Config) string {
	t.Helper()
	var pairs []struct{ Session string }
	cluster.Must(http.MethodGet, "/v1/kv/"+cfg.Prefix+"/hosts/h1?consistent", nil, &pairs)
	return pairs[0].Session
}

// hostOf is the one host that Hosts lists, or none.
func hostOf(t *testing.T, store *consul.Store) (h coordination.Host) {
	t.Helper()
	hosts, err := store.Hosts(t.Context())
	if err != nil || len(hosts) > 1 {
		t.Fatalf("Hosts: %+v, %v", hosts, err)
	}
	if len(hosts) == 1 {
		h = hosts[0]
	}
	return h
}

// A failed Join names who is there, and leaves no session behind.
func TestAnotherMachine(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, consultest.Options{})
	cfg := config(cluster)
	join(t, open(t, cfg), "h1")
	_, err := open(t, cfg).Join(t.Context(), coordination.Host{Name: "h1", ID: "another"})
	if !errors.Is(err, coordination.ErrConflict) || !strings.Contains(err.Error(), "id-of-h1") {
		t.Errorf("got error %v", err)
	}
	var sessions []struct{ ID string }
	cluster.Must(http.MethodGet, "/v1/session/list?consistent", nil, &sessions)
	if len(sessions) != 1 {
		t.Errorf("%d sessions, want one", len(sessions))
	}
}

// Consul is away: short enough, and nothing happens; too long, and the session
// ends before its TTL, for ever, although Consul still has it.
func TestConsulAway(t *testing.T) {
	t.Parallel()
	const ttl = 8 * time.Second
	for name, away := range map[string]struct{ leave, back func(*consultest.Cluster) }{
		"Paused": {func(c *consultest.Cluster) { c.Pause(0) }, func(c *consultest.Cluster) { c.Resume(0) }},
		"Killed": {func(c *consultest.Cluster) { c.Kill(0) }, func(c *consultest.Cluster) { c.Restart(0) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := consultest.Start(t, consultest.Options{})
			cfg := config(cluster)
			cfg.TTL = ttl
			store := open(t, cfg)
			session := join(t, store, "h1")
			id := holder(t, cluster, cfg)

			away.leave(cluster)
			time.Sleep(ttl / 8)
			away.back(cluster)
			cluster.WaitReady()
			commit(t, session, op)
			time.Sleep(ttl / 4) // a renewal comes through

			away.leave(cluster)
			left, deadline := time.Now(), session.Deadline()
			if took := wantEnd(t, session, ttl).Sub(left); took < ttl/2-consul.Margin {
				t.Errorf("ended %v after Consul left, with a TTL of %v", took, ttl)
			}
			if now, end := consul.BootTime(), session.Deadline(); end < deadline || end > now || end < now-time.Second {
				t.Errorf("ended at %v, but the deadline is %v; it was %v when Consul left", now, end, deadline)
			}
			deadline = session.Deadline()
			wantLost(t, session)
			away.back(cluster)
			cluster.WaitReady()
			if got := holder(t, cluster, cfg); got != id {
				t.Errorf("Consul ended the session before us: %q holds the key", got)
			}
			wantLost(t, session)
			if got := session.Deadline(); got != deadline {
				t.Errorf("the deadline went from %v to %v after the end", deadline, got)
			}
			again := join(t, store, "h1")
			if again.Incarnation() <= session.Incarnation() {
				t.Errorf("incarnation %d follows %d", again.Incarnation(), session.Incarnation())
			}
			wantLost(t, session)
			if err := session.Close(t.Context()); err != nil {
				t.Errorf("Close of the lost session: %v", err)
			}
			commit(t, again)
		})
	}
}

// After a sleep of the machine a session whose lease is over commits nothing,
// though Consul would let it; after a shorter one it goes on.
func TestMachineSlept(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, consultest.Options{})
	for name, c := range map[string]struct {
		slept time.Duration
		lost  bool
	}{
		"Short": {6 * time.Second, false},
		"Long":  {10*time.Second - consul.Margin, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(cluster)
			store := open(t, cfg)
			var ahead atomic.Int64
			store.Shift(func() time.Duration { return time.Duration(ahead.Load()) })
			session := join(t, store, "h1")
			commit(t, session)
			ahead.Store(int64(c.slept))
			if c.lost {
				wantLost(t, session) // the first that is asked, and knows
				wantEnd(t, session, time.Second)
				if holder(t, cluster, cfg) == "" {
					t.Error("Consul ended it, so this tests nothing")
				}
			} else {
				commit(t, session, op)
				time.Sleep(cfg.TTL/5 + time.Second) // a renewal
				ahead.Add(int64(6 * time.Second))   // which would be too much without it
				commit(t, session)
			}
		})
	}
}

// A leader that was asleep while the others ended a session renews it still.
// The session has ended before, and stays so.
func TestDeposedLeader(t *testing.T) {
	t.Parallel()
	const ttl = 3 * time.Second
	cluster := consultest.Start(t, consultest.Options{Servers: 3})
	leader := cluster.Leader()
	cfg := config(cluster)
	cfg.TTL = ttl
	old := cfg
	old.Addresses = []string{cluster.Address(leader)}
	store := open(t, old)
	session := join(t, store, "h1")
	commit(t, session, op)

	cluster.Pause(leader)
	cfg.Addresses = nil
	for i := range 3 {
		if i != leader {
			cfg.Addresses = append(cfg.Addresses, cluster.Address(i))
		}
	}
	other := open(t, cfg)
	deadline := time.Now().Add(30 * time.Second)
	for {
		// Another machine, which gets the name once the session has ended.
		_, err := other.Join(t.Context(), coordination.Host{Name: "h1", ID: "another"})
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("Join: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if session.Context().Err() == nil {
		t.Error("the name was taken while the session went on")
	}
	// Asked before it wakes up, it may answer before it knows what it missed.
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			hosts, err := store.Hosts(t.Context())
			if err == nil && (len(hosts) != 1 || hosts[0].ID != "another") {
				t.Errorf("a deposed leader's word was taken: %+v", hosts)
			}
		})
	}
	time.Sleep(100 * time.Millisecond) // they wait in its sockets
	cluster.Resume(leader)
	asking.Wait()
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		wantLost(t, session)
		if t.Failed() {
			return
		}
	}
}

// A snapshot from before brings back an older entry of a host, but not an
// older incarnation.
func TestSnapshotRestored(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, consultest.Options{})
	cfg := config(cluster)
	store := open(t, cfg)
	first := join(t, store, "h1")
	r := commit(t, first, op)[0]
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	archive := cluster.Snapshot()
	second := join(t, store, "h1")
	r = commit(t, second, coordination.Put(coordination.Record{Key: "a", Value: []byte("2"), Version: r.Version}))[0]
	cluster.Restore(archive)
	wantEnd(t, second, soon)
	wantLost(t, second)
	if second.Deadline() <= consul.BootTime() {
		t.Error("its deadline is over")
	}
	third := join(t, store, "h1")
	if third.Incarnation() <= second.Incarnation() {
		t.Errorf("incarnation %d follows %d", third.Incarnation(), second.Incarnation())
	}
	back, err := store.Get(t.Context(), "a")
	if err != nil || string(back.Value) != "1" {
		t.Fatalf("got %+v, %v", back, err)
	}
	if _, err := third.Commit(t.Context(), coordination.Put(r)); !errors.Is(err, coordination.ErrConflict) {
		t.Errorf("put over a version that is undone: got error %v", err)
	}
	if next := commit(t, third, coordination.Put(back))[0]; next.Version <= r.Version {
		t.Errorf("version %d follows %d", next.Version, r.Version)
	}
}

// A host that abandons its session stays live for others, though its Store is
// closed, until the session expires; the host itself is back at once.
func TestAbandonedSessionIsMissedByNobody(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, consultest.Options{})
	cfg := config(cluster)
	store, other := open(t, cfg), open(t, cfg)
	first := join(t, store, "h1")
	first.Abandon()
	if err := store.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if h := hostOf(t, other); !h.Live {
		t.Error("others take the host for silent")
	}
	second := join(t, open(t, cfg), "h1")
	commit(t, second)
	if h := hostOf(t, other); !h.Live || h.Incarnation != second.Incarnation() {
		t.Errorf("after its return: %+v", h)
	}
}
