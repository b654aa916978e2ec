package report

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Text is the report for whoever ran the drill, who need not have seen dvol
// before. Its last line is the verdict.
func Text(d Drill) string {
	r := Analyse(d)
	var t text
	t.line("DRILL %s, %s", d.Run, d.Began.UTC().Format("2006-01-02 15:04:05 UTC"))
	t.line("")
	pool := ""
	if d.Pool != "" {
		pool = " (pool " + d.Pool + ")"
	}
	t.line("On %s a container wrote numbered lines to the volume %s%s, and forced each to the storage before the next.", d.From, d.Volume, pool)
	t.line("Then this was done: %s. The same container was started on %s, with the same volume.", d.How, d.To)
	t.line("Times are seconds since the last write of %s, on the clock of the machine that ran the drill, which hears of things", d.From)
	t.line("some milliseconds after they happen. The clocks of the hosts may differ, and are not looked at.")
	t.gap(d, r)
	t.writes(d, r)
	t.events(d, r)
	t.words()
	if len(d.Left) > 0 {
		t.title("LEFT BEHIND, FOR SOMETHING DID NOT ANSWER IN THE END: THIS REMOVES IT")
		for _, left := range d.Left {
			t.line("  %s", left)
		}
	}
	t.line("")
	t.line("VERDICT: %s", verdict(d, r))
	return t.String()
}

type text struct{ strings.Builder }

func (t *text) line(format string, args ...any) {
	fmt.Fprintf(t, format+"\n", args...)
}

func (t *text) title(title string) {
	t.line("")
	t.line("%s", title)
}

// seconds is a moment or a span as reports have it.
func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }

// gap is how long nobody could write, and what that was spent on.
func (t *text) gap(d Drill, r Result) {
	t.title("THE GAP")
	if r.Acked[1] == 0 {
		t.line("  It has no end: %s has not written.", d.To)
		return
	}
	t.line("  %s s from the last write of %s to the first of %s, of which", seconds(r.First-r.Last), d.From, d.To)
	t.line("")
	last := r.Last
	for _, p := range r.Phases {
		t.line("  %9s s  until %-11s  %s", seconds(p.Until-last), p.To, p.To.means(d, d.To))
		last = p.Until
	}
}

// means explains a step of a host.
func (m Mark) means(d Drill, host string) string {
	switch m {
	case Ended:
		return "the container on " + d.From + " has ended"
	case LetGo:
		return d.From + " has written out and unmounted the volume"
	case Asked:
		return "the drill asks " + d.To + " to start the container, as you or a scheduler would"
	case Noticed:
		return "dvold on " + d.To + " finds " + d.From + " silent, and fences it or waits it out"
	case Fenced:
		return d.From + " is fenced: it can write no more, even if it lives"
	case Taken:
		return host + " is the volume's owner, by the records that all hosts share"
	case Mounted:
		return "the volume is mounted on " + host
	case Started:
		return "the container runs on " + host
	case Wrote:
		return "its first line is on the storage"
	}
	return string(m)
}

// writes is what became of what was written.
func (t *text) writes(d Drill, r Result) {
	t.title("THE WRITES")
	t.line("  %5d  acknowledged on %s, and %d on %s: the container was told that they are on the storage", r.Acked[0], d.From, r.Acked[1], d.To)
	if r.Acked[1] == 0 {
		t.line("         What the volume holds is not known, for it did not move.")
		return
	}
	t.line("  %5d  lines in the file in the end, read on %s; some may have come too late to be acknowledged", r.Lines, d.To)
	for _, f := range []struct {
		found []string
		means string
	}{
		{r.Lost, "lost: acknowledged, and not in the file"},
		{r.Doubled, "doubled: in the file more than once"},
		{r.Interleaved, "interleaved: written by " + d.From + " after the first of " + d.To + ", so two hosts wrote at once"},
		{r.Damaged, "damaged: no whole line, or not the next number of its host"},
	} {
		t.line("  %5d  %s", len(f.found), f.means)
		const most = 10
		for i, what := range f.found {
			if i == most {
				t.line("         … and %d more", len(f.found)-most)
				break
			}
			t.line("         - %s", what)
		}
	}
	if r.Unfinished != "" {
		t.line("         The last line of %s was cut short after %d bytes. It was not acknowledged, so it is not lost.", d.From, len(r.Unfinished))
	}
}

