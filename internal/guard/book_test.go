package guard_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dvol/dvold/internal/cut"
	"github.com/dvol/dvold/internal/guard"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// wantOrders fails the test unless these orders stand, now and for a dvold that
// is started again.
func (w *world) wantOrders(want ...guard.Order) {
	w.t.Helper()
	for name, b := range map[string]*guard.Book{"the book": w.book, "the book, opened again": w.open()} {
		got := b.Orders()
		for i := range got {
			if got[i].Since == 0 {
				w.t.Errorf("%s: order %s has no time", name, got[i].ID)
			}
			got[i].Since = 0
		}
		if len(got) == 0 && len(want) == 0 {
			continue
		}
		if !reflect.DeepEqual(got, want) {
			w.t.Errorf("%s has\n%+v\nwant\n%+v", name, got, want)
		}
	}
}

func TestBook(t *testing.T) {
	w := newWorld(t)
	w.wantOrders()
	a, b := w.order("a", time.Hour), w.order("b", time.Hour)
	b.Incarnation = 2
	w.put(a)
	w.put(b)
	w.wantOrders(a, b)
	a.Device, a.Root, a.Sole = "8:1", "/a", true // once it is mounted
	w.put(a)
	w.wantOrders(a, b)
	a.Deadline += time.Minute
	if err := w.book.Renew(1, a.Deadline); err != nil {
		t.Fatal(err)
	}
	w.wantOrders(a, b)
	if err := w.book.Renew(1, a.Deadline-time.Second); err != nil {
		t.Fatal(err)
	}
	w.wantOrders(a, b)
	late := a
	late.Deadline -= time.Second // from before the renewal
	w.put(late)
	w.wantOrders(a, b)
	for range 2 {
		if err := w.book.Remove("b"); err != nil {
			t.Fatal(err)
		}
		w.wantOrders(a)
	}
	a.Incarnation, a.Deadline = 3, a.Deadline-time.Second
	w.put(a)
	w.wantOrders(a)
}

