package consul_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/coordination/consul/consultest"
)

// The leader dies: sessions live on, commits go on soon, and none is lost or
// done twice. So does a second server: calls fail in time, and later succeed.
func TestServersDie(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, consultest.Options{Servers: 3})
	store := open(t, config(cluster))
	session := join(t, store, "h1")

	ctx, stop := context.WithCancel(t.Context())
	var counting sync.WaitGroup
	var gap time.Duration // the longest that it counted nothing
	told, unknown := 0, 0
	counting.Go(func() {
		var last uint64
		for ctx.Err() == nil {
			began := time.Now()
			err := add(t, store, session)
			switch {
			case err == nil:
				told++
			case errors.Is(err, coordination.ErrUnknown):
				unknown++
			case !errors.Is(err, coordination.ErrUnavailable):
				t.Errorf("add: %v", err)
				return
			}
			if r, err := store.Get(t.Context(), "counter"); err == nil {
				if r.Version < last {
					t.Errorf("version %d follows %d", r.Version, last)
				}
				last = r.Version
			}
			gap = max(gap, time.Since(began))
		}
	})
	time.Sleep(300 * time.Millisecond)
	first := cluster.Leader()
	cluster.Kill(first)
	second := cluster.Leader()
	time.Sleep(500 * time.Millisecond)
	stop()
	counting.Wait()
	r, err := store.Get(t.Context(), "counter")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := strconv.Atoi(string(r.Value)); err != nil || n < told || n > told+unknown {
		t.Errorf("counted %d (%v), %d were told so and %d unknown", n, err, told, unknown)
	}
	t.Logf("leader killed: the longest silence took %v, %d told, %d unknown", gap, told, unknown)

	cluster.Kill(second)
	for what, call := range map[string]func() error{
		"Get":    func() error { _, err := store.Get(t.Context(), "counter"); return err },
		"List":   func() error { _, err := store.List(t.Context(), ""); return err },
		"Hosts":  func() error { _, err := store.Hosts(t.Context()); return err },
		"Commit": func() error { _, err := session.Commit(t.Context(), op); return err },
		"Join": func() error {
			_, err := store.Join(t.Context(), coordination.Host{Name: "h2", ID: "2"})
			return err
		},
	} {
		counting.Go(func() {
			began := time.Now()
			err := call()
			if !errors.Is(err, coordination.ErrUnavailable) && !errors.Is(err, coordination.ErrSessionLost) &&
				(what != "Commit" || !errors.Is(err, coordination.ErrUnknown)) {
				t.Errorf("%s without a quorum: got error %v", what, err)
			}
			if took := time.Since(began); took > 13*time.Second {
				t.Errorf("%s without a quorum took %v", what, took)
			}
		})
	}
	counting.Wait()
	wantEnd(t, session, 10*time.Second)
	cluster.Restart(first)
	cluster.Restart(second)
	cluster.WaitReady()
	again := join(t, store, "h1")
	if err := add(t, store, again); err != nil {
		t.Error(err)
	}
}

// One agent that is dead, or that takes connections and says nothing, is left
// for another, and not tried again by each call.
func TestBadAgents(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, consultest.Options{})
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel takes its connections
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	for name, address := range map[string]string{"Dead": dead.Addr().String(), "Silent": silent.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(cluster)
			cfg.Addresses = []string{address, cluster.Address(0)}
			store := open(t, cfg)
			session := join(t, store, "h1")
			began := time.Now()
			for i := range 20 {
				commit(t, session, coordination.Put(coordination.Record{Key: fmt.Sprint("a", i)}))
			}
			if took := time.Since(began); took > soon {
				t.Errorf("20 commits took %v", took)
			}
		})
	}
	t.Run("Alone", func(t *testing.T) {
		t.Parallel()
		cfg := config(cluster)
		cfg.Addresses = []string{dead.Addr().String()}
		store := open(t, cfg)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if _, err := store.Get(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Get: got error %v", err)
		}
		yields := 0
		for _, err := range store.Watch(t.Context(), "") {
			if !errors.Is(err, coordination.ErrUnavailable) {
				t.Errorf("Watch yielded error %v", err)
			}
			if yields++; yields == 2 {
				break
			}
		}
	})
}

// An agent falls silent in the middle of a session: another renews it.
func TestAgentFallsSilent(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, consultest.Options{})
	proxy := consultest.StartProxy(t, cluster.Address(0))
	cfg := config(cluster)
	cfg.TTL = 4 * time.Second
	cfg.Addresses = []string{proxy.Address(), cluster.Address(0)}
	session := join(t, open(t, cfg), "h1")
	commit(t, session, op)
	silence := make(chan struct{})
	defer close(silence)
	proxy.Meddle(func(string) { <-silence }, nil)
	select {
	case <-session.Context().Done():
		t.Errorf("ended: %v", context.Cause(session.Context()))
	case <-time.After(cfg.TTL + time.Second):
	}
	commit(t, session)
}

// Stores of several processes see each other's records, keys and hosts.
func TestSeveralProcesses(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, consultest.Options{Servers: 3})
	cfg := config(cluster)
	var stores []coordination.Coordinator
	for i := range 3 {
		own := cfg
		own.Addresses = []string{cluster.Address(i)}
		stores = append(stores, open(t, own))
	}
	for i, s := range stores {
		session := join(t, s, fmt.Sprint("h", i))
		for j := range 20 {
			key := fmt.Sprintf("a/%d-%02d", i, j)
			commit(t, session, coordination.Put(coordination.Record{Key: key, Value: []byte(key)}))
			for k, other := range stores {
				if r, err := other.Get(t.Context(), key); err != nil || string(r.Value) != key {
					t.Fatalf("store %d: got %+v, %v", k, r, err)
				}
			}
			if keys, err := s.Keys(t.Context(), "a/"); err != nil || len(keys) != 20*i+j+1 {
				t.Fatalf("its own keys: got %d, %v, want %d", len(keys), err, 20*i+j+1)
			}
		}
	}
	for i, s := range stores {
		for records, err := range s.Watch(t.Context(), "a/") {
			if err != nil || len(records) != 60 {
				t.Errorf("store %d: watched %d records, %v", i, len(records), err)
			}
			break
		}
		if hosts, err := s.Hosts(t.Context()); err != nil || len(hosts) != 3 || !hosts[0].Live || !hosts[1].Live || !hosts[2].Live {
			t.Errorf("store %d: got hosts %+v, %v", i, hosts, err)
		}
	}
}
