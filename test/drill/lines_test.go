package main

import (
	"context"
	"slices"
	"strings"
	"testing"
)

func TestLines(t *testing.T) {
	var got []string
	l := &lines{each: func(line string) { got = append(got, line) }}
	for _, part := range []string{"a", "b\n", "\nc\nd\ne", "f"} {
		if n, err := l.Write([]byte(part)); n != len(part) || err != nil {
			t.Errorf("Write(%q) = %d, %v", part, n, err)
		}
	}
	if want := []string{"ab", "", "c", "d"}; !slices.Equal(got, want) { // a line that is not whole is none
		t.Errorf("got %q, want %q", got, want)
	}
}

// Ending a command ends what it has started.
func TestStreamEndsAll(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	started := make(chan struct{}, 1)
	go func() {
		ended <- stream(ctx, []string{"sh", "-c", "sleep 1000 & echo started; wait"}, func(string) { started <- struct{}{} }, func(string) {})
	}()
	<-started
	cancel()
	if err := <-ended; err == nil || strings.Contains(err.Error(), "WaitDelay") {
		t.Errorf("got %v, want the end of a command that was killed with all it had started", err)
	}
}
