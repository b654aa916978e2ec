package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"
)

// drawn is what a picture has, by the names of elements.
type drawn map[string][]map[string]string

// draw draws a drill, and checks that all of it is within the picture.
func draw(t *testing.T, d Drill) drawn {
	t.Helper()
	picture := SVG(d)
	if again := SVG(d); again != picture {
		t.Errorf("it is another picture when drawn again:\n%s\n%s", picture, again)
	}
	all := make(drawn)
	decoder := xml.NewDecoder(strings.NewReader(picture))
	open := map[string]string{}
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("it is not XML: %v\n%s", err, picture)
		}
		switch token := token.(type) {
		case xml.StartElement:
			open = make(map[string]string)
			for _, a := range token.Attr {
				open[a.Name.Local] = a.Value
			}
			all[token.Name.Local] = append(all[token.Name.Local], open)
		case xml.EndElement:
			open = map[string]string{} // what follows is nobody's
		case xml.CharData:
			open["text"] += string(token)
		}
	}
	high := number(t, all["svg"][0]["height"])
	for name, elements := range all {
		for _, e := range elements {
			for _, key := range []string{"x", "x1", "x2", "cx"} {
				if v, given := e[key]; given && (number(t, v) < 0 || number(t, v) > width) {
					t.Errorf("%s %v is outside", name, e)
				}
			}
			for _, key := range []string{"y", "y1", "y2", "cy"} {
				if v, given := e[key]; given && (number(t, v) < 0 || number(t, v) > high) {
					t.Errorf("%s %v is outside", name, e)
				}
			}
		}
	}
	return all
}

func number(t *testing.T, s string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// texts are all texts, each between two of these: |.
func (all drawn) texts() string {
	var s strings.Builder
	for _, e := range all["text"] {
		fmt.Fprintf(&s, "|%s", e["text"])
	}
	return s.String() + "|"
}

func TestSVG(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Drill)
		has    []string // whole texts, or their beginnings
		hasNot []string
		dots   int
		bars   map[string]int // writes, by colour
	}{
		"a host dies": {
			change: func(*Drill) {},
			has: []string{"|Drill 1a2b3c: from h1 to h2, after switch h1 off|", "|SOUND. ", "|nobody writes: 1.000 s|", "|h1|", "|h2|", "|0|", "|seconds since the last write of h1|",
				"|-0.010 s  switch h1 off|", "|0.050 s  asked: ", "|0.650 s  noticed: dvold on h2 finds h1 silent", "|0.750 s  fenced: h1 is fenced", "|0.870 s  taken: h2 ", "|0.860 s  mounted: ", "|0.950 s  started: "},
			hasNot: []string{"something else", "call answered"},
			dots:   7 + 1, // of h1 from the beginning, too: it is near
			bars:   map[string]int{oldColour: 5, newColour: 3},
		},
		"long ago is left out": {
			change: func(d *Drill) {
				for i := range d.Acks {
					d.Acks[i].At += time.Minute
				}
				for i := range d.Events[1:] {
					d.Events[1+i].At += time.Minute
				}
				d.Acks = append([]Ack{{time.Second, "h1", beat("h1", 0)}}, d.Acks...)
			},
			has:  []string{"|0.650 s  noticed: "},
			dots: 7,
			bars: map[string]int{oldColour: 5, newColour: 3},
		},
		"names that XML wants escaped": {
			change: func(d *Drill) { d.How, d.Events[1].Text = `a<b>&"c"`, `<&>` },
			has:    []string{`|Drill 1a2b3c: from h1 to h2, after a<b>&"c"|`, "|-0.010 s  <&>|"},
			dots:   8, bars: map[string]int{oldColour: 5, newColour: 3},
		},
		"refused again and again": {
			change: func(d *Drill) {
				var refused []Event
				for i := range 5 {
					refused = append(refused, Event{time.Duration(400+i) * ms, "h2", "docker", "", "time=2026 level=error owned by h1" + strings.Repeat(".", 200)})
				}
				d.Events = append(refused, d.Events...)
			},
			has:  []string{"|0.150 s  level=error owned by h1...."},
			dots: 9, bars: map[string]int{oldColour: 5, newColour: 3},
		},
		"it did not move": {
			change: func(d *Drill) {
				d.Acks, d.File, d.NotMoved = d.Acks[:5], "", "h2 did not get it"
				d.Events = append(d.Events[:3], Event{5 * time.Second, "h2", "docker", "", "Error: owned"})
			},
			has:    []string{"|ANOMALY. The volume did not move: h2 did not get it|", "|4.750 s  Error: owned|"},
			hasNot: []string{"nobody writes"},
			dots:   4, bars: map[string]int{oldColour: 5},
		},
		"nothing was heard": {
			change: func(d *Drill) { *d = Drill{From: "h1", To: "h2"} },
			has:    []string{"|h1|", "|h2|", "|ANOMALY. "},
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := sound()
			test.change(&d)
			all := draw(t, d)
			texts := all.texts()
			for _, want := range test.has {
				if !strings.Contains(texts, want) {
					t.Errorf("there is no %q in %s", want, texts)
				}
			}
			for _, no := range test.hasNot {
				if strings.Contains(texts, no) {
					t.Errorf("there is %q in %s", no, texts)
				}
			}
			rows := make(map[string]bool)
			for _, dot := range all["circle"] {
				if rows[dot["cy"]] {
					t.Errorf("two events are in the row %s: their texts may meet", dot["cy"])
				}
				rows[dot["cy"]] = true
			}
			if len(rows) != test.dots {
				t.Errorf("%d events, want %d: %s", len(rows), test.dots, texts)
			}
			bars := make(map[string]int)
			for _, line := range all["line"] {
				if c := line["stroke"]; c == oldColour || c == newColour {
					bars[c]++
				}
			}
			if bars[oldColour] != test.bars[oldColour] || bars[newColour] != test.bars[newColour] {
				t.Errorf("writes %v, want %v", bars, test.bars)
			}
		})
	}
}

// The gap is drawn from the last write of the one host to the first of the other.
func TestSVGGap(t *testing.T) {
	all := draw(t, sound())
	last, first := 0.0, float64(width)
	for _, line := range all["line"] {
		x := number(t, line["x1"])
		switch line["stroke"] {
		case oldColour:
			last = max(last, x)
		case newColour:
			first = min(first, x)
		}
	}
	gap := all["rect"][1]
	if x, w := number(t, gap["x"]), number(t, gap["width"]); gap["fill"] != gapColour || x != last || x+w-first > 0.11 || first-x-w > 0.11 {
		t.Errorf("the gap is %v, want it from %v to %v", gap, last, first)
	}
}

func TestTick(t *testing.T) {
	for length, want := range map[float64]float64{0.5: 0.05, 1: 0.1, 1.3: 0.2, 2.5: 0.5, 10: 1, 12: 1, 13: 2, 24: 2, 30: 5, 60: 10, 61: 10, 75: 10, 300: 50} {
		if got := tick(length); got < want*0.999 || got > want*1.001 {
			t.Errorf("tick(%v) = %v, want %v", length, got, want)
		}
	}
}
