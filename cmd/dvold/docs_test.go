package main

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dvol/dvold/internal/adminapi"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/migrate"
	"github.com/dvol/dvold/internal/volumes"
)

// fields returns the JSON fields of a struct in order. Those of an embedded
// one count as its own, unless it is of the type without.
func fields(t reflect.Type, without reflect.Type) (names []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			if f.Type != without {
				names = append(names, fields(f.Type, without)...)
			}
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if options == "omitempty" || options == "omitzero" {
			name += "?"
		}
		names = append(names, name)
	}
	return names
}

// docs/cli.md names every field that is printed, and which may be missing.
func TestEveryFieldIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string][]string{}
	heading := ""
	row := regexp.MustCompile("^\\| `([a-z_]+)` \\| (.*) \\|$")
	for line := range strings.Lines(string(page)) {
		line = strings.TrimSuffix(line, "\n")
		if h, ok := strings.CutPrefix(line, "### "); ok {
			heading = h
			documented[heading] = nil
		}
		if m := row.FindStringSubmatch(strings.Replace(line, "| |", "|  |", 1)); m != nil && heading != "" {
			if strings.Contains(m[2], "may be missing") {
				m[1] += "?"
			}
			documented[heading] = append(documented[heading], m[1])
		}
	}
	printed := map[string]any{
		"volume": volumes.Volume{}, "volume details": adminapi.Details{}, "owner": volumes.Owner{}, "use": volumes.Use{}, "process": host.Process{},
		"user": host.User{}, "holder": volumes.Holder{}, "when removed": adminapi.WhenRemoved{}, "removed volume": volumes.Trashed{},
		"pool": volumes.PoolInfo{}, "host": volumes.Host{}, "cluster": volumes.Cluster{},
		"findings": adminapi.Findings{}, "finding": volumes.Finding{}, "migrated volume": migrate.Result{}, "local volume": migrate.Local{},
	}
	for heading, value := range printed {
		want := fields(reflect.TypeOf(value), reflect.TypeFor[volumes.Volume]())
		if got := documented[heading]; !slices.Equal(got, want) {
			t.Errorf("docs/cli.md, %s: has %v, the program prints %v (? may be missing)", heading, got, want)
		}
		delete(documented, heading)
	}
	for heading := range documented {
		t.Errorf("docs/cli.md, %s: the program prints no such thing", heading)
	}
}

// docs/cli.md names every command, and none that isn't there.
func TestEveryCommandIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented, have []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(dvold [^`]*)` \\|").FindAllStringSubmatch(string(page), -1) {
		documented = append(documented, strings.ReplaceAll(m[1], `\|`, "|"))
	}
	for _, c := range commands(t) {
		if c.HasSubCommands() || c.Name() == "help" {
			continue
		}
		line, _, _ := strings.Cut(strings.TrimSuffix(c.UseLine(), " [flags]"), " | --all")
		have = append(have, line)
	}
	slices.Sort(documented)
	slices.Sort(have)
	if !slices.Equal(documented, have) {
		t.Errorf("docs/cli.md has the commands\n%q\nthe program\n%q", documented, have)
	}
}
