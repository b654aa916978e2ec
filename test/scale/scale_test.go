package scale_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	hosts  = flag.Int("hosts", 100, "how many hosts BenchmarkScale has; a fifth of them is lost")
	amount = flag.Int("volumes", 10_000, "how many volumes it has")
	ttl    = flag.Duration("ttl", 20*time.Second, "its lease_ttl")
	rest   = flag.Duration("rest", time.Minute, "for how long it counts what hosts ask at rest")
)

// BenchmarkScale measures a fleet. It is to be run once, and logs what it finds:
//
//	go test ./test/scale -run '^$' -bench Scale -benchtime 1x -timeout 1h -hosts 1000 -volumes 100000
func BenchmarkScale(b *testing.B) {
	f := newFleet(b, *hosts, *ttl)
	// Those that are lost later, those that take over from them, which have lines, too, and the others.
	var lost, takers, left []*member
	for i, h := range f.hosts {
		switch i % 5 {
		case 0:
			lost = append(lost, h)
		case 1:
			takers = append(takers, h)
		}
		if i%5 > 0 {
			left = append(left, h)
		}
	}
	counted := len(lost) + len(takers)
	f.report("start", f.first, counted)
	f.quiet("with no volumes", counted)

	before := f.usage()
	f.each(f.hosts, func(_ int, h *member) error { return f.use(h, own(h), "exclusive") })
	f.report("an exclusive volume is made and mounted on each", before, counted)
	f.load(0, *amount-*hosts)
	f.quiet(fmt.Sprintf("with %d volumes", *amount), counted)
	f.quietBeside(10*time.Millisecond, counted)
	f.lists(takers[0])
	f.calls("all is well", takers, 100)
	f.loseSessions(lost, takers)
	f.die(lost, takers, left)
	var archive []byte
	began := time.Now()
	f.consul.Must(http.MethodGet, "/v1/snapshot", nil, &archive)
	f.Logf("snapshot: %d KiB in %v", len(archive)>>10, time.Since(began))
}

// own is the volume that a host makes and mounts.
func own(h *member) string { return "own-" + h.name }

// use makes a volume and mounts it.
func (f *fleet) use(h *member, name, access string) error {
	if err := h.Create(f.Context(), name, map[string]string{"access": access}); err != nil {
		return err
	}
	_, err := h.Mount(f.Context(), name, "c1", f.engine)
	return err
}

// quiet counts what hosts ask that nobody calls.
func (f *fleet) quiet(what string, counted int) {
	f.Helper()
	time.Sleep(10 * time.Second) // what was begun ends
	before := f.usage()
	time.Sleep(*rest)
	f.report("rest "+what, before, counted)
	f.memory("rest " + what)
}

// quietBeside counts the same while something is written as often as that.
func (f *fleet) quietBeside(every time.Duration, counted int) {
	f.Helper()
	before := f.usage()
	n := 0
	for tick := time.NewTicker(every); time.Since(before.at) < *rest/2; n++ {
		<-tick.C
		f.put()
	}
	f.report(fmt.Sprintf("rest while others write %.0f times a second", float64(n)/time.Since(before.at).Seconds()), before, counted)
}

// put writes to Consul as somebody does who begins to hold a volume: the baseline
// of what is timed here.
func (f *fleet) put() {
	f.Helper()
	value := fmt.Sprintf("%0300d", f.puts.Add(1)) // Consul does not write what is there already
	f.consul.Must(http.MethodPut, "/v1/txn", []any{set("dvol/records/baseline/a", value), set("dvol/records/baseline/b", value)}, nil)
}

// times are what one thing took, each time.
type times []time.Duration

func (t *times) add(do func()) {
	began := time.Now()
	do()
	*t = append(*t, time.Since(began))
}

func (t times) at(percent int) time.Duration {
	sorted := slices.Sorted(slices.Values(t))
	return sorted[(len(sorted)*percent+99)/100-1]
}

// lists times lists of all volumes, and of all hosts.
func (f *fleet) lists(h *member) {
	f.Helper()
	var keys, first, again, known times
	for i := range 5 {
		f.must(h.Create(f.Context(), fmt.Sprint("passing-", i), nil))
		keys.add(func() {
			var all []string
			f.consul.Must(http.MethodGet, "/v1/kv/dvol/records/volumes/?keys&stale", nil, &all)
		})
		list := func() {
			all, err := h.Names(f.Context())
			if f.must(err); len(all) < *amount {
				f.Errorf("%d volumes are listed, want %d", len(all), *amount)
			}
		}
		first.add(list)
		again.add(list)
		known.add(func() {
			_, err := h.Hosts(f.Context())
			f.must(err)
		})
	}
	f.Logf("list of %d volumes: %v, then %v; a keys-only read %v, ratio %.1f; list of %d hosts %v", *amount,
		first.at(50), again.at(50), keys.at(50), float64(first.at(50))/float64(keys.at(50)), *hosts, known.at(50))
}

