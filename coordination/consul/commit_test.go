package consul_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/coordination/consul"
	"github.com/dvol/dvold/coordination/consul/consultest"
)

const txnPath = "/v1/txn"

// behindProxy returns a Store whose agent is a proxy, and one beside it.
func behindProxy(t *testing.T, c *consultest.Cluster) (*consultest.Proxy, coordination.Session, coordination.Coordinator) {
	t.Helper()
	proxy := consultest.StartProxy(t, c.Address(0))
	cfg := config(c)
	cfg.TTL = time.Minute // so that no session ends meanwhile
	direct := open(t, cfg)
	cfg.Addresses = []string{proxy.Address()}
	session := join(t, open(t, cfg), "h1")
	for i := range consul.Slots {
		commit(t, session, coordination.Put(coordination.Record{Key: fmt.Sprint("first", i)})) // and each slot is known
	}
	return proxy, session, direct
}

func TestLostAnswers(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, consultest.Options{})
	put := func(key, value string) coordination.Op {
		return coordination.Put(coordination.Record{Key: key, Value: []byte(value)})
	}

	// The answer to what was done is lost: it is told nevertheless, and was
	// done once.
	t.Run("Done", func(t *testing.T) {
		t.Parallel()
		proxy, session, direct := behindProxy(t, cluster)
		for _, lost := range []int64{1, 2, 3} {
			var n atomic.Int64
			proxy.Meddle(nil, func(path string) bool { return path != txnPath || n.Add(1) > lost })
			key := fmt.Sprint("a", lost)
			r := commit(t, session, put(key, "1"))[0]
			if got, err := direct.Get(t.Context(), key); err != nil || got.Version != r.Version || string(got.Value) != "1" {
				t.Errorf("%d answers lost: got %+v, %v, want %+v", lost, got, err, r)
			}
			if n.Load() <= lost {
				t.Errorf("%d attempts: no answer was lost", n.Load())
			}
			n.Store(0)
			commit(t, session, coordination.Delete(r), coordination.Check(coordination.Record{Key: "none"}))
			if _, err := direct.Get(t.Context(), key); !errors.Is(err, coordination.ErrNotFound) {
				t.Errorf("after Delete: got error %v", err)
			}
		}
	})

	// A conflict is one although its answer, too, was lost at first.
	t.Run("Conflict", func(t *testing.T) {
		t.Parallel()
		proxy, session, direct := behindProxy(t, cluster)
		other := join(t, direct, "h2")
		theirs := commit(t, other, put("a", "theirs"))[0]
		var n atomic.Int64
		proxy.Meddle(nil, func(path string) bool { return path != txnPath || n.Add(1) > 1 })
		_, err := session.Commit(t.Context(), put("a", "ours"), put("b", "ours"))
		if !errors.Is(err, coordination.ErrConflict) || n.Load() < 2 {
			t.Errorf("got error %v after %d transactions, want a conflict", err, n.Load())
		}
		if got, err := direct.Get(t.Context(), "a"); err != nil || got.Version != theirs.Version {
			t.Errorf("got %+v, %v, want %+v", got, err, theirs)
		}
		commit(t, session, put("b", "ours"))
	})

	// Nobody is there to take the transaction: it is known not to be done.
	t.Run("Unsent", func(t *testing.T) {
		t.Parallel()
		proxy, session, direct := behindProxy(t, cluster)
		proxy.Leave()
		short, cancel := context.WithTimeout(t.Context(), time.Second) // enough to notice of all connections that they are closed
		defer cancel()
		_, err := session.Commit(short)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("the proxy is there: %v", err)
		}
		_, err = session.Commit(t.Context(), put("a", "1"))
		if !errors.Is(err, coordination.ErrUnavailable) || errors.Is(err, coordination.ErrUnknown) {
			t.Errorf("got error %v, want unavailable", err)
		}
		if _, err := direct.Get(t.Context(), "a"); !errors.Is(err, coordination.ErrNotFound) {
			t.Errorf("Get: got error %v", err)
		}
	})

	// No answer at all comes: unknown, and within the bound.
	t.Run("Unknown", func(t *testing.T) {
		t.Parallel()
		proxy, session, direct := behindProxy(t, cluster)
		proxy.Meddle(nil, func(path string) bool { return path != txnPath })
		began := time.Now()
		_, err := session.Commit(t.Context(), put("a", "1"))
		if took := time.Since(began); !errors.Is(err, coordination.ErrUnknown) || took > 12*time.Second {
			t.Errorf("got error %v after %v, want unknown", err, took)
		}
		if errors.Is(err, coordination.ErrUnavailable) || errors.Is(err, coordination.ErrConflict) || errors.Is(err, coordination.ErrSessionLost) {
			t.Errorf("got error %v, which says that nothing was changed", err)
		}
		if _, err := direct.Get(t.Context(), "a"); err != nil {
			t.Error(err)
		}
		proxy.Meddle(nil, nil)
		commit(t, session, put("b", "1"))
	})
}

