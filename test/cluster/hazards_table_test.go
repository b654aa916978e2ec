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
var named = regexp.MustCompile("`([a-z]+/[^` ]+)(?: (Test[A-Za-z0-9]+)(?:/([A-Za-z0-9]+))?)?`")

// Each hazard is in docs/hazards.md, and each test that is named there exists.
func TestHazardsAreTested(t *testing.T) {
	const root = "../.."
	text, err := os.ReadFile(filepath.Join(root, "docs/hazards.md"))
	if err != nil {
		t.Fatal(err)
	}
	hazard := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 5 || strings.TrimSpace(cells[1]) == "" || strings.HasPrefix(cells[1], "-") {
			continue
		}
		hazard++
		want(t, "number", strings.TrimSpace(cells[1]), fmt.Sprint(hazard))
		tests := named.FindAllStringSubmatch(cells[3], -1)
		if spans := strings.Count(cells[3], "`") / 2; len(tests) != spans {
			t.Errorf("hazard %d: %d of %d words in backquotes are tests", hazard, len(tests), spans)
		}
		if len(tests) == 0 && !strings.Contains(cells[3], "not here") {
			t.Errorf("hazard %d is not tested", hazard)
		}
		for _, test := range tests {
			file, name, sub := test[1], test[2], test[3]
			code, err := os.ReadFile(filepath.Join(root, file))
			switch {
			case err != nil:
				t.Errorf("hazard %d: %v", hazard, err)
			case strings.HasSuffix(file, ".go") != (name != ""):
				t.Errorf("hazard %d: %s is not the name of a test", hazard, test[0])
			case name != "" && !strings.Contains(string(code), "\nfunc "+name+"(t *testing.T) {"),
				sub != "" && !strings.Contains(string(code), `t.Run("`+sub+`", `):
				t.Errorf("hazard %d: there is no test %s", hazard, test[0])
			}
		}
	}
	want(t, "number of hazards", hazard, 19)
}
