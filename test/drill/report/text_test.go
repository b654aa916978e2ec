package report

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestText(t *testing.T) {
	d := sound()
	d.Left = []string{"on h1: docker rm --force dvol-drill-1a2b3c"}
	const want = `DRILL 1a2b3c, 2026-02-03 04:05:06 UTC

On h1 a container wrote numbered lines to the volume db (pool rbd), and forced each to the storage before the next.
Then this was done: switch h1 off. The same container was started on h2, with the same volume.
Times are seconds since the last write of h1, on the clock of the machine that ran the drill, which hears of things
some milliseconds after they happen. The clocks of the hosts may differ, and are not looked at.

THE GAP
  1.000 s from the last write of h1 to the first of h2, of which

      0.050 s  until asked        the drill asks h2 to start the container, as you or a scheduler would
      0.600 s  until noticed      dvold on h2 finds h1 silent, and fences it or waits it out
      0.100 s  until fenced       h1 is fenced: it can write no more, even if it lives
      0.110 s  until taken        h2 is the volume's owner, by the records that all hosts share
      0.000 s  until mounted      the volume is mounted on h2
      0.090 s  until started      the container runs on h2
      0.050 s  until first write  its first line is on the storage

THE WRITES
      5  acknowledged on h1, and 3 on h2: the container was told that they are on the storage
      8  lines in the file in the end, read on h2; some may have come too late to be acknowledged
      0  lost: acknowledged, and not in the file
      0  doubled: in the file more than once
      0  interleaved: written by h1 after the first of h2, so two hosts wrote at once
      0  damaged: no whole line, or not the next number of its host

WHAT HAPPENED, AND WHAT DVOLD LOGGED
  (of dvold's log: what names the volume, and all warnings and errors)
     -0.240  h1  docker  volume mount
     -0.010  h1  drill   switch h1 off
      0.050  h2  drill   docker start
      0.650  h2  dvold   level=WARN msg="cutting a silent host off" volume=db host=h1
      0.750  h2  dvold   level=WARN msg="cut a silent host off" volume=db host=h1
      0.860  h2  docker  volume mount
      0.870  h2  dvold   level=INFO msg="volume is owned" volume=db
      0.950  h2  docker  container start
      1.050  h2  dvold   level=ERROR msg="something else"
  There is nothing of dvold's log of h1: see --log.

WORDS
`
	got := Text(d)
	if !strings.HasPrefix(got, want) {
		t.Errorf("got\n%s\nwant it to begin with\n%s", got, want)
	}
	const end = `
LEFT BEHIND, FOR SOMETHING DID NOT ANSWER IN THE END: THIS REMOVES IT
  on h1: docker rm --force dvol-drill-1a2b3c

VERDICT: SOUND. Nothing lost, nothing doubled, one writer at a time; nobody could write for 1.0 s.
`
	if !strings.HasSuffix(got, end) {
		t.Errorf("got\n%s\nwant it to end with\n%s", got, end)
	}
}

func TestTextOfAnomalies(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Drill)
		want   []string
	}{
		"lost": {
			func(d *Drill) { drop(d, beat("h1", 5)) },
			[]string{"\n      1  lost: ", `- h1 was told that "000000007250000000 5 h1" is on the storage`, "VERDICT: ANOMALY. 1 lost, 0 doubled, 0 interleaved, 0 damaged: "},
		},
		"all lost": {
			func(d *Drill) {
				for seq := range 20 {
					d.Acks = append([]Ack{{0, "h1", beat("h1", 100+seq)}}, d.Acks...)
				}
			},
			[]string{"\n     20  lost: ", "\n         … and 10 more\n"},
		},
		"interleaved": {
			func(d *Drill) { d.File += beat("h1", 6) },
			[]string{"\n      1  interleaved: ", "- number 6 of h1 comes after the first of h2"},
		},
		"cut short": {
			func(d *Drill) { d.File = strings.Replace(d.File, beat("h2", 1), "0123"+beat("h2", 1), 1) },
			[]string{"The last line of h1 was cut short after 4 bytes. It was not acknowledged", "VERDICT: SOUND"},
		},
		"did not move": {
			func(d *Drill) {
				d.Acks, d.File, d.NotMoved = d.Acks[:5], "", "h2 did not get it within 5m0s: owned by h1"
				for i := range 3 {
					at := time.Duration(2000+i) * ms
					d.Events = append(d.Events, Event{at, "h2", "docker", "", "Error: owned by h1"},
						Event{at, "h2", "dvold", "", fmt.Sprintf(`time=%d level=WARN msg="call failed" number=%d took=%dms err="owned by h1"`, i, i, i)})
				}
			},
			[]string{"It has no end: h2 has not written", "What the volume holds is not known", "1.750  h2  docker  Error: owned by h1 (and 2 times more until 1.752)\n",
				"1.750  h2  dvold   level=WARN msg=\"call failed\" number=0 took=0ms err=\"owned by h1\" (and 2 times more until 1.752)\n",
				"VERDICT: ANOMALY. The volume did not move: h2 did not get it within 5m0s: owned by h1\n"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := sound()
			test.change(&d)
			got := Text(d)
			for _, want := range test.want {
				if !strings.Contains(got, want) {
					t.Errorf("there is no %q in\n%s", want, got)
				}
			}
		})
	}
}
