package standing

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

const (
	s       = time.Second
	ttl     = 20 * s
	cutTime = 5 * s
	start   = 1000 * s // when the lease was renewed last
	end     = start + ttl
)

// in returns a volume that has come into a phase by its usual way.
func in(t *testing.T, p Policy, phase Phase) State {
	t.Helper()
	v := New(p, ttl, cutTime, end)
	switch {
	case phase == Doubt:
		v, _ = Step(v, SessionEnded{}, start)
	case phase == Uncertain || phase == Cutting && p == Cut:
		v, _ = Step(v, Tick{}, end)
	case phase == Cutting:
		v, _ = Step(v, Replaced{}, start)
	case phase == Gone:
		v, _ = Step(in(t, p, Cutting), CutVerified{}, end)
	}
	if v.Phase != phase {
		t.Fatalf("got into %s, want %s", v.Phase, phase)
	}
	return v
}

// TestStep has each event in each phase, at a time at which it is not the time
// that changes anything.
func TestStep(t *testing.T) {
	type row struct {
		phase  Phase
		event  Event
		want   Phase
		action Action
	}
	renewed, readopted := Renewed{end + ttl}, Readopted{end + ttl}
	rows := map[Policy][]row{}
	for _, p := range []Policy{Keep, Cut} {
		rows[p] = []row{
			{Held, renewed, Held, Nothing},
			{Held, SessionEnded{}, Doubt, Nothing},
			{Held, readopted, Held, Nothing},
			{Held, Replaced{}, Cutting, StartCut},
			{Held, CutVerified{}, Gone, Nothing},
			{Held, Tick{}, Held, Nothing},

			{Doubt, renewed, Doubt, Nothing}, // its session has ended
			{Doubt, SessionEnded{}, Doubt, Nothing},
			{Doubt, readopted, Held, Nothing},
			{Doubt, Replaced{}, Cutting, StartCut},
			{Doubt, CutVerified{}, Gone, Nothing},
			{Doubt, Tick{}, Doubt, Nothing},

			{Cutting, renewed, Cutting, Nothing},
			{Cutting, SessionEnded{}, Cutting, Nothing},
			{Cutting, readopted, Cutting, Nothing},
			{Cutting, Replaced{}, Cutting, Nothing},
			{Cutting, CutVerified{}, Gone, Nothing},
			{Cutting, Tick{}, Cutting, Nothing},

			{Gone, renewed, Gone, Nothing},
			{Gone, SessionEnded{}, Gone, Nothing},
			{Gone, readopted, Gone, Nothing},
			{Gone, Replaced{}, Gone, Nothing},
			{Gone, CutVerified{}, Gone, Nothing},
			{Gone, Tick{}, Gone, Nothing},
		}
	}
	rows[Keep] = append(rows[Keep], []row{
		{Uncertain, renewed, Uncertain, Nothing},
		{Uncertain, SessionEnded{}, Uncertain, Nothing},
		{Uncertain, readopted, Held, Nothing},
		{Uncertain, Replaced{}, Cutting, StartCut},
		{Uncertain, CutVerified{}, Gone, Nothing},
		{Uncertain, Tick{}, Uncertain, Nothing},
	}...)
	for p, rows := range rows {
		for _, r := range rows {
			v := in(t, p, r.phase)
			now := start
			if r.phase != Held && r.phase != Doubt {
				now = end
			}
			got, act := Step(v, r.event, now)
			if got.Phase != r.want || act != r.action {
				t.Errorf("%s, %s, %T: got %s, %q, want %s, %q", p, r.phase, r.event, got.Phase, act, r.want, r.action)
			}
			if again, act := Step(got, Tick{}, now); again != got || act != Nothing {
				t.Errorf("%s, %s, %T: a tick at once changes it to %+v, %q", p, r.phase, r.event, again, act)
			}
			wantMount := r.want == Held
			if err := got.MayMount(now); (err == nil) != wantMount {
				t.Errorf("%s, %s, %T: mount: %v", p, r.phase, r.event, err)
			}
		}
	}
}

