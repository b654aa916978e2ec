package backendtest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dvol/dvold/backends"
)

func testDescribe(t *testing.T, s *suite) {
	s.expectDescriptions(t, nil)
	first, second := s.id(), strings.Repeat("n", 200)+".0123456789ab"
	s.describe(t, second, "") // nothing is there to take away
	s.expectDescriptions(t, nil)
	largest := "\x00\n\xff" + strings.Repeat("x", backends.MaxDescription-3)
	s.describe(t, first, "a longer one")
	s.describe(t, second, largest)
	s.expectDescriptions(t, map[string]string{first: "a longer one", second: largest})
	for range 2 {
		s.describe(t, first, "short")
	}
	s.expectDescriptions(t, map[string]string{first: "short", second: largest})

	s.Backend = open(t, s.fixture)
	s.expectDescriptions(t, map[string]string{first: "short", second: largest})
	for range 2 {
		s.describe(t, second, "")
	}
	s.expectDescriptions(t, map[string]string{first: "short"})
	s.Backend = open(t, s.fixture)
	s.expectDescriptions(t, map[string]string{first: "short"})
	s.describe(t, second, "again")
	s.expectDescriptions(t, map[string]string{first: "short", second: "again"})
}

// What is refused changes nothing.
func testDescribeRefused(t *testing.T, s *suite) {
	id := s.id()
	s.describe(t, id, "text")
	large := bytes.Repeat([]byte("x"), backends.MaxDescription+1)
	expectForUser(t, "too large", s.Describe(t.Context(), id, large), backends.ErrInvalid)
	for _, bad := range []string{
		"", ".", "..", "/", "db", id + "/x", "../" + id, "/" + id, "a/" + id, "." + id, "-" + id, id + "\n", id + "\x00", " " + id, id + "0",
		"db.0123456789aB", "d.0123456789ab", "größe.0123456789ab", "db.0123456789ag", strings.Repeat("n", 201) + ".0123456789ab",
	} {
		expectForUser(t, fmt.Sprintf("describe %q", bad), s.Describe(t.Context(), bad, []byte("text")), backends.ErrInvalid)
		expectForUser(t, fmt.Sprintf("take away %q", bad), s.Describe(t.Context(), bad, nil), backends.ErrInvalid)
	}
	s.expectDescriptions(t, map[string]string{id: "text"})
}

// A container can't see its volume's description, and what it does to its
// volume does nothing to that. Descriptions and volumes go separately.
func testDescribeHidden(t *testing.T, s *suite) {
	id := s.id()
	v := s.plan(t, backends.Request{ID: id})
	s.describe(t, id, "planned")
	if err := s.Create(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	target := s.mount(t, v.Handle)
	s.describe(t, id, "mounted")
	expectEmpty(t, target)
	write(t, target, id+".json", "a container's")
	s.expectDescriptions(t, map[string]string{id: "mounted"})
	s.describe(t, id, "")
	expectFile(t, target, id+".json", "a container's")
	s.describe(t, id, "kept")
	s.unmount(t, v.Handle, target)
	if err := s.Remove(t.Context(), v.Handle); err != nil {
		t.Fatal(err)
	}
	s.expectDescriptions(t, map[string]string{id: "kept"})
}

// Two hosts write about the same volumes, while others read: all that is ever
// seen is whole.
func testDescribeConcurrent(t *testing.T, s *suite) {
	const volumes = 3
	rounds := s.fixture.rounds()
	other := open(t, s.fixture)
	whole := make(map[string]bool)
	text := func(host, round int) []byte {
		return bytes.Repeat(fmt.Appendf(nil, "host %d round %2d\n", host, round), 100+50*((host+round)%7))
	}
	for host := range 2 {
		for round := range rounds {
			whole[string(text(host, round))] = true
		}
	}
	var ids []string
	for range volumes {
		ids = append(ids, s.id())
		s.describe(t, ids[len(ids)-1], string(text(0, 0)))
	}
	var writers, reader sync.WaitGroup
	for host, b := range []backends.Backend{s.Backend, other} {
		for _, id := range ids {
			writers.Go(func() {
				for round := range rounds {
					time.Sleep(s.fixture.Settles)
					if err := b.Describe(t.Context(), id, text(host, round)); err != nil {
						t.Errorf("host %d: %v", host, err)
					}
				}
			})
		}
	}
	check := func() {
		got, err := other.Descriptions(t.Context())
		if err != nil || len(got) != volumes {
			t.Errorf("got %d descriptions, %v, want %d", len(got), err, volumes)
		}
		for id, text := range got {
			if !whole[string(text)] {
				t.Errorf("volume %s: got %d bytes that nobody wrote", id, len(text))
			}
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

// Calls with a context that ends do their work or say so, and leave the old
// text or the new.
func testDescribeCutShort(t *testing.T, s *suite) {
	id, old := s.id(), "first"
	s.describe(t, id, old)
	for after := s.fixture.firstCut(0); after < time.Second; after = 3*after + time.Microsecond {
		text := fmt.Sprintf("after %v", after)
		ctx, cancel := context.WithTimeout(t.Context(), after)
		err := s.Describe(ctx, id, []byte(text))
		expect(t, "describe", err, nil, context.DeadlineExceeded)
		_, readErr := s.Descriptions(ctx)
		expect(t, "descriptions", readErr, nil, context.DeadlineExceeded)
		cancel()
		got, readErr := s.Descriptions(t.Context())
		if now := string(got[id]); readErr != nil || now != text && (err == nil || now != old) {
			t.Errorf("describe said %v; got %q, %v, want %q", err, now, readErr, text)
		}
		s.describe(t, id, text)
		s.expectDescriptions(t, map[string]string{id: text})
		old = text
	}
}

func testDescribeUnavailable(t *testing.T, s *suite) {
	id := s.id()
	s.describe(t, id, "text")
	s.takeAway(t)
	var got map[string][]byte
	unavailable(t, map[string]func() error{
		"describe":     func() error { return s.Describe(t.Context(), id, []byte("new")) },
		"take away":    func() error { return s.Describe(t.Context(), id, nil) },
		"descriptions": func() (err error) { got, err = s.Descriptions(t.Context()); return err },
	})
	if got != nil {
		t.Errorf("got %v, want nil", got)
	}
}

func (s *suite) describe(t *testing.T, id, text string) {
	t.Helper()
	if err := s.Describe(t.Context(), id, []byte(text)); err != nil {
		t.Fatalf("describe: %v", err)
	}
}

func (s *suite) expectDescriptions(t *testing.T, want map[string]string) {
	t.Helper()
	got, err := s.Descriptions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	texts := make(map[string]string)
	for id, text := range got {
		texts[id] = string(text)
	}
	if maps.Equal(texts, want) {
		return
	}
	short := func(m map[string]string) (s []string) {
		for _, id := range slices.Sorted(maps.Keys(m)) {
			s = append(s, fmt.Sprintf("%.30s: %.20q (%d)", id, m[id], len(m[id])))
		}
		return s
	}
	t.Errorf("got descriptions %q, want %q", short(texts), short(want))
}
