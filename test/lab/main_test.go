package lab_test

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/dvol/dvold/test/lab"
)

// binaries is a directory for what tests build.
var binaries string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "lab")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binaries = dir
	return m.Run()
}

var buildBeat = sync.OnceValues(func() (string, error) { return lab.BuildBeat(binaries) })

// beatBinary is the command beat.
func beatBinary(t *testing.T) string {
	t.Helper()
	binary, err := buildBeat()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// syncBuffer is a buffer that a command writes to while it is read.
type syncBuffer struct {
	mu sync.Mutex // guards all
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
