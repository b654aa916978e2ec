package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"time"
)

// The lines that the table stands between, in a file.
const (
	tableBegin = "<!-- bench: begin; make bench WRITE=1 writes what follows -->\n"
	tableEnd   = "<!-- bench: end -->\n"
)

// markdown is the results as tables.
func (r results) markdown() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s.\n\n", strings.Join(r.Facts, "; "))
	s.WriteString("| what | n | p50 | p99 | baseline | its p50 | ratio | target | met |\n")
	s.WriteString("|---|--:|--:|--:|---|--:|--:|---|---|\n")
	for _, row := range r.Rows {
		s.WriteString(row.markdown())
	}
	if len(r.Figures) > 0 {
		s.WriteString("\n| what | measured | baseline | its | ratio |\n|---|--:|---|--:|--:|\n")
	}
	for _, figure := range r.Figures {
		s.WriteString(figure.markdown())
	}
	if len(r.Sizes) > 0 {
		s.WriteString("\n| dvold's memory | resident | of that allocated | of that files | threads | processes | target | met |\n")
		s.WriteString("|---|--:|--:|--:|--:|--:|---|---|\n")
	}
	for _, size := range r.Sizes {
		s.WriteString(size.markdown())
	}
	return s.String()
}

func (r row) markdown() string {
	base, ratio := "", ""
	if r.Baseline != "" {
		base, ratio = milliseconds(percentile(r.Base, 50)), fmt.Sprintf("%.1f", r.ratio())
	}
	target := ""
	switch {
	case r.Under > 0:
		target = "p50 under " + r.Under.String()
	case r.Within > 0:
		target = fmt.Sprintf("ratio at most %g", r.Within)
	case r.Most > 0:
		target = fmt.Sprintf("each at most %v: %s", r.Most, r.Why)
	}
	met, _ := r.met()
	return fmt.Sprintf("| %s | %d | %s | %s | %s | %s | %s | %s | %s |\n", r.What, len(r.Took),
		milliseconds(percentile(r.Took, 50)), milliseconds(percentile(r.Took, 99)), r.Baseline, base, ratio, target, verdict(target, met))
}

func (f figure) markdown() string {
	base, ratio := "", ""
	if f.Baseline != "" {
		base, ratio = number(f.Base)+" "+f.Unit, fmt.Sprintf("%.2f", f.Value/f.Base)
	}
	return fmt.Sprintf("| %s | %s %s | %s | %s | %s |\n", f.What, number(f.Value), f.Unit, f.Baseline, base, ratio)
}

// number has the digits that count.
func number(n float64) string {
	if n < 100 {
		return fmt.Sprintf("%.1f", n)
	}
	return fmt.Sprintf("%.0f", n)
}

func (s size) markdown() string {
	target := ""
	if s.Under > 0 {
		target = "under " + mebibytes(s.Under)
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %d | %d | %s | %s |\n",
		s.What, mebibytes(s.RSS), mebibytes(s.Anon), mebibytes(s.File), s.Threads, s.Procs, target, verdict(target, s.RSS < s.Under))
}

func verdict(target string, met bool) string {
	switch {
	case target == "":
		return ""
	case met:
		return "yes"
	}
	return "**no**"
}

func milliseconds(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case ms < 1:
		return fmt.Sprintf("%.3f ms", ms)
	case ms < 100:
		return fmt.Sprintf("%.2f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}

func mebibytes(kib int) string { return fmt.Sprintf("%.1f MiB", float64(kib)/1024) }

// replaceTable puts text between the two lines of the file that mark its place.
func replaceTable(file, text string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, begun := bytes.Cut(old, []byte(tableBegin))
	_, after, ended := bytes.Cut(rest, []byte(tableEnd))
	if !begun || !ended {
		return fmt.Errorf("%s has no place for the table: it lacks the lines %q and %q", file, tableBegin, tableEnd)
	}
	return os.WriteFile(file, bytes.Join([][]byte{before, after}, []byte(tableBegin+"\n"+text+"\n"+tableEnd)), 0o644)
}
