package lab_test

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// A program on a clock that is twice as fast sees twice the time that has gone by,
// and all that have this clock see the same.
func TestClock(t *testing.T) {
	t.Parallel()
	lab.Require(t)
	dir := t.TempDir()
	clock, err := lab.BuildStatic(dir, "test/lab/cmd/clock")
	if err != nil {
		t.Fatal(err)
	}
	for _, rate := range []string{"2", "0.99"} {
		file := filepath.Join(dir, rate)
		factor := map[string]float64{"2": 2, "0.99": 0.99}[rate]
		before := lab.SinceBoot()
		for _, host := range []string{"h1", "h2"} {
			ctx, cancel := context.WithCancel(t.Context())
			cmd := exec.CommandContext(ctx, clock, rate, beatBinary(t), "-host", host, file, "10ms")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "beats", func() bool {
				beats, _ := lab.Beats(file)
				return len(beats) > 5 && beats[len(beats)-1].Host == host
			})
			cancel()
			var ended *exec.ExitError
			if err := cmd.Wait(); !errors.As(err, &ended) {
				t.Error(err)
			}
		}
		after := lab.SinceBoot()
		beats, err := lab.Beats(file)
		if err != nil {
			t.Error(err) // also if the one who was started later is behind
		}
		for _, b := range beats {
			if at := time.Duration(float64(b.At) / factor); at < before-time.Microsecond || at > after+time.Microsecond {
				t.Errorf("rate %s: at %v of that clock it is %v, want %v to %v", rate, b.At, at, before, after)
			}
		}
	}
	if err := exec.Command(clock, "fast", "true").Run(); err == nil {
		t.Error("a rate that is none")
	}
}
