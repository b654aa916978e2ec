package coordtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/dvol/dvold/coordination"
)

func sessionTests() []test {
	return []test{
		{"Join", testJoin},
		{"JoinNeedsNameAndID", testJoinNeedsNameAndID},
		{"SessionOutlivesJoinContext", testSessionOutlivesJoinContext},
		{"Close", testClose},
		{"CloseWithEndedContext", testCloseWithEndedContext},
		{"Abandon", testAbandon},
		{"OtherMachineRefused", testOtherMachineRefused},
		{"SameMachineTakesOver", testSameMachineTakesOver},
		{"IncarnationsGrow", testIncarnationsGrow},
		{"Hosts", testHosts},
		{"HostsAfterReopening", testHostsAfterReopening},
	}
}

// wantHosts compares Hosts with a list of "name" and "name live".
func (s *state) wantHosts(want ...string) []coordination.Host {
	s.t.Helper()
	hosts, err := s.Hosts(s.t.Context())
	if err != nil {
		s.t.Fatalf("Hosts: %v", err)
	}
	var got []string
	for _, h := range hosts {
		if h.Live && h.Suspect {
			s.t.Errorf("%s is live and suspect", h.Name)
		}
		if one, err := s.Host(s.t.Context(), h.Name); err != nil || one != h {
			s.t.Errorf("Host: got %+v, %v, want %+v", one, err, h)
		}
		if h.Live {
			got = append(got, h.Name+" live")
		} else {
			got = append(got, h.Name)
		}
	}
	for _, name := range []string{"", "nobody", "no/body", "no body"} {
		if one, err := s.Host(s.t.Context(), name); !errors.Is(err, coordination.ErrNotFound) {
			s.t.Errorf("Host %q: got %+v, %v", name, one, err)
		}
	}
	if !slices.Equal(got, want) {
		s.t.Fatalf("Hosts: got %q, want %q", got, want)
	}
	return hosts
}

func testJoin(t *testing.T, s *state) {
	s.wantHosts()
	session := s.join(host("h1"))
	if session.Incarnation() == 0 {
		t.Error("the first incarnation is 0")
	}
	if err := session.Context().Err(); err != nil {
		t.Errorf("context of a live session: %v", err)
	}
	h := s.wantHosts("h1 live")[0]
	if h.ID != "id-of-h1" || h.Boot != "boot-of-h1" || h.Incarnation != session.Incarnation() || h.Version == 0 {
		t.Errorf("got %+v", h)
	}
	if age := time.Since(h.Since); age < -time.Hour || age > time.Hour {
		t.Errorf("joined now, but Since is %v", h.Since)
	}
}

func testJoinNeedsNameAndID(t *testing.T, s *state) {
	for _, h := range []coordination.Host{{}, {Name: "h1"}, {ID: "id"}} {
		if _, err := s.Join(t.Context(), h); err == nil {
			t.Errorf("Join(%+v) succeeded", h)
		}
	}
	s.wantHosts()
}

func testSessionOutlivesJoinContext(t *testing.T, s *state) {
	ctx, cancel := context.WithCancel(t.Context())
	session, err := s.Join(ctx, host("h1"))
	cancel()
	if err != nil {
		t.Fatal(err)
	}
	s.sessions = append(s.sessions, session)
	if err := session.Context().Err(); err != nil {
		t.Errorf("the session ended with Join's context: %v", err)
	}
	create(t, session, "a", "1")
	s.wantHosts("h1 live")
}

func testClose(t *testing.T, s *state) {
	session, other := s.join(host("h1")), s.join(host("h2"))
	r := create(t, session, "a", "1")
	for range 2 {
		if err := session.Close(t.Context()); err != nil {
			t.Fatalf("Close: %v", err)
		}
		wantEnd(t, session)
		s.wantHosts("h1", "h2 live")
		for what, op := range map[string]coordination.Op{
			"put":    coordination.Put(coordination.Record{Key: "a", Value: []byte("2"), Version: r.Version}),
			"create": coordination.Put(coordination.Record{Key: "b"}),
			"delete": coordination.Delete(r),
			"check":  coordination.Check(r),
		} {
			_, err := session.Commit(t.Context(), op)
			wantError(t, what+" after Close", err, coordination.ErrSessionLost)
		}
	}
	if got, want := s.list(""), map[string]string{"a": "1"}; !maps.Equal(got, want) {
		t.Errorf("after the session: got %v, want %v", got, want)
	}
	commit(t, other, coordination.Delete(r)) // the other one goes on
}

func testAbandon(t *testing.T, s *state) {
	session := s.join(host("h1"))
	session.Abandon()
	if cause := context.Cause(session.Context()); !errors.Is(cause, coordination.ErrSessionLost) {
		t.Errorf("cause of the end: %v", cause)
	}
	_, err := session.Commit(t.Context(), coordination.Put(coordination.Record{Key: "a", Value: []byte("1")}))
	wantError(t, "Commit", err, coordination.ErrSessionLost)
	session.Abandon()
	if err := session.Close(t.Context()); err != nil {
		t.Errorf("Close of an abandoned session: %v", err)
	}
	again := s.join(host("h1"))
	if again.Incarnation() <= session.Incarnation() {
		t.Errorf("incarnation %d after %d", again.Incarnation(), session.Incarnation())
	}
	if _, err := again.Commit(t.Context(), coordination.Put(coordination.Record{Key: "a", Value: []byte("2")})); err != nil {
		t.Errorf("Commit of the session after it: %v", err)
	}
}