// A first attempt that arrives after the second was done, and what it did was
// undone, must not do it again.
func TestLateAttempt(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, consultest.Options{})
	proxy, session, direct := behindProxy(t, cluster)
	release := make(chan struct{})
	var n atomic.Int64
	proxy.Meddle(func(path string) {
		if path == txnPath && n.Add(1) == 1 {
			<-release
		}
	}, nil)
	r := commit(t, session, coordination.Put(coordination.Record{Key: "a", Value: []byte("1")}))[0]
	if n.Load() < 2 {
		t.Fatalf("%d attempts: none was late", n.Load())
	}
	commit(t, session, coordination.Delete(r))
	close(release)
	proxy.Wait() // the late one was answered
	if got, err := direct.Get(t.Context(), "a"); !errors.Is(err, coordination.ErrNotFound) {
		t.Errorf("a late attempt made the record again: %+v, %v", got, err)
	}
	commit(t, session, coordination.Put(coordination.Record{Key: "a", Value: []byte("2")}))
}

// Many count together through proxies that lose a part of what passes. What
// was told to be counted is, and what was not told may be.
func TestCounterWithLostAnswers(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, consultest.Options{})
	cfg := config(cluster)
	var told, unknown atomic.Int64
	var all sync.WaitGroup
	for i := range 3 {
		proxy := consultest.StartProxy(t, cluster.Address(0))
		own := cfg
		own.Addresses = []string{proxy.Address()}
		store := open(t, own)
		session := join(t, store, fmt.Sprint("h", i))
		var mu sync.Mutex
		random := rand.New(rand.NewPCG(uint64(i), 1))
		lose := func(share int) bool {
			mu.Lock()
			defer mu.Unlock()
			return random.IntN(share) == 0
		}
		proxy.Meddle(func(path string) {
			if path == txnPath && lose(50) {
				time.Sleep(3500 * time.Millisecond) // longer than an attempt may take
			}
		}, func(path string) bool { return strings.HasPrefix(path, "/v1/session/") || !lose(5) })
		for range 3 {
			all.Go(func() {
				for range 15 {
					switch err := add(t, store, session); {
					case err == nil:
						told.Add(1)
					case errors.Is(err, coordination.ErrUnknown):
						unknown.Add(1)
					case !errors.Is(err, coordination.ErrUnavailable):
						t.Errorf("add: %v", err)
						return
					}
				}
			})
		}
	}
	all.Wait()
	r, err := open(t, cfg).Get(t.Context(), "counter")
	if err != nil {
		t.Fatal(err)
	}
	final, err := strconv.ParseInt(string(r.Value), 10, 64)
	if err != nil || final < told.Load() || final > told.Load()+unknown.Load() {
		t.Errorf("counted %d (%v), %d were told so and %d unknown", final, err, told.Load(), unknown.Load())
	}
	if told.Load() < 100 {
		t.Errorf("%d of 135 were told that they counted", told.Load())
	}
	t.Logf("counted %d: %d told, %d unknown", final, told.Load(), unknown.Load())
}

// add counts one, however often others come first.
func add(t *testing.T, store coordination.Coordinator, session coordination.Session) error {
	for {
		r, err := store.Get(t.Context(), "counter")
		if err != nil && !errors.Is(err, coordination.ErrNotFound) {
			return err
		}
		n, _ := strconv.Atoi(string(r.Value)) // none is 0
		r.Key, r.Value = "counter", strconv.AppendInt(nil, int64(n+1), 10)
		if _, err = session.Commit(t.Context(), coordination.Put(r)); !errors.Is(err, coordination.ErrConflict) {
			return err
		}
	}
}
