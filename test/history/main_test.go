package history_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/dvol/dvold/test/lab"
)

// dvold, worker and clock are binaries, in the directory built.
var dvold, worker, clock, built string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	if lab.Missing() != "" {
		return m.Run() // each test skips or fails
	}
	var err error
	if built, err = os.MkdirTemp("", "history"); err == nil {
		defer os.RemoveAll(built)
		for _, build := range []func() error{
			func() error { dvold, err = lab.BuildDvold(built, false); return err },
			func() error { worker, err = lab.BuildStatic(built, "test/history/worker"); return err },
			func() error { clock, err = lab.BuildStatic(built, "test/lab/cmd/clock"); return err },
		} {
			if build() != nil {
				break
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
