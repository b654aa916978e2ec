package scale_test

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/coordination/consul/consultest"
)

// usage is what has been used so far: requests of hosts with lines, and processors.
type usage struct {
	at       time.Time
	counts   counts
	leader   time.Duration // of processors
	follower time.Duration // both
	own      time.Duration // this process: all hosts, their lines, and the test
}

func (f *fleet) usage() usage {
	f.Helper()
	u := usage{at: time.Now(), counts: f.counts()}
	leader := f.consul.Leader()
	for i := range 3 {
		if took := f.processors(f.consul.PID(i)); i == leader {
			u.leader = took
		} else {
			u.follower += took
		}
	}
	u.own = f.processors(os.Getpid())
	return u
}

// processors is how long a process has run.
func (f *fleet) processors(pid int) time.Duration {
	f.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		f.Fatal(err)
	}
	var user, system int64
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		f.Fatal(err)
	}
	return time.Duration(user+system) * time.Second / 100
}

// resident is the memory of a process, in MiB.
func (f *fleet) resident(pid int) int {
	f.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		f.Fatal(err)
	}
	var size, pages int
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		f.Fatal(err)
	}
	return pages * unix.Getpagesize() >> 20
}

// report logs what was used since, by so many hosts with lines, or calls of those.
func (f *fleet) report(what string, before usage, hosts int) {
	f.Helper()
	now := f.usage()
	took, c := now.at.Sub(before.at), now.counts.since(before.counts)
	each := func(n int64) float64 { return float64(n) / float64(hosts) }
	busy := func(now, before time.Duration) float64 { return 100 * (now - before).Seconds() / took.Seconds() }
	f.Logf("%s: %.1f s; each of %d: %.1f requests (renewals %.1f, waits %.1f, reads %.1f, writes %.1f), %.1f/min, answers %.1f KiB; processors: leader %.0f %%, followers %.0f %%, hosts %.0f %%",
		what, took.Seconds(), hosts, each(c.all()), each(c.requests[consultest.Renewal]), each(c.requests[consultest.Waiting]), each(c.requests[consultest.Reading]), each(c.requests[consultest.Writing]),
		each(c.all())/took.Minutes(), each(c.bytes)/1024,
		busy(now.leader, before.leader), busy(now.follower, before.follower), busy(now.own, before.own))
	for text, n := range f.log.take() {
		f.Logf("  logged %d times: %s", n, text)
	}
}

// memory logs how much Consul and the hosts need.
func (f *fleet) memory(what string) {
	f.Helper()
	leader := f.consul.Leader()
	f.Logf("%s: memory of the leader %d MiB, of a follower %d MiB, of all hosts %d MiB", what,
		f.resident(f.consul.PID(leader)), f.resident(f.consul.PID((leader+1)%3)), f.resident(os.Getpid()))
}
