package consul_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/coordination/consul"
	"github.com/dvol/dvold/coordination/consul/consultest"
	"github.com/dvol/dvold/coordination/coordtest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	cluster := consultest.Start(t, consultest.Options{})
	coordtest.Run(t, func(t *testing.T) func() coordination.Coordinator {
		cfg := config(cluster)
		return func() coordination.Coordinator { return open(t, cfg) }
	})
}

var prefixes atomic.Int64

// config is for a prefix of its own in the cluster.
func config(c *consultest.Cluster) consul.Config {
	cfg := consul.DefaultConfig()
	cfg.Addresses = c.Addresses()
	cfg.Prefix = fmt.Sprint("dvol/", prefixes.Add(1))
	cfg.TTL = 10 * time.Second
	return cfg
}

// open opens a Store that is closed when the test ends.
func open(t testing.TB, cfg consul.Config) *consul.Store {
	t.Helper()
	s, err := consul.Open(cfg, slog.New(slog.NewTextHandler(logWriter{t}, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Logf("close the store: %v", err) // its Consul may be gone
		}
	})
	return s
}

// logWriter shows what a Store logs if DVOLD_TEST_LOG is set.
type logWriter struct{ testing.TB }

func (w logWriter) Write(line []byte) (int, error) {
	if os.Getenv("DVOLD_TEST_LOG") != "" {
		return os.Stderr.Write(line)
	}
	return len(line), nil
}

// join joins as name. Closing the Coordinator closes the session.
func join(t testing.TB, c coordination.Coordinator, name string) coordination.Session {
	t.Helper()
	session, err := c.Join(t.Context(), coordination.Host{Name: name, ID: "id-of-" + name, Boot: "boot"})
	if err != nil {
		t.Fatal(err)
	}
	return session
}

// commit commits ops, which must succeed.
func commit(t testing.TB, session coordination.Session, ops ...coordination.Op) []coordination.Record {
	t.Helper()
	put, err := session.Commit(t.Context(), ops...)
	if err != nil {
		t.Fatalf("Commit: %v", err)
	}
	return put
}

// wantEnd waits for the session to end as lost, which must happen within
// limit, and returns when it did.
func wantEnd(t testing.TB, session coordination.Session, limit time.Duration) time.Time {
	t.Helper()
	select {
	case <-session.Context().Done():
	case <-time.After(limit):
		t.Fatalf("the session did not end within %v", limit)
	}
	if cause := context.Cause(session.Context()); !errors.Is(cause, coordination.ErrSessionLost) {
		t.Errorf("the session ended with %v", cause)
	}
	return time.Now()
}