// TestTime has what time alone does, to a lease that nothing more is heard of.
func TestTime(t *testing.T) {
	type point struct {
		now    time.Duration
		want   Phase
		action Action
	}
	const doubt = start + ttl/2
	for name, c := range map[string]struct {
		from   State
		points []point
	}{
		"keep": {New(Keep, ttl, cutTime, end), []point{
			{start, Held, Nothing}, {doubt - 1, Held, Nothing}, {doubt, Doubt, Nothing},
			{end - 1, Doubt, Nothing}, {end, Uncertain, Nothing}, {end + 1000*s, Uncertain, Nothing},
		}},
		"cut": {New(Cut, ttl, cutTime, end), []point{
			{doubt, Doubt, Nothing}, {end - 1, Doubt, Nothing}, {end, Cutting, StartCut},
			{end + cutTime - 1, Cutting, Nothing}, {end + cutTime, Cutting, Reboot},
			{end + cutTime + 1, Cutting, Reboot},
		}},
		"cut, looked at late": {New(Cut, ttl, cutTime, end), []point{
			{end + 2*s, Cutting, StartCut}, {end + cutTime, Cutting, Reboot},
		}},
		"cut, looked at too late": {New(Cut, ttl, cutTime, end), []point{{end + cutTime, Cutting, Reboot}}},
		"cut, replaced before the lease is over": {in(t, Cut, Held).after(Replaced{}, start), []point{
			{end, Cutting, Nothing}, {end + cutTime, Cutting, Reboot},
		}},
		"keep, replaced: no reboot": {in(t, Keep, Uncertain).after(Replaced{}, end+s), []point{
			{end + 1000*s, Cutting, Nothing},
		}},
		"cut, verified in time": {in(t, Cut, Gone), []point{{end + cutTime, Gone, Nothing}}},
		"no lease that ends": {New(Cut, 0, cutTime, Never), []point{
			{0, Held, Nothing}, {start, Held, Nothing}, {Never - 1, Held, Nothing},
		}},
		"no lease that ends, and the session has": {New(Cut, 0, cutTime, Never).after(SessionEnded{}, start), []point{
			{end, Doubt, Nothing},
		}},
		"no lease that ends, replaced": {New(Cut, 0, cutTime, Never).after(Replaced{}, start), []point{
			{start, Cutting, Nothing}, {start + cutTime, Cutting, Reboot},
		}},
		"a deadline that was forgotten is over": {New(Cut, ttl, cutTime, 0), []point{{start, Cutting, Reboot}}},
	} {
		v := c.from
		for _, p := range c.points {
			var act Action
			v, act = Step(v, Tick{}, p.now)
			if v.Phase != p.want || act != p.action {
				t.Errorf("%s, at %v: got %s, %q, want %s, %q", name, p.now, v.Phase, act, p.want, p.action)
			}
		}
	}
}

func (s State) after(e Event, now time.Duration) State {
	s, _ = Step(s, e, now)
	return s
}

func TestLateEvents(t *testing.T) {
	for name, c := range map[string]struct {
		from   State
		event  Event
		now    time.Duration
		want   Phase
		action Action
	}{
		"a renewal at the end of the lease":              {in(t, Cut, Held), Renewed{end + ttl}, end, Cutting, StartCut},
		"the same under keep, which goes on":             {in(t, Keep, Held), Renewed{end + ttl}, end, Uncertain, Nothing},
		"a renewal just before":                          {in(t, Cut, Held), Renewed{end + ttl}, end - 1, Held, Nothing},
		"a renewal that was answered late leaves doubt":  {in(t, Cut, Held), Renewed{end + s}, end - 1, Doubt, Nothing},
		"an answer to an older renewal shortens nothing": {in(t, Cut, Held), Renewed{start}, start, Held, Nothing},
		"a re-adoption after the lease":                  {in(t, Cut, Held), Readopted{end + ttl}, end, Cutting, StartCut},
		"the same under keep revives it":                 {in(t, Keep, Held), Readopted{end + ttl}, end, Held, Nothing},
		"a re-adoption whose own lease is over":          {in(t, Cut, Held), Readopted{start}, start, Cutting, StartCut},
		"the same of a volume that is uncertain":         {in(t, Keep, Uncertain), Readopted{end}, end, Uncertain, Nothing},
		"a re-adoption may shorten a lease":              {in(t, Cut, Doubt), Readopted{start + ttl/2}, start, Doubt, Nothing},
		"the guard has cut what was due":                 {in(t, Cut, Held), CutVerified{}, end + cutTime, Gone, Nothing},
		"replaced when the lease is over":                {in(t, Cut, Held), Replaced{}, end, Cutting, StartCut},
		"replaced when the cut should have been done":    {in(t, Cut, Held), Replaced{}, end + cutTime, Cutting, Reboot},
	} {
		got, act := Step(c.from, c.event, c.now)
		if got.Phase != c.want || act != c.action {
			t.Errorf("%s: got %s, %q, want %s, %q", name, got.Phase, act, c.want, c.action)
		}
	}
	// A session that came later is none of the lease's.
	v := in(t, Cut, Held).after(SessionEnded{}, start).after(Renewed{end + ttl}, start+s)
	if v.Deadline != end {
		t.Errorf("the lease goes on until %v, want %v", v.Deadline, end)
	}
}

