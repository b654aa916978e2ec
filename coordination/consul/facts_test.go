package consul_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/coordination/consul/consultest"
)

// TestFacts pins what this package relies on and Consul's documentation does
// not promise, or says otherwise. A release that changes one must be noticed.
func TestFacts(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, consultest.Options{})
	for name, fact := range map[string]func(*testing.T, facts){
		"ExpiryAtTwiceTheTTL":  expiryAtTwiceTheTTL,
		"LockDelay":            lockDelay,
		"LockIndexIsReset":     lockIndexIsReset,
		"LocksAreAdvisory":     locksAreAdvisory,
		"SameValueSameIndex":   sameValueSameIndex,
		"UnlockAndLockInOne":   unlockAndLockInOne,
		"LimitOfTransaction":   limitOfTransaction,
		"DeleteNeedsACheck":    deleteNeedsACheck,
		"AllRefusalsAreTold":   allRefusalsAreTold,
		"AgentTakesItsSession": agentTakesItsSession,
		"LockMovesTheIndex":    lockMovesTheIndex,
		"EndMovesTheIndex":     endMovesTheIndex,
		"KilledAgentIsNoticed": killedAgentIsNoticed,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fact(t, facts{c.In(t)})
		})
	}
}

type facts struct{ *consultest.Cluster }

type object map[string]any

type entry struct {
	Key                           string
	Value                         []byte
	ModifyIndex, LockIndex, Flags uint64
	Session                       string
}

// session makes a session without checks on a node of its own.
func (c facts) session(node, ttl, delay string) string {
	c.Must(http.MethodPut, "/v1/catalog/register", object{"Node": node, "Address": "127.0.0.1", "SkipNodeUpdate": true}, nil)
	return c.sessionOn(node, ttl, delay)
}

func (c facts) sessionOn(node, ttl, delay string) string {
	var made struct{ ID string }
	c.Must(http.MethodPut, "/v1/session/create", object{"Node": node, "TTL": ttl, "LockDelay": delay, "NodeChecks": []string{}, "Checks": []string{}}, &made)
	return made.ID
}

func (c facts) exists(session string) bool {
	var infos []object
	c.Must(http.MethodGet, "/v1/session/info/"+session+"?consistent", nil, &infos)
	return len(infos) == 1
}

func (c facts) entry(key string) entry {
	var entries []entry
	if c.Do(http.MethodGet, "/v1/kv/"+key+"?consistent", nil, &entries) == http.StatusNotFound {
		return entry{}
	}
	return entries[0]
}

func (c facts) put(path string, value string) {
	c.Must(http.MethodPut, "/v1/kv/"+path, []byte(value), nil)
}

// txn returns the status and which operations were refused, and why.
func (c facts) txn(ops ...object) (status int, refused map[int]string) {
	var body []object
	for _, o := range ops {
		body = append(body, object{"KV": o})
	}
	var reply struct {
		Errors []struct {
			OpIndex int
			What    string
		}
	}
	status = c.Do(http.MethodPut, "/v1/txn", body, &reply)
	refused = make(map[int]string)
	for _, e := range reply.Errors {
		refused[e.OpIndex] = e.What
	}
	return status, refused
}