// stamp is the time in a line of a log, by the clock of its host.
var stamp = regexp.MustCompile(`^time=\S+ `)

// said is the event's text without a time.
func (e Event) said() string { return stamp.ReplaceAllString(e.Text, "") }

// grave are lines of dvold's log that are shown whatever they are about.
var grave = regexp.MustCompile(`\blevel=(WARN|ERROR)|"level":"(WARN|ERROR)"`)

// events is what happened, and what dvold logged meanwhile.
func (t *text) events(d Drill, r Result) {
	t.title("WHAT HAPPENED, AND WHAT DVOLD LOGGED")
	t.line("  (of dvold's log: what names the volume, and all warnings and errors)")
	zero := r.zero(d)
	for _, e := range told(d) {
		again := ""
		if e.again > 0 {
			again = fmt.Sprintf(" (and %d times more until %s)", e.again, seconds(e.last-zero))
		}
		t.line("  %9s  %-*s  %-6s  %s%s", seconds(e.At-zero), max(len(d.From), len(d.To)), e.Host, e.By, e.said(), again)
	}
	for _, host := range []string{d.From, d.To} {
		if !d.logged(host) {
			t.line("  There is nothing of dvold's log of %s: see --log.", host)
		}
	}
}

// row is an event, and how often it was repeated, with nothing else from there
// between.
type row struct {
	Event
	again int
	last  time.Duration
}

// told are the events that are worth telling.
func told(d Drill) (all []*row) {
	before := make(map[string]*row) // by host and who says so
	for _, e := range d.Events {
		if e.By == "dvold" && e.Mark == "" && !names(e.Text, d.Volume) && !grave.MatchString(e.Text) {
			continue
		}
		from := e.Host + " " + e.By
		if b := before[from]; b != nil && varies.ReplaceAllString(b.Text, "") == varies.ReplaceAllString(e.Text, "") {
			b.again++
			b.last = e.At
			continue
		}
		before[from] = &row{Event: e}
		all = append(all, before[from])
	}
	return all
}

// varies is what differs in lines of a log that say the same.
var varies = regexp.MustCompile(`\b(time|took|number)=\S+ `)

// logged tells whether anything of a host's dvold was heard.
func (d Drill) logged(host string) bool {
	for _, e := range d.Events {
		if e.By == "dvold" && e.Host == host {
			return true
		}
	}
	return false
}

// zero is the moment that reports count from: the last write of the old host, as
// far as there was a new one.
func (r Result) zero(d Drill) time.Duration {
	if r.Acked[1] > 0 {
		return r.Last
	}
	for i := len(d.Acks) - 1; i >= 0; i-- {
		if d.Acks[i].Host == d.From {
			return d.Acks[i].At
		}
	}
	return 0
}

func (t *text) words() {
	t.title("WORDS")
	for _, w := range [][2]string{
		{"volume", "a directory or disk that containers find under the same name on each host"},
		{"pool", "the storage that volumes are made in, such as a Ceph cluster or an NFS server"},
		{"dvold", "the program on each host that gives Docker its volumes, of which the hosts agree through Consul"},
		{"owner", "the one host that may have an exclusive volume mounted; its epoch counts its owners"},
		{"fence", "to have the storage refuse a host that does not answer, so that it is safe to go on without it"},
		{"fsync", "what a program calls to be told that what it wrote survives a power cut; databases do, for each transaction"},
	} {
		t.line("  %-7s %s", w[0], w[1])
	}
}

// verdict is the whole in a line.
func verdict(d Drill, r Result) string {
	switch {
	case d.NotMoved != "":
		return fmt.Sprintf("ANOMALY. The volume did not move: %s", d.NotMoved)
	case !r.bothWrote():
		return "ANOMALY. It is not known what becomes of what is written: not both hosts wrote."
	case !r.Sound(d):
		return fmt.Sprintf("ANOMALY. %d lost, %d doubled, %d interleaved, %d damaged: trust no data to this as it is.",
			len(r.Lost), len(r.Doubled), len(r.Interleaved), len(r.Damaged))
	}
	return fmt.Sprintf("SOUND. Nothing lost, nothing doubled, one writer at a time; nobody could write for %.1f s.", (r.First - r.Last).Seconds())
}
