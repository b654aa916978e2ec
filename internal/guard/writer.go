package guard

import (
	"bytes"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// Writer is for a log that must not stop the guard: whoever reads it may wait
// for the very disk that hangs. It never waits; what is not written in time is
// lost, and the writer says so when it goes on. It may be used concurrently.
type Writer struct {
	to    io.Writer
	lines chan []byte
	lost  atomic.Int64
	end   chan struct{}
	ended chan struct{}
}

// NewWriter returns a Writer that writes to w.
func NewWriter(w io.Writer) *Writer {
	guarded := &Writer{to: w, lines: make(chan []byte, 1024), end: make(chan struct{}), ended: make(chan struct{})}
	go guarded.run()
	return guarded
}

// Write takes a line of the log.
func (w *Writer) Write(line []byte) (int, error) {
	select {
	case w.lines <- bytes.Clone(line):
	default:
		w.lost.Add(1)
	}
	return len(line), nil
}

// Close waits a moment until what was written has got where it should.
func (w *Writer) Close() error {
	close(w.end)
	select {
	case <-w.ended:
	case <-time.After(time.Second):
	}
	return nil
}

func (w *Writer) run() {
	defer close(w.ended)
	for {
		select {
		case line := <-w.lines:
			w.write(line)
		case <-w.end:
			for len(w.lines) > 0 {
				w.write(<-w.lines)
			}
			return
		}
	}
}

func (w *Writer) write(line []byte) {
	_, _ = w.to.Write(line) // there is nowhere to say that this fails
	if lost := w.lost.Swap(0); lost > 0 {
		fmt.Fprintf(w.to, "%d lines of the log were lost\n", lost)
	}
}
