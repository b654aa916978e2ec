package volumes

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/internal/standing"
)

var errCable = errors.New("the cable is not plugged in")

// failing is a fault of some actions.
func failing(actions ...string) func(string) error {
	return func(action string) error {
		if slices.Contains(actions, action) {
			return errCable
		}
		return nil
	}
}

func TestConnectionIsRecordedBeforeAnythingIsMounted(t *testing.T) {
	f := newConnectedFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	var recorded atomic.Value
	h1.connector.meets(func(action string) error {
		if action == "mount" {
			recorded.Store(h2.recordedClient("db"))
		}
		return nil
	})
	h1.mount("db", "c1", me(t))
	client := h1.client("db")
	if got := recorded.Load(); client == "" || got != client {
		t.Errorf("mounted by client %q, when the record had %v", client, got)
	}
	h1.wantOwner("db", "h1", 1)
	before := h1.owner("db").version
	h1.mount("db", "c2", me(t))
	if got, now := h1.owner("db").version, h1.client("db"); got != before || now != client {
		t.Errorf("a second mount wrote the owner's record (%d, then %d), or connected anew (%s, then %s)", before, got, client, now)
	}
	h1.must(h1.Unmount(t.Context(), "db", "c1"))
	if h1.client("db") == "" {
		t.Error("disconnected while it is mounted")
	}
	h1.must(h1.Unmount(t.Context(), "db", "c2"))
	if got := h1.client("db"); got != "" || h1.owner("db").State != ownerFree {
		t.Errorf("after the last unmount: client %q, owner %+v", got, h1.owner("db"))
	}
	h2.mount("db", "c1", me(t))
	if got := h1.recordedClient("db"); got != h2.client("db") || got == client {
		t.Errorf("h2 is recorded as client %q, and is %q", got, h2.client("db"))
	}
}

// stepsOfConnecting are those of a mount between the record that says that a host
// owns a volume and the mount itself; true: the record has the client by then.
var stepsOfConnecting = map[string]bool{
	"own: owner written": false, "mount: stamped": false, "mount: guard told": false, "mount: connected": false,
	"mount: connection recorded": true, "mount: held": true, "mount: mountpoint made": true, "mount: mounted": true,
}

// TestTakeover: h1 is frozen after a step of its mount, and goes on when h2 has
// taken the volume over. Either h1 never mounts it, or its client was cut off.
func TestTakeoverWhileTheOwnerConnects(t *testing.T) {
	for step, recorded := range stepsOfConnecting {
		t.Run(strings.ReplaceAll(step, " ", "-"), func(t *testing.T) {
			f := newConnectedFleet(t, "h1", "h2")
			h1, h2 := f.node("h1"), f.node("h2")
			var client string
			h1.at(step, func() {
				client = h1.client("db")
				r, err := h2.existing(context.Background(), "db")
				h2.must(err)
				session, err := h2.session()
				h2.must(err)
				h2.must(h2.takeOver(context.Background(), session, r, h2.pools["a"], h2.owner("db")))
			})
			_, err := h1.Mount(t.Context(), "db", "c1", me(t))
			if !recorded {
				wantError(t, "mount", err, ErrUnavailable)
				if mounts := h1.connector.did("mount"); len(mounts) > 0 {
					t.Errorf("h1 mounted by %v, which no record had", mounts)
				}
				client = ""
			}
			if cut := h2.connector.did("fence"); !slices.Equal(cut, []string{client}) {
				t.Errorf("h2 cut off %q, want %q", cut, client)
			}
			h1.eventually("nothing is left on h1", func() bool {
				return len(h1.mountsNow()) == 0 && !h1.mounted(h1.target(h1.idOf("db"))) && h1.client("db") == ""
			})
			h2.mount("db", "c1", me(t))
			h2.wantOwner("db", "h2", 2)
			h1.eventually("the fence is undone", func() bool { return len(h1.keys("fences/")) == 0 })
			h2.must(h2.Unmount(t.Context(), "db", "c1"))
			h1.mount("db", "c1", me(t))
			h1.wantOwner("db", "h1", 3)
		})
	}
}

// TestIntent: of a taker that has but written its intent h1 learns by the record
// alone, for nothing else says so.
func TestOwnerThatIsBeingTakenOverDoesNotMount(t *testing.T) {
	f := newConnectedFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.at("mount: connected", func() {
		r, err := h2.existing(context.Background(), "db")
		h2.must(err)
		session, err := h2.session()
		h2.must(err)
		_, _, err = h2.declare(context.Background(), session, r, h2.owner("db"), byLease, volumeDomain(r.ID)) // leaves no record of a fence
		h2.must(err)
	})
	_, err := h1.Mount(t.Context(), "db", "c1", me(t))
	wantError(t, "mount", err, ErrUnavailable, "taken over while it was being mounted")
	if mounts := h1.connector.did("mount"); len(mounts) > 0 || h1.client("db") != "" {
		t.Errorf("mounted by %v, connected as %q", mounts, h1.client("db"))
	}
	if o := h2.owner("db"); o.State != ownerFencing || o.Taker.Host != "h2" || o.Terms.Fence.Identity.Facts != nil {
		t.Errorf("owner: %s, taken by %+v, to be fenced by %v", o.State, o.Taker, o.Terms.Fence.Identity)
	}
	h2.mount("db", "c1", me(t))
	h2.wantOwner("db", "h2", 2)
}

