package report

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

const ms = time.Millisecond

// beat is a line of the writer.
func beat(host string, seq int) string {
	at := 7_000_000_000 + seq*50_000_000
	if host == "h2" {
		at -= 5_000_000_000 // its clock is behind
	}
	return fmt.Sprintf("%018d %d %s\n", at, seq, host)
}

// sound is a drill in which h1 dies after 5 lines, and h2 writes 3, a second later.
func sound() Drill {
	d := Drill{Run: "1a2b3c", Began: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC), Volume: "db", Pool: "rbd", From: "h1", To: "h2", How: "switch h1 off"}
	for seq := 1; seq <= 5; seq++ {
		d.Acks = append(d.Acks, Ack{time.Duration(seq) * 50 * ms, "h1", beat("h1", seq)})
		d.File += beat("h1", seq)
	}
	for seq := 1; seq <= 3; seq++ {
		d.Acks = append(d.Acks, Ack{1200*ms + time.Duration(seq)*50*ms, "h2", beat("h2", seq)})
		d.File += beat("h2", seq)
	}
	d.Events = []Event{
		{10 * ms, "h1", "docker", Mounted, "volume mount"},
		{240 * ms, "h1", "drill", Struck, "switch h1 off"},
		{300 * ms, "h2", "drill", Asked, "docker start"},
		{900 * ms, "h2", "dvold", Noticed, `time=2026-02-03T04:05:07Z level=WARN msg="cutting a silent host off" volume=db host=h1`},
		{950 * ms, "h2", "dvold", "", "level=DEBUG msg=\"call answered\""},
		{1000 * ms, "h2", "dvold", Fenced, `level=WARN msg="cut a silent host off" volume=db host=h1`},
		{1110 * ms, "h2", "docker", Mounted, "volume mount"},
		{1120 * ms, "h2", "dvold", Taken, `level=INFO msg="volume is owned" volume=db`}, // heard of late
		{1200 * ms, "h2", "docker", Started, "container start"},
		{1300 * ms, "h2", "dvold", "", "level=ERROR msg=\"something else\""},
	}
	return d
}

// drop takes a line out of the file.
func drop(d *Drill, line string) { d.File = strings.Replace(d.File, line, "", 1) }

func TestAnalyse(t *testing.T) {
	for name, test := range map[string]struct {
		change                              func(*Drill)
		lost, doubled, interleaved, damaged int
		notMoved                            bool
	}{
		"sound": {change: func(*Drill) {}},
		"written but not acknowledged": {change: func(d *Drill) {
			d.Acks = slices.Delete(d.Acks, 4, 5)
		}},
		"stopped in the middle of a line": {change: func(d *Drill) {
			d.File = strings.Replace(d.File, beat("h2", 1), beat("h1", 6)[:20]+beat("h2", 1), 1)
		}},
		"stopped in the middle of a line that a crash filled with zeros": {change: func(d *Drill) {
			d.File = strings.Replace(d.File, beat("h2", 1), "\x00\x00\x00"+beat("h2", 1), 1)
		}},
		"number used again after an error": {change: func(d *Drill) {
			d.File = strings.Replace(d.File, beat("h2", 2), strings.Replace(beat("h2", 1), " 1 h2", " 2 h2", 1)+beat("h2", 2), 1)
		}},
		"the last line of the old host is lost":  {change: func(d *Drill) { drop(d, beat("h1", 5)) }, lost: 1},
		"two lines of the old host are lost":     {change: func(d *Drill) { drop(d, beat("h1", 4)); drop(d, beat("h1", 5)) }, lost: 2},
		"a line in the middle is lost":           {change: func(d *Drill) { drop(d, beat("h1", 2)) }, lost: 1, damaged: 1},
		"a line that nobody acknowledged is not": {change: func(d *Drill) { drop(d, beat("h1", 2)); d.Acks = slices.Delete(d.Acks, 1, 2) }, damaged: 1},
		"the last line of the new host is lost":  {change: func(d *Drill) { drop(d, beat("h2", 3)) }, lost: 1},
		"nothing is left of the old host": {change: func(d *Drill) {
			_, d.File, _ = strings.Cut(d.File, beat("h1", 5))
		}, lost: 5},
		"the file is empty": {change: func(d *Drill) { d.File = "" }, lost: 8},
		"a line is cut short, and zeros instead": {change: func(d *Drill) {
			d.File = strings.Replace(d.File, beat("h1", 5), strings.Repeat("\x00", 10)+"\n", 1)
		}, lost: 1, damaged: 1},
		"a line twice": {change: func(d *Drill) {
			d.File = strings.Replace(d.File, beat("h2", 2), beat("h2", 2)+beat("h2", 2), 1)
		}, doubled: 1},
		"lines written once more": {change: func(d *Drill) { // 4 and 5, and back in time
			d.File = strings.Replace(d.File, beat("h2", 1), beat("h1", 4)+beat("h1", 5)+beat("h2", 1), 1)
		}, doubled: 2, damaged: 2},
		"two writers": {change: func(d *Drill) {
			d.File = strings.Replace(d.File, beat("h2", 2), beat("h1", 6)+beat("h2", 2)+beat("h1", 7), 1)
		}, interleaved: 2},
		"the old host begins anew": {change: func(d *Drill) {
			d.File = strings.Replace(d.File, beat("h2", 1), strings.Replace(beat("h1", 6), " 6 h1", " 1 h1", 1)+beat("h2", 1), 1)
		}, damaged: 1},
		"somebody else writes":      {change: func(d *Drill) { d.File += beat("h3", 1) }, damaged: 1},
		"a line of something":       {change: func(d *Drill) { d.File += "hello\n" }, damaged: 1},
		"it did not move":           {change: func(d *Drill) { d.Acks, d.File, d.NotMoved = d.Acks[:5], "", "h2 did not get it" }, notMoved: true},
		"the new host says nothing": {change: func(d *Drill) { d.Acks = d.Acks[:5] }, notMoved: true},
		"the old host said nothing": {change: func(d *Drill) { d.Acks = d.Acks[5:] }, notMoved: true},
		"lost while it was moved":   {change: func(d *Drill) { d.NotMoved = "h2 did not get it" }, notMoved: true},
	} {
		t.Run(name, func(t *testing.T) {
			d := sound()
			test.change(&d)
			r := Analyse(d)
			for what, counts := range map[string][2]int{
				"lost": {len(r.Lost), test.lost}, "doubled": {len(r.Doubled), test.doubled},
				"interleaved": {len(r.Interleaved), test.interleaved}, "damaged": {len(r.Damaged), test.damaged},
			} {
				if counts[0] != counts[1] {
					t.Errorf("%s %d, want %d: %+v", what, counts[0], counts[1], r)
				}
			}
			well := !test.notMoved && test.lost+test.doubled+test.interleaved+test.damaged == 0
			if got := r.Sound(d); got != well {
				t.Errorf("sound: %v, want %v", got, well)
			}
			verdict := "\nVERDICT: ANOMALY. "
			if well {
				verdict = "\nVERDICT: SOUND. "
			}
			text := Text(d)
			if lines := strings.Split(strings.TrimSpace(text), "\n"); !strings.HasPrefix("\n"+lines[len(lines)-1], verdict) {
				t.Errorf("the last line is %q, want %q", lines[len(lines)-1], verdict)
			}
		})
	}
}

