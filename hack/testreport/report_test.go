package main

import (
	"strings"
	"testing"
)

const (
	pass   = `{"Action":"pass","Package":"github.com/dvol/dvold/a","Test":"TestGood","Elapsed":0.5}`
	slow   = `{"Action":"pass","Package":"github.com/dvol/dvold/a","Test":"TestSlow","Elapsed":2}`
	said   = `{"Action":"output","Package":"github.com/dvol/dvold/a","Test":"TestBad","Output":"    a_test.go:3: got 1, want 2\n"}`
	fail   = `{"Action":"fail","Package":"github.com/dvol/dvold/a","Test":"TestBad","Elapsed":1}`
	reason = `{"Action":"output","Package":"github.com/dvol/dvold/a","Test":"TestRoot","Output":"    a_test.go:9: mounting needs root\n"}`
	skip   = `{"Action":"skip","Package":"github.com/dvol/dvold/a","Test":"TestRoot"}`
	died   = `{"Action":"fail","Package":"github.com/dvol/dvold/a","Elapsed":1}`
	broken = `{"Action":"build-fail","ImportPath":"github.com/dvol/dvold/b"}`
	anew   = `{"Action":"output","Package":"github.com/dvol/dvold/a","Test":"TestGood","Output":"    a_test.go:9: BEGUN ANEW: it stood still\n"}`
	empty  = `{"Action":"skip","Package":"github.com/dvol/dvold/c"}`
)

func TestReport(t *testing.T) {
	tests := []struct {
		name     string
		lines    []string
		required string
		passed   bool
		want     string // part of what is printed
	}{
		{"all good", []string{pass, slow}, "", true, ""},
		{"a failure shows what the test said", []string{pass, said, fail}, "", false, "got 1, want 2"},
		{"a skip is loud", []string{pass, reason, skip}, "docker", true, "SKIPPED: a TestRoot because mounting needs root"},
		{"so is what was begun anew", []string{anew, pass}, "", true, "BEGUN ANEW: a TestGood because it stood still\n"},
		{"a required suite by its reason", []string{pass, reason, skip}, "root", false, "asks for root"},
		{"a required suite by its package", []string{pass, reason, skip}, "a", false, "asks for a"},
		{"a required suite is no part of a word", []string{pass, reason, skip}, "roo", true, "SKIPPED"},
		{"a skip without a reason", []string{pass, skip}, "root", true, "gave no reason"},
		{"a package that died", []string{pass, died}, "", false, "FAIL     a"},
		{"a package that does not build", []string{pass, broken}, "", false, "b does not build"},
		{"a line that is no event", []string{pass, "go: no such module"}, "", false, "go: no such module"},
		{"nothing ran", []string{empty}, "", false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			r := newReport(&out, strings.Fields(tt.required), false)
			if err := r.read(strings.NewReader(strings.Join(tt.lines, "\n"))); err != nil {
				t.Fatal(err)
			}
			if got := r.passed(); got != tt.passed {
				t.Errorf("passed() = %v, want %v", got, tt.passed)
			}
			if !strings.Contains(out.String(), tt.want) {
				t.Errorf("printed %q, want it to contain %q", out.String(), tt.want)
			}
		})
	}
}

func TestSummary(t *testing.T) {
	var out strings.Builder
	r := newReport(&out, nil, true)
	if err := r.read(strings.NewReader(strings.Join([]string{pass, slow, fail, skip, died}, "\n"))); err != nil {
		t.Fatal(err)
	}
	r.summarize(2)
	want := "3 tests ran, 1 failed, 1 skipped; the slowest:\n     2.0 s  a TestSlow\n     1.0 s  a TestBad\n"
	if got := out.String(); got != want {
		t.Errorf("summary = %q, want %q", got, want)
	}
}