// TestOwnerThatDied: its connection outlives it. The next owner cuts off what the
// record names, and the next dvold on h1 undoes what is there.
func TestOwnerThatDiesWhileItConnectsIsReplacedAndDisconnects(t *testing.T) {
	for step, recorded := range stepsOfConnecting {
		t.Run(strings.ReplaceAll(step, " ", "-"), func(t *testing.T) {
			f := newConnectedFleet(t, "h1", "h2")
			h1, h2 := f.node("h1"), f.node("h2")
			h1.dieDuring(step, func(ctx context.Context) error {
				_, err := h1.Mount(ctx, "db", "c1", me(t))
				return err
			})
			client := h1.client("db")
			h2.mount("db", "c1", me(t))
			h2.wantOwner("db", "h2", 2)
			if cut := h2.connector.isCut(client); cut != recorded {
				t.Errorf("client %q is cut off: %t, want %t", client, cut, recorded)
			}
			h1.start().eventually("h1 has disconnected", func() bool { return len(h1.mountsNow()) == 0 && h1.client("db") == "" })
			h1.eventually("the fence is undone", func() bool { return len(h1.keys("fences/")) == 0 })
			h2.wantOwner("db", "h2", 2)
		})
	}
}

// TestVolumeIsKept: what can't be disconnected is not let go of, and a mount that
// comes meanwhile goes on with what is there, or with what has replaced it.
func TestVolumeIsOwnedUntilItIsDisconnected(t *testing.T) {
	f := newConnectedFleet(t, "h1", "h2")
	h1 := f.node("h1")
	h1.connector.meets(failing("mount", "disconnect"))
	_, err := h1.Mount(t.Context(), "db", "c1", me(t))
	if !errors.Is(err, errCable) {
		t.Errorf("mount: %v", err)
	}
	first := h1.client("db")
	stay := h1.stayNow()
	h1.must(h1.line.loseSession()) // and the records are compared with what is here
	h1.eventually("it has joined again, and settled", func() bool { return h1.stayNow() > stay && !h1.unsettled.Load() })
	if o := h1.owner("db"); o.Host != "h1" || o.State != ownerHeld || first == "" {
		t.Errorf("owner: %+v, client %q", o, first)
	}
	h1.connector.meets(failing("disconnect"))
	h1.mount("db", "c1", me(t))
	if got := h1.client("db"); got != first || h1.recordedClient("db") != first {
		t.Errorf("connected as %q, recorded as %q; want %q", got, h1.recordedClient("db"), first)
	}
	h1.must(h1.Unmount(t.Context(), "db", "c1"))
	if o := h1.owner("db"); o.State == ownerFree {
		t.Error("let go of, and still connected")
	}
	h1.connector.meets(nil)
	h1.poke()
	h1.eventually("it is let go of", func() bool { return h1.owner("db").State == ownerFree && h1.client("db") == "" })
}

func TestConnectionThatWasReplacedIsRecordedAnew(t *testing.T) {
	f := newConnectedFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.connector.meets(failing("mount", "disconnect"))
	_, err := h1.Mount(t.Context(), "db", "c1", me(t))
	if !errors.Is(err, errCable) {
		t.Errorf("mount: %v", err)
	}
	first := h1.recordedClient("db")
	h1.connector.meets(failing("disconnect"))
	h1.must(h1.connector.Fence(t.Context(), fenceOf(h1.owner("db"), record{}))) // ends the client
	h1.mount("db", "c1", me(t))
	if now := h1.client("db"); now == first || h2.recordedClient("db") != now {
		t.Errorf("connected as %q, then as %q; recorded as %q", first, now, h2.recordedClient("db"))
	}
	h1.wantOwner("db", "h1", 1)
	h1.connector.meets(nil)
}

