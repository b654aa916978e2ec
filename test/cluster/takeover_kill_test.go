package cluster_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// A host dies while a container writes; another takes over; and the other way
// round, again and again. Nothing is lost of what the container had been told
// was on the storage.
func TestHostIsKilledUnderWriter(t *testing.T) {
	c := takeoverCluster(t, 2)
	from, to := c.h(1), c.h(2)
	const runs = 3
	p := place{"fenced", "db"}
	from.createExclusive(p.pool, p.name)
	from.beat("run1", p.name)
	var pauses []time.Duration
	for run := 1; run <= runs; run++ {
		c.atOnce(func() error { return c.beatsOn(p, from, lab.SinceBoot()+time.Second) }) // there is something to lose
		killed := lab.SinceBoot()
		from.must(from.Kill())
		to.takeOver(fmt.Sprint("run", run+1), p.name, killed, 3*lease+machineTime)
		c.atOnce(func() error { return c.beatsOn(p, to, killed) })

		pause, told := c.tookOver(p, from, to, killed)
		pauses = append(pauses, pause)
		if told < 5 {
			t.Errorf("run %d: %s was told of %d beats", run, from.Name(), told)
		}
		c.atOnce(func() error { return from.back(c) })
		from.removeContainers()
		from, to = to, from
	}
	t.Logf("from kill to first write: %v", pauses)
	beats, _ := c.beatsOf(p.pool, p.name)
	var order []string
	for _, b := range beats {
		if len(order) == 0 || order[len(order)-1] != b.Host {
			order = append(order, b.Host)
		}
	}
	want(t, "order of writers", strings.Join(order, " "), "h1 h2 h1 h2")
}

// tookOver checks that what a host, which was killed, had been told was written has
// landed, and returns from that moment to the first write of the one that took
// over, and how much it had been told.
func (c *cluster) tookOver(p place, from, to *host, killed time.Duration) (pause time.Duration, told int) {
	c.t.Helper()
	beats, err := c.beatsOf(p.pool, p.name)
	if err != nil {
		c.t.Error(err)
	}
	landed := make(map[lab.Beat]bool)
	first := time.Duration(0)
	for _, b := range beats {
		landed[b] = true
		if b.Host == to.Name() && b.At > killed && first == 0 {
			first = b.At
		}
	}
	said := from.said(c.t)
	for _, b := range said {
		if !landed[b] {
			c.t.Errorf("%s was told that %+v was written, but it is lost", from.Name(), b)
		}
	}
	return (first - killed).Round(time.Millisecond), len(said)
}

// said are the beats that the containers of a host, which may be down, have
// printed, that is after each had reached the storage.
func (h *host) said(t *testing.T) []lab.Beat {
	t.Helper()
	logs, err := filepath.Glob(h.Path("docker/containers/*/*-json.log"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("logs of containers on %s: %v (%v)", h.Name(), logs, err)
	}
	text, err := os.ReadFile(logs[0])
	h.must(err)
	var said strings.Builder
	for line := range strings.Lines(string(text)) {
		var entry struct{ Log, Stream string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Stream == "stdout" { // the last may be torn
			said.WriteString(entry.Log)
		}
	}
	beats, err := lab.ParseBeats(said.String())
	h.must(err)
	return beats
}