func TestPutRefuses(t *testing.T) {
	w := newWorld(t)
	for name, spoil := range map[string]func(*guard.Order){
		"ID":         func(o *guard.Order) { o.ID = "" },
		"mountpoint": func(o *guard.Order) { o.Mountpoint = "mnt" },
		"cut time":   func(o *guard.Order) { o.CutTime = 0 },
		"deadline":   func(o *guard.Order) { o.Deadline = 0 },
	} {
		o := w.order("a", time.Hour)
		spoil(&o)
		if err := w.book.Put(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	w.wantOrders()
}

// An order of the same volume is another one after a removal, or for another
// stay: what was done about the first is nothing to the second.
func TestSince(t *testing.T) {
	w := newWorld(t)
	o := w.order("a", time.Hour)
	var seen []time.Duration
	put := func(o guard.Order) {
		t.Helper()
		w.put(o)
		seen = append(seen, w.book.Orders()[0].Since)
	}
	w.book.SetClock(func() time.Duration { return 1000 }) // two in one tick
	put(o)
	o.Device, o.Now = "8:1", true
	put(o)
	if seen[0] != seen[1] {
		t.Errorf("an order that was changed is another: %v", seen)
	}
	if err := w.book.Remove("a"); err != nil {
		t.Fatal(err)
	}
	put(o)
	o.Incarnation++
	put(o)
	w.book = w.open()
	put(o)
	if seen[2] == seen[0] || seen[3] == seen[2] || seen[4] != seen[3] {
		t.Errorf("orders are told apart by %v", seen)
	}
}

func TestNothingToDoIsNoWrite(t *testing.T) {
	w := newWorld(t)
	o := w.order("a", time.Hour)
	w.put(o)
	before, err := os.Stat(w.file("orders.json"))
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"Renew to the same":        w.book.Renew(1, o.Deadline),
		"Renew to an earlier":      w.book.Renew(1, o.Deadline-1),
		"Renew of another stay":    w.book.Renew(2, o.Deadline+1),
		"Remove of what isn't":     w.book.Remove("b"),
		"Renew with no such order": w.open().Renew(7, o.Deadline+1),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if after, err := os.Stat(w.file("orders.json")); err != nil || !os.SameFile(before, after) {
		t.Errorf("the file was written: %v", err)
	}
}

// What is due can't be called off any more, for the guard may have begun; also
// not by a write during which it became due.
func TestOver(t *testing.T) {
	const end = 1000 * time.Second
	for name, c := range map[string]struct {
		change func(*guard.Book, guard.Order) error
		over   bool
	}{
		"renewed":           {func(b *guard.Book, o guard.Order) error { return b.Renew(1, end+1) }, true},
		"put for longer":    {func(b *guard.Book, o guard.Order) error { o.Deadline++; return b.Put(o) }, true},
		"put for a stay":    {func(b *guard.Book, o guard.Order) error { o.Deadline++; o.Incarnation++; return b.Put(o) }, true},
		"put with a device": {func(b *guard.Book, o guard.Order) error { o.Device = "8:1"; return b.Put(o) }, false},
		"replaced":          {func(b *guard.Book, o guard.Order) error { o.Now = true; return b.Put(o) }, false},
		"replaced, later":   {func(b *guard.Book, o guard.Order) error { o.Now = true; o.Deadline++; return b.Put(o) }, false},
		"removed":           {func(b *guard.Book, o guard.Order) error { return b.Remove(o.ID) }, false},
		"renewed elsewhere": {func(b *guard.Book, o guard.Order) error { return b.Renew(2, end+1) }, false},
	} {
		// The clock is read twice in a change: before it, and after it.
		for when, clock := range map[string][]time.Duration{
			"in time": {end - 2, end - 1}, "too late": {end, end + 1}, "meanwhile": {end - 1, end},
		} {
			t.Run(name+" "+when, func(t *testing.T) {
				w := newWorld(t)
				o := w.order("a", 0)
				o.Deadline = end
				other := w.order("b", time.Hour)
				other.Incarnation, other.Deadline = 2, end-time.Second
				w.book.SetClock(func() time.Duration { return 1 })
				w.put(o)
				w.put(other)
				before := w.read("orders.json")
				times := clock
				w.book.SetClock(func() time.Duration {
					now := times[0]
					times = times[min(1, len(times)-1):]
					return now
				})
				if name == "put for a stay" {
					times = slices.Concat(clock[:1], clock) // its own time
				}
				if name == "renewed elsewhere" {
					w.book.SetClock(func() time.Duration { return end - 2*time.Second })
				}
				err := c.change(w.book, o)
				if c.over && when != "in time" {
					if !errors.Is(err, guard.ErrOver) {
						t.Errorf("got %v, want %v", err, guard.ErrOver)
					}
					if after := w.read("orders.json"); after != before {
						t.Errorf("the orders changed:\n%s%s", before, after)
					}
					return
				}
				if err != nil || w.read("orders.json") == before {
					t.Errorf("got %v, and the orders changed: %v", err, w.read("orders.json") != before)
				}
			})
		}
	}
}

// That the host was replaced can't be taken back either, and does not keep its
// lease from being renewed, nor others from it.
func TestRenewWhereOneIsReplaced(t *testing.T) {
	w := newWorld(t)
	a, b := w.order("a", time.Hour), w.order("b", time.Hour)
	a.Now = true
	w.put(a)
	w.put(b)
	a.Deadline += time.Minute
	b.Deadline = a.Deadline
	if err := w.book.Renew(1, a.Deadline); err != nil {
		t.Fatal(err)
	}
	w.wantOrders(a, b)
	back := a
	back.Now = false
	if err := w.book.Put(back); !errors.Is(err, guard.ErrOver) {
		t.Errorf("got %v, want %v", err, guard.ErrOver)
	}
	w.wantOrders(a, b)
}

func TestConcurrentChanges(t *testing.T) {
	w := newWorld(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 20 {
				o := w.order(fmt.Sprint(i), time.Hour)
				if err := errors.Join(w.book.Put(o), w.book.Renew(1, o.Deadline+time.Hour)); err != nil {
					t.Error(err)
				}
				w.book.Guarded()
				w.book.Outcome(o.ID)
				if n%2 == 0 {
					if err := w.book.Remove(o.ID); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	if got := w.book.Orders(); len(got) != 8 || !reflect.DeepEqual(got, w.open().Orders()) {
		t.Errorf("in memory\n%+v\nin the file\n%+v", got, w.open().Orders())
	}
}

// A tmpfs that somebody fills must not cost volumes their leases.
func TestFullDirectory(t *testing.T) {
	hosttest.Root(t)
	w := &world{t: t, dir: hosttest.Tmpfs(t, "size=1m")}
	w.book = w.open()
	o := w.order("a", time.Hour)
	w.put(o)
	fill := func() {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(w.dir, "filler"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	fill()
	if err := os.WriteFile(w.file("x"), []byte("x"), 0o600); err == nil {
		t.Fatal("the directory isn't full")
	}
	for range 3 {
		o.Deadline++
		if err := w.book.Renew(1, o.Deadline); err != nil {
			t.Fatalf("renewal on a full tmpfs: %v", err)
		}
		w.wantOrders(o)
		fill()
	}
}

// Somebody empties /run/dvol: the next change brings it back.
func TestEmptiedDirectory(t *testing.T) {
	w := newWorld(t)
	o := w.order("a", time.Hour)
	w.put(o)
	if err := os.RemoveAll(filepath.Join(w.dir, "run")); err != nil {
		t.Fatal(err)
	}
	o.Deadline++
	if err := w.book.Renew(1, o.Deadline); err != nil {
		t.Fatal(err)
	}
	w.wantOrders(o)
}

func TestFailedWriteChangesNothing(t *testing.T) {
	w := newWorld(t)
	o := w.order("a", time.Hour)
	w.put(o)
	if err := os.Mkdir(w.file("orders.json.new"), 0o700); err != nil {
		t.Fatal(err)
	}
	longer := o
	longer.Deadline++
	for what, err := range map[string]error{
		"Put": w.book.Put(longer), "Renew": w.book.Renew(1, longer.Deadline), "Remove": w.book.Remove("a"), "Put of another": w.book.Put(w.order("b", time.Hour)),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	w.wantOrders(o)
}

func TestOpenBook(t *testing.T) {
	w := newWorld(t)
	w.put(w.order("a", time.Hour))
	good := w.read("orders.json")
	boot := strings.Split(strings.Split(good, `"boot":"`)[1], `"`)[0]
	for name, c := range map[string]struct {
		text  string
		says  string // in the error; empty if there is none
		count int
	}{
		"good":             {good, "", 1},
		"unknown fields":   {strings.Replace(good, `"schema":1`, `"schema":1,"colour":"red"`, 1), "", 1},
		"another boot":     {strings.Replace(good, boot, "another", 1), "", 0},
		"empty":            {"", "damaged", 0},
		"truncated":        {good[:len(good)/2], "damaged", 0},
		"not JSON":         {"orders", "damaged", 0},
		"no schema":        {strings.Replace(good, `"schema":1,`, "", 1), "damaged", 0},
		"newer":            {strings.Replace(good, `"schema":1`, `"schema":2`, 1), "newer", 0},
		"newer, otherwise": {`{"schema":2,"orders":"none"}`, "newer", 0},
		"no book":          {strings.Replace(good, `"book":"`, `"brook":"`, 1), "damaged", 0},
		"twice":            {strings.Replace(good, `"orders":[`, `"orders":[`+strings.Split(strings.Split(good, `"orders":[`)[1], "]")[0]+",", 1), "damaged", 0},
		"no cut time":      {strings.Replace(good, `"cut_time":1000000000`, `"cut_time":0`, 1), "damaged", 0},
	} {
		w.write("orders.json", c.text)
		b, err := guard.OpenBook(w.guardDir())
		if c.says != "" {
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: got %v, want an error that says %s", name, err, c.says)
			}
			continue
		}
		if err != nil || len(b.Orders()) != c.count {
			t.Errorf("%s: got %v, want %d orders", name, err, c.count)
		}
	}
}

// A file as the first dvold that had a guard wrote it.
func TestSchema1(t *testing.T) {
	w := newWorld(t)
	w.put(w.order("x", time.Hour))
	boot := strings.Split(strings.Split(w.read("orders.json"), `"boot":"`)[1], `"`)[0]
	text, err := os.ReadFile("testdata/schema1/orders.json")
	if err != nil {
		t.Fatal(err)
	}
	w.write("orders.json", strings.Replace(string(text), "BOOT", boot, 1))
	want := []guard.Order{{
		Volume: cut.Volume{
			ID: "db-0123456789ab", Mountpoint: "/run/dvol/mnt/db-0123456789ab", Device: "252:16", Root: "/volumes/db", Sole: true, Servers: prefixes(t, "10.0.0.0/24", "fd00::1/128"),
		}, Incarnation: 7, Deadline: 1234567890123, CutTime: 5 * time.Second, Now: true, Since: 1200000000000,
	}, {
		Volume: cut.Volume{ID: "web-ba9876543210", Mountpoint: "/run/dvol/mnt/web-ba9876543210"}, Incarnation: 7, Deadline: 1234567890123, CutTime: 5 * time.Second, Since: 1210000000000,
	}}
	if got := w.open().Orders(); !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

func prefixes(t *testing.T, texts ...string) (all []netip.Prefix) {
	t.Helper()
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}
