package upkeep_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dvol/dvold/internal/upkeep"
)

// What hangs is seen to once, and the others again and again.
func TestEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		tender := upkeep.New(slog.New(slog.NewTextHandler(&said, nil)))
		hang := make(chan struct{})
		var mu sync.Mutex
		seen := make(map[string]int)
		upkeep.Each(tender, time.Second, func() []string { return []string{"well", "hangs"} }, func(_ context.Context, what string) {
			mu.Lock()
			seen[what]++
			mu.Unlock()
			if what == "hangs" {
				<-hang
			}
		})
		time.Sleep(3500 * time.Millisecond)
		mu.Lock()
		if seen["well"] != 4 || seen["hangs"] != 1 {
			t.Errorf("seen in 3.5 s, every second: %v", seen)
		}
		mu.Unlock()
		begin := time.Now()
		tender.Close()
		if took := time.Since(begin); took != 5*time.Second || !strings.Contains(said.String(), "hangs") {
			t.Errorf("with something that hangs Close took %v, and said %q", took, &said)
		}
		close(hang)
		said.Reset()
		begin = time.Now()
		tender.Close()
		if took := time.Since(begin); took != 0 || said.Len() > 0 {
			t.Errorf("again, when nothing hangs: %v, %q", took, &said)
		}
		if seen["well"] != 4 {
			t.Errorf("seen to after Close: %v", seen)
		}
	})
}

// Close ends the contexts of what runs, and waits for it.
func TestCloseEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tender := upkeep.New(slog.New(slog.DiscardHandler))
		ended := false
		tender.Go(func(ctx context.Context) {
			<-ctx.Done()
			time.Sleep(time.Second)
			ended = true
		})
		tender.Close()
		if !ended {
			t.Error("Close has not waited")
		}
	})
}

func TestTurn(t *testing.T) {
	turn := upkeep.NewTurn()
	done, err := turn.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := turn.Try(); ok {
		t.Error("two have the turn")
	}
	why := errors.New("it takes too long")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := turn.Take(ctx); err != why {
		t.Errorf("who gives up waiting gets %v", err)
	}
	done()
	done, ok := turn.Try()
	if !ok {
		t.Fatal("nobody can have the turn")
	}
	done()
}

func TestUses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const grace = time.Minute
		u := upkeep.NewUses()
		idle := func(what string, want bool) {
			t.Helper()
			called := false
			if got := u.IfIdle(grace, func() { called = true }); got != want || called != want || u.Idle(grace) != want {
				t.Errorf("%s: idle %t, called %t, want %t", what, got, called, want)
			}
		}
		idle("new", false)
		time.Sleep(grace)
		idle("after the grace", true)
		first, second := u.Enter(), u.Enter()
		time.Sleep(2 * grace)
		first()
		idle("with one call", false)
		time.Sleep(2 * grace)
		idle("with one call, long after the other", false)
		second()
		idle("after the last call", false)
		time.Sleep(grace)
		idle("a grace after it", true)
		u.Seen()
		idle("seen", false)
		time.Sleep(grace)
		idle("not seen for a grace", true)
	})
}
