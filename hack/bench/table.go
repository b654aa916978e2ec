package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// The lines that the table stands between, in a file.
const (
	tableBegin = "<!-- bench: begin; make bench WRITE=1 writes what follows -->\n"
	tableEnd   = "<!-- bench: end -->\n"
)

// partBegin is what the line begins with that has a part's title.
const partBegin = "### "

// markdown is the results as tables.
func (r results) markdown() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s.\n\n", strings.Join(r.Facts, "; "))
	s.WriteString("| what | n | p50 | p99 | baseline | its p50 | ratio | target | met |\n")
	s.WriteString("|---|--:|--:|--:|---|--:|--:|---|---|\n")
	for _, row := range r.Rows {
		s.WriteString(row.markdown())
	}
	targets := slices.ContainsFunc(r.Figures, func(f figure) bool { return f.Within > 0 })
	switch {
	case targets:
		s.WriteString("\n| what | measured | baseline | its | ratio | target | met |\n|---|--:|---|--:|--:|---|---|\n")
	case len(r.Figures) > 0:
		s.WriteString("\n| what | measured | baseline | its | ratio |\n|---|--:|---|--:|--:|\n")
	}
	for _, figure := range r.Figures {
		s.WriteString(figure.markdown(targets))
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
		base, ratio = milliseconds(percentile(r.Base, 50)), ratioText(r.ratio())
	}
	target := ""
	switch {
	case r.Under > 0:
		target = "p50 under " + r.Under.String()
	case r.Within > 0:
		target = ratioTarget(r.Within)
	case r.Most > 0:
		target = fmt.Sprintf("each at most %v: %s", r.Most, r.Why)
	case r.Mostly > 0:
		target = "p99 under " + r.Mostly.String()
	}
	met, _ := r.met()
	return fmt.Sprintf("| %s | %d | %s | %s | %s | %s | %s | %s | %s |\n", r.What, len(r.Took),
		milliseconds(percentile(r.Took, 50)), milliseconds(percentile(r.Took, 99)), r.Baseline, base, ratio, target, verdict(target, met))
}

// markdown is a line of the table, with columns for targets if it has those.
func (f figure) markdown(targets bool) string {
	base, ratio := "", ""
	if f.Baseline != "" {
		base, ratio = number(f.Base)+" "+f.Unit, fmt.Sprintf("%.2f", f.ratio())
	}
	line := fmt.Sprintf("| %s | %s %s | %s | %s | %s |", f.What, number(f.Value), f.Unit, f.Baseline, base, ratio)
	if targets {
		target := ""
		if f.Within > 0 {
			target = ratioTarget(f.Within)
		}
		line += fmt.Sprintf(" %s | %s |", target, verdict(target, f.ratio() <= f.Within))
	}
	return line + "\n"
}

func ratioTarget(within float64) string { return fmt.Sprintf("ratio at most %g", within) }

// ratioText has more digits where a target may depend on them.
func ratioText(ratio float64) string {
	switch {
	case ratio < 0.1:
		return fmt.Sprintf("%.3f", ratio)
	case ratio < 2:
		return fmt.Sprintf("%.2f", ratio)
	}
	return fmt.Sprintf("%.1f", ratio)
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
	return changeTable(file, func(string) string { return "\n" + text + "\n" })
}

// replacePart puts text in the place of the part of that title, or after the last
// part if there is none of it. All others stay as they are.
func replacePart(file, title, text string) error {
	return changeTable(file, func(old string) string {
		before, rest, found := strings.Cut(old, partBegin+title+"\n")
		if !found {
			return old + text + "\n"
		}
		after := ""
		if i := strings.Index(rest, "\n"+partBegin); i >= 0 {
			after = rest[i+1:]
		}
		return before + text + "\n" + after
	})
}

// changeTable changes what stands between the two lines of the file that mark
// the place of the table.
func changeTable(file string, edit func(old string) string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, begun := strings.Cut(string(text), tableBegin)
	old, after, ended := strings.Cut(rest, tableEnd)
	if !begun || !ended {
		return fmt.Errorf("%s has no place for the table: it lacks the lines %q and %q", file, tableBegin, tableEnd)
	}
	return os.WriteFile(file, []byte(before+tableBegin+edit(old)+tableEnd+after), 0o644)
}
