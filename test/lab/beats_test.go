package lab_test

import (
	"bytes"
	"context"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/test/lab"
)

func TestParseBeats(t *testing.T) {
	tests := map[string]struct {
		text  string
		want  []lab.Beat
		wrong []string // an error has one line for each, and no more
	}{
		"nothing": {},
		"one host after the other": {
			"@5 1 h1\n@7 2 h1\n@7 2 h1\n@8 1 h2\n@9 2 h2\n@10 1 h1\n",
			[]lab.Beat{{5, 1, "h1"}, {7, 2, "h1"}, {7, 2, "h1"}, {8, 1, "h2"}, {9, 2, "h2"}, {10, 1, "h1"}}, nil,
		},
		"late": {
			"@5 1 h1\n@8 1 h2\n@7 2 h1\n@9 2 h2\n",
			[]lab.Beat{{5, 1, "h1"}, {8, 1, "h2"}, {7, 2, "h1"}, {9, 2, "h2"}},
			[]string{"line 3: h1 wrote 2 1ns before a line above it"},
		},
		"lost": {
			"@5 1 h1\n@8 4 h1\n@9 5 h1\n",
			[]lab.Beat{{5, 1, "h1"}, {8, 4, "h1"}, {9, 5, "h1"}},
			[]string{"line 2: h1 wrote 4 after 1"},
		},
		"cut off": {
			"@5 1 h1\n\x00\x00\x00@8 1 h2\n@9 2 h2\n\x00@10 3 h2\n",
			[]lab.Beat{{5, 1, "h1"}, {8, 1, "h2"}, {9, 2, "h2"}},
			[]string{"line 4: "},
		},
		"no beginning": {"@5 3 h1\n", []lab.Beat{{5, 3, "h1"}}, []string{"line 1: h1 wrote 3 after 0"}},
		"torn": {
			"@5 1 h1\n@8 2 \x00\x00\n\n@8 2 h1@8 2 h1\n@9 2 h1\n9@9 3 h1\n@10 3 h",
			[]lab.Beat{{5, 1, "h1"}, {9, 2, "h1"}},
			[]string{"line 2: ", "line 3: ", "line 4: ", "line 6: ", "line 7: "},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := lab.ParseBeats(stamped(test.text))
			if !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
			var lines []string
			if err != nil {
				lines = strings.Split(err.Error(), "\n")
			}
			if !slices.EqualFunc(lines, test.wrong, strings.HasPrefix) {
				t.Errorf("got errors %q, want %q", lines, test.wrong)
			}
		})
	}
}

// stamped writes @5, short for a time, as beat does.
func stamped(text string) string {
	return regexp.MustCompile(`@[0-9]+`).ReplaceAllStringFunc(text, func(stamp string) string {
		return strings.Repeat("0", 18-len(stamp[1:])) + stamp[1:]
	})
}

// Where clocks differ, what one host wrote is in order, and nothing else need be.
func TestParseBeatsByHost(t *testing.T) {
	text := stamped("@15 1 h1\n@3 1 h2\n@16 2 h1\n@2 2 h2\n")
	got, err := lab.ParseBeatsByHost(text)
	if want := []lab.Beat{{15, 1, "h1"}, {3, 1, "h2"}, {16, 2, "h1"}, {2, 2, "h2"}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if want := "line 4: h2 wrote 2 1ns before a line above it"; err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
}

func TestBeat(t *testing.T) {
	t.Parallel()
	h := lab.ForTest(t, lab.Options{})
	dir := h.Path("beats")
	run(t, h, "mkdir", dir)
	file := filepath.Join(dir, "x")
	cmd := h.Command(context.WithoutCancel(t.Context()), beatBinary(t), file, "5ms")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	before := lab.SinceBoot()
	check(t, h.Start(cmd))
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	eventually(t, "beats", func() bool { return fileSize(t, file) > 200 })
	check(t, unix.Kill(cmd.Process.Pid, unix.SIGTERM))
	check(t, <-ended)
	after := lab.SinceBoot()

	got, err := lab.Beats(file)
	check(t, err)
	if first, last := got[0], got[len(got)-1]; first.At < before || last.At > after || first.Seq != 1 || last.Seq != len(got) || first.Host != h.Name() {
		t.Errorf("beats %v to %v, want %v to %v of %s", first, last, before, after, h.Name())
	}
	synced, err := lab.ParseBeats(stdout.String())
	if err != nil || !slices.Equal(synced, got) {
		t.Errorf("it printed %d beats, wrote %d: %v", len(synced), len(got), err)
	}
	if stderr.Len() > 0 {
		t.Errorf("it saw errors: %s", stderr.String())
	}
	if median := got[len(got)/2]; median.At-got[0].At > time.Duration(len(got))*100*time.Millisecond {
		t.Errorf("half of it took %v", median.At-got[0].At)
	}
}

// In a container, beat is a command like others.
func TestBeatInImage(t *testing.T) {
	t.Parallel()
	c := lab.ClusterForTest(t, lab.ClusterOptions{Hosts: 1, Beat: beatBinary(t)})
	h := c.Host(1)
	start(t, h)
	docker(t, h, "run", "-d", "--name", "box", "--network", "host", "-v", "/shared:/shared", lab.BusyBox, "beat", "-host", h.Name(), "/shared/x", "10ms")
	eventually(t, "beats", func() bool { return fileSize(t, c.Path("shared/x")) > 500 })
	docker(t, h, "stop", "box")
	if out, want := docker(t, h, "inspect", "-f", "{{.State.ExitCode}}", "box"), "0"; out != want {
		t.Errorf("exit status %s, want %s", out, want)
	}
	got, err := lab.Beats(c.Path("shared/x"))
	check(t, err)
	synced, err := lab.ParseBeats(docker(t, h, "logs", "box") + "\n")
	if err != nil || !slices.Equal(synced, got) || got[0].Host != h.Name() {
		t.Errorf("it printed %d beats, wrote %d, the first %v: %v", len(synced), len(got), got[0], err)
	}
}

// After an error beat opens the file anew, and loses no number.
func TestBeatGoesOn(t *testing.T) {
	t.Parallel()
	h := lab.ForTest(t, lab.Options{})
	run(t, h, "sh", "-c", "mkdir /full && mount -t tmpfs -o size=16k tmpfs /full && head -c 12k /dev/zero >/full/ballast")
	var stderr syncBuffer
	cmd := h.Command(context.WithoutCancel(t.Context()), beatBinary(t), "-host", "x", "/full/x", "1ms")
	cmd.Stderr = &stderr
	check(t, h.Start(cmd))
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	eventually(t, "an error", func() bool { return strings.Contains(stderr.String(), "no space") })
	run(t, h, "rm", "/full/ballast")
	text := func() string { return run(t, h, "cat", "/full/x") + "\n" }
	size := len(text())
	eventually(t, "beats after the error", func() bool { return len(text()) > size+200 })
	check(t, unix.Kill(cmd.Process.Pid, unix.SIGTERM))
	check(t, <-ended)
	got, err := lab.ParseBeats(text())
	if err != nil && strings.Count(err.Error(), "is torn") != 1 { // what the error left of a line, in front of the next
		t.Error(err)
	}
	if last := got[len(got)-1]; len(got) < 10 || last.Seq > len(got)+1 {
		t.Errorf("%d beats, the last %v", len(got), last)
	}
}
