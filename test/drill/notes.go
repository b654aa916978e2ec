package main

import (
	"slices"
	"sync"
	"time"

	"github.com/dvol/dvold/test/drill/report"
)

// notes is what the drill hears while it runs, each with the time when that was.
type notes struct {
	began time.Time
	heard chan struct{} // has something after each acknowledged line

	mu     sync.Mutex // guards the fields below
	acks   []report.Ack
	events []report.Event
}

func newNotes() *notes {
	return &notes{began: time.Now(), heard: make(chan struct{}, 1)}
}

func (n *notes) ack(host, line string) {
	n.mu.Lock()
	n.acks = append(n.acks, report.Ack{At: time.Since(n.began), Host: host, Line: line + "\n"})
	n.mu.Unlock()
	select {
	case n.heard <- struct{}{}:
	default:
	}
}

func (n *notes) event(host, by string, mark report.Mark, text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, report.Event{At: time.Since(n.began), Host: host, By: by, Mark: mark, Text: text})
}

// lastSaid is what the writer of a host, or docker, said last that is no step.
func (n *notes) lastSaid(host string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range slices.Backward(n.events) {
		if e.Host == host && e.Mark == "" && (e.By == "docker" || e.By == "writer") {
			return e.Text
		}
	}
	return "nobody says why"
}

// all is what was heard so far.
func (n *notes) all() ([]report.Ack, []report.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.acks), slices.Clone(n.events)
}
