package history

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A journal is lines of
//
//	call NANOSECONDS KIND [VALUE]      it is about to do that
//	done NANOSECONDS KIND [VALUE]      it has; of a read, what was read
//	fail NANOSECONDS KIND ERROR        it has not, or nobody knows
//
// in which a value or an error is quoted as in Go. One operation is over before
// the next begins.

// JournalLine is a line of a journal.
func JournalLine(event string, at time.Duration, kind Kind, text string) string {
	return fmt.Sprintf("%s %d %s %q\n", event, at.Nanoseconds(), kind, text)
}

// ParseJournal reads a journal. The last line may be torn: the worker was killed.
func ParseJournal(text string) ([]Op, error) {
	var ops []Op
	open := false // the last of ops has not ended
	for line := range strings.Lines(text) {
		if !strings.HasSuffix(line, "\n") {
			break
		}
		event, at, kind, said, err := parseLine(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, fmt.Errorf("journal: line %q: %w", line, err)
		}
		if event == "call" {
			if open {
				return nil, fmt.Errorf("journal: line %q: the operation before has not ended", line)
			}
			ops, open = append(ops, Op{Kind: kind, Value: said, Call: at}), true
			continue
		}
		if !open || ops[len(ops)-1].Kind != kind {
			return nil, fmt.Errorf("journal: line %q ends nothing that was called", line)
		}
		o := &ops[len(ops)-1]
		open = false
		if event == "fail" {
			o.Err = said
			continue
		}
		o.Return = at
		if kind == Read {
			o.Value = said
		}
	}
	return ops, nil
}

func parseLine(line string) (event string, at time.Duration, kind Kind, said string, err error) {
	fields := strings.SplitN(line, " ", 4)
	if len(fields) != 4 {
		return "", 0, "", "", errors.New("not four fields")
	}
	if event = fields[0]; event != "call" && event != "done" && event != "fail" {
		return "", 0, "", "", errors.New("no such event")
	}
	n, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return "", 0, "", "", err
	}
	if kind = Kind(fields[2]); kind != Read && kind != Write && kind != Append {
		return "", 0, "", "", errors.New("no such operation")
	}
	said, err = strconv.Unquote(fields[3])
	return event, time.Duration(n), kind, said, err
}
