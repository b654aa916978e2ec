//go:build ceph && cgo

package ceph_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/ceph/go-ceph/rados"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph"
	"github.com/dvol/dvold/backends/ceph/cephtest"
)

func TestMain(m *testing.M) { cephtest.Main(m) }

func open(t *testing.T, user string, change func(*ceph.Config)) *ceph.Cluster {
	t.Helper()
	config := cephtest.Config(t, user)
	if change != nil {
		change(&config)
	}
	c, err := ceph.Open(config, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// address is that of the connection as others see it.
func address(t *testing.T, c *ceph.Cluster) ceph.Address {
	t.Helper()
	text, err := ceph.Value(t.Context(), c, func(conn *rados.Conn) (string, error) { return conn.GetAddrs() })
	if err != nil {
		t.Fatal(err)
	}
	a, err := ceph.ParseAddress(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// use does something with a pool.
func use(ctx context.Context, c *ceph.Cluster) error {
	return c.Call(ctx, func(conn *rados.Conn) error {
		pool, err := conn.OpenIOContext("rbd")
		if err != nil {
			return err
		}
		defer pool.Destroy()
		return pool.SetOmap("test", map[string][]byte{"key": []byte("value")})
	})
}

// A connection that the cluster refuses is replaced by another.
func TestLostConnection(t *testing.T) {
	host, fencer := open(t, "host", nil), open(t, "fencer", nil)
	if err := use(t.Context(), host); err != nil {
		t.Fatal(err)
	}
	first := address(t, host)
	if again := address(t, host); again != first {
		t.Errorf("connected twice, as %s and %s", first, again)
	}
	for range 2 {
		if err := fencer.Blocklist(t.Context(), first); err != nil {
			t.Fatal(err)
		}
	}
	if listed, err := host.Blocklisted(t.Context(), first); err != nil || !listed {
		t.Errorf("got %t, %v", listed, err)
	}
	var err error
	for range 5 {
		if err = use(t.Context(), host); err == nil {
			break
		}
		if !errors.Is(err, backends.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	}
	if now := address(t, host); err != nil || now == first {
		t.Errorf("still connected as %s: %v", now, err)
	}
	for range 2 {
		if err := fencer.Unblocklist(t.Context(), first); err != nil {
			t.Error(err)
		}
	}
	if listed, err := host.Blocklisted(t.Context(), first); err != nil || listed {
		t.Errorf("taken off: got %t, %v", listed, err)
	}
}

// The user of a host puts clients on the blocklist, and takes none off.
func TestCapsOfHost(t *testing.T) {
	host, fencer := open(t, "host", nil), open(t, "fencer", nil)
	const client ceph.Address = "10.97.0.99:0/123456"
	if err := host.Blocklist(t.Context(), client); err != nil {
		t.Error(err)
	}
	err := host.Unblocklist(t.Context(), client)
	if !errors.Is(err, backends.ErrUnavailable) || !strings.Contains(err.Error(), "caps of client.host") {
		t.Errorf("take it off: got %v", err)
	}
	if err := fencer.Unblocklist(t.Context(), client); err != nil {
		t.Error(err)
	}
}

// A client that has ended is let in again after a day, unless it was fenced.
func TestBlocklistEnded(t *testing.T) {
	host, fencer := open(t, "host", nil), open(t, "fencer", nil)
	const dead, fenced ceph.Address = "10.97.0.98:0/123456", "10.97.0.98:0/123457"
	expires := func(a ceph.Address) time.Time {
		t.Helper()
		for line := range strings.Lines(cephtest.Admin(t, "ceph", "osd", "blocklist", "ls")) {
			if words := strings.Fields(line); len(words) == 2 && words[0] == string(a) {
				at, err := time.Parse("2006-01-02T15:04:05.999999-0700", words[1])
				if err != nil {
					t.Fatal(err)
				}
				return at
			}
		}
		t.Fatalf("%s is not on the blocklist", a)
		return time.Time{}
	}
	if err := host.Blocklist(t.Context(), fenced); err != nil {
		t.Fatal(err)
	}
	before := expires(fenced)
	for _, a := range []ceph.Address{dead, fenced, dead} {
		if err := host.BlocklistEnded(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	if left := time.Until(expires(dead)); left < 23*time.Hour || left > 25*time.Hour {
		t.Errorf("a client that has ended is let in after %v", left)
	}
	if now := expires(fenced); !now.Equal(before) || time.Until(now) < 365*24*time.Hour {
		t.Errorf("one that was fenced is let in at %v, and was to be at %v", now, before)
	}
	for _, a := range []ceph.Address{dead, fenced} {
		if err := fencer.Unblocklist(t.Context(), a); err != nil {
			t.Error(err)
		}
	}
	if err := host.BlocklistEnded(t.Context(), "10.97.0.98"); err == nil {
		t.Error("a whole host is refused")
	}
}

// What could be more than one client is not fenced.
func TestAddresses(t *testing.T) {
	for text, want := range map[string]bool{
		"10.97.0.1:0/123": true, "[fd00::1]:0/4294967295": true, "10.97.0.1:6800/1": true,
		"": false, "10.97.0.1": false, "10.97.0.1:0": false, "10.97.0.1:0/0": false, "10.97.0.1/24": false, "10.97.0.1:0/24/1": false,
		"0.0.0.0:0/1": false, "10.97.0.1:0/-1": false, "10.97.0.1:0/4294967296": false, "[fe80::1%eth0]:0/1": false, "host:0/1": false,
	} {
		if _, err := ceph.ParseAddress(text); err == nil != want {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

// A call that hangs is left behind, and with too many of them no more are made, until
// they end.
func TestCallsThatHang(t *testing.T) {
	c := open(t, "host", func(c *ceph.Config) { c.CallTimeout = time.Second })
	release := make(chan struct{})
	const many = 32
	ended := make(chan error, many)
	if err := use(t.Context(), c); err != nil { // it is connected
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	begin := time.Now()
	for range many {
		go func() {
			ended <- c.Call(ctx, func(*rados.Conn) error { <-release; return nil })
		}()
	}
	for range many {
		if err := <-ended; !errors.Is(err, backends.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	err := use(t.Context(), c)
	if !errors.Is(err, backends.ErrUnavailable) || !strings.Contains(err.Error(), "32 calls hang") {
		t.Errorf("one more: got %v", err)
	}
	close(release)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if err := use(t.Context(), c); err == nil {
			return
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// A cluster that is cut off is said to be, in time, and used again when it is back.
func TestCutOff(t *testing.T) {
	c := open(t, "host", nil)
	if err := use(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	heal := cephtest.CutOff(t)
	begin := time.Now()
	if err := use(t.Context(), c); !errors.Is(err, backends.ErrUnavailable) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
	if err := use(t.Context(), open(t, "host", nil)); !errors.Is(err, backends.ErrUnavailable) || !strings.Contains(err.Error(), "no monitor answers") {
		t.Errorf("a new connection: got %v", err)
	}
	if took := time.Since(begin); took > 15*time.Second {
		t.Errorf("it took %v", took)
	}
	heal()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if err := use(t.Context(), c); err == nil {
			return
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}
