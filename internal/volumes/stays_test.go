package volumes

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestStays(t *testing.T) {
	var s stays
	for _, stay := range []uint64{3, 4, 4, 7, 5} { // 5: after the records went back in time
		s = s.and(stay)
	}
	for stay, want := range map[uint64]bool{0: false, 2: false, 3: true, 4: true, 5: true, 6: false, 7: true, 8: false} {
		if s.has(stay) != want {
			t.Errorf("%d is one of them: %t", stay, !want)
		}
	}
	if s.Incarnation != 7 || len(s.Spans) != 3 {
		t.Errorf("got %+v", s)
	}
	for stay := range uint64(2 * maxSpans) {
		s = s.and(10 + 2*stay)
	}
	if len(s.Spans) != maxSpans || s.has(3) || !s.has(8+4*maxSpans) {
		t.Errorf("%d spans are kept, up to %d", len(s.Spans), s.Incarnation)
	}
}

// A file that says no more than the last stay, as that of an earlier dvold, counts for all before.
func TestStaysOfEarlierDvold(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	w.must(os.WriteFile(w.staysFile(), []byte(`{"schema":1,"incarnation":4}`), 0o600))
	if s := w.loadStays(); !s.has(1) || !s.has(4) || s.has(5) || s.has(0) {
		t.Errorf("got %+v", s)
	}
}

// TestCopyVouchesForNothing: a copy of a machine, after a reboot that it knows of, does not
// take what the original got since for its own, also once it was in the cluster itself.
func TestCopyVouchesForNothingOfTheOriginal(t *testing.T) {
	f := newFleet(t, "h1")
	h1 := f.node("h1")
	h1.must(h1.Create(t.Context(), "db", exclusive))
	copied, err := os.ReadFile(h1.staysFile())
	h1.must(err)
	h1.die()
	h1.start() // a stay that the copy does not know of
	target := h1.mount("db", "c1", me(t))
	h1.die()
	h1.must(os.WriteFile(h1.staysFile(), copied, 0o600))
	o := h1.owner("db")
	o.Boot = "of the original, which goes on"
	put, err := o.put()
	h1.must(err)
	session, err := f.store.Join(t.Context(), h1.me)
	h1.must(err)
	_, err = session.Commit(t.Context(), put)
	h1.must(err)
	h1.must(session.Close(t.Context()))
	h1.must(errors.Join(unix.Unmount(target, 0), os.Remove(h1.dir+"/run/mounts.db"))) // the copy has none of it mounted
	for range 2 {
		h1.start()
		_, err := h1.Mount(t.Context(), "db", "c2", me(t))
		wantError(t, "mount on the copy", err, ErrUnavailable, "lost its own state")
		h1.stop()
	}
}