func TestPhases(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Drill)
		want   []Phase
	}{
		"a host dies": {func(*Drill) {}, []Phase{
			{Asked, 300 * ms}, {Noticed, 900 * ms}, {Fenced, 1000 * ms}, {Taken, 1110 * ms}, {Mounted, 1110 * ms}, {Started, 1200 * ms}, {Wrote, 1250 * ms},
		}},
		"nothing is known but the writes": {func(d *Drill) { d.Events = nil }, []Phase{{Wrote, 1250 * ms}}},
		"the fence fails at first": {func(d *Drill) {
			d.Events = append([]Event{{260 * ms, "h2", "drill", Asked, ""}, {270 * ms, "h2", "dvold", Noticed, ""}, {280 * ms, "h2", "docker", Mounted, ""}}, d.Events...)
		}, []Phase{
			{Asked, 260 * ms}, {Noticed, 270 * ms}, {Fenced, 1000 * ms}, {Taken, 1110 * ms}, {Mounted, 1110 * ms}, {Started, 1200 * ms}, {Wrote, 1250 * ms},
		}},
		"the log comes late": {func(d *Drill) { d.Events[3].At, d.Events[5].At = 1800*ms, 1900*ms }, []Phase{
			{Asked, 300 * ms}, {Noticed, 1110 * ms}, {Fenced, 1110 * ms}, {Taken, 1110 * ms}, {Mounted, 1110 * ms}, {Started, 1200 * ms}, {Wrote, 1250 * ms},
		}},
		"a container is stopped": {func(d *Drill) {
			d.Events = []Event{
				{230 * ms, "h1", "docker", Ended, ""}, {290 * ms, "h1", "docker", LetGo, ""}, {300 * ms, "h2", "drill", Asked, ""},
				{1400 * ms, "h2", "docker", Ended, ""}, {1410 * ms, "h2", "docker", LetGo, ""}, {1500 * ms, "h2", "docker", Mounted, ""},
			}
		}, []Phase{{Ended, 250 * ms}, {LetGo, 290 * ms}, {Asked, 300 * ms}, {Mounted, 1250 * ms}, {Wrote, 1250 * ms}}},
	} {
		t.Run(name, func(t *testing.T) {
			d := sound()
			test.change(&d)
			r := Analyse(d)
			if !slices.Equal(r.Phases, test.want) {
				t.Errorf("got %v, want %v", r.Phases, test.want)
			}
			if r.Last != 250*ms || r.First != 1250*ms {
				t.Errorf("the gap is from %v to %v, want from 250ms to 1.25s", r.Last, r.First)
			}
		})
	}
}

func TestMarkOf(t *testing.T) {
	for line, want := range map[string]Mark{
		`time=2026-11-29T08:52:09Z level=WARN msg="cutting a silent host off" volume=db pool=dfs host=h1`: Noticed,
		`level=WARN msg="waiting until a silent host has cut itself off" volume=db pool=dfs`:              Noticed,
		`level=WARN msg="cut a silent host off" volume=db host=h1 by=command`:                             Fenced,
		`level=INFO msg="volume is owned" pool=dfs volume=db`:                                             Taken,
		`{"level":"INFO","msg":"volume is owned","volume":"db","pool":"dfs"}`:                             Taken,
		`level=INFO msg="volume is owned" volume=db2 pool=dfs`:                                            "",
		`{"level":"INFO","msg":"volume is owned","volume":"db2"}`:                                         "",
		`level=INFO msg="volume is owned on" volume=db`:                                                   "",
		`level=DEBUG msg="call answered"`:                                                                 "",
	} {
		if got := MarkOf("db", line); got != want {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
}
