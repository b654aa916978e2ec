// Package guesttest runs tests on a kernel that has what they need; see package
// guest.
package guesttest

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host/guest"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// Inside tells whether this is a guest.
func Inside() bool { return guest.Inside() }

// Run runs a test of the top level again in a guest, with kernel modules that are
// loaded in that order, and has it fail if it fails there.
func Run(t *testing.T, load ...string) { t.Helper(); Guest{Load: load}.Run(t) }

// Guest is what a test can run in. The fields are those of guest.Guest.
type Guest struct {
	Load []string
	Tap  string
	Env  []string
	// Programs are files of the machine's that lie in guest.Mnt there.
	Programs []string
}

// Run runs a test of the top level again in the guest, and has it fail if it fails
// there. It begins anew, once, if the guest's kernel stands still.
func (g Guest) Run(t *testing.T) {
	t.Helper()
	binary := build(t)
	r := <-g.start(t, binary, nil).came
	if r.Status == "" && errors.Is(r.Err, guest.ErrStill) {
		said := strings.Split(strings.TrimSpace(string(r.Output)), "\n")
		t.Logf("BEGUN ANEW: %v; the last it said was %q", r.Err, said[len(said)-1])
		r = <-g.start(t, binary, nil).came
	}
	judge(t, r)
}

// Together runs a test of the top level in two guests at once, and has it fail if it
// fails in one. Their vec0 are the ends of one cable.
func Together(t *testing.T, first, second Guest) {
	t.Helper()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(os.NewSyscallError("socketpair", err))
	}
	binary := build(t)
	second.Env = append(second.Env, guest.Pids+"=200") // the first's processes have fewer threads
	var machines [2]machine
	for n, g := range []Guest{first, second} {
		end := os.NewFile(uintptr(ends[n]), "cable")
		t.Cleanup(func() { end.Close() })
		machines[n] = g.start(t, binary, end)
	}
	served := make(chan struct{})
	t.Cleanup(func() { <-served })
	go func() {
		defer close(served)
		machines[0].serve(t, machines[1])
	}()
	for _, m := range machines {
		judge(t, <-m.came)
	}
}

// build builds the test for guests, and returns its path.
func build(t *testing.T) (binary string) {
	t.Helper()
	hosttest.Need(t, guest.Missing(), guest.Missing() == "")
	_, err := exec.LookPath("go")
	hosttest.Need(t, "go", err == nil)
	binary = filepath.Join(hosttest.Dir(t), "test")
	// Its race detector would need more addresses than a guest has.
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-race=false", "-ldflags=-s -w", "-tags="+Tags(), "-o", binary, ".")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the test for the guest: %v: %s", err, output)
	}
	return binary
}

// machine is a guest that runs.
type machine struct {
	dir     string // that is guest.Mnt there
	process <-chan *os.Process
	came    <-chan guest.Result
}

// start starts the guest, which ends with the test.
func (g Guest) start(t *testing.T, binary string, cable *os.File) machine {
	t.Helper()
	dir := hosttest.Dir(t)
	if err := os.Link(binary, filepath.Join(dir, "test")); err != nil {
		t.Fatal(err)
	}
	for _, program := range g.Programs {
		text, err := os.ReadFile(program)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(program)), text, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	process := make(chan *os.Process, 1)
	kernel := guest.Guest{
		Dir: dir, Memory: "768M", Load: g.Load, Tap: g.Tap, Cable: cable, Env: append([]string{"DVOLD_TEST_REQUIRE=root"}, g.Env...),
		Command: []string{guest.Mnt + "/test", "-test.v", "-test.timeout=14m", "-test.run=" + pattern(t)},
		Started: func(p *os.Process) { process <- p },
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	came, ended := make(chan guest.Result, 1), make(chan struct{})
	t.Cleanup(func() { <-ended }) // soon: the test's context has ended
	go func() {
		defer close(ended)
		defer cancel()
		came <- kernel.Run(ctx)
	}()
	return machine{dir, process, came}
}

// judge has the test fail if the guest's result is bad.
func judge(t *testing.T, r guest.Result) {
	t.Helper()
	switch {
	case r.Status == "":
		t.Errorf("the guest came to no result: %v\n%s\nits console:\n%s", r.Err, r.Output, r.Console)
	case r.Status != "0" || strings.Contains(string(r.Output), "SKIPPED: "):
		t.Errorf("in the guest:\n%s", r.Output)
	default:
		t.Logf("in the guest:\n%s", r.Output)
	}
}

// Tags are those that this test was built with, separated by commas.
func Tags() string {
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == "-tags" {
			return s.Value
		}
	}
	return ""
}

// pattern is what the guest is to run: the test, or what of it was asked for here.
func pattern(t *testing.T) string {
	this := "^" + regexp.QuoteMeta(t.Name()) + "$"
	if _, below, ok := strings.Cut(flag.Lookup("test.run").Value.String(), "/"); ok {
		return this + "/" + below
	}
	return this
}
