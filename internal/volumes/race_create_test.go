package volumes

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestHostsThatCreateOneNameMakeOneVolume(t *testing.T) {
	f := newFleet(t, "h1", "h2", "h3")
	for i := range 10 {
		name := fmt.Sprintf("data%d", i)
		for host, err := range f.together(func(n *node) error {
			return n.Create(t.Context(), name, map[string]string{"uid": "7"})
		}) {
			if err != nil {
				t.Errorf("%s: %v", host, err)
			}
		}
		if got := f.data(); len(got) != i+1 {
			t.Fatalf("the pool holds %v after %d volumes were made", got, i+1)
		}
	}
	if got := f.node("h1").keys("intents/"); len(got) > 0 {
		t.Errorf("intents left over: %v", got)
	}
}

func TestHostsThatCreateOneNameDifferentlyAreToldTheDifference(t *testing.T) {
	f := newFleet(t, "h1", "h2", "h3")
	for i := range 5 {
		name := fmt.Sprintf("data%d", i)
		uids := map[string]string{"h1": "1", "h2": "2", "h3": "3"}
		errs := f.together(func(n *node) error {
			return n.Create(t.Context(), name, map[string]string{"uid": uids[n.name]})
		})
		v, err := f.node("h1").Get(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		for host, err := range errs {
			if uids[host] == v.Options["uid"] {
				if err != nil {
					t.Errorf("%s made it, and was told %v", host, err)
				}
				continue
			}
			wantError(t, host, err, ErrMismatch, "uid="+v.Options["uid"], uids[host])
		}
		if got := f.data(); len(got) != i+1 {
			t.Fatalf("the pool holds %v after %d volumes were made", got, i+1)
		}
	}
}

func TestCreateTakesBackWhatADeadCreatorLeft(t *testing.T) {
	for _, step := range []string{"create: intent written", "create: storage made", "create: described"} {
		t.Run(step, func(t *testing.T) {
			f := newFleet(t, "h1", "h2", "h3")
			h1, h2 := f.node("h1"), f.node("h2")
			h1.dieDuring(step, func(ctx context.Context) error { return h1.Create(ctx, "data", nil) })
			if _, err := h2.Get(t.Context(), "data"); !errors.Is(err, ErrNotFound) {
				t.Errorf("get of what is half made: %v", err)
			}
			f.nodes = f.nodes[1:]
			for host, err := range f.together(func(n *node) error { return n.Create(t.Context(), "data", nil) }) {
				if err != nil {
					t.Errorf("%s: %v", host, err)
				}
			}
			v, err := h2.Get(t.Context(), "data")
			if got := f.data(); err != nil || len(got) != 1 || got[0] != v.ID {
				t.Errorf("the pool holds %v, and the volume is %s, %v", got, v.ID, err)
			}
			h2.settled()
			h1.start()
			f.nodes = append(f.nodes, h1)
			h1.settled()
			if got := f.data(); len(got) != 1 {
				t.Errorf("after the return of the dead host the pool holds %v", got)
			}
		})
	}
}

func TestCreateIsRefusedWhileADeadCreatorsOwnDiskHasIt(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	own := map[string]string{"pool": "b"}
	h1.dieDuring("create: storage made", func(ctx context.Context) error { return h1.Create(ctx, "data", own) })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	wantError(t, "create", h2.Create(ctx, "data", own), ErrUnavailable, `"h1"`, "dvold host forget h1")
	h2.must(h2.Forget(t.Context(), "h1"))
	h2.must(h2.Create(t.Context(), "data", own))
	v, err := h2.Get(t.Context(), "data")
	if err != nil || v.Home != "h2" {
		t.Errorf("the volume is %+v, %v", v, err)
	}
	h2.settled()
}

func TestDeadCreatorUndoesItsCreateWhenItReturns(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.dieDuring("create: storage made", func(ctx context.Context) error {
		return h1.Create(ctx, "data", map[string]string{"pool": "b"})
	})
	if len(h1.data()) != 1 {
		t.Fatalf("its disk holds %v", h1.data())
	}
	h1.start().settled()
	if got := h1.data(); len(got) != 0 {
		t.Errorf("its disk holds %v", got)
	}
	h2.must(h2.Create(t.Context(), "data", nil))
}

func TestCreateThatWaitsForAnotherHostEndsWithItsCaller(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	heal := h1.gates["a"].hang()
	defer heal()
	intended, made := make(chan struct{}), make(chan error)
	h1.at("create: intent written", func() { close(intended) })
	go func() { made <- h1.Create(context.Background(), "data", nil) }()
	<-intended
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begin := time.Now()
	wantError(t, "create", h2.Create(ctx, "data", nil), ErrUnavailable)
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	heal()
	if err := <-made; err != nil {
		t.Error(err)
	}
	h2.must(h2.Create(t.Context(), "data", nil))
	if got := f.data(); len(got) != 1 {
		t.Errorf("the pool holds %v", got)
	}
}

// TestCreatorThatLostItsSessionMakesNothing: others took its create back, so
// its data is gone.
func TestCreatorThatLostItsSessionMakesNothing(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.at("create: described", func() {
		before := h1.stayNow()
		h1.must(h1.line.loseSession())
		h1.eventually("h1 has joined again", func() bool { return h1.stayNow() > before })
		if err := h2.clear(context.Background(), "data"); err != nil { // what a mount or a create begins with
			t.Error(err)
		}
	})
	wantError(t, "create", h1.Create(t.Context(), "data", nil), ErrUnavailable)
	if v, err := h1.Get(t.Context(), "data"); !errors.Is(err, ErrNotFound) {
		t.Errorf("there is a volume whose data was removed: %+v, %v; the pool holds %v", v, err, f.data())
	}
	h1.must(h1.Create(t.Context(), "data", nil))
	h1.settled()
	if got := f.data(); len(got) != 1 {
		t.Errorf("the pool holds %v", got)
	}
}

// stayNow is the incarnation of the host's session, or 0.
func (n *node) stayNow() uint64 {
	session, err := n.session()
	if err != nil {
		return 0
	}
	return session.Incarnation()
}
