package history_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/dvol/dvold/test/lab"
)

// dvold and worker are binaries, in the directory built.
var dvold, worker, built string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	if lab.Missing() != "" {
		return m.Run() // each test skips or fails
	}
	var err error
	if built, err = os.MkdirTemp("", "history"); err == nil {
		defer os.RemoveAll(built)
		if dvold, err = lab.BuildDvold(built, false); err == nil {
			worker, err = lab.BuildStatic(built, "test/history/worker")
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
