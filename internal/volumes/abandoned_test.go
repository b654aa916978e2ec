package volumes

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestAbandoned: an owner loses its power, and the storage goes on counting on its client,
// unless that was cut off. The next owner has it ended, whoever that is, and only once.
func TestConnectionOfAnOwnerThatDiedIsEndedByTheNext(t *testing.T) {
	free := func(n *node) func() bool { return func() bool { return n.owner("db").State == ownerFree } }
	for name, c := range map[string]struct {
		next   string
		before func(h1, h2 *node)
		cut    bool
	}{
		"it is back": {"h2", func(h1, h2 *node) {
			h1.start()
			h2.eventually("it has let go", free(h2))
		}, false},
		"it is back and mounts it": {"h1", func(h1, h2 *node) { h1.start() }, false},
		"it is back, and who was to take it is gone": {"h1", func(h1, h2 *node) {
			r, err := h2.existing(t.Context(), "db")
			h2.must(err)
			session, err := h2.session()
			h2.must(err)
			_, _, err = h2.declare(t.Context(), session, r, h2.owner("db"), byLease, volumeDomain(r.ID)) // and no fence comes of it
			h2.must(err)
			h2.die()
			h1.start()
		}, false},
		"an operator vouches for it": {"h2", func(h1, h2 *node) { h2.must(h2.Release(t.Context(), "db", "h1")) }, false},
		"it is cut off":              {"h2", func(h1, h2 *node) {}, true},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			f := newConnectedFleet(t, "h1", "h2")
			h1, h2 := f.node("h1"), f.node("h2")
			h1.mount("db", "c1", me(t))
			client := h1.client("db")
			h1.reboot()
			h2.connector.died("h1")
			o := h2.owner("db")
			o.Boot = "an earlier boot"
			put, err := o.put()
			h2.must(err)
			_, err = h2.commit(t.Context(), put)
			h2.must(err)
			c.before(h1, h2)
			next := f.node(c.next)
			next.connector.meets(failing("connect"))
			if _, err := next.Mount(t.Context(), "db", "c1", me(t)); !errors.Is(err, errCable) {
				t.Errorf("mount: %v", err)
			}
			next.connector.meets(nil)
			next.mount("db", "c1", me(t))
			if !h2.running {
				h2.start()
			}
			want := []string{client}
			if cut := h2.connector.did("fence"); c.cut != slices.Equal(cut, want) {
				t.Errorf("cut off was %v", cut)
			}
			if c.cut {
				want = nil
			}
			if ended := next.connector.did("end"); !slices.Equal(ended, want) {
				t.Errorf("ended was %v, want %v", ended, want)
			}
			if is := next.client("db"); is == client || next.recordedClient("db") != is {
				t.Errorf("connected as %q, recorded as %q", is, next.recordedClient("db"))
			}
			next.must(next.Unmount(t.Context(), "db", "c1"))
			if o := next.owner("db"); o.State != ownerFree || o.Terms.Fence != nil {
				t.Errorf("let go of in order, and the record has %s, %+v", o.State, o.Terms)
			}
			h2.mount("db", "c2", me(t))
			if ended := h2.connector.did("end"); next == h2 && !slices.Equal(ended, want) || next != h2 && len(ended) > 0 {
				t.Errorf("then ended was %v", ended)
			}
		})
	}
}
