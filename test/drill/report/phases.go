package report

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Phase is a part of the gap: from the end of the one before, or the old host's
// last write, to a step.
type Phase struct {
	To    Mark
	Until time.Duration
}

// steps are what dvold logs at them.
var steps = []struct {
	words string
	mark  Mark
}{
	{"cutting a silent host off", Noticed},
	{"waiting until a silent host has cut itself off", Noticed},
	{"cut a silent host off", Fenced},
	{"volume is owned", Taken},
}

// MarkOf is the step that a line of dvold's log of a volume stands for, if any.
func MarkOf(volume, line string) Mark {
	if !names(line, volume) {
		return ""
	}
	for _, s := range steps {
		if strings.Contains(line, `msg="`+s.words+`"`) || strings.Contains(line, `"msg":"`+s.words+`"`) {
			return s.mark
		}
	}
	return ""
}

// names tells whether a line of dvold's log is about a volume.
func names(line, volume string) bool {
	return strings.Contains(line+" ", " volume="+volume+" ") || strings.Contains(line, `"volume":"`+volume+`"`)
}

// phases divides the gap by the steps that were seen.
func phases(d Drill, r Result) []Phase {
	at := map[Mark]time.Duration{Wrote: r.First}
	for _, e := range d.Events {
		_, known := at[e.Mark]
		switch e.Mark {
		case Ended, LetGo:
			if e.Host == d.From && e.At <= r.First && !known {
				at[e.Mark] = e.At
			}
		case Asked, Noticed:
			if e.Host == d.To && !known {
				at[e.Mark] = e.At
			}
		case Fenced, Taken, Mounted, Started: // the last attempt is the one that counts
			if e.Host == d.To && (e.At <= r.First || !known) {
				at[e.Mark] = e.At
			}
		}
	}
	// Each of these follows from the one before, whatever the order they were heard of in.
	for limit, marks := r.First, []Mark{Started, Mounted, Taken, Fenced, Noticed}; len(marks) > 0; marks = marks[1:] {
		if then, known := at[marks[0]]; known {
			limit = min(limit, then)
			at[marks[0]] = limit
		}
	}
	var all []Phase
	for _, mark := range []Mark{Ended, LetGo, Asked, Noticed, Fenced, Taken, Mounted, Started, Wrote} {
		if then, known := at[mark]; known {
			all = append(all, Phase{mark, max(then, r.Last)})
		}
	}
	slices.SortStableFunc(all, func(a, b Phase) int { return cmp.Compare(a.Until, b.Until) })
	return all
}