// TestReadopted: the record goes on naming the client that the volume is mounted
// by, whatever the records were before.
func TestConnectionIsKnownOverRestartsAndRecordsThatWentBack(t *testing.T) {
	for name, back := range map[string]func(o *owner){
		"as they were":                      func(*owner) {},
		"before the client was recorded":    func(o *owner) { o.Terms.Fence.Identity.Facts = nil },
		"before this host became the owner": func(o *owner) { o.Epoch, o.Terms.Fence.Identity.Facts = 1, map[string]string{"client": "earlier"} },
	} {
		t.Run(name, func(t *testing.T) {
			f := newConnectedFleet(t, "h1", "h2")
			h1, h2 := f.node("h1"), f.node("h2")
			h1.mount("db", "c1", me(t))
			h1.must(h1.Unmount(t.Context(), "db", "c1"))
			target := h1.mount("db", "c1", me(t)) // as the second owner
			client := h1.client("db")
			h1.stop()
			o := h2.owner("db")
			back(&o)
			put, err := o.put()
			h2.must(err)
			_, err = h2.commit(t.Context(), put)
			h2.must(err)
			h1.start().eventually("it is the owner again", func() bool { o, ok := h1.owned("db"); return ok && o.incarnation == h1.stayNow() })
			h1.wantOwner("db", "h1", 2)
			if got := h2.recordedClient("db"); got != client || h1.client("db") != client || !h1.mounted(target) {
				t.Errorf("recorded as %q, connected as %q, want %q; mounted: %t", got, h1.client("db"), client, h1.mounted(target))
			}
			h1.mount("db", "c2", me(t))
			h1.silence()
			h2.mount("db", "c1", me(t))
			if !h2.connector.isCut(client) {
				t.Errorf("h2 cut off %q, want %q", h2.connector.did("fence"), client)
			}
			h1.heard()
			h1.eventually("h1 has let go", func() bool { return len(h1.mountsNow()) == 0 && h1.client("db") == "" })
			h1.eventually("the fence is undone", func() bool { return !h1.connector.isCut(client) && len(h1.keys("fences/")) == 0 })
		})
	}
}

// TestLost: a fence is undone only once its client is gone.
func TestLostVolumeIsDisconnectedBeforeItsFenceIsUndone(t *testing.T) {
	f := newConnectedFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(h1.Create(t.Context(), "other", exclusive))
	target := h1.mount("db", "c1", me(t))
	h1.silence()
	h2.mount("db", "c1", me(t))
	h1.connector.meets(failing("disconnect"))
	h1.heard()
	h1.eventually("it is cut", func() bool { return !h1.mounted(target) })
	h1.mount("other", "c1", me(t)) // what is cut keeps nobody waiting
	h1.poke()
	h1.settledBut("db")
	if got := h1.connector.did("unfence"); len(got) > 0 || h1.client("db") == "" {
		t.Errorf("unfenced %v, while connected as %q", got, h1.client("db"))
	}
	h1.connector.meets(nil)
	h1.eventually("it is disconnected, and unfenced", func() bool { return h1.client("db") == "" && len(h1.keys("fences/")) == 0 })
	if got := h1.connector.did("unfence"); len(got) == 0 {
		t.Error("it is still cut off")
	}
}

// settledBut waits until the records say what the host holds, but for one volume.
func (n *node) settledBut(name string) {
	n.t.Helper()
	n.eventually(n.name+" has settled", func() bool {
		held := slices.DeleteFunc(n.heldBy(n.name), func(s string) bool { return s == name })
		mounted := slices.DeleteFunc(n.mountedNames(), func(s string) bool { return s == name })
		return !n.unsettled.Load() && slices.Equal(held, mounted)
	})
}

func TestNothingIsMountedOnceTheLeaseIsOver(t *testing.T) {
	for _, step := range []string{"mount: guard told", "mount: connected"} {
		t.Run(strings.ReplaceAll(step, " ", "-"), func(t *testing.T) {
			f := newConnectedFleet(t, "h1", "h2")
			h1 := f.node("h1")
			h1.stop()
			h1.terms.OnSessionLoss = standing.Cut
			lease := h1.line.expire(4 * time.Second)
			h1.start()
			h1.at(step, func() { // the session goes on in the store, and is not renewed
				h1.eventually("the lease is in doubt", func() bool {
					o, ok := h1.owned("db")
					return !ok || o.state.MayMount(h1.now()) != nil
				})
			})
			lease.renew()
			_, err := h1.Mount(t.Context(), "db", "c1", me(t))
			wantError(t, "mount", err, ErrUnavailable)
			if mounts := h1.connector.did("mount"); len(mounts) > 0 {
				t.Errorf("mounted by %v", mounts)
			}
			h1.eventually("nothing is left", func() bool { return len(h1.mountsNow()) == 0 && h1.client("db") == "" })
		})
	}
}

// TestAnswerLost: whether the record has the client is not known to h1, which
// does not mount then. The record may have it, though nobody has it any more.
func TestClientThatMayBeRecordedIsNotMountedBy(t *testing.T) {
	f := newConnectedFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	id := h1.idOf("db")
	var connected atomic.Bool
	h1.at("mount: connected", func() { connected.Store(true) })
	lost := h1.line.loseAnswer(1, func(ops []coordination.Op) bool { return connected.Load() && about(ownerKey(id))(ops) })
	_, err := h1.Mount(t.Context(), "db", "c1", me(t))
	if err == nil || !lost() || len(h1.connector.did("mount")) > 0 {
		t.Errorf("mount: %v; the answer was lost: %t; mounted by %v", err, lost(), h1.connector.did("mount"))
	}
	h1.eventually("nothing is left", func() bool {
		return len(h1.mountsNow()) == 0 && h1.client("db") == "" && h1.owner("db").State == ownerFree
	})
	h2.mount("db", "c1", me(t))
}
