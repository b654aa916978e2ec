package consul_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/dvol/dvold/coordination/consul/consultest"
)

// However a session ends, its keys are unlocked, at a later index, and it is
// renewed no more: at once, not only after its TTL, if somebody ends it.
func endMovesTheIndex(t *testing.T, c facts) {
	for how, end := range map[string]func(c facts, node, session string){
		"Expired":   func(facts, string, string) {},
		"Destroyed": func(c facts, _, session string) { c.Must(http.MethodPut, "/v1/session/destroy/"+session, nil, nil) },
		"Deregistered": func(c facts, node, _ string) {
			c.Must(http.MethodPut, "/v1/catalog/deregister", object{"Node": node}, nil)
		},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			c := facts{c.In(t)}
			node, ttl, limit := "ends"+how, "60s", 5*time.Second
			if how == "Expired" {
				ttl, limit = "1s", 20*time.Second
			}
			key := "ends/" + how
			id := c.session(node, ttl, "1ms")
			c.put(key+"?acquire="+id, "1")
			locked := c.entry(key)
			if locked.Session != id {
				t.Fatalf("got %+v", locked)
			}
			end(c, node, id)
			got := c.entry(key)
			for began := time.Now(); got.Session != ""; got = c.entry(key) {
				if time.Since(began) > limit {
					t.Fatalf("locked still after %v", limit)
				}
				time.Sleep(20 * time.Millisecond)
			}
			if got.ModifyIndex <= locked.ModifyIndex || string(got.Value) != "1" || c.exists(id) {
				t.Errorf("%+v became %+v", locked, got)
			}
			if status := c.Do(http.MethodPut, "/v1/session/renew/"+id, nil, nil); status != http.StatusNotFound {
				t.Errorf("renewal: status %d", status)
			}
		})
	}
}

// The health of a killed agent's node is critical soon, and long before a TTL.
func killedAgentIsNoticed(t *testing.T, c facts) {
	agent := c.StartAgent("killed")
	status := func() string {
		var checks []struct{ CheckID, Status string }
		c.Must(http.MethodGet, "/v1/health/node/killed", nil, &checks)
		for _, check := range checks {
			if check.CheckID == "serfHealth" {
				return check.Status
			}
		}
		return ""
	}
	for deadline := time.Now().Add(10 * time.Second); status() != "passing"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("while it runs: %q", status())
		}
	}
	agent.Kill()
	began := time.Now()
	for status() != "critical" {
		if time.Since(began) > 10*time.Second {
			t.Fatalf("%v after it was killed: %q", time.Since(began), status())
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("critical %v after it was killed", time.Since(began))
}

// TestRestoreFacts pins what a restored snapshot does. It ends sessions that
// were made since, and brings back those that had ended; a key gets its old
// index back, but the next write to it has one that there never was.
func TestRestoreFacts(t *testing.T) {
	t.Parallel()
	c := facts{consultest.Start(t, consultest.Options{})}
	old := c.session("restored", "60s", "1ms")
	c.put("held?acquire="+old, "1")
	c.put("free", "1")
	held, free := c.entry("held"), c.entry("free")
	archive := c.Snapshot()

	c.Must(http.MethodPut, "/v1/session/destroy/"+old, nil, nil)
	since := c.session("restored", "60s", "1ms")
	c.put("free?acquire="+since, "1")
	c.put("made?acquire="+since, "1")
	last := c.entry("made").ModifyIndex
	c.Restore(archive)
	if got := c.entry("held"); fmt.Sprint(got) != fmt.Sprint(held) || !c.exists(old) {
		t.Errorf("the key of a session that had ended: %+v, before %+v", got, held)
	}
	if got := c.entry("free"); fmt.Sprint(got) != fmt.Sprint(free) || c.exists(since) {
		t.Errorf("the key of a session made since: %+v, before %+v", got, free)
	}
	if got := c.entry("made"); got.ModifyIndex != 0 {
		t.Errorf("a key made since: %+v", got)
	}
	if status := c.Do(http.MethodPut, "/v1/session/renew/"+old, nil, nil); status != http.StatusOK {
		t.Errorf("renewal of the one that had ended: status %d", status)
	}
	if status := c.Do(http.MethodPut, "/v1/session/renew/"+since, nil, nil); status != http.StatusNotFound {
		t.Errorf("renewal of the one made since: status %d", status)
	}
	c.put("free", "2")
	if got := c.entry("free").ModifyIndex; got <= last {
		t.Errorf("index %d follows %d", got, last)
	}
}
