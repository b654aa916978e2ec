package cluster_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// named is a test, or a script of tests, as docs/hazards.md names it.
var named = regexp.MustCompile("`([a-z]+/[^` ]+)(?: (Test[A-Za-z0-9]+)(?:/([A-Za-z0-9_]+))?)?`")

// Each hazard, and each bug of others, is in docs/hazards.md, and each test that is
// named there exists.
func TestHazardsAreTested(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/hazards.md"))
	if err != nil {
		t.Fatal(err)
	}
	hazards, bugs := 0, 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 5 || strings.TrimSpace(cells[1]) == "" || strings.HasPrefix(cells[1], "-") {
			continue
		}
		kind, number := "hazard", &hazards
		if len(cells) == 6 {
			kind, number = "bug", &bugs
		}
		*number++
		want(t, "number of "+kind, strings.TrimSpace(cells[1]), fmt.Sprint(*number))
		wantTests(t, fmt.Sprintf("%s %d", kind, *number), cells[len(cells)-2])
	}
	want(t, "number of hazards", hazards, 20)
	want(t, "number of bugs", bugs, 11)
}

const root = "../.."

// wantTests checks that what text names are tests that exist, and that there are some.
func wantTests(t *testing.T, of, text string) {
	t.Helper()
	tests := named.FindAllStringSubmatch(text, -1)
	if spans := strings.Count(text, "`") / 2; len(tests) != spans {
		t.Errorf("%s: %d of %d words in backquotes are tests", of, len(tests), spans)
	}
	if len(tests) == 0 && !strings.Contains(text, "not here") {
		t.Errorf("%s is not tested", of)
	}
	for _, test := range tests {
		file, name, sub := test[1], test[2], test[3]
		code, err := os.ReadFile(filepath.Join(root, file))
		switch {
		case err != nil:
			t.Errorf("%s: %v", of, err)
		case strings.HasSuffix(file, ".go") != (name != ""):
			t.Errorf("%s: %s is not the name of a test", of, test[0])
		case name != "" && !strings.Contains(string(code), "\nfunc "+name+"(t *testing.T) {"),
			sub != "" && !hasSubtest(string(code), sub):
			t.Errorf("%s: there is no test %s", of, test[0])
		}
	}
}

// hasSubtest tells whether code runs a test of that name within another, by itself
// or in a table.
func hasSubtest(code, name string) bool {
	written := strings.ReplaceAll(name, "_", " ")
	return strings.Contains(code, `t.Run("`+written+`", `) || strings.Contains(code, `{"`+written+`", `)
}
