package cut_test

import (
	"path/filepath"
	"testing"

	"github.com/dvol/dvold/internal/cut"
)

// Servers that are found by who is connected to them are known no more once that was killed:
// the next attempt goes by what the one before has found.
func TestFoundServersAreKept(t *testing.T) {
	n, ok := newNetwork(t)
	if !ok {
		return
	}
	s := connected(t, serverAddress4)
	n.disconnect(t, s.server)
	v := identified(t, cut.Volume{ID: "db-0123456789ab", Mountpoint: s.dir, Sole: true})
	holder := start(t, false, "open", filepath.Join(s.dir, "file"))
	c := newCutter(t)
	c.Protect = append(c.Protect, process(t, holder))
	cutFails(t, c, v, "process "+pid(holder))
	end(t, holder)
	v.Servers = servers()[1:] // as if another was configured meanwhile
	report := cutNow(t, c, v)
	if !killed(t, s.server) || report.Blocked == "" || len(report.Destroyed) != 1 {
		t.Errorf("server killed: %t, %+v, want the network blocked and one socket destroyed", killed(t, s.server), report)
	}
	n.heal(t)
	becomesReachable(t)
	if n.has(t, "second") {
		t.Error("the server got what a dead process had to send")
	}
}

// What an earlier guard has blocked is not, once this one has unblocked it, or verified a cut,
// though it never blocked anything itself: who served the volume is gone by now.
func TestUnblockOfAnEarlierBlock(t *testing.T) {
	if _, ok := newNetwork(t); !ok {
		return
	}
	for _, f := range cut.Filters() {
		needFilter(t, f.Name())
		for name, end := range map[string]func(*testing.T, *cut.Cutter, cut.Volume){
			"cut": func(t *testing.T, c *cut.Cutter, v cut.Volume) { cutNow(t, c, v) },
			"unblocked": func(t *testing.T, c *cut.Cutter, v cut.Volume) {
				if err := c.Unblock(t.Context(), v); err != nil {
					t.Error(err)
				}
			},
		} {
			t.Run(f.Name()+", "+name, func(t *testing.T) {
				v := soleVolume(t, "db-0123456789ab")
				if err := f.Block(t.Context(), v.ID, v.Servers); err != nil {
					t.Fatal(err)
				}
				if reachable(serverAddress4) {
					t.Fatal("the server is not blocked")
				}
				v.Servers = nil
				end(t, newCutter(t), v)
				becomesReachable(t)
			})
		}
	}
}

// A cut that is called off leaves no block, also of servers that only it has found, and the
// next one begins anew.
func TestUnblock(t *testing.T) {
	if _, ok := newNetwork(t); !ok {
		return
	}
	s := connected(t, serverAddress4)
	v := identified(t, cut.Volume{ID: "db-0123456789ab", Mountpoint: s.dir, Sole: true, Servers: servers()[1:]})
	holder := start(t, false, "open", filepath.Join(s.dir, "file"))
	c := newCutter(t)
	c.Protect = append(c.Protect, process(t, holder))
	cutFails(t, c, v, "process "+pid(holder))
	if reachable(serverAddress4) || reachable(serverAddress6) {
		t.Error("the network is not blocked")
	}
	for range 2 { // the second has nothing to do
		if err := c.Unblock(t.Context(), v); err != nil {
			t.Fatal(err)
		}
		becomesReachable(t)
	}
	end(t, holder)
	cutNow(t, c, v)
	becomesReachable(t)
}
