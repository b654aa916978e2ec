package backendtest

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dvol/dvold/backends"
)

// stamper returns the backend as one that keeps stamps.
func (s *suite) stamper(t *testing.T) backends.Stamper {
	t.Helper()
	b, ok := s.Backend.(backends.Stamper)
	if !ok {
		t.Skip("the backend keeps no stamps")
	}
	return b
}

func testStamp(t *testing.T, s *suite) {
	s.stamper(t)
	first, second := s.id(), strings.Repeat("n", 200)+".0123456789ab"
	s.expectStamp(t, first, "")
	s.stamp(t, first, "") // nothing is there to take away
	s.expectStamp(t, first, "")
	largest := "\x00\n\xff" + strings.Repeat("x", backends.MaxDescription-3)
	s.stamp(t, first, "a longer one")
	s.stamp(t, second, largest)
	for range 2 {
		s.stamp(t, first, "short")
	}
	s.expectStamp(t, first, "short")
	s.expectStamp(t, second, largest)

	s.Backend = open(t, s.fixture)
	s.expectStamp(t, first, "short")
	s.expectStamp(t, second, largest)
	for range 2 {
		s.stamp(t, second, "")
	}
	s.Backend = open(t, s.fixture)
	s.expectStamp(t, second, "")
	s.stamp(t, second, "again")
	s.expectStamp(t, first, "short")
	s.expectStamp(t, second, "again")
}

// What is refused changes nothing.
func testStampRefused(t *testing.T, s *suite) {
	b, id := s.stamper(t), s.id()
	s.stamp(t, id, "text")
	large := bytes.Repeat([]byte("x"), backends.MaxDescription+1)
	expectForUser(t, "too large", b.Stamp(t.Context(), id, large), backends.ErrInvalid)
	for _, bad := range []string{"", ".", "..", "/", "db", "../" + id, "/" + id, "a/" + id, "." + id, id + "\n", id + "\x00", id + "0"} {
		_, err := b.Stamped(t.Context(), bad)
		expectForUser(t, fmt.Sprintf("stamped %q", bad), err, backends.ErrInvalid)
		expectForUser(t, fmt.Sprintf("stamp %q", bad), b.Stamp(t.Context(), bad, []byte("text")), backends.ErrInvalid)
		expectForUser(t, fmt.Sprintf("take away %q", bad), b.Stamp(t.Context(), bad, nil), backends.ErrInvalid)
	}
	s.expectStamp(t, id, "text")
}

// A container can't see its volume's stamp, which is no description either, and
// what becomes of the volume does nothing to it.
func testStampHidden(t *testing.T, s *suite) {
	s.stamper(t)
	id := s.id()
	v := s.plan(t, backends.Request{ID: id})
	s.stamp(t, id, "planned")
	if err := s.Create(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	target := s.mount(t, v.Handle)
	expectEmpty(t, target)
	s.stamp(t, id, "mounted")
	expectEmpty(t, target)
	s.expectDescriptions(t, nil)
	s.describe(t, id, "described")
	write(t, target, id+".json", "a container's")
	s.expectStamp(t, id, "mounted")
	s.expectDescriptions(t, map[string]string{id: "described"})
	s.describe(t, id, "")
	s.stamp(t, id, "")
	expectFile(t, target, id+".json", "a container's")
	s.stamp(t, id, "kept")
	s.unmount(t, v.Handle, target)
	if err := s.Remove(t.Context(), v.Handle); err != nil {
		t.Fatal(err)
	}
	s.expectStamp(t, id, "kept")
}

// Two hosts stamp the same volumes, while others read: all that is ever seen is
// whole, and is there in the end.
func testStampConcurrent(t *testing.T, s *suite) {
	const volumes = 3
	rounds := s.fixture.rounds()
	hosts := []backends.Stamper{s.stamper(t), open(t, s.fixture).(backends.Stamper)}
	text := func(host, round int) []byte {
		return bytes.Repeat(fmt.Appendf(nil, "host %d round %2d\n", host, round), 1+3*((host+round)%7))
	}
	whole := make(map[string]bool)
	var ids []string
	for range volumes {
		ids = append(ids, s.id())
		s.stamp(t, ids[len(ids)-1], string(text(0, 0)))
	}
	for host := range hosts {
		for round := range rounds {
			whole[string(text(host, round))] = true
		}
	}
	check := func() {
		for _, id := range ids {
			if got, err := hosts[1].Stamped(t.Context(), id); err != nil || !whole[string(got)] {
				t.Errorf("volume %s: got %d bytes that nobody wrote, %v", id, len(got), err)
			}
		}
	}
	var writers, reader sync.WaitGroup
	for host, b := range hosts {
		for _, id := range ids {
			writers.Go(func() {
				for round := range rounds {
					time.Sleep(s.fixture.Settles)
					if err := b.Stamp(t.Context(), id, text(host, round)); err != nil {
						t.Errorf("host %d: %v", host, err)
					}
				}
			})
		}
	}
	stop := make(chan struct{})
	reader.Go(func() {
		for {
			check()
			select {
			case <-stop:
				return
			case <-time.After(s.fixture.Settles / 10):
			}
		}
	})
	writers.Wait()
	close(stop)
	reader.Wait()
	check()
}

// Calls with a context that has ended, or ends, do their work or say so, and
// leave the old text or the new.
func testStampCutShort(t *testing.T, s *suite) {
	b, id, old := s.stamper(t), s.id(), "first"
	s.stamp(t, id, old)
	for after := s.fixture.firstCut(0); after < time.Second; after = 3*after + time.Microsecond {
		text := fmt.Sprintf("after %v", after)
		ctx, cancel := context.WithTimeout(t.Context(), after)
		err := b.Stamp(ctx, id, []byte(text))
		expect(t, "stamp", err, nil, context.DeadlineExceeded)
		_, readErr := b.Stamped(ctx, id)
		expect(t, "stamped", readErr, nil, context.DeadlineExceeded)
		cancel()
		got, readErr := b.Stamped(t.Context(), id)
		if now := string(got); readErr != nil || now != text && (err == nil || now != old) {
			t.Errorf("stamp said %v; got %q, %v, want %q", err, now, readErr, text)
		}
		s.stamp(t, id, text)
		s.expectStamp(t, id, text)
		old = text
	}
}

func testStampUnavailable(t *testing.T, s *suite) {
	b, id := s.stamper(t), s.id()
	s.stamp(t, id, "text")
	s.takeAway(t)
	var got []byte
	unavailable(t, map[string]func() error{
		"stamp":     func() error { return b.Stamp(t.Context(), id, []byte("new")) },
		"take away": func() error { return b.Stamp(t.Context(), id, nil) },
		"stamped":   func() (err error) { got, err = b.Stamped(t.Context(), id); return err },
	})
	if got != nil {
		t.Errorf("got %q, want nil", got)
	}
}

func (s *suite) stamp(t *testing.T, id, text string) {
	t.Helper()
	if err := s.stamper(t).Stamp(t.Context(), id, []byte(text)); err != nil {
		t.Fatalf("stamp: %v", err)
	}
}

// expectStamp checks what is stamped; "" stands for none.
func (s *suite) expectStamp(t *testing.T, id, want string) {
	t.Helper()
	got, err := s.stamper(t).Stamped(t.Context(), id)
	if err != nil || string(got) != want || (got == nil) != (want == "") {
		t.Errorf("volume %.30s: got stamp %.20q (%d bytes), %v, want %.20q (%d)", id, got, len(got), err, want, len(want))
	}
}
