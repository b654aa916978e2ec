package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// event is a line of go test -json; see go doc test2json.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Elapsed    float64
	Output     string
}

// test names one test; without a name it stands for its package.
type test struct {
	pkg, name string
}

func (t test) String() string {
	return t.pkg + " " + t.name
}

type timing struct {
	test    test
	seconds float64
}

// report is what a stream of events comes to.
type report struct {
	out      io.Writer
	required []string // suites that may not be skipped
	quiet    bool     // print nothing before summarize

	output  map[test][]string // of what is still running
	timings []timing          // of top-level tests
	ran     int               // tests and subtests that passed or failed
	skipped int
	failed  int
	broken  bool // something other than a test went wrong
}

func newReport(out io.Writer, required []string, quiet bool) *report {
	return &report{out: out, required: required, quiet: quiet, output: map[test][]string{}}
}

// passed reports whether nothing failed, and something was there to fail.
func (r *report) passed() bool {
	return r.failed == 0 && !r.broken && r.ran+r.skipped > 0
}

// read takes in all of in. A line that is no event, such as what go itself
// prints when it can't start, is passed on and fails the whole.
func (r *report) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			r.broken = true
			r.printf("%s\n", lines.Text())
			continue
		}
		r.add(e)
	}
	return lines.Err()
}

func (r *report) add(e event) {
	t := test{strings.TrimPrefix(e.Package, "github.com/dvol/dvold/"), e.Test}
	switch e.Action {
	case "build-output":
		r.printf("%s", e.Output)
	case "build-fail":
		r.broken = true
		r.printf("FAIL     %s does not build\n", e.ImportPath)
	case "output":
		r.output[t] = append(r.output[t], e.Output)
	case "pass", "fail", "skip":
		r.end(t, e)
		delete(r.output, t)
	}
}

// end takes in that a test or a package has ended.
func (r *report) end(t test, e event) {
	if t.name == "" {
		r.endPackage(t, e)
		return
	}
	if !strings.Contains(t.name, "/") {
		r.timings = append(r.timings, timing{t, e.Elapsed})
	}
	switch e.Action {
	case "pass":
		r.ran++
		for _, line := range r.output[t] {
			if _, why, ok := strings.Cut(line, "BEGUN ANEW: "); ok { // a guest: see guesttest.Run
				r.printf("BEGUN ANEW: %s because %s", t, why)
			}
		}
	case "fail":
		r.ran++
		r.failed++
		r.printf("FAIL     %s (%.1f s)\n%s", t, e.Elapsed, strings.Join(r.output[t], ""))
	case "skip":
		r.skip(t)
	}
}

func (r *report) endPackage(t test, e event) {
	switch e.Action {
	case "pass":
		r.printf("ok       %s (%.1f s)\n", t.pkg, e.Elapsed)
	case "fail":
		// Also without a failed test: a panic, a data race outside a test, a time limit.
		r.broken = true
		r.printf("FAIL     %s (%.1f s)\n%s", t.pkg, e.Elapsed, strings.Join(r.output[t], ""))
	}
}

func (r *report) skip(t test) {
	r.skipped++
	reason := skipReason(r.output[t])
	r.printf("SKIPPED: %s because %s\n", t, reason)
	if suite := r.requires(t, reason); suite != "" {
		r.broken = true
		r.printf("FAIL     %s was skipped, and DVOLD_TEST_REQUIRE asks for %s\n", t, suite)
	}
}

// requires returns the required suite that a skipped test belongs to, or "".
// A suite is known by its name in the reason, or as a part of the package's
// path.
func (r *report) requires(t test, reason string) string {
	for _, suite := range r.required {
		word := regexp.MustCompile(`(?i)\b` + regexp.QuoteMeta(suite) + `\b`)
		if word.MatchString(reason) || slices.Contains(strings.Split(t.pkg, "/"), suite) {
			return suite
		}
	}
	return ""
}

// skipReason finds what a test said to Skip: its last line with a position.
func skipReason(output []string) string {
	position := regexp.MustCompile(`^\s+\S+\.go:\d+: (.*)`)
	for _, line := range slices.Backward(output) {
		if m := position.FindStringSubmatch(line); m != nil {
			return strings.TrimPrefix(m[1], "SKIPPED: ")
		}
	}
	return "it gave no reason"
}

// summarize prints totals and the n slowest tests.
func (r *report) summarize(n int) {
	slices.SortStableFunc(r.timings, func(a, b timing) int { return cmp.Compare(b.seconds, a.seconds) })
	fmt.Fprintf(r.out, "%d tests ran, %d failed, %d skipped; the slowest:\n", r.ran, r.failed, r.skipped)
	for _, t := range r.timings[:min(n, len(r.timings))] {
		fmt.Fprintf(r.out, "%8.1f s  %s\n", t.seconds, t.test)
	}
}

func (r *report) printf(format string, args ...any) {
	if !r.quiet {
		fmt.Fprintf(r.out, format, args...)
	}
}
