package main

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// metrics prints the daemon's, and reads what that printed.
func (w *world) metrics() (text string, families map[string]*dto.MetricFamily) {
	w.t.Helper()
	text, err := w.dvold("metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	p := expfmt.NewTextParser(model.LegacyValidation)
	families, err = p.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		w.t.Fatalf("%v: %s", err, text)
	}
	return text, families
}

func TestMetrics(t *testing.T) {
	w := newWorld(t)
	w.wantError("is dvold running", "metrics")
	stop := w.serve()
	text, families := w.metrics()
	for _, want := range []string{
		"# TYPE dvol_takeovers_total counter\n", "dvol_takeovers_total 0\n", `dvol_info{version="dev"} 1` + "\n",
		`dvol_mounted_volumes{pool="local"} 0` + "\n", `dvol_exclusive_volumes{phase="held"} 0` + "\n",
		"dvol_in_cluster 1\n", "dvol_lease_seconds +Inf\n", "dvol_coordinator_reachable 1\n", "dvol_coordinator_doubted 0\n", "dvol_guarded 0\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("dvold metrics does not print %q:\n%s", want, text)
		}
	}
	problems, err := promlint.NewWithMetricFamilies(slices.Collect(maps.Values(families))).Lint()
	if err != nil {
		t.Error(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// docs/metrics.md has every metric that there is, and no others, with its type
// and label; it has every phase; and its alerts are about what is there.
func TestEveryMetricIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	stop := w.serve()
	_, families := w.metrics()
	if err := stop(); err != nil {
		t.Error(err)
	}
	var have, phases []string
	for name, f := range families {
		row := fmt.Sprintf("%s %s", name, strings.ToLower(f.GetType().String()))
		for _, label := range f.Metric[0].Label {
			row += " " + label.GetName()
		}
		have = append(have, row)
		for _, m := range f.Metric {
			if name == "dvol_exclusive_volumes" {
				phases = append(phases, m.Label[0].GetValue())
			}
		}
	}
	var documented, documentedPhases []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(dvol_[a-z_]+)` \\| ([a-z]+) \\| (?:`([a-z]+)`)? ?\\| [^|]+ \\|$").FindAllStringSubmatch(string(page), -1) {
		documented = append(documented, strings.TrimSpace(strings.Join(m[1:], " ")))
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z]+)` \\| [^|]+ \\|$").FindAllStringSubmatch(string(page), -1) {
		documentedPhases = append(documentedPhases, m[1])
	}
	for _, c := range []struct {
		what             string
		have, documented []string
	}{{"metrics", have, documented}, {"phases", phases, documentedPhases}} {
		slices.Sort(c.have)
		slices.Sort(c.documented)
		if !slices.Equal(c.have, c.documented) {
			t.Errorf("docs/metrics.md has the %s\n%q\nthe program\n%q", c.what, c.documented, c.have)
		}
	}
	_, alerts, _ := strings.Cut(string(page), "groups:")
	watched := regexp.MustCompile(`dvol_[a-z_]+`).FindAllString(alerts, -1)
	if len(watched) < 8 {
		t.Errorf("the alerts of docs/metrics.md are about %q alone", watched)
	}
	for _, name := range watched {
		if families[name] == nil {
			t.Errorf("docs/metrics.md has an alert about %s, which there is not", name)
		}
	}
}
