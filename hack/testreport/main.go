// Command testreport turns the output of go test -json on its standard input
// into lines for people: a line for each package, everything a failed test
// said, every skipped test with its reason. It exits with 1 if a test failed,
// or if one was skipped that DVOLD_TEST_REQUIRE, a comma-separated list of
// suites, asks for.
//
// With -summary it prints totals and the slowest tests instead.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
)

func main() {
	summary := flag.Bool("summary", false, "print totals and the slowest tests only")
	flag.Parse()
	required := strings.FieldsFunc(os.Getenv("DVOLD_TEST_REQUIRE"), func(r rune) bool { return r == ',' })
	r := newReport(os.Stdout, required, *summary)
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
	if *summary {
		r.summarize(10)
	}
	if !r.passed() {
		os.Exit(1)
	}
}