func (f *fleet) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// calls times n lives of a volume, one after the other, on one host after the other.
func (f *fleet) calls(what string, on []*member, n int) {
	f.Helper()
	var put, create, mount, unmount, remove times
	before := f.usage()
	for i := range n {
		h, name := on[i%len(on)], fmt.Sprintf("called-%d-%d", before.at.UnixNano(), i)
		put.add(f.put)
		create.add(func() { f.must(h.Create(f.Context(), name, nil)) })
		mount.add(func() {
			_, err := h.Mount(f.Context(), name, "c1", f.engine)
			f.must(err)
		})
		unmount.add(func() { f.must(h.Unmount(f.Context(), name, "c1")) })
		remove.add(func() { f.must(h.Remove(f.Context(), name, nil)) })
	}
	for _, row := range []struct {
		what string
		took times
	}{{"create", create}, {"mount", mount}, {"unmount", unmount}, {"remove", remove}} {
		f.Logf("%s, %s: p50 %v, p99 %v; one transaction: p50 %v, p99 %v; ratio %.1f", row.what, what, row.took.at(50), row.took.at(99), put.at(50), put.at(99), float64(row.took.at(50))/float64(put.at(50)))
	}
	f.report("these calls", before, n)
}

// loseSessions ends the sessions of some hosts at once, which go on and join
// again, and times calls on the others meanwhile.
func (f *fleet) loseSessions(lost, others []*member) {
	f.Helper()
	var sessions []struct{ ID, Name string }
	f.consul.Must(http.MethodGet, "/v1/session/list", nil, &sessions)
	byName := make(map[string]string)
	for _, s := range sessions {
		byName[s.Name] = s.ID
	}
	incarnations := f.incarnations()
	before := f.usage()
	f.each(lost, func(_ int, h *member) error {
		f.consul.Must(http.MethodPut, "/v1/session/destroy/"+byName["dvold "+h.name], nil, nil)
		return nil
	})
	var done atomic.Bool
	called := make(chan struct{})
	go func() {
		defer close(called)
		for !done.Load() {
			f.calls("while others join again", others, 10)
		}
	}()
	took := f.eventually("all are back, and own what they owned", func() bool {
		return count(lost, func(h *member) bool {
			s := h.Stats()
			return s.InCluster && s.Reachable && s.Exclusive[string("held")] == 1
		}) == len(lost)
	})
	done.Store(true)
	<-called
	f.report(fmt.Sprintf("%d hosts lost their sessions, and were back after %v", len(lost), took), before, len(lost))
	now := f.incarnations()
	again := count(f.hosts, func(h *member) bool { return now[h.name] != incarnations[h.name] })
	if again != len(lost) {
		f.Errorf("%d hosts have joined again, want %d", again, len(lost))
	}
}

// incarnations of all hosts, by name, as Consul has them.
func (f *fleet) incarnations() map[string]uint64 {
	f.Helper()
	var pairs []struct {
		Key   string
		Value []byte
	}
	f.consul.Must(http.MethodGet, "/v1/kv/dvol/hosts/?recurse", nil, &pairs)
	all := make(map[string]uint64)
	for _, p := range pairs {
		var entry struct{ Incarnation uint64 }
		f.must(json.Unmarshal(p.Value, &entry))
		all[p.Key[len("dvol/hosts/"):]] = entry.Incarnation
	}
	return all
}

// die kills some hosts at once, and has others mount the volumes of those: half of
// them at once, and half when Consul has ended the sessions.
func (f *fleet) die(lost, takers, left []*member) {
	f.Helper()
	incarnations := f.incarnations()
	f.kill(lost)
	f.hosts = left
	before := f.usage()
	took := make(times, len(lost))
	takeOver := func(i int) error {
		began := time.Now()
		_, err := takers[i].Mount(f.Context(), own(lost[i]), "c2", f.engine)
		took[i] = time.Since(began)
		return err
	}
	half := len(lost) / 2
	var waiting sync.WaitGroup
	waiting.Go(func() { f.atOnce(half, takers[:half], func(i int, _ *member) error { return takeOver(i) }) })
	ended := f.eventually("their sessions have ended", func() bool { return f.sessions() == len(left) })
	began := time.Now()
	waiting.Wait()
	f.report(fmt.Sprintf("%d volumes are waited for; Consul ended the sessions after %v, and the last mount was answered %v after that; p50 %v", half, ended, time.Since(began), took[:half].at(50)), before, half)

	before = f.usage()
	f.atOnce(half, takers[half:], func(i int, _ *member) error { return takeOver(half + i) })
	f.report(fmt.Sprintf("%d volumes are taken over at once: p50 %v, p99 %v", len(lost)-half, took[half:].at(50), took[half:].at(99)), before, len(lost)-half)
	now := f.incarnations()
	if again := count(left, func(h *member) bool { return now[h.name] != incarnations[h.name] }); again != 0 {
		f.Errorf("%d hosts that were well have joined again", again)
	}
}

// sessions is how many there are.
func (f *fleet) sessions() int {
	f.Helper()
	var all []json.RawMessage
	f.consul.Must(http.MethodGet, "/v1/session/list?stale", nil, &all)
	time.Sleep(200 * time.Millisecond)
	return len(all)
}
