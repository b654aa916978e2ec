package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// Result is what a drill amounts to.
type Result struct {
	Acked [2]int // lines that were acknowledged, on the old host and on the new one
	Lines int    // lines in the file

	// Nobody could write from Last, the last write of the old host before First, to First, the first of the new.
	// They are 0 unless both hosts wrote.
	Last, First time.Duration

	// What must not be, one text for each.
	Lost        []string // was acknowledged and is not in the file
	Doubled     []string // is in the file more than once
	Interleaved []string // was written by the old host after the first write of the new one
	Damaged     []string // is no line, or does not count on from the line before

	Unfinished string // what the old host had begun to write when it was stopped; nobody was told that it was written
	Phases     []Phase
}

// Sound tells whether the drill went well.
func (r Result) Sound(d Drill) bool {
	return d.NotMoved == "" && r.bothWrote() && len(r.Lost)+len(r.Doubled)+len(r.Interleaved)+len(r.Damaged) == 0
}

func (r Result) bothWrote() bool { return r.Acked[0] > 0 && r.Acked[1] > 0 }

// Analyse finds out what a drill amounts to.
func Analyse(d Drill) Result {
	var r Result
	firstLine := ""
	for _, a := range d.Acks {
		switch a.Host {
		case d.From:
			r.Acked[0]++
			if firstLine == "" {
				r.Last = a.At
			}
		case d.To:
			r.Acked[1]++
			if firstLine == "" {
				firstLine, r.First = a.Line, a.At
			}
		}
	}
	if firstLine == "" {
		r.Last = 0
		return r // what the volume has is not known
	}
	r.look(d, firstLine)
	r.Phases = phases(d, r)
	return r
}

// look compares the file with what was acknowledged. firstLine is the first of the
// new host.
func (r *Result) look(d Drill, firstLine string) {
	for _, a := range d.Acks {
		if !strings.Contains(d.File, a.Line) {
			r.Lost = append(r.Lost, fmt.Sprintf("%s was told that %q is on the storage", a.Host, strings.TrimSpace(a.Line)))
		}
	}
	// A host that is stopped may be in the middle of a line.
	text := d.File
	if before, after, found := strings.Cut(text, firstLine); found && before != "" && !strings.HasSuffix(before, "\n") {
		whole := strings.LastIndexByte(before, '\n') + 1
		r.Unfinished = before[whole:]
		text = before[:whole] + firstLine + after
	}
	beats, err := lab.ParseBeatsByHost(text)
	if err != nil {
		r.Damaged = strings.Split(err.Error(), "\n")
	}
	r.Lines = len(beats)
	seen := make(map[lab.Beat]bool)
	last := make(map[string]int)
	taken := false
	for _, b := range beats {
		what := fmt.Sprintf("number %d of %s", b.Seq, b.Host)
		switch {
		case b.Host != d.From && b.Host != d.To:
			r.Damaged = append(r.Damaged, what+": there is no such host in this drill")
		case seen[b]:
			r.Doubled = append(r.Doubled, what)
		case b.Seq < last[b.Host]:
			r.Damaged = append(r.Damaged, fmt.Sprintf("%s comes after its number %d", what, last[b.Host]))
		}
		if taken && b.Host == d.From {
			r.Interleaved = append(r.Interleaved, fmt.Sprintf("%s comes after the first of %s", what, d.To))
		}
		taken = taken || b.Host == d.To
		seen[b] = true
		last[b.Host] = b.Seq
	}
}