func testCloseWithEndedContext(t *testing.T, s *state) {
	session := s.join(host("h1"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := session.Close(ctx); err != nil { // it may have, or not
		wantError(t, "Close", err, context.Canceled)
	}
	if err := session.Close(t.Context()); err != nil {
		t.Fatalf("Close after a Close cut short: %v", err)
	}
	wantEnd(t, session)
	if err := session.Close(ctx); err != nil {
		t.Errorf("Close of a closed session: %v", err)
	}
}

func testOtherMachineRefused(t *testing.T, s *state) {
	first := s.join(host("h1"))
	impostor := coordination.Host{Name: "h1", ID: "another", Boot: "another"}
	for range 2 {
		_, err := s.Join(t.Context(), impostor)
		wantError(t, "Join of another machine", err, coordination.ErrConflict)
	}
	if h := s.wantHosts("h1 live")[0]; h.ID != "id-of-h1" || h.Incarnation != first.Incarnation() {
		t.Errorf("the refused machine changed the host to %+v", h)
	}
	create(t, first, "a", "1")

	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := s.join(impostor)
	if second.Incarnation() <= first.Incarnation() {
		t.Errorf("incarnation %d follows %d", second.Incarnation(), first.Incarnation())
	}
	if h := s.wantHosts("h1 live")[0]; h.ID != "another" || h.Incarnation != second.Incarnation() {
		t.Errorf("got %+v", h)
	}
}

func testSameMachineTakesOver(t *testing.T, s *state) {
	first := s.join(host("h1"))
	r := create(t, first, "a", "1")
	second := s.join(host("h1"))
	if second.Incarnation() <= first.Incarnation() {
		t.Errorf("incarnation %d follows %d", second.Incarnation(), first.Incarnation())
	}
	_, err := first.Commit(t.Context(), coordination.Delete(r))
	wantError(t, "Commit of the session taken over", err, coordination.ErrSessionLost)
	wantEnd(t, first)
	if err := first.Close(t.Context()); err != nil {
		t.Errorf("Close of the session taken over: %v", err)
	}
	if err := second.Context().Err(); err != nil {
		t.Fatalf("closing the old session ended the new one: %v", err)
	}
	if h := s.wantHosts("h1 live")[0]; h.Incarnation != second.Incarnation() {
		t.Errorf("got incarnation %d, want %d", h.Incarnation, second.Incarnation())
	}
	commit(t, second, coordination.Delete(r))
}

func testIncarnationsGrow(t *testing.T, s *state) {
	var last uint64
	var version uint64
	var since time.Time
	for i := range 6 {
		h := host("h1")
		h.Boot = fmt.Sprint("boot ", i)
		session := s.join(h)
		got := s.wantHosts("h1 live")[0]
		if got.Incarnation <= last || got.Incarnation != session.Incarnation() {
			t.Errorf("incarnation %d follows %d", got.Incarnation, last)
		}
		if got.Version <= version {
			t.Errorf("version %d follows %d", got.Version, version)
		}
		if got.Since.Before(since) {
			t.Errorf("since %v follows %v", got.Since, since)
		}
		if got.Boot != h.Boot {
			t.Errorf("got boot ID %q, want %q", got.Boot, h.Boot)
		}
		last, version, since = got.Incarnation, got.Version, got.Since
		switch i % 3 {
		case 0:
			if err := session.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		case 1:
			s.reopen()
		}
	}
}

func testHosts(t *testing.T, s *state) {
	names := []string{"c", "a", "b-2", "b"}
	sessions := make(map[string]coordination.Session)
	for _, name := range names {
		sessions[name] = s.join(host(name))
	}
	for range 2 {
		s.wantHosts("a live", "b live", "b-2 live", "c live")
	}
	if err := sessions["b"].Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	hosts := s.wantHosts("a live", "b", "b-2 live", "c live")
	for _, h := range hosts {
		if h.ID != "id-of-"+h.Name || h.Incarnation != sessions[h.Name].Incarnation() {
			t.Errorf("got %+v", h)
		}
	}
}

func testHostsAfterReopening(t *testing.T, s *state) {
	before := s.join(host("h1"))
	s.reopen()
	h := s.wantHosts("h1")[0]
	if h.ID != "id-of-h1" || h.Boot != "boot-of-h1" || h.Incarnation != before.Incarnation() {
		t.Errorf("got %+v", h)
	}
	wantEnd(t, before)
	after := s.join(host("h1"))
	if after.Incarnation() <= before.Incarnation() {
		t.Errorf("incarnation %d follows %d", after.Incarnation(), before.Incarnation())
	}
}