func TestMayMountSaysWhy(t *testing.T) {
	for _, c := range []struct {
		from State
		now  time.Duration
		want string
	}{
		{in(t, Cut, Held), start + 13*s, "was not renewed for 13s"},
		{in(t, Cut, Doubt), start, "has ended"},
		{in(t, Keep, Held), end + 7*s, "over for 7s"},
		{in(t, Cut, Held), end, "is cutting it off"},
		{in(t, Keep, Gone), end, "has cut it off"},
	} {
		err := c.from.MayMount(c.now)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s at %v: %v, want %q", c.from.Phase, c.now, err, c.want)
		}
	}
}

// TestRandomEvents holds Step to what must be so whatever happens when.
func TestRandomEvents(t *testing.T) {
	order := map[Phase]int{Held: 0, Doubt: 1, Uncertain: 2, Cutting: 3, Gone: 4}
	seen := map[Phase]int{}
	for seed := range uint64(5000) {
		random := rand.New(rand.NewPCG(seed, 0))
		upTo := func(d time.Duration) time.Duration { return time.Duration(random.Int64N(int64(d))) }
		policy := []Policy{Keep, Cut}[random.IntN(2)]
		now := start
		v := New(policy, ttl, cutTime, end)
		cuts := 0
		for range 40 {
			now += upTo([]time.Duration{s, ttl / 3, ttl}[random.IntN(3)])
			var e Event
			switch random.IntN(12) {
			case 0:
				e = SessionEnded{}
			case 1:
				e = Readopted{now + upTo(ttl+1)}
			case 2:
				e = Replaced{}
			case 3:
				e = CutVerified{}
			case 4, 5:
				e = Tick{}
			default:
				e = Renewed{now - upTo(ttl) + ttl}
			}
			before := v
			var act Action
			v, act = Step(before, e, now)
			seen[v.Phase]++
			fail := func(what string) {
				t.Helper()
				t.Errorf("seed %d: %s: %+v, %T at %v: %+v, %q", seed, what, before, e, now, v, act)
			}
			overBefore := before.Deadline <= now
			_, renews := e.(Renewed)
			_, readopts := e.(Readopted)
			switch {
			case overBefore && order[v.Phase] <= order[Doubt] && !readopts:
				fail("revived")
			case overBefore && policy == Cut && v.Phase != Cutting && v.Phase != Gone:
				fail("the lease is over and it is not cut off")
			case order[before.Phase] >= order[Cutting] && order[v.Phase] < order[before.Phase]:
				fail("back from a cut")
			case order[v.Phase] < order[before.Phase] && !readopts && !(renews && before.Phase == Doubt && !before.Ended):
				fail("back to an earlier phase")
			case v.Deadline < before.Deadline && !readopts:
				fail("a lease was shortened")
			case v.Deadline > before.Deadline && (before.Ended || overBefore) && !readopts:
				fail("a lease that is over, or without a session, was prolonged")
			case v.MayMount(now) == nil && (v.Deadline <= now || v.Ended || v.Phase != Held):
				fail("a mount is allowed")
			case act == Reboot && (policy == Keep || now < v.Deadline+cutTime):
				fail("an early reboot")
			case policy == Cut && v.Phase == Cutting && now >= v.Deadline+cutTime && act != Reboot:
				fail("no reboot")
			}
			if act == StartCut {
				cuts++
			}
			began := order[before.Phase] < order[Cutting] && v.Phase == Cutting
			if began != (act == StartCut) && !(began && act == Reboot) || cuts > 1 {
				fail("it is not begun to be cut once")
			}
			// Whether it was looked at in between changes nothing.
			later := now + upTo(ttl)
			direct, _ := Step(v, Tick{}, later)
			twice, _ := Step(v.after(Tick{}, now+upTo(later-now+1)), Tick{}, later)
			if direct != twice {
				fail("another look changes it")
			}
		}
	}
	for p := range order {
		if seen[p] == 0 {
			t.Errorf("%s did not occur", p)
		}
	}
}
