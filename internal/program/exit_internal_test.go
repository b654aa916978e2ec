package program

import (
	"context"
	"os/exec"
	"testing"
)

// over is a context that ends unseen.
type over struct{ context.Context }

func (over) Err() error { return context.DeadlineExceeded }

// An exit that is seen only once the time is over is none in time.
func TestSeenLate(t *testing.T) {
	command := exec.Command("/bin/true")
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	if awaitExit(over{context.Background()}, command.Process.Pid) {
		t.Error("an exit seen after the end counts as one in time")
	}
	if !awaitExit(t.Context(), command.Process.Pid) {
		t.Error("an exit that is still to be reaped is not seen")
	}
	if err := command.Wait(); err != nil {
		t.Error(err)
	}
	if awaitExit(t.Context(), command.Process.Pid) {
		t.Error("a process that is not there counts as one that exited in time")
	}
}
