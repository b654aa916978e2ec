package coordtest

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/coordination"
)

func leaseTests() []test {
	return []test{
		{"Deadline", testDeadline},
		{"DeadlineStays", testDeadlineStays},
	}
}

// bootTime reads CLOCK_BOOTTIME.
func bootTime(t *testing.T) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// wantNever tells whether sessions expire, and checks what is said of one that
// does not.
func wantNever(t *testing.T, session coordination.Session) bool {
	t.Helper()
	if session.TTL() != 0 {
		return false
	}
	if got := session.Deadline(); got != coordination.Never {
		t.Errorf("without a TTL, the deadline is %v", got)
	}
	if session.Renewed() != nil {
		t.Error("without a TTL, renewals are told")
	}
	return true
}

// wantRenewed waits until the session tells of a renewal.
func wantRenewed(t *testing.T, session coordination.Session) {
	t.Helper()
	select {
	case <-session.Renewed():
	case <-session.Context().Done():
		t.Fatal("the session ended")
	case <-time.After(patience):
		t.Fatalf("no renewal within %v", patience)
	}
}

// The deadline of a live session is ahead, by no more than its TTL, and grows
// with each renewal and at no other time.
func testDeadline(t *testing.T, s *state) {
	session := s.join(host("h1"))
	if wantNever(t, session) {
		return
	}
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	told := session.Deadline() // at the last renewal
	last := told
	for renewals := 0; renewals < 2; {
		before := bootTime(t)
		got := session.Deadline()
		after := bootTime(t)
		if session.Context().Err() != nil {
			t.Fatal("the session ended")
		}
		if got <= before || got > after+session.TTL() {
			t.Fatalf("at %v the deadline is %v, with a TTL of %v", before, got, session.TTL())
		}
		if got < last {
			t.Fatalf("the deadline went from %v to %v", last, got)
		}
		last = got
		select {
		case <-session.Renewed():
			if last = session.Deadline(); last <= told {
				t.Fatalf("renewed: the deadline went from %v to %v", told, last)
			}
			told = last
			renewals++
		default:
			if last > told {
				t.Fatalf("the deadline went from %v to %v, and no renewal is told", told, last)
			}
			select {
			case <-look.C:
			case <-time.After(patience):
			}
		}
		if before > told {
			t.Fatal("no renewal in time")
		}
	}
}

// A session that ended before its deadline keeps it, whatever had been asked
// when it ended.
func testDeadlineStays(t *testing.T, s *state) {
	closed, replaced, abandoned, other := s.join(host("h1")), s.join(host("h2")), s.join(host("h3")), s.join(host("h4"))
	if err := closed.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := s.join(host("h2"))
	abandoned.Abandon()
	if wantNever(t, closed) && wantNever(t, replaced) && wantNever(t, abandoned) {
		return
	}
	ended := []coordination.Session{closed, replaced, abandoned}
	var ends []time.Duration
	for i, session := range ended {
		wantEnd(t, session)
		ends = append(ends, session.Deadline())
		if now := bootTime(t); ends[i] <= now || ends[i] > now+session.TTL() {
			t.Errorf("session %d, at %v: the deadline is %v, with a TTL of %v", i, now, ends[i], session.TTL())
		}
	}
	if again.Deadline() < replaced.Deadline() {
		t.Errorf("the deadline went from %v to %v when a session took over", replaced.Deadline(), again.Deadline())
	}
	for range 2 {
		wantRenewed(t, other)
	}
	for i, session := range ended {
		if got := session.Deadline(); got != ends[i] {
			t.Errorf("session %d: the deadline went from %v to %v", i, ends[i], got)
		}
	}
}
