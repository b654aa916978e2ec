package report

import (
	"encoding/xml"
	"fmt"
	"math"
	"strings"
	"time"
)

// What a picture measures, in pixels.
const (
	width    = 960
	margin   = 24
	rowHigh  = 18 // of an event
	barHigh  = 22 // of the writes
	headHigh = 62 // above the first lane
	laneGap  = 16
	letter   = 6.8 // of a label, more or less
)

// Colours of the lanes' writes, of the old host and the new one, and of the rest.
const (
	oldColour  = "#b45309"
	newColour  = "#0f766e"
	gapColour  = "#fee2e2"
	gapText    = "#b91c1c"
	textColour = "#1f2937"
	fineColour = "#d1d5db"
)

// SVG is a picture of the drill: a lane for each host with what it wrote and what
// happened there, over an axis in seconds since the old host's last write.
func SVG(d Drill) string {
	r := Analyse(d)
	p := &picture{d: d, r: r, zero: r.zero(d)}
	p.from, p.to = p.span()
	lanes := []lane{{host: d.From, colour: oldColour}, {host: d.To, colour: newColour}}
	y := headHigh
	for i := range lanes {
		lanes[i].events = p.shown(lanes[i].host)
		lanes[i].y = y
		y += rowHigh + barHigh + rowHigh*len(lanes[i].events) + laneGap
	}
	fmt.Fprintf(p, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d" font-family="sans-serif" font-size="12" fill="%[3]s">
<style>text {paint-order: stroke; stroke: #ffffff; stroke-opacity: 0.7; stroke-width: 3px}</style>
<rect width="%[1]d" height="%[2]d" fill="#ffffff"/>
`, width, y+44, textColour)
	p.text(margin, 24, "start", `font-size="16" font-weight="bold"`, short(fmt.Sprintf("Drill %s: from %s to %s, after %s", d.Run, d.From, d.To, d.How), 90))
	p.text(margin, 44, "start", "", short(verdict(d, r), 130))
	p.gap(y)
	p.axis(y)
	for _, l := range lanes {
		p.lane(l)
	}
	p.WriteString("</svg>\n")
	return p.String()
}

// lane is what is drawn of a host, from its upper edge y on.
type lane struct {
	host, colour string
	y            int
	events       []Event
}

type picture struct {
	strings.Builder
	d              Drill
	r              Result
	zero, from, to time.Duration // from and to are the edges
}

// span is what the picture shows of time: from what was done to the old host to the
// first write of the new one, and some writes on either side.
func (p *picture) span() (from, to time.Duration) {
	from, to = p.zero, p.zero
	if p.r.Acked[1] > 0 {
		to = p.r.First
	}
	for _, e := range p.d.Events {
		if e.Mark == Struck {
			from = min(from, e.At)
		}
		if p.r.Acked[1] == 0 {
			to = max(to, e.At)
		}
	}
	edge := max((to-from)/8, time.Second/2)
	return from - edge, to + edge
}

// shown are the events of a host to draw: steps, and what is not of dvold's log. Of
// several with the same text in a row it is the first.
func (p *picture) shown(host string) (all []Event) {
	last := ""
	for _, e := range p.d.Events {
		if e.Host != host || e.At < p.from || e.At > p.to || e.Mark == "" && e.By == "dvold" || e.said() == last {
			continue
		}
		last = e.said()
		all = append(all, e)
	}
	return all
}

// x is where a moment lies.
func (p *picture) x(at time.Duration) float64 {
	return margin + float64(at-p.from)/float64(p.to-p.from)*(width-2*margin)
}

// gap is the time in which nobody could write, over all lanes down to y.
func (p *picture) gap(y int) {
	if p.r.Acked[1] == 0 {
		return
	}
	x, end := p.x(p.r.Last), p.x(p.r.First)
	fmt.Fprintf(p, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", x, headHigh-4, end-x, y-headHigh, gapColour)
	p.text((x+end)/2, headHigh+10, "middle", fmt.Sprintf(`fill="%s" font-weight="bold"`, gapText), fmt.Sprintf("nobody writes: %s s", seconds(p.r.First-p.r.Last)))
}

// lane draws a host.
func (p *picture) lane(l lane) {
	p.text(margin, l.y+10, "start", fmt.Sprintf(`font-weight="bold" fill="%s"`, l.colour), l.host)
	y := l.y + rowHigh
	fmt.Fprintf(p, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s"/>`+"\n", margin, y+barHigh/2, width-margin, y+barHigh/2, fineColour)
	for _, a := range p.d.Acks {
		if a.Host == l.host && a.At >= p.from && a.At <= p.to {
			x := p.x(a.At)
			fmt.Fprintf(p, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s"/>`+"\n", x, y+4, x, y+barHigh-4, l.colour)
		}
	}
	y += barHigh
	for i, e := range l.events {
		x, base := p.x(e.At), y+rowHigh*i+rowHigh/2
		fmt.Fprintf(p, `<circle cx="%.1f" cy="%d" r="3.5" fill="%s"/>`+"\n", x, base, l.colour)
		anchor, offset, room := "start", 8.0, width-margin-x
		if x > width/2 {
			anchor, offset, room = "end", -8.0, x-margin
		}
		label := fmt.Sprintf("%s s  %s", seconds(e.At-p.zero), p.label(e))
		p.text(x+offset, base+4, anchor, "", short(label, int(room/letter)))
	}
}

// label is what is written at an event.
func (p *picture) label(e Event) string {
	if e.Mark != "" && e.Mark != Struck {
		return string(e.Mark) + ": " + e.Mark.means(p.d, e.Host)
	}
	return e.said()
}

// short is the beginning of a text that has more letters than there is room for.
func short(text string, most int) string {
	if letters := []rune(text); len(letters) > most {
		return string(letters[:most-1]) + "…"
	}
	return text
}

// axis draws the seconds, below the lanes at y.
func (p *picture) axis(y int) {
	from, to := (p.from - p.zero).Seconds(), (p.to - p.zero).Seconds()
	step := tick(to - from)
	for n := math.Ceil(from / step); n*step <= to; n++ {
		x := p.x(p.zero + time.Duration(n*step*float64(time.Second)))
		fmt.Fprintf(p, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s"/>`+"\n", x, headHigh-4, x, y, fineColour)
		p.text(x, y+14, "middle", "", fmt.Sprintf("%.4g", n*step+0))
	}
	fmt.Fprintf(p, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s"/>`+"\n", margin, y, width-margin, y, textColour)
	p.text(width/2, y+32, "middle", "", fmt.Sprintf("seconds since the last write of %s", p.d.From))
}

// tick is the distance of marks on an axis of that length: 1, 2 or 5 times a power
// of ten, so that there are 5 to 13 of them.
func tick(length float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(length/6)))
	for _, n := range []float64{1, 2, 5} {
		if length/(n*power) <= 12 {
			return n * power
		}
	}
	return 10 * power
}

func (p *picture) text(x float64, y int, anchor, attributes, text string) {
	if attributes != "" {
		attributes = " " + attributes
	}
	fmt.Fprintf(p, `<text x="%.1f" y="%d" text-anchor="%s"%s>`, x, y, anchor, attributes)
	xml.EscapeText(p, []byte(text)) // a Builder takes everything
	p.WriteString("</text>\n")
}
