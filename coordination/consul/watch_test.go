package consul_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/coordination/consul/consultest"
)

// A Watch of a prefix with nothing below it is not woken by what others write, and
// yet sees at once what comes; and what keeps it asleep is no record.
func TestEmptyWatchIsCheap(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, consultest.Options{})
	proxy := consultest.StartProxy(t, cluster.Address(0))
	cfg := config(cluster)
	writer := join(t, open(t, cfg), "h2")
	cfg.Addresses = []string{proxy.Address()}
	store := open(t, cfg)
	var asked atomic.Int64
	proxy.Meddle(func(string) { asked.Add(1) }, nil)

	ctx, cancel := context.WithCancel(t.Context())
	yielded := make(chan []coordination.Record, 1)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	watching.Go(func() {
		for records, err := range store.Watch(ctx, "requests/h1/") {
			if err != nil {
				t.Errorf("Watch: %v", err)
			}
			select {
			case yielded <- records:
			case <-ctx.Done():
			}
		}
	})
	if records := <-yielded; len(records) != 0 {
		t.Fatalf("there is %+v", records)
	}
	began, before := time.Now(), asked.Load()
	written := 0
	for tick := time.NewTicker(10 * time.Millisecond); time.Since(began) < 2*time.Second; written++ {
		<-tick.C
		commit(t, writer, coordination.Put(coordination.Record{Key: fmt.Sprintf("requests/h2/%d", written)}))
	}
	if queries := asked.Load() - before; queries > 2 { // its own mark wakes it, and it waits again
		t.Errorf("%d queries in %v, while %d records were written", queries, time.Since(began), written)
	}
	for _, prefix := range []string{"", "requests/", "requests/h1/"} {
		records, err := store.List(t.Context(), prefix)
		keys, errOfKeys := store.Keys(t.Context(), prefix)
		want := written
		if prefix == "requests/h1/" {
			want = 0
		}
		if err != nil || errOfKeys != nil || len(records) != want || len(keys) != want {
			t.Errorf("%q: %d records (%v) and %d keys (%v), want %d", prefix, len(records), err, len(keys), errOfKeys, want)
		}
	}
	for range 5 {
		began = time.Now()
		made := commit(t, writer, coordination.Put(coordination.Record{Key: "requests/h1/a"}))[0]
		if records := <-yielded; len(records) != 1 || records[0].Version != made.Version {
			t.Fatalf("got %+v, want %+v", records, made)
		}
		t.Logf("seen after %v", time.Since(began))
		commit(t, writer, coordination.Delete(made))
		if records := <-yielded; len(records) != 0 {
			t.Fatalf("got %+v, want none", records)
		}
	}
}

// A Watch that finds nothing notices that it may not look any more.
func TestEmptyWatchIsForbidden(t *testing.T) {
	t.Parallel()
	cluster, cfg, set := withACL(t)
	set(cluster.NewToken("h1", minimal(t)))
	store := open(t, cfg)
	other := cfg
	other.TokenFile = cfg.TokenFile + "2"
	writeToken(t, other.TokenFile, cluster.NewToken("h2", strings.ReplaceAll(minimal(t), "dvol-h1", "dvol-h2")))
	writer := join(t, open(t, other), "h2")

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	yielded := 0
	for records, err := range store.Watch(ctx, "requests/h1/") {
		if yielded++; yielded == 1 {
			if err != nil || len(records) != 0 {
				t.Fatalf("first: %v, %v", records, err)
			}
			set(cluster.NewToken("other", `key_prefix "other/" { policy = "write" }`))
			commit(t, writer, coordination.Put(coordination.Record{Key: "requests/h1/a"}))
			continue
		}
		wantDenied(t, "Watch", cfg, err)
		return
	}
	t.Errorf("yielded %d times, and no error", yielded)
}