func expiryAtTwiceTheTTL(t *testing.T, c facts) {
	id := c.session("expiry", "2s", "0s")
	began := time.Now()
	for c.exists(id) {
		if time.Since(began) > 20*time.Second {
			t.Fatal("it does not end")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if took := time.Since(began); took < 3900*time.Millisecond || took > 6*time.Second {
		t.Errorf("a TTL of 2 s ended after %v, not 4 s", took)
	}
	if status := c.Do(http.MethodPut, "/v1/session/renew/"+id, nil, nil); status != http.StatusNotFound {
		t.Errorf("renewal of a dead session: status %d", status)
	}
}

func lockDelay(t *testing.T, c facts) {
	for delay, want := range map[string]int{"10s": http.StatusConflict, "1ms": http.StatusOK} {
		key := "delay/" + delay
		first := c.session("delay"+delay, "10s", delay)
		c.put(key+"?acquire="+first, "1")
		c.Must(http.MethodPut, "/v1/session/destroy/"+first, nil, nil)
		second := c.session("delay"+delay, "10s", delay)
		status, refused := c.txn(object{"Verb": "check-index", "Key": key, "Index": c.entry(key).ModifyIndex},
			object{"Verb": "lock", "Key": key, "Session": second})
		if status != want || want == http.StatusConflict && !strings.Contains(refused[1], "lock delay") {
			t.Errorf("delay %s: status %d, refused %v", delay, status, refused)
		}
	}
}

func lockIndexIsReset(t *testing.T, c facts) {
	id := c.session("index", "10s", "0s")
	lock := func() uint64 {
		c.put("index?acquire="+id, "1")
		return c.entry("index").LockIndex
	}
	lock()
	c.put("index?release="+id, "1")
	if got := lock(); got != 2 {
		t.Errorf("locked twice: index %d", got)
	}
	c.Must(http.MethodDelete, "/v1/kv/index", nil, nil)
	if got := lock(); got != 1 {
		t.Errorf("after a deletion: index %d", got)
	}
	c.put("index", "2")
	if got := c.entry("index"); got.LockIndex != 0 || got.Session != id {
		t.Errorf("after a plain PUT: %+v", got)
	}
}

func locksAreAdvisory(t *testing.T, c facts) {
	id := c.session("advisory", "10s", "0s")
	c.put("advisory?acquire="+id, "1")
	c.put("advisory", "2")
	if got := c.entry("advisory"); string(got.Value) != "2" || got.Session != id {
		t.Errorf("after a plain PUT: %+v", got)
	}
	c.Must(http.MethodDelete, "/v1/kv/advisory", nil, nil)
	if got := c.entry("advisory"); got.ModifyIndex != 0 || !c.exists(id) {
		t.Errorf("after a plain DELETE: %+v", got)
	}
}

func sameValueSameIndex(t *testing.T, c facts) {
	c.put("same?flags=1", "1")
	first := c.entry("same").ModifyIndex
	c.put("same?flags=1", "1")
	if got := c.entry("same").ModifyIndex; got != first {
		t.Errorf("the same again moved the index from %d to %d", first, got)
	}
	c.put("same?flags=18446744073709551615", "1")
	if got := c.entry("same"); got.ModifyIndex <= first || got.Flags != 1<<64-1 {
		t.Errorf("other flags: index %d, then %+v", first, got)
	}
}

func unlockAndLockInOne(t *testing.T, c facts) {
	first, second := c.session("one", "10s", "10s"), c.session("one", "10s", "10s")
	c.put("one?acquire="+first, "1")
	takeover := func() (int, map[int]string) {
		return c.txn(object{"Verb": "unlock", "Key": "one", "Session": first, "Value": []byte("1")},
			object{"Verb": "lock", "Key": "one", "Session": second, "Value": []byte("2")})
	}
	if status, refused := takeover(); status != http.StatusOK {
		t.Errorf("status %d, refused %v", status, refused)
	}
	if got := c.entry("one"); got.Session != second || string(got.Value) != "2" {
		t.Errorf("got %+v", got)
	}
	if status, _ := takeover(); status != http.StatusConflict {
		t.Errorf("again: status %d", status)
	}
}

func limitOfTransaction(t *testing.T, c facts) {
	var ops []object
	for i := range 65 {
		ops = append(ops, object{"Verb": "set", "Key": fmt.Sprint("limit/", i)})
	}
	if status, refused := c.txn(ops[:64]...); status != http.StatusOK {
		t.Errorf("64 operations: status %d, refused %v", status, refused)
	}
	if status, _ := c.txn(ops...); status != http.StatusRequestEntityTooLarge {
		t.Errorf("65 operations: status %d: MaxOps could be greater", status)
	}
}

// delete-cas finds no fault with a key that is gone. After check-index in the
// same transaction, it deletes what was read and nothing else.
func deleteNeedsACheck(t *testing.T, c facts) {
	pair := func(index uint64) (int, map[int]string) {
		return c.txn(object{"Verb": "check-index", "Key": "checked", "Index": index}, object{"Verb": "delete-cas", "Key": "checked", "Index": index})
	}
	c.put("checked", "1")
	first := c.entry("checked").ModifyIndex
	c.put("checked", "2")
	second := c.entry("checked").ModifyIndex
	for _, index := range []uint64{0, first, second + 1} {
		if status, refused := pair(index); status != http.StatusConflict || refused[0] == "" {
			t.Errorf("index %d of %d: status %d, refused %v", index, second, status, refused)
		}
	}
	if status, refused := pair(second); status != http.StatusOK || c.entry("checked").ModifyIndex != 0 {
		t.Errorf("index %d: status %d, refused %v", second, status, refused)
	}
	for _, index := range []uint64{0, second} {
		if status, refused := c.txn(object{"Verb": "delete-cas", "Key": "checked", "Index": index}); status != http.StatusOK {
			t.Errorf("delete-cas of nothing at index %d: status %d, refused %v: no check is needed", index, status, refused)
		}
		if status, refused := pair(index); status != http.StatusConflict || refused[0] == "" {
			t.Errorf("nothing at index %d: status %d, refused %v", index, status, refused)
		}
	}
}

// A refused transaction names each operation that was refused, so that a lost
// session, or a moved slot, is told from a conflict.
func allRefusalsAreTold(t *testing.T, c facts) {
	c.put("refused", "1")
	status, refused := c.txn(
		object{"Verb": "check-session", "Key": "refused", "Session": "00000000-0000-4000-8000-000000000000"},
		object{"Verb": "cas", "Key": "refused", "Index": 0},
		object{"Verb": "set", "Key": "refused"},
		object{"Verb": "check-not-exists", "Key": "refused"})
	if status != http.StatusConflict || len(refused) != 3 || refused[2] != "" {
		t.Errorf("status %d, refused %v", status, refused)
	}
	if got := c.entry("refused"); string(got.Value) != "1" {
		t.Errorf("a refused transaction did something: %+v", got)
	}
}

// An agent that is stopped takes the sessions of its own node with it, even
// those without checks, and leaves those of other nodes alone.
func agentTakesItsSession(t *testing.T, c facts) {
	agent := c.StartAgent("agent")
	own, other := c.sessionOn("agent", "60s", "0s"), c.session("besides", "60s", "0s")
	agent.Terminate()
	for deadline := time.Now().Add(10 * time.Second); c.exists(own); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the session of the agent's node outlives it")
		}
	}
	if !c.exists(other) {
		t.Error("the session of another node ended")
	}
}

// Of a key whose index is the same twice, and that nobody has locked, nobody
// had locked it in between.
func lockMovesTheIndex(t *testing.T, c facts) {
	first, second := c.session("moves", "60s", "0s"), c.session("moves", "60s", "0s")
	c.put("moves", "1")
	last := c.entry("moves")
	step := func(what string, query string, session string) {
		t.Helper()
		c.put("moves"+query, "1")
		got := c.entry("moves")
		if got.Session != session || got.ModifyIndex <= last.ModifyIndex {
			t.Errorf("%s: %+v became %+v", what, last, got)
		}
		last = got
	}
	for range 2 {
		step("locked", "?acquire="+first, first)
		step("unlocked", "?release="+first, "")
	}
	step("locked by another", "?acquire="+second, second)
	c.put("moves?acquire="+first, "1")
	c.put("moves?acquire="+second, "1")
	if got := c.entry("moves"); got.ModifyIndex != last.ModifyIndex || got.Session != second {
		t.Errorf("locked as it was: %+v became %+v", last, got)
	}
}
