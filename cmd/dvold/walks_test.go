package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The walks through the code in docs/architecture.md name functions that exist, in the
// files that they say.
func TestWalks(t *testing.T) {
	page, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, walks, _ := strings.Cut(string(page), "\n## Two walks")
	walks, _, found := strings.Cut(walks, "\n## ")
	if !found {
		t.Fatal("docs/architecture.md has no walks")
	}
	steps := 0
	file := ""
	// A file and a function, or one that the function before calls in the same file.
	for _, m := range regexp.MustCompile("(?:`([a-z0-9/]+\\.go)`\\s+|→ )`(\\w+)`").FindAllStringSubmatch(walks, -1) {
		if m[1] != "" {
			file = m[1]
		}
		steps++
		code, err := os.ReadFile("../../" + file)
		if err != nil {
			t.Error(err)
			continue
		}
		if !regexp.MustCompile(`(?m)^func (\([^)]*\) )?` + m[2] + `[\[(]`).Match(code) {
			t.Errorf("%s has no function %s", file, m[2])
		}
	}
	if steps < 40 {
		t.Errorf("found %d steps only", steps)
	}
}
