package guard_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/internal/guard"
)

func TestWriter(t *testing.T) {
	var out strings.Builder
	w := guard.NewWriter(&out)
	line := []byte("one\n")
	for range 100 {
		if n, err := w.Write(line); n != len(line) || err != nil {
			t.Fatalf("got %d, %v", n, err)
		}
	}
	line[0] = 'x' // slog does this: it uses its lines again
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != strings.Repeat("one\n", 100) {
		t.Errorf("got %q", got)
	}
	if _, err := w.Write(line); err != nil { // by a cut that hangs
		t.Errorf("after the end: %v", err)
	}
}

// Whoever reads the log has stopped: nobody waits, and what is lost is counted.
func TestWriterNeverWaits(t *testing.T) {
	reader, writer := io.Pipe()
	w := guard.NewWriter(writer)
	begin := time.Now()
	const lines = 5000
	for range lines {
		if _, err := w.Write([]byte("line\n")); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	read := make(chan string)
	go func() {
		text, _ := io.ReadAll(reader)
		read <- string(text)
	}()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	text := <-read
	got := strings.Count(text, "line\n")
	if got == 0 || got == lines || !strings.Contains(text, "lines of the log were lost\n") {
		t.Errorf("%d of %d lines came, and it says %q", got, lines, text[strings.LastIndex(text[:len(text)-1], "line\n"):])
	}
	hanging, writer := io.Pipe()
	defer hanging.Close()
	w = guard.NewWriter(writer)
	_, _ = w.Write([]byte("line\n"))
	begin = time.Now()
	if err := w.Close(); err != nil || time.Since(begin) > 5*time.Second {
		t.Errorf("closing took %v: %v", time.Since(begin), err)
	}
}
