package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMarkdown(t *testing.T) {
	r := results{
		Facts: []string{"2 cores", "a disk"},
		Rows: []row{
			{What: "plain", Took: []time.Duration{1500 * time.Microsecond}},
			{What: "beside", Took: []time.Duration{300 * time.Millisecond}, Baseline: "bare", Base: []time.Duration{100 * time.Microsecond}, Within: 3},
			{What: "worst", Took: []time.Duration{time.Second, 11 * time.Second}, Most: 10 * time.Second, Why: "so"},
			{What: "quick", Took: []time.Duration{5 * time.Microsecond}, Under: time.Millisecond},
		},
		Figures: []figure{
			{What: "much", Value: 250, Unit: "/s", Baseline: "more", Base: 500},
			{What: "little", Value: 2.25, Unit: "/min"},
		},
		Sizes: []size{
			{What: "small", RSS: 1536, Anon: 1024, File: 512, Threads: 7, Procs: 1, Under: 2048},
			{What: "large", RSS: 2048, Anon: 1024, File: 1024, Threads: 8, Procs: 2, Under: 2048},
		},
	}
	got := r.markdown()
	targets := results{Figures: []figure{
		{What: "lean", Value: 21, Unit: "MiB", Baseline: "few", Base: 20, Within: 1.1},
		{What: "fat", Value: 23, Unit: "MiB", Baseline: "few", Base: 20, Within: 1.1},
		{What: "any", Value: 23, Unit: "MiB", Baseline: "few", Base: 20},
	}}
	got += targets.markdown()
	for _, want := range []string{
		"| lean | 21.0 MiB | few | 20.0 MiB | 1.05 | ratio at most 1.1 | yes |\n",
		"| fat | 23.0 MiB | few | 20.0 MiB | 1.15 | ratio at most 1.1 | **no** |\n",
		"| any | 23.0 MiB | few | 20.0 MiB | 1.15 |  |  |\n",
		"2 cores; a disk.\n\n| what |",
		"| plain | 1 | 1.50 ms | 1.50 ms |  |  |  |  |  |\n",
		"| beside | 1 | 300 ms | 300 ms | bare | 0.100 ms | 3000.0 | ratio at most 3 | **no** |\n",
		"| worst | 2 | 1000 ms | 11000 ms |  |  |  | each at most 10s: so | **no** |\n",
		"| quick | 1 | 0.005 ms | 0.005 ms |  |  |  | p50 under 1ms | yes |\n",
		"| much | 250 /s | more | 500 /s | 0.50 |\n",
		"| little | 2.2 /min |  |  |  |\n",
		"| small | 1.5 MiB | 1.0 MiB | 0.5 MiB | 7 | 1 | under 2.0 MiB | yes |\n",
		"| large | 2.0 MiB | 1.0 MiB | 1.0 MiB | 8 | 2 | under 2.0 MiB | **no** |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the table lacks %q:\n%s", want, got)
		}
	}
}

func TestReplaceTable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.md")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("before\n" + tableBegin + "old\n" + tableEnd + "after\n")
	for _, table := range []string{"first\n", "second\n"} { // what it wrote it finds again
		if err := replaceTable(file, table); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if want := "before\n" + tableBegin + "\n" + table + "\n" + tableEnd + "after\n"; string(got) != want {
			t.Errorf("page = %q, want %q", got, want)
		}
	}
	for _, text := range []string{"", "no marks\n", tableBegin + "no end\n", tableEnd + tableBegin} {
		write(text)
		if err := replaceTable(file, "table\n"); err == nil {
			t.Errorf("the table found a place in %q", text)
		}
		if got, _ := os.ReadFile(file); string(got) != text {
			t.Errorf("page = %q, want it as it was, %q", got, text)
		}
	}
}

// A part that is put into the page leaves the others alone.
func TestReplacePart(t *testing.T) {
	const begin, end = "before\n" + tableBegin, tableEnd + "after\n"
	const one, two, three = "### One\n\nfirst\n\n", "### Two\n\nsecond\n\n", "### Three\n\nthird\n\n"
	for _, tt := range []struct{ name, old, title, text, want string }{
		{"first", "\n" + one + two, "One", "### One\n\nnew\n", "\n### One\n\nnew\n\n" + two},
		{"middle", "\n" + one + two + three, "Two", "### Two\n\nnew\n", "\n" + one + "### Two\n\nnew\n\n" + three},
		{"last", "\n" + one + two, "Two", "### Two\n\nnew\n", "\n" + one + "### Two\n\nnew\n\n"},
		{"missing", "\n" + one, "Two", "### Two\n\nsecond\n", "\n" + one + two},
	} {
		file := filepath.Join(t.TempDir(), "page.md")
		if err := os.WriteFile(file, []byte(begin+tt.old+end), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := replacePart(file, tt.title, tt.text); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if want := begin + tt.want + end; string(got) != want {
			t.Errorf("%s: page = %q, want %q", tt.name, got, want)
		}
	}
}

// The page that make bench writes to has a place for the table.
func TestPageHasPlace(t *testing.T) {
	page, err := os.ReadFile("../../docs/benchmarks.md")
	if err != nil {
		t.Fatal(err)
	}
	begin, end := strings.Index(string(page), tableBegin), strings.Index(string(page), tableEnd)
	if begin < 0 || end < begin {
		t.Errorf("docs/benchmarks.md lacks the lines %q and %q", tableBegin, tableEnd)
	}
}
