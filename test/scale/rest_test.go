// Package scale_test counts what dvold asks of Consul, and measures it with a
// thousand hosts and a hundred thousand volumes: see docs/scaling.md.
package scale_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/dvol/dvold/coordination/consul/consultest"
)

// TestRest holds the requests of a host that nobody calls, with a volume of each
// kind mounted, to what its session and its watches need: however many volumes
// there are, and whatever other hosts write.
func TestRest(t *testing.T) {
	const ttl, window = 2 * time.Second, 5 * time.Second
	f := newFleet(t, 2, ttl)
	busy, idle := f.hosts[0], f.hosts[1]
	for _, access := range []string{"shared", "exclusive"} {
		if err := idle.Create(t.Context(), access, map[string]string{"access": access}); err != nil {
			t.Fatal(err)
		}
		if _, err := idle.Mount(t.Context(), access, "c1", f.engine); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(ttl) // what came with the start is over
	rest := func(what string, meanwhile func()) {
		t.Helper()
		before := idle.line.counts()
		began := time.Now()
		for meanwhile(); time.Since(began) < window; meanwhile() {
		}
		got := idle.line.counts().since(before)
		t.Logf("%s: renewals %d, waits %d, reads %d, writes %d", what, got.requests[consultest.Renewal], got.requests[consultest.Waiting], got.requests[consultest.Reading], got.requests[consultest.Writing])
		took := time.Since(began)
		// Its key is watched for half a TTL at a time; the three other watches last a minute,
		// and the cluster's clock may tick.
		renewals := int64(took/(ttl/5)) + 2
		for k, most := range map[consultest.Kind]int64{consultest.Renewal: renewals, consultest.Reading: renewals + 3, consultest.Waiting: int64(took/(ttl/2)) + 5, consultest.Writing: 1} {
			if got.requests[k] > most {
				t.Errorf("%s, in %v: %d requests of kind %d, want at most %d", what, took, got.requests[k], k, most)
			}
		}
		if got.requests[consultest.Renewal] == 0 {
			t.Errorf("%s: no renewals; this tests nothing", what)
		}
	}
	sleep := func() { time.Sleep(50 * time.Millisecond) }
	rest("with two volumes", sleep)
	f.load(0, 5000)
	rest("with 5000", sleep)
	changes := 0
	rest("while another host is busy", func() {
		name := fmt.Sprint("passing-", changes)
		if err := busy.Create(t.Context(), name, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := busy.Mount(t.Context(), name, "c1", f.engine); err != nil {
			t.Fatal(err)
		}
		if err := busy.Unmount(t.Context(), name, "c1"); err != nil {
			t.Fatal(err)
		}
		changes++
	})
	if changes < 10 {
		t.Errorf("the other host made %d changes; this tests little", changes)
	}
}
